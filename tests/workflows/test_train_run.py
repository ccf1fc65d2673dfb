"""The shipped training template, run whole and interrupted half-way: by SIGTERM, by SIGKILL, with its runner.

Whatever happened, what is registered in the end has the weights of a training that nobody interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.adapters.embedded.engine import EmbeddedEngine, Status, read_status
from reconciler.core.observed import WorkflowRun
from reconciler.core.progress import latest_progress
from workflows.templates.__main__ import RENDERED

COMMIT = "c" * 40
NAME = "train-digits-0123456789ab-"
EPOCHS = 30
PATIENCE = 180
WEIGHTS = "artifacts/weights/network.pt"


def pid_of(step: str, cookie: Path) -> int | None:
    """The process of a step of one run."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if step.encode() in words and str(cookie).encode() in (entry / "environ").read_bytes():
                return int(entry.name)
        except (OSError, ValueError):
            continue
    return None


@pytest.fixture(scope="module")
def whole(source: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a training that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole")
    options = {
        "source": source,
        "model": "digits",
        "data": rows["train"],
        "target": "label",
        "task": "classification",
        "hyperparameters": json.dumps({"epochs": EPOCHS}),
        "seed": 0,
        "checkpoint": out / "checkpoint",
        "out": out,
    }
    command = [sys.executable, "-m", "workflows.steps.main", "train"]
    subprocess.run([*command, *(f"--{name}={value}" for name, value in options.items())], check=True)
    return (out / "model" / WEIGHTS).read_bytes()


class Bench:
    """An engine with a home of its own, and the training of digits on it."""

    def __init__(self, source: Path, environment: dict[str, str], home: Path) -> None:
        def checkout(commit: str, destination: Path) -> None:
            shutil.copytree(source, destination)
            shutil.copytree(RENDERED, destination / "workflows" / "rendered")

        env = {**environment, "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
        self.engine = EmbeddedEngine(home=home, checkout=checkout, env=env)
        self.runs = home / "engine" / "runs"
        pointer = (source / "models/digits/data/train.csv.dvc").read_text()
        self.parameters = {
            "model": "digits",
            "commit": COMMIT,
            "registered-name": f"digits-{home.name}",
            "training-key": "0123456789ab",
            "training-inputs": "{}",
            "hyperparameters": json.dumps({"epochs": EPOCHS}),
            "seed": "0",
            "device": "cpu",
            "pod": "{}",
            "restarts": "2",
            "train-pointer": "models/digits/data/train.csv.dvc",
            "train-md5": pointer.partition("md5: ")[2].split()[0],
            "target": "label",
            "task": "classification",
        }
        self.give_up = time.monotonic() + PATIENCE

    def submit(self, attempt: int) -> None:
        assert self.engine.submit(
            name=f"{NAME}{attempt}",
            template="train-v1",
            commit=COMMIT,
            parameters=self.parameters,
            labels={},
            deadline=PATIENCE,
        )

    def in_its_midst(self, attempt: int) -> Path:
        """Wait until an epoch is over; the run's folder."""
        folder = self.runs / f"{NAME}{attempt}"
        log = folder / "logs" / "train(0).log"
        while not (log.exists() and latest_progress(log.read_text())):
            assert time.monotonic() < self.give_up, self.engine.sweep()
            time.sleep(0.01)
        return folder

    def finished(self, attempt: int) -> tuple[WorkflowRun, Status]:
        name = f"{NAME}{attempt}"
        while not (run := self.engine.sweep().runs[name]).done:
            assert time.monotonic() < self.give_up, run
            time.sleep(0.05)
        status = read_status(self.runs / name)
        assert status is not None
        return run, status

    def registered(self) -> bytes:
        """The weights of the version."""
        import mlflow

        name = self.parameters["registered-name"]
        uri = mlflow.MlflowClient().get_model_version_download_uri(name, "1")
        return Path(mlflow.artifacts.download_artifacts(f"{uri}/{WEIGHTS}")).read_bytes()


@pytest.fixture
def bench(source: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Bench]:
    made = Bench(source, environment, tmp_path)
    yield made
    made.engine.stop_all()


def test_a_training_that_is_told_to_end_is_retried_and_resumes(bench: Bench, whole: bytes) -> None:
    bench.submit(1)
    pid = pid_of("train", bench.in_its_midst(1))
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    run, status = bench.finished(1)
    logs = dict(bench.engine.logs(run.name))
    assert (run.phase, run.message, run.progress) == ("Succeeded", "", "3/3"), logs
    assert (status.nodes["train(0)"].phase, status.nodes["train(0)"].exit_code) == ("Failed", 75)
    assert "a checkpoint is kept, and the next attempt resumes from it" in logs["train(0)"]
    assert f"epoch {EPOCHS}/{EPOCHS}" not in logs["train(0)"]
    assert "resumes from a checkpoint" in logs["train(1)"]
    assert "epoch 1/" not in logs["train(1)"]
    assert run.outputs["version"] == "1"
    assert bench.registered() == whole
    # nothing was searched and nobody is to be called, and the run shows it
    skipped = {name for name, node in status.nodes.items() if node.phase == "Skipped"}
    assert skipped == {
        "notify",
        "contract",
        "plan",
        *(f"{name}-{stage}" for name in ("trials", "choose") for stage in (1, 2, 3)),
    }


def test_a_training_whose_runner_is_killed_is_begun_anew(bench: Bench, whole: bytes) -> None:
    bench.submit(1)
    folder = bench.in_its_midst(1)
    pid = pid_of("train", folder)
    assert pid is not None
    os.kill(int((folder / "lock").read_text()), signal.SIGKILL)
    run, status = bench.finished(1)
    assert (run.phase, run.outputs) == ("Error", {})
    assert (status.nodes["train(0)"].phase, status.nodes["train(0)"].message) == ("Error", "pod deleted")
    assert pid_of("train", folder) is None
    bench.submit(2)
    run, _ = bench.finished(2)
    assert (run.phase, run.outputs["version"]) == ("Succeeded", "1"), dict(bench.engine.logs(run.name))
    assert bench.registered() == whole
