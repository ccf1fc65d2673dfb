"""Step `evaluate`: how good the candidate is, and the champion on the very same rows. Numbers, no judgement."""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.errors import Terminal
from reconciler.core.evidence import Metric
from workflows.steps import gaps, measuring, metrics
from workflows.steps.bootstrap import SEED
from workflows.steps.predict import predict
from workflows.steps.rows import read_rows, split_target

if TYPE_CHECKING:
    import pandas as pd

MOST_VALUES = 100
"""Of a slice column. Each value is scored with all its intervals, and each is in the evidence."""


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, champion=True)


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("evaluate", options.inputs, key=options.key)
    versions = measuring.versions(inputs, options)
    features, truth = split_target(read_rows(options.data), str(inputs["target"]))
    protected = tuple(inputs["protected"])
    slices = slice_columns(features, tuple(dict.fromkeys((*inputs["slices"], *protected))))

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        models = measuring.fetched(versions, inputs, options, Path(folder))
        scored = {role: pool.submit(predict, model, features) for role, model in models.items()}
        candidate = scored["candidate"].result()
        champion: pd.DataFrame | str | None = None
        try:
            champion = scored["champion"].result() if "champion" in scored else None
        except Terminal as error:  # an old version that no longer runs does not hide the new one's numbers
            champion = error.what
    found = measure(str(inputs["task"]), truth, slices, candidate, champion, protected)
    measuring.publish("evaluate", found, inputs, options)


def slice_columns(features: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The columns by which metrics are split. Terminal if one is not there, or is no category."""
    unknown = [name for name in names if name not in features.columns]
    if unknown:
        raise Terminal(
            f"the data has no slice column {', '.join(unknown)}", hint="see the model's data.evaluation"
        )
    for name in names:
        values = features[name].nunique(dropna=False)
        if values > MOST_VALUES:
            raise Terminal(
                f"slice column {name} has {values} values, more than {MOST_VALUES}",
                hint="slice by a coarser column",
            )
    return features[list(names)]


def measure(
    task: str,
    truth: pd.Series,
    slices: pd.DataFrame,
    candidate: pd.DataFrame,
    champion: pd.DataFrame | str | None,
    protected: tuple[str, ...] = (),
) -> dict[str, Metric]:
    """Every metric of the task, on all rows and by each value of each slice column; and gaps between these.

    Predictions are for the rows of ``truth``, in its order. ``champion`` is None where there is none, and a
    sentence where it could not predict. ``protected``: those slice columns that have gaps of rates.
    """
    overall = metrics.scores(task, truth, candidate, champion)
    positive = metrics.of_positive_class(truth, candidate) if task == "binary-classification" else None

    def group(rows: pd.Index, number: tuple[int, int]) -> gaps.Group:
        theirs = champion if champion is None or isinstance(champion, str) else champion.loc[rows]
        pairs = metrics.measured(task, truth.loc[rows], candidate.loc[rows], theirs, seed=(SEED, *number))
        ones = 0 if positive is None else int(positive.loc[rows].sum())
        return gaps.Group(pairs, {"all": len(rows), "positive": ones, "negative": len(rows) - ones})

    columns: dict[str, gaps.Groups] = {
        column: {
            str(value): group(rows, (place, number))
            for number, (value, rows) in enumerate(slices.groupby(column, dropna=False).groups.items())
        }
        for place, column in enumerate(slices.columns, start=1)
    }
    by_slice = {
        name: Metric(
            overall=scores,
            slices={
                column: {value: each.pairs[name].scores for value, each in groups.items()}
                for column, groups in columns.items()
            },
        )
        for name, scores in overall.items()
    }
    uses: dict[gaps.Use, dict[str, gaps.Groups]] = {
        "slice": {name: groups for name, groups in columns.items() if name not in protected},
        "protected": {name: groups for name, groups in columns.items() if name in protected},
    }
    return by_slice | gaps.gaps(task, uses)
