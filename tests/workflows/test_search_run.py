"""The shipped training template with a search, run whole: two stages of trials, one of which fails."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from reconciler.adapters.embedded.engine import EmbeddedEngine, Status, read_status
from reconciler.core.observed import TAG_SEARCH, ModelVersion, WorkflowRun
from reconciler.core.progress import latest_progress
from workflows.templates.__main__ import RENDERED

COMMIT = "c" * 40
NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAME = "train-lines-0123456789ab-1"
PATIENCE = 180

SEARCH = {
    "method": "successive-halving",
    "trials": 3,
    "space": {"slope": {"choice": [0.0, 2.0, 7.0]}},
    "metric": {"name": "error", "goal": "min"},
    "halving": {"resource": "epochs", "min": 1, "eta": 3},
}
TRAIN = """
import json
import os
from pathlib import Path


def train(frame, *, target, hyperparameters, seed, device, out, validation, progress):
    marks = Path(os.environ["BENCH"]) / "marks"
    with marks.open("a") as file:
        file.write("begin\\n")
    slope, epochs = hyperparameters["slope"], hyperparameters["epochs"]
    for epoch in range(1, epochs + 1):
        progress(epoch=epoch, of=epochs, loss=slope)
    if slope == 7:
        raise FloatingPointError("the loss is inf")
    (out / "slope.json").write_text(json.dumps(slope))
    with marks.open("a") as file:
        file.write("end\\n")
    if validation is None:
        return {"rows": float(len(frame))}
    return {"error": abs(slope - 1.9) / epochs, "rows": float(len(frame)), "held-out": float(len(validation))}
"""
PREDICTOR = """
import json
from pathlib import Path
import mlflow, pandas as pd

