"""Step `train`, and the contract of model code that it holds models to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest


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
