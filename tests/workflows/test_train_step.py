"""Step `train`, and the contract of model code that it holds models to."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from reconciler.core.documents import Task
from reconciler.core.progress import latest_progress
from workflows.environment import read_installed
from workflows.steps import train
from workflows.steps.checkpoint import Checkpoint
from workflows.steps.metrics import METRICS
from workflows.steps.reference import read_reference


@pytest.fixture
def broken(source: Path, tmp_path: Path):
    """``broken(FILE, TEXT)``: a repository whose model `centroids` has this file instead."""

    def make(file: str, text: str | None) -> Path:
        root = tmp_path / "broken"
        shutil.copytree(source / "models/centroids", root / "models/centroids")
        path = root / "models/centroids/src" / file
        path.unlink() if text is None else path.write_text(text)
        return root

    return make


def test_writes_a_model_that_predicts_from_raw_rows(trained, rows) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(str(trained["centroids"] / "model"))
    raw = pd.read_csv(rows["evaluation"] / "evaluation.csv")
    answer = model.predict(raw.drop(columns=["label", "ink"]))
    assert (answer["prediction"] == raw["label"]).mean() > 0.8
    assert answer.filter(like="probability_").sum(axis=1).round(9).eq(1).all()


def test_model_has_signature_example_requirements_and_no_pickle(trained) -> None:
    import mlflow

    folder = trained["centroids"] / "model"
    info = mlflow.models.get_model_info(str(folder))
    assert info.signature.inputs.input_names()[:2] == ["pixel_00", "pixel_01"]
    assert info.signature.outputs.input_names()[0] == "prediction"
    assert len(json.loads((folder / "input_example.json").read_text())["data"]) == 5
    assert all("==" in line for line in (folder / "requirements.txt").read_text().split())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pyc")]
    assert json.loads((trained["centroids"] / "metrics").read_text()) == {"classes": 10.0}


def test_the_model_carries_what_was_installed_and_nothing_of_this_machine(trained) -> None:
    """The hashes of the lock, and the same for every training here."""
    folders = [trained[name] / "model" for name in ("centroids", "coarse")]
    made = read_installed(folders[0])
    assert made is not None
    assert made.packages["pandas"].version == version("pandas")
    assert all(package.hashes for package in made.packages.values())
    assert len({(folder / "environment.json").read_bytes() for folder in folders}) == 1


def test_it_knows_every_task_of_a_model() -> None:
    assert train.TASKS == tuple(METRICS) == get_args(Task)


def test_the_model_carries_its_training_rows_and_predictions_as_counts(trained, rows) -> None:
    made = read_reference(trained["centroids"] / "model")
    raw = pd.read_csv(rows["train"] / "train.csv")
    assert made is not None
    assert list(made.features) == [f"pixel_{i:02d}" for i in range(64)]  # not the target, not the slice
    assert made.rows == len(raw)
    assert made.prediction is not None
    assert made.prediction.kind == "texts"
    assert set(made.prediction.values) == set("0123456789")
    assert made.left_out == {}


def test_a_model_that_refuses_some_training_rows_trains_all_the_same(
    broken, step, training, tmp_path, source
) -> None:
    text = (source / "models/centroids/src/predictor.py").read_text()
    refusing = text.replace("        far =", "        assert len(model_input) <= 5\n        far =")
    options = training("centroids", tmp_path / "out") | {"source": broken("predictor.py", refusing)}
    assert step("train", **options) == 0
    made = read_reference(tmp_path / "out" / "model")
    assert made is not None
    assert (made.prediction, list(made.left_out)) == (None, ["prediction"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def train(*_, **__): return {'loss': float('nan')}", "training failed: loss is nan"),
        (
            "def train(*_, **__): raise FloatingPointError('the loss is nan in epoch 3')",
            "FloatingPointError: the loss",
        ),
        ("import nothing_of_that_name", "does not import: ModuleNotFoundError"),
        (None, "needs train.py and predictor.py"),
    ],
)
def test_training_that_fails_says_how(text, said, broken, step, training, tmp_path, capsys) -> None:
    options = training("centroids", tmp_path / "out") | {"source": broken("train.py", text)}
    assert step("train", **options) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_prediction_outside_the_contract_is_refused(broken, step, training, tmp_path, capsys) -> None:
    bare = """
