"""What `reconcile new-model` writes is code that keeps trueup's contract, with tests of its own that pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from reconciler.cli import new_model as command
from reconciler.cli.init import init
from reconciler.cli.main import run
from workflows.steps.files import measure
from workflows.steps.predict import predict

ROOT = Path(__file__).parents[2]
TARGETS = {"binary-classification": "churned", "regression": "spend"}


class Made(NamedTuple):
    repository: Path
    task: str


@pytest.fixture(scope="module", params=TARGETS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A fresh repository with the model `churn` of made-up customers. `calls` are whole numbers, no gap."""
    folder = tmp_path_factory.mktemp(request.param)
    random = np.random.default_rng(0)
    calls, plan = random.integers(0, 9, 900), random.choice(["basic", "plus", "family"], 900)
    frame = pd.DataFrame(
        {
            "customer": [f"c{i:04d}" for i in range(900)],
            "plan": plan,
            "calls": calls,
            "spend": np.round(20 + 5 * calls + 10 * (plan == "plus") + random.normal(0, 1, 900), 2),
            "churned": np.where((calls > 4) ^ (plan == "plus"), "yes", "no"),
        }
    )
    frame.to_csv(folder / "customers.csv", index=False)
    target = TARGETS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_COUNT", "2")
        for place, key in enumerate(("user.name", "user.email")):
            patch.setenv(f"GIT_CONFIG_KEY_{place}", key)
            patch.setenv(f"GIT_CONFIG_VALUE_{place}", "someone")
        patch.setattr(command, "_dvc", lambda root, *arguments: None)
        init(folder / "models", say=lambda _: None)
        asked = ["new-model", "churn", f"--data={folder / 'customers.csv'}", f"--target={target}"]
        assert run(["-C", str(folder / "models"), *asked]) == 0
    return Made(folder / "models", request.param)


def test_its_own_tests_pass(made: Made) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "models/churn"],
        cwd=made.repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > 25


def test_it_is_written_as_our_own_code_is(made: Made) -> None:
    for check in (["format", "--check"], ["check", "--ignore=I"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--no-cache", f"--config={ROOT / 'pyproject.toml'}", "."],
            cwd=made.repository / "models/churn",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_the_steps_train_it_and_predict_rows_with_gaps_fractions_and_new_values(
    made: Made, step, tmp_path: Path
) -> None:
    data, target = made.repository / "models/churn/data", TARGETS[made.task]
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "train.csv").write_bytes((data / "train.csv").read_bytes())
    options = {
        "source": made.repository,
        "model": "churn",
        "data": rows,
        "target": target,
        "task": made.task,
        "hyperparameters": json.dumps({"width": 32, "epochs": 30}),
        "seed": 0,
        "checkpoint": tmp_path / "checkpoint",
        "out": tmp_path / "out",
    }
    assert step("train", **options) == 0

    found = measure(tmp_path / "out/model", None)
    counts = [found[name] for name in ("unsafe-globals", "unexpected-files", "unpinned", "unhashed")]
    assert [count.overall.candidate.value for count in counts] == [0, 0, 0, 0]

    reference = json.loads((tmp_path / "out/model/reference.json").read_text())
    assert reference["rows"] == len(pd.read_csv(rows / "train.csv"))

    evaluation = pd.read_csv(data / "evaluation.csv")
    given = predict(tmp_path / "out/model", evaluation.drop(columns=[target]))["prediction"]
    if made.task != "regression":
        assert (given == evaluation[target]).mean() > 0.9
    else:
        assert (given - evaluation[target]).abs().mean() < 6

    odd = evaluation.drop(columns=[target]).head(3).assign(calls=[None, 2.5, 3], plan=["new", None, "12"])
    assert len(predict(tmp_path / "out/model", odd).dropna()) == 3
    codes = odd.assign(plan=[1, 2, 3], customer=0)
    assert len(predict(tmp_path / "out/model", codes).dropna()) == 3
