"""The wheel ships the reconciler, the workflows, and this repository's own documents as the example, once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from reconciler import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel that was built from a copy of the tracked and new files of this checkout."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for part in ("reconciler", "workflows", "environments", "models", "policies", "starter"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "deploy/locks").mkdir(parents=True)
    for part in ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "deploy/locks/steps.txt"):
        shutil.copy(ROOT / part, copy / part)
    (copy / "models/digits/data").mkdir(parents=True, exist_ok=True)
    (copy / "models/digits/data/made-here.bin").write_bytes(b"data is not shipped")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=copy,
        check=True,
        capture_output=True,
    )
    (wheel,) = out.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_only_two_packages_and_the_metadata(shipped: list[str]) -> None:
    assert {name.partition("/")[0] for name in shipped} == {
        "reconciler",
        "workflows",
        f"trueup-{__version__}.dist-info",
    }


@pytest.mark.parametrize(
    "path",
    [
        "environments/platform.yaml",
        "environments/staging/environment.yaml",
        "environments/production/environment.yaml",
        "models/digits/model.yaml",
        "models/digits/data/prepare.py",
        "models/flight-delay/model.yaml",
        "models/flight-delay/data/train.dvc",
        "policies/production.yaml",
        "starter/model/copier.yml",
        "starter/model/template/model.yaml.jinja",
        "starter/model/template/src/train.py",
        "starter/model/template/tests/test_{{ module }}.py.jinja",
        "workflows/rendered/train-v1.yaml",
    ],
)
def test_the_example_is_packed(shipped: list[str], path: str) -> None:
    assert f"reconciler/example/{path}" in shipped


def test_the_lock_whose_hashes_a_training_records_is_packed(shipped: list[str]) -> None:
    assert "workflows/locks/steps.txt" in shipped


def test_the_templates_of_pages_are_packed(shipped: list[str]) -> None:
    beside = ROOT / "reconciler/report/html"
    assert {f"reconciler/report/html/{path.name}" for path in beside.iterdir() if path.is_file()} <= set(
        shipped
    )
    assert "reconciler/report/html/base.html" in shipped


def test_nothing_is_packed_twice_and_no_data(shipped: list[str]) -> None:
    assert len(shipped) == len(set(shipped))
    assert not [name for name in shipped if name.startswith("workflows/rendered/")]
    assert not [name for name in shipped if name.endswith("made-here.bin")]


def test_modules_that_console_scripts_name_are_packed(shipped: list[str]) -> None:
    for module in ("reconciler/cli/main.py", "workflows/steps/main.py", "workflows/server/main.py"):
        assert module in shipped
