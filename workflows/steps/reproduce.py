"""Step `reproduce`: is what the same training gives again the same model? Numbers, no judgement.

The step `train` ran before it in this workflow, from the candidate's code, rows, hyperparameters and seed. Both
models predict the evaluation rows. ``score`` is the share of equal predictions, times one minus the largest
relative difference of a metric: 1 where nothing differs, whatever the bytes of the files.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.model_files import file_digests
from workflows.steps import measuring, metrics
from workflows.steps.predict import predict
from workflows.steps.rows import read_rows, split_target

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-3
"""Of a regression's predictions, relative: closer ones are called equal."""
ALL = "every row was compared: no interval"


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser)
    parser.add_argument("--again", type=Path, required=True, help="the model that `train` wrote this time")


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("reproduce", options.inputs, key=options.key)
    features, truth = split_target(read_rows(options.data), str(inputs["target"]))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        first = measuring.fetched_candidate(inputs, options, Path(folder))
        ours, again = (pool.submit(predict, each, features) for each in (first, options.again))
        same = equal_files(first / "artifacts", options.again / "artifacts")
        found = measure(str(inputs["task"]), truth, ours.result(), again.result())
    measuring.publish("reproduce", found | {"equal-files": same}, inputs, options)


def measure(task: str, truth: pd.Series, first: pd.DataFrame, again: pd.DataFrame) -> dict[str, Metric]:
    """How far the predictions of both for the rows of ``truth`` are from each other."""
    n = len(truth)
    ours, theirs = first["prediction"].to_numpy(), again["prediction"].to_numpy()
    regression = task == "regression"
    equal = np.isclose(ours, theirs, rtol=TOLERANCE, atol=0.0) if regression else ours == theirs
    agreement = float(np.mean(equal))
    before, after = metrics.values(task, truth, first), metrics.values(task, truth, again)
    apart = {name: _apart(before[name], after[name]) for name in before}
    largest = max((each for each in apart.values() if isinstance(each, float)), default="no metric is of both")
    score = agreement * (1 - largest) if isinstance(largest, float) else largest
    return {
        "score": _metric(score, n),
        "agreement": _metric(agreement, n),
        "metric-difference": Metric(
            overall=_scores(largest, n),
            slices={"metric": {name: _scores(each, n) for name, each in apart.items()}},
        ),
    }


def _apart(before: float | str, after: float | str) -> float | str:
    """|a - b| of the larger one of |a| and |b|, 1 at most; or why there is none."""
    if isinstance(before, str) or isinstance(after, str):
        return next(each for each in (before, after) if isinstance(each, str))
    if not math.isfinite(before) or not math.isfinite(after):
        return f"measured {before} and {after}"
    larger = max(abs(before), abs(after))
    return min(1.0, abs(before - after) / larger) if larger else 0.0


def equal_files(first: Path, again: Path) -> Metric:
    """The share of equal files below both folders: what training wrote, without MLflow's dates and names."""
    ours, theirs = file_digests(first), file_digests(again)
    names = ours.keys() | theirs.keys()
    if not names:
        return _metric("the model has no artifacts", 0)
    differ = sorted(name for name in names if ours.get(name) != theirs.get(name))
    note = f"other bytes: {', '.join(differ[:8])}" if differ else "every file was compared: no interval"
    value = 1 - len(differ) / len(names)
    return Metric(overall=Scores(candidate=Estimate(value=value, n=len(names), note=note)))


def _scores(value: float | str, n: int) -> Scores:
    if isinstance(value, str):
        return Scores(candidate=Estimate(value=None, n=n, note=value))
    return Scores(candidate=Estimate(value=value, n=n, note=ALL))


def _metric(value: float | str, n: int) -> Metric:
    return Metric(overall=_scores(value, n))
