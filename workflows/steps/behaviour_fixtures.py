"""pytest for a model's own tests of behaviour: the fixtures that they get, and what became of each.

The step `behaviour` calls :func:`run_pytest`, which starts pytest in a process of its own with this module as
its only plugin. A test there is a function ``test_NAME(predict, rows)``: ``predict(rows)`` is what the
candidate answers to raw rows, ``rows`` a copy of the evaluation data and ``truth`` its target column.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.core.errors import Terminal

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "TRUEUP_BEHAVIOUR"
"""Names the folder with rows.parquet and truth.parquet, and where outcomes.json goes."""
MODEL = "TRUEUP_BEHAVIOUR_MODEL"
RAN = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)

Outcomes = dict[str, list[str | None]]
"""Test function -> for each of its cases None where it passed, else the last line of what it said."""


def run_pytest(tests: Path, model: Path, features: pd.DataFrame, target: pd.Series) -> Outcomes:
    """Run ``test_*.py`` of the folder. Terminal where they cannot be run, or none is there.

    Settings of pytest that the repository has do not count. Cases that are skipped are not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        features.to_parquet(Path(folder) / "rows.parquet")
        target.to_frame().to_parquet(Path(folder) / "truth.parquet")
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", __name__, "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--rootdir={tests}", "-c", os.devnull, str(tests)],
            env={**os.environ, FOLDER: folder, MODEL: str(model), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=sys.stderr,
            check=False,
        )
        outcomes = Path(folder) / "outcomes.json"
        if done.returncode not in RAN or not outcomes.exists():
            raise Terminal(
                f"pytest ended with {done.returncode}",
                where=f"{tests.parent.name}/behaviour",
                hint="what it wrote is in this step's log",
            )
        found: Outcomes = json.loads(outcomes.read_text())
    return found


# --- in the process of pytest -----------------------------------------------------------------------------

_outcomes: Outcomes = {}


@pytest.fixture(scope="session")
def predict() -> Callable[[pd.DataFrame], pd.DataFrame]:
    from workflows.steps.predict import load

    return load(Path(os.environ[MODEL]))


@pytest.fixture
def rows() -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(Path(os.environ[FOLDER]) / "rows.parquet")


@pytest.fixture
def truth() -> pd.Series:
    import pandas as pd

    return pd.read_parquet(Path(os.environ[FOLDER]) / "truth.parquet").iloc[:, 0]


def pytest_runtest_logreport(report: Any) -> None:
    """A case that fails before or in its call has failed; one that is skipped is none."""
    name = report.nodeid.rpartition("::")[2].partition("[")[0]
    if report.failed and report.when != "teardown":
        case = report.nodeid.rpartition("::")[2]
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash is not None else str(report.longrepr)
        _outcomes.setdefault(name, []).append(f"{case}: {said.strip().splitlines()[0]}")
    elif report.passed and report.when == "call":
        _outcomes.setdefault(name, []).append(None)


def pytest_sessionfinish() -> None:
    (Path(os.environ[FOLDER]) / "outcomes.json").write_text(json.dumps(_outcomes))
