"""The shipped training template, run whole: its training is told to end half-way, and its retry resumes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

from reconciler.adapters.embedded.engine import EmbeddedEngine, read_status
from workflows.templates.__main__ import RENDERED

COMMIT = "c" * 40
NAME = "train-digits-0123456789ab-1"
EPOCHS = 60
PATIENCE = 180


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


def test_a_training_that_is_told_to_end_is_retried_and_resumes(
    source: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    def checkout(commit: str, destination: Path) -> None:
        shutil.copytree(source, destination)
        shutil.copytree(RENDERED, destination / "workflows" / "rendered")

    env = {**environment, "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    engine = EmbeddedEngine(home=tmp_path, checkout=checkout, env=env)
    pointer = (source / "models/digits/data/train.csv.dvc").read_text()
    parameters = {
        "model": "digits",
        "commit": COMMIT,
        "registered-name": "digits-resumed",
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
    folder = tmp_path / "engine" / "runs" / NAME
    log = folder / "logs" / "train(0).log"
    give_up = time.monotonic() + PATIENCE
    try:
        assert engine.submit(
            name=NAME, template="train-v1", commit=COMMIT, parameters=parameters, labels={}, deadline=PATIENCE
        )
        while not (log.exists() and "epoch 1/" in log.read_text()):
            assert time.monotonic() < give_up, engine.sweep()
            time.sleep(0.01)
        pid = pid_of("train", folder)
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        while not (run := engine.sweep().runs[NAME]).done:
            assert time.monotonic() < give_up, run
            time.sleep(0.05)
    finally:
        engine.stop_all()
    logs = dict(engine.logs(NAME))
    status = read_status(folder)
    assert status is not None
    assert (run.phase, run.message) == ("Succeeded", ""), logs
    assert (status.nodes["train(0)"].phase, status.nodes["train(0)"].exit_code) == ("Failed", 75)
    assert "a checkpoint is kept, and the next attempt resumes from it" in logs["train(0)"]
    assert f"epoch {EPOCHS}/{EPOCHS}" not in logs["train(0)"]
    assert "resumes from a checkpoint" in logs["train(1)"]
    assert "epoch 1/" not in logs["train(1)"]
    assert run.outputs["version"] == "1"