class Line(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.slope = json.loads((Path(context.artifacts["weights"]) / "slope.json").read_text())

    def predict(self, context, model_input, params=None):
        return pd.DataFrame({"prediction": model_input["x"] * self.slope})

mlflow.models.set_model(Line())
"""


class Whole(NamedTuple):
    run: WorkflowRun
    status: Status
    logs: dict[str, str]
    marks: list[str]


@pytest.fixture(scope="module")
def whole(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    home = tmp_path_factory.mktemp("engine")
    rows = "x,y\n" + "".join(f"{x},{2 * x}\n" for x in range(20))
    digest = md5(rows.encode()).hexdigest()
    remote = home / "remote" / "files" / "md5" / digest[:2]
    remote.mkdir(parents=True)
    (remote / digest[2:]).write_text(rows)

    def checkout(commit: str, destination: Path) -> None:
        shutil.copytree(RENDERED, destination / "workflows" / "rendered")
        (destination / ".dvc").mkdir()
        config = f"[core]\n    remote = here\n['remote \"here\"']\n    url = {home / 'remote'}\n"
        (destination / ".dvc/config").write_text(config)
        model = destination / "models" / "lines"
        (model / "src").mkdir(parents=True)
        (model / "src" / "train.py").write_text(TRAIN)
        (model / "src" / "predictor.py").write_text(PREDICTOR)
        (model / "train.csv.dvc").write_text(f"outs:\n- md5: {digest}\n  hash: md5\n  path: train.csv\n")

    env = {**environment, "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BENCH": str(home)}
    engine = EmbeddedEngine(home=home, checkout=checkout, env=env)
    parameters = {
        "model": "lines",
        "commit": COMMIT,
        "registered-name": "lines",
        "training-key": "0123456789ab",
        "training-inputs": "{}",
        "hyperparameters": json.dumps({"epochs": 3}),
        "seed": "9",  # by which each slope is drawn once: 2, 7, 0
        "device": "cpu",
        "pod": "{}",
        "restarts": "2",
        "train-pointer": "models/lines/train.csv.dvc",
        "train-md5": digest,
        "target": "y",
        "task": "regression",
        "search": json.dumps(SEARCH),
        "stages": "2",
    }
    give_up = time.monotonic() + PATIENCE
    try:
        assert engine.submit(
            name=NAME,
            template="train-v1",
            commit=COMMIT,
            parameters=parameters,
            labels={},
            deadline=PATIENCE,
            parallelism=1,
        )
        while not (run := engine.sweep().runs[NAME]).done:
            assert time.monotonic() < give_up, run
            time.sleep(0.05)
    finally:
        engine.stop_all()
    status = read_status(home / "engine" / "runs" / NAME)
    assert status is not None
    return Whole(run, status, dict(engine.logs(NAME)), (home / "marks").read_text().splitlines())


def test_the_best_trial_is_registered(whole: Whole) -> None:
    import mlflow

    assert (whole.run.phase, whole.run.message) == ("Succeeded", ""), whole.logs
    client = mlflow.MlflowClient()
    version = client.get_model_version("lines", whole.run.outputs["version"])
    found = json.loads(version.tags[TAG_SEARCH])
    assert found["hyperparameters"] == {"slope": 2.0}
    assert (found["trial"], found["trials"], found["value"]) == (0, 3, pytest.approx(0.1 / 3))
    model = mlflow.pyfunc.load_model(f"models:/lines/{version.version}")
    assert model.predict(pd.DataFrame({"x": [3]}))["prediction"].tolist() == [6.0]
    run = client.get_run(version.run_id)
    assert run.data.params == {"epochs": "3", "slope": "2.0", "seed": "9"}
    assert run.data.metrics == {"rows": 20.0}  # trained again, on all of them
    seen = ModelVersion(version=str(version.version), created=NOW, tags=version.tags)
    assert seen.search == "best of 3 trials (trial 0, error 0.03333)"


def test_every_trial_is_a_nested_run(whole: Whole) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    parent = client.get_model_version("lines", whole.run.outputs["version"]).run_id
    experiment = client.get_experiment_by_name("lines").experiment_id
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    seen = {
        int(run.data.tags["trueup.trial"]): (
            run.info.status,
            run.data.params,
            run.data.metrics,
            run.data.tags["trueup.chosen"],
            run.data.tags["trueup.message"],
        )
        for run in runs
    }
    of_all = {"rows": 16.0, "held-out": 4.0}
    said = "training failed: FloatingPointError: the loss is inf"
    assert seen == {
        0: (
            "FINISHED",
            {"slope": "2.0", "epochs": "3", "seed": "9"},
            {"error": pytest.approx(0.1 / 3), **of_all},
            "yes",
            "",
        ),
        1: ("FAILED", {"slope": "7.0", "epochs": "1", "seed": "9"}, {}, "no", said),
        2: ("KILLED", {"slope": "0.0", "epochs": "1", "seed": "9"}, {"error": 1.9, **of_all}, "no", ""),
    }
    assert all(run.info.start_time < run.info.end_time for run in runs)


def test_no_more_tasks_at_once_than_asked_for(whole: Whole) -> None:
    pods = [node for node in whole.status.nodes.values() if node.type == "Pod"]
    assert len(pods) == 1 + 1 + 3 + 1 + 1 + 1 + 2
    ordered = sorted(pods, key=lambda node: node.started)
    for before, after in itertools.pairwise(ordered):
        assert before.finished is not None
        assert before.finished <= after.started
    # of the model's own marks: three trials, of which one did not come to its end, one more, and the training
    assert whole.marks == ["begin", "end", "begin", "begin", "end", "begin", "end", "begin", "end"]


def test_stages_that_were_not_asked_for_are_shown_as_skipped(whole: Whole) -> None:
    phases = {name: node.phase for name, node in whole.status.nodes.items()}
    assert (phases["trials-1"], phases["choose-1"]) == ("Succeeded", "Succeeded")
    assert (phases["trials-2"], phases["choose-2"]) == ("Succeeded", "Succeeded")
    assert (phases["trials-3"], phases["choose-3"]) == ("Skipped", "Skipped")
    assert whole.run.progress == "10/10"


def test_a_trial_says_how_far_it_is(whole: Whole) -> None:
    said: Any = [latest_progress(log) for title, log in whole.logs.items() if title.startswith("trials-2(0:")]
    assert [(progress.step, progress.epoch, progress.of) for progress in said] == [("trial", 3, 3)]
