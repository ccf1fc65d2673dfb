"""What the tests of this folder share: the examples on workbenches of their own, trained once a session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.core.observed import ModelVersion
from tests.gates.workbench import Workbench


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tmp_path_factory.mktemp


@pytest.fixture(scope="session")
def digits(home: Callable[[str], Path]) -> Workbench:
    """The model `digits`; a test plants its faults in versions and commits of its own."""
    return Workbench(home("digits"), "digits")


@pytest.fixture(scope="session")
def good(digits: Workbench) -> ModelVersion:
    """What main's digits is trained to."""
    return digits.train()


@pytest.fixture(scope="session")
def better(digits: Workbench) -> ModelVersion:
    """A second, truly better version of digits."""
    return digits.train(
        hyperparameters=json.dumps({"channels": 32, "epochs": 12, "batchSize": 32, "learningRate": 0.05})
    )


@pytest.fixture
def rewrite() -> Callable[[str, str, str], Callable[[Path], None]]:
    """``rewrite(FILE, OLD, NEW)``: an edit that replaces OLD, which must be there, in a file of the model."""

    def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
        def replace(folder: Path) -> None:
            paths = sorted(folder.rglob(file))  # MLflow keeps the predictor twice
            assert paths
            for path in paths:
                text = path.read_text()
                assert old in text, f"{file} has no {old!r}"
                path.write_text(text.replace(old, new))

        return replace

    return edit
