"""The model `digits`: its data, its training, and that its changes are what the evaluation says they are."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
import tempfile
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from reconciler.core.documents import Model
from workflows.steps.checkpoint import Checkpoint

DIGITS = Path(__file__).parents[2] / "models/digits"
FIRST = {"channels": 8, "epochs": 6, "batchSize": 32, "learningRate": 0.02}
BETTER = FIRST | {"channels": 32, "epochs": 12, "learningRate": 0.05}
WORSE = BETTER | {"learningRate": 0.005}


@pytest.fixture(scope="module")
def code() -> Iterator[Any]:
    """The modules of models/digits/src, as the step `train` imports them."""
    sys.path.insert(0, str(DIGITS / "src"))
    try:
        yield importlib.import_module("train")
    finally:
        sys.path.remove(str(DIGITS / "src"))
        for name in ("train", "network"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def frames(rows: dict[str, Path]) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(folder / f"{name}.csv") for name, folder in rows.items()}


def train(
    code: Any, frames: dict[str, pd.DataFrame], settings: dict[str, Any], out: Path, seed: int = 0
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoint(Path(folder))
        given = {"target": "label", "hyperparameters": settings, "seed": seed, "device": "cpu"}
        code.train(frames["train"], **given, out=out, checkpoint=kept, progress=lambda **_: None)


@pytest.fixture(scope="module")
def learned(code: Any, frames, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Predictions on the evaluation rows, by name of the hyperparameters."""
    import torch
    from network import Network, images  # type: ignore[import-not-found]

    found = {}
    for name, settings in (("first", FIRST), ("better", BETTER), ("worse", WORSE)):
        out = tmp_path_factory.mktemp(name)
        train(code, frames, settings, out)
        network = Network(settings["channels"], 10)
        network.load_state_dict(torch.load(out / "network.pt", weights_only=True))
        found[name] = pd.DataFrame({"prediction": network(images(frames["evaluation"])).argmax(1).numpy()})
    return found


def test_document_is_valid_and_names_the_first_hyperparameters() -> None:
    document = YAML(typ="safe").load(DIGITS / "model.yaml")
    model = Model.model_validate_json(json.dumps(document))
    assert model.training.hyperparameters == FIRST
    assert model.training.workflow == "train-v1"
    assert model.environments == ("staging", "production")


@pytest.mark.parametrize("name", ["train", "evaluation"])
def test_prepare_writes_exactly_what_the_pointers_name(name: str, tmp_path: Path) -> None:
    runpy.run_path(str(DIGITS / "data/prepare.py"))["write"](tmp_path)
    (entry,) = YAML(typ="safe").load(DIGITS / f"data/{name}.csv.dvc")["outs"]
    content = (tmp_path / f"{name}.csv").read_bytes()
    assert (md5(content).hexdigest(), len(content)) == (entry["md5"], entry["size"])
    assert entry["hash"] == "md5"


def test_train_and_evaluation_share_no_scan(frames) -> None:
    train, evaluation = frames["train"], frames["evaluation"]
    assert (len(train), len(evaluation)) == (997, 800)
    assert train.merge(evaluation, how="inner").empty
    assert set(evaluation["ink"]) == {"light", "medium", "heavy"}
    assert evaluation["ink"].value_counts().min() >= 200


def test_same_seed_same_weights(code: Any, frames, tmp_path: Path) -> None:
    outs = []
    for seed in (0, 0, 1):
        outs.append(tmp_path / str(len(outs)))
        outs[-1].mkdir()
        settings = FIRST | {"epochs": 1}
        train(code, frames, settings, outs[-1], seed)
    first, again, other = ((out / "network.pt").read_bytes() for out in outs)
    assert first == again
    assert first != other


def test_first_is_modest_better_is_better_worse_is_worse(learned, frames) -> None:
    from workflows.steps.metrics import scores

    truth = frames["evaluation"]["label"]
    better = scores("classification", truth, learned["better"], learned["first"])["accuracy"]
    worse = scores("classification", truth, learned["worse"], learned["better"])["accuracy"]
    assert better.champion is not None
    assert better.difference is not None
    assert worse.difference is not None
    assert 0.91 < better.champion.value < 0.95  # type: ignore[operator]
    assert better.difference.low > 0  # type: ignore[operator]
    assert worse.difference.high < 0  # type: ignore[operator]
    assert worse.difference.low < -0.02  # type: ignore[operator]
    assert worse.candidate.value > 0.9  # type: ignore[operator]


def test_a_loss_that_is_no_number_fails(code: Any, frames, tmp_path: Path) -> None:
    settings = FIRST | {"learningRate": 1e30}
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1; a learningRate below 1e"):
        train(code, frames, settings, tmp_path)


def test_an_unknown_hyperparameter_is_named(code: Any, frames, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown hyperparameter layers; known: channels, epochs"):
        train(code, frames, {"layers": 3}, tmp_path)


def test_the_step_trains_it(step, training, tmp_path: Path, frames) -> None:
    import mlflow

    options = training("digits", tmp_path) | {"hyperparameters": json.dumps(FIRST)}
    assert step("train", **options) == 0
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    try:
        answer = model.predict(frames["evaluation"].filter(like="pixel_"))
    finally:
        sys.modules.pop("network", None)
    assert (answer["prediction"] == frames["evaluation"]["label"]).mean() > 0.9
