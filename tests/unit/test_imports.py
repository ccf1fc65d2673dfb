"""The loop starts quickly because heavy libraries are imported by the functions that use them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "dvc",
    "evidently",
    "fastapi",
    "hera",
    "kubernetes",
    "mlflow",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "torch",
}


def imported_by(module: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter after ``import module``."""
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["reconciler.loop", "reconciler.bootstrap", "reconciler.cli.main", "reconciler.cli.init"]
)
def test_heavy_libraries_are_not_imported_with(module: str) -> None:
    assert imported_by(module) & HEAVY == set()


def test_a_step_that_finds_its_data_in_the_cache_starts_at_once() -> None:
    found = imported_by("workflows.steps.main, workflows.steps.data")
    assert found & (HEAVY | {"pydantic", "ruamel", "concurrent"}) == set()


def test_the_core_needs_no_workflows() -> None:
    assert "workflows" not in imported_by("reconciler.loop")