import mlflow, pandas as pd
class Bare(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return pd.DataFrame({"prediction": [0] * len(model_input)})
mlflow.models.set_model(Bare())
"""
    options = training("centroids", tmp_path / "out") | {"source": broken("predictor.py", bare)}
    assert step("train", **options) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "predicts ['prediction']. hint: give a DataFrame with `prediction` and, for classification" in last


def test_rows_without_the_target_are_refused(step, training, tmp_path, capsys) -> None:
    assert step("train", **training("centroids", tmp_path) | {"target": "digit"}) == 1
    assert "the data has no target column 'digit'. hint: its last columns are" in capsys.readouterr().err


# --- taken away and resumed -------------------------------------------------------------------------------


def command(options: dict[str, object]) -> list[str]:
    return [
        *(sys.executable, "-m", "workflows.steps.main", "train"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]


EIGHT = json.dumps({"epochs": 8})


@pytest.fixture(scope="module")
def whole(source: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training of digits leaves that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole")
    options = {
        "source": source,
        "model": "digits",
        "data": rows["train"],
        "target": "label",
        "task": "classification",
        "hyperparameters": EIGHT,
        "seed": 0,
        "checkpoint": out / "checkpoint",
        "out": out,
    }
    done = subprocess.run(command(options), capture_output=True, text=True, check=True)
    assert "resumes" not in done.stderr
    return out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)])
def test_digits_interrupted_and_resumed_has_the_same_weights(number, code, whole, training, tmp_path) -> None:
    """In mid-training; told to end, it saves and exits with 75. Then to the end, bit for bit as without it."""
    halves = command(training("digits", tmp_path / "halves") | {"hyperparameters": EIGHT})
    with subprocess.Popen(halves, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert any("epoch 1/8" in line for line in first.stderr)
        while not (tmp_path / "halves-checkpoint" / "latest").exists():
            assert first.poll() is None
        first.send_signal(number)
        _, said = first.communicate(timeout=60)
    assert first.returncode == code
    assert ("told to end; a checkpoint is kept" in said) == (number == signal.SIGTERM)
    assert not (tmp_path / "halves").exists()
    second = subprocess.run(halves, capture_output=True, text=True, check=True)
    assert "resumes from a checkpoint" in second.stderr
    assert "epoch 1/8" not in second.stderr
    last = latest_progress(second.stderr)
    assert last is not None
    assert (last.step, last.trial, last.epoch, last.of) == ("train", None, 8, 8)

    for file in ("model/artifacts/weights/network.pt", "metrics"):
        assert (whole / file).read_bytes() == (tmp_path / "halves" / file).read_bytes()
    assert not list((tmp_path / "halves-checkpoint").iterdir())


def test_code_without_checkpoints_told_to_end_stops_at_once(broken, training, tmp_path) -> None:
    waits = "import time\ndef train(*_, **__):\n    print('begun', flush=True)\n    time.sleep(60)\n"
    options = training("centroids", tmp_path / "out") | {"source": broken("train.py", waits)}
    with subprocess.Popen(command(options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 75
    assert "told to end; nothing was kept, and the next attempt begins anew" in said


def test_a_training_that_fails_keeps_no_checkpoint(broken, step, training, tmp_path) -> None:
    bad = """
def train(*_, checkpoint, **__):
    checkpoint.save(lambda folder: (folder / "epoch").write_text("1"))
    assert (checkpoint.latest / "epoch").read_text() == "1"
    raise RuntimeError("a bug")
"""
    options = training("centroids", tmp_path / "out") | {"source": broken("train.py", bad)}
    assert step("train", **options) == 1
    assert not list((tmp_path / "out-checkpoint").iterdir())


@pytest.mark.parametrize("cut", ["write", "between the renames"])
def test_killed_while_saving_the_last_complete_save_stays(tmp_path, cut) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(lambda folder: (folder / "epoch").write_text("1"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    if cut == "write":
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(killed)
    else:
        (tmp_path / "new").mkdir()
        (tmp_path / "latest").rename(tmp_path / "old")
    again = Checkpoint(tmp_path)
    assert again.latest is not None
    assert (again.latest / "epoch").read_text() == "1"
    again.save(lambda folder: (folder / "epoch").write_text("2"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["latest"]
    assert (tmp_path / "latest/epoch").read_text() == "2"
