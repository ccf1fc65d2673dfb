"""A checkout with two small models and its DVC remote, an MLflow on SQLite, and a way to run steps.

What is slow (importing mlflow, making its database, registering) happens once a session.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reconciler.core.digests import canonical_json, evidence_key
from reconciler.core.evidence import CATALOGUE

REPOSITORY = Path(__file__).parents[2]
Step = Callable[..., int]

TRAIN = """
import json
from pathlib import Path
from distance import PIXELS

def features(frame, *, target):
    return PIXELS

def train(frame, *, target, hyperparameters, seed, device, out):
    centres = frame.groupby(target)[PIXELS].mean()
    (Path(out) / "centres.json").write_text(json.dumps([centres.index.tolist(), centres.values.tolist()]))
    return {"classes": float(len(centres))}
"""
PREDICTOR = """
import json
from pathlib import Path
import mlflow, numpy as np, pandas as pd
from distance import PIXELS, distances

class Centroids(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        text = (Path(context.artifacts["weights"]) / "centres.json").read_text()
        self.classes, centres = json.loads(text)
        self.centres = np.array(centres)

    def predict(self, context, model_input, params=None):
        far = distances(model_input[PIXELS].to_numpy(float), self.centres)
        close = np.exp(far.min(axis=1, keepdims=True) - far)
        frame = pd.DataFrame(close / close.sum(axis=1, keepdims=True),
                             columns=[f"probability_{c}" for c in self.classes])
        frame.insert(0, "prediction", [self.classes[i] for i in far.argmin(axis=1)])
        return frame

mlflow.models.set_model(Centroids())
"""
DISTANCE = """
import numpy as np
PIXELS = [f"pixel_{{i:02d}}" for i in range(64)]

def distances(rows, centres):
    return (((rows[:, None, :{pixels}] - centres[None, :, :{pixels}]) / 16) ** 2).sum(axis=2)
"""
"""Two models whose modules have the same names and different code: nearest centroid on 64 or 24 pixels."""


class Version(NamedTuple):
    """A registered version of the model `centroids`."""

    number: str
    digest: str


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    return {
        "TRUEUP_HOME": str(home),
        "TRUEUP_CACHE": str(home / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@pytest.fixture(autouse=True)
def _environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a GitOps repository, as a checkout has them: no .git."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(REPOSITORY / "models/digits", root / "models/digits")
    for name, pixels in (("centroids", 64), ("coarse", 24)):
        folder = root / "models" / name / "src"
        folder.mkdir(parents=True)
        (folder / "train.py").write_text(TRAIN)
        (folder / "predictor.py").write_text(PREDICTOR)
        (folder / "distance.py").write_text(DISTANCE.format(pixels=pixels))

    remote = tmp_path_factory.mktemp("remote")
    fresh = tmp_path_factory.mktemp("fresh")
    runpy.run_path(str(REPOSITORY / "models/digits/data/prepare.py"))["write"](fresh)
    for file in fresh.iterdir():
        digest = md5(file.read_bytes()).hexdigest()
        entry = remote / "files" / "md5" / digest[:2] / digest[2:]
        entry.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, entry)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(f"[core]\n    remote = here\n['remote \"here\"']\n    url = {remote}\n")
    return root


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with the training and the evaluation rows, as the step `data` leaves them."""
    fresh = tmp_path_factory.mktemp("rows")
    runpy.run_path(str(REPOSITORY / "models/digits/data/prepare.py"))["write"](fresh)
    folders = {}
    for name in ("train", "evaluation"):
        folders[name] = fresh / name
        folders[name].mkdir()
        (fresh / f"{name}.csv").rename(folders[name] / f"{name}.csv")
    return folders


def _run(name: str, options: dict[str, object]) -> int:
    """One step in this process, leaving no module of a model's code behind."""
    from workflows.steps.main import main

    path, modules, bytecode = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    try:
        main([name, *(f"--{option.replace('_', '-')}={value}" for option, value in options.items())])
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.path[:], sys.dont_write_bytecode = path, bytecode
        for module in set(sys.modules) - modules:
            file = getattr(sys.modules[module], "__file__", None) or ""
            installed = "/site-packages/" in file  # maybe of a checkout that lies among temporary files
            if not installed and ("/models/" in file or file.startswith(tempfile.gettempdir())):
                del sys.modules[module]
    raise AssertionError("main() exits")


@pytest.fixture
def step() -> Step:
    """``step("data", source=..., out=...)`` runs ``reconcile-step data --source=... --out=...``."""
    return lambda name, **options: _run(name, options)


@pytest.fixture(scope="session")
def trained(source: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model -> what the step `train` wrote for it."""
    folders = {}
    for model in ("centroids", "coarse"):
        folders[model] = tmp_path_factory.mktemp(model)
        options = training(source, model, rows["train"], folders[model])
        assert _run("train", options) == 0
    return folders


def training(source: Path, model: str, data: Path, out: Path) -> dict[str, object]:
    return {
        "source": source,
        "model": model,
        "data": data,
        "target": "label",
        "task": "classification",
        "hyperparameters": "{}",
        "seed": 0,
        "checkpoint": out.parent / f"{out.name}-checkpoint",
        "out": out,
    }


def registration(trained: Path, out: Path, **changes: str) -> dict[str, object]:
    return {
        "model": "centroids",
        "folder": trained / "model",
        "metrics": trained / "metrics",
        "registered_name": "centroids",
        "training_key": "0123456789ab",
        "training_inputs": json.dumps({"data": "bae58a8c19aea75e8d300369b56120a3"}),
        "hyperparameters": json.dumps({"sharpness": 1}),
        "seed": "0",
        "commit": "1" * 40,
        "image": "trueup/steps",
        "workflow": "train-centroids-0123456789ab-1",
        "out": out,
        **changes,
    }


@pytest.fixture(scope="session")
def versions(
    trained: dict[str, Path], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Version]:
    """Two versions of `centroids`: a good one, and one that sees 24 of 64 pixels."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for model, key in (("centroids", "0123456789ab"), ("coarse", "ba9876543210")):
            out = tmp_path_factory.mktemp("out")
            changes = {"training_key": key, "workflow": f"train-{model}-{key}-1"}
            assert _run("register", registration(trained[model], out, **changes)) == 0
            made[model] = Version((out / "version").read_text(), (out / "digest").read_text())
    return made


@pytest.fixture(name="training")
def _training(source: Path, rows: dict[str, Path]) -> Callable[..., dict[str, object]]:
    """``training(MODEL, OUT)``: options of the step `train`."""
    return lambda model, out: training(source, model, rows["train"], out)


@pytest.fixture(name="registration")
def _registration() -> Callable[..., dict[str, object]]:
    return registration


@pytest.fixture(scope="session")
def measurement(rows: dict[str, Path]) -> Callable[..., dict[str, object]]:
    """Options of a measuring step: ``measurement("evaluate", candidate, champion, out=...)``."""

    def options(kind: str, candidate: Version, champion: Version | None, out: Path) -> dict[str, object]:
        known: dict[str, Any] = {
            "candidate": candidate.digest,
            "champion": champion.digest if champion else "none",
            "data": "7d05ca632348c75a2d1c2028e0df26d5",
            "target": "label",
            "slices": ["ink"],
            "protected": [],
            "task": "classification",
            "server": "sha256:" + "0" * 64,
        }
        inputs = {name: known[name] for name in CATALOGUE[kind].inputs}
        key = evidence_key(kind, CATALOGUE[kind].recipe, inputs)
        made: dict[str, object] = {
            "model": "centroids",
            "data": rows["evaluation"],
            "registered_name": "centroids",
            "candidate_version": candidate.number,
            "key": key,
            "inputs": canonical_json(inputs),
            "commit": "1" * 40,
            "image": "trueup/steps",
            "workflow": f"measure-{kind}-centroids-{key}-1",
            "out": out,
        }
        return made | ({"champion_version": champion.number if champion else ""} if kind == "evaluate" else {})

    return options
