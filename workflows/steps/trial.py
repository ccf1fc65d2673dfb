"""Step `trial`: train once with the hyperparameters of one trial, and say what came of it.

The model's code is the same as in the step `train`, and learns from part of the training rows; it gets the
rest as ``validation``, measures itself there and returns what it found. Every trial of a search, and every
stage, has the same part. Nothing is kept but the result: what is chosen is trained again, on all rows.

A trial that fails says so in its result and exits with 0: the search goes on. One that is told to end exits
with 75 like `train`, and its next attempt resumes if the code keeps checkpoints.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.errors import Retryable, Terminal
from workflows.steps.checkpoint import Checkpoint, Interrupted
from workflows.steps.progress import Reporter
from workflows.steps.recording import write_outputs
from workflows.steps.rows import read_rows, split_target
from workflows.steps.train import learn, load_code
from workflows.steps.trials import LONGEST_MESSAGE, Result, brief, read_record

if TYPE_CHECKING:
    import pandas as pd


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the training rows")
    parser.add_argument("--target", required=True)
    parser.add_argument("--search", type=Path, required=True, help="the record of the search")
    parser.add_argument("--trial", type=int, required=True, help="number of this trial")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder that outlives an attempt")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="the result goes to OUT/result")


def run(options: argparse.Namespace) -> None:
    record = read_record(options.search)
    stage = len(record.stages) - 1
    # Trials of a run may share a volume of checkpoints.
    folder = options.checkpoint / f"trial-{options.trial}-{stage}"
    checkpoint, started = Checkpoint(folder), time.time_ns()
    try:
        with checkpoint.listening(), tempfile.TemporaryDirectory() as out:
            frame = read_rows(options.data)
            split_target(frame, options.target)
            training, validation = held_out(frame, record.search.held_out(len(frame)), seed=options.seed)
            metrics = learn(
                load_code(options.source / "models" / options.model / "src"),
                training,
                validation=validation,
                target=options.target,
                hyperparameters=record.settings(options.trial, stage=stage),
                seed=options.seed,
                device=options.device,
                out=Path(out),
                checkpoint=checkpoint,
                progress=Reporter("trial", trial=options.trial),
            )
        name = record.search.metric.name
        if name not in metrics:
            found = ", ".join(sorted(metrics)) or "nothing"
            raise Terminal(f"train() returned {found}, and not {name}, which training.search.metric names")
        result = Result(trial=options.trial, status="FINISHED", metrics=brief(metrics, name))
    except Interrupted as end:
        raise Retryable(str(end), where=f"models/{options.model}/src") from end
    except Terminal as error:
        result = Result(trial=options.trial, status="FAILED", message=error.what[:LONGEST_MESSAGE])
    shutil.rmtree(folder, ignore_errors=True)
    ended = {"started": started // 10**6, "finished": time.time_ns() // 10**6}
    write_outputs(options.out, result=result.model_copy(update=ended).model_dump_json())


def held_out(frame: pd.DataFrame, number: int, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to learn from, and ``number`` others to measure on; both in the order of the frame."""
    import numpy as np

    if number >= len(frame):
        raise Terminal(f"the data has {len(frame)} rows, too few to hold some out")
    chosen = np.zeros(len(frame), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(frame))[:number]] = True
    return frame[~chosen].reset_index(drop=True), frame[chosen].reset_index(drop=True)
