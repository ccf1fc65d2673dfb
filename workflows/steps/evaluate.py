"""Step `evaluate`: how good the candidate is, and the champion on the very same rows. Numbers, no judgement."""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.errors import Terminal
from reconciler.core.evidence import Metric, Scores
from workflows.model_files import fetch_model
from workflows.steps import measuring, metrics
from workflows.steps.predict import predict
from workflows.steps.rows import read_rows, split_target

if TYPE_CHECKING:
    import pandas as pd

NO_CHAMPION = "none"
MOST_VALUES = 100
"""Of a slice column. Each value is scored with all its intervals, and each is in the evidence."""


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser)
    parser.add_argument("--champion-version", required=True, help="empty where there is no champion")


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("evaluate", options.inputs, key=options.key)
    if (inputs["champion"] == NO_CHAMPION) != (options.champion_version == ""):
        raise Terminal(
            f"is {options.champion_version!r}, but --inputs say otherwise", where="--champion-version"
        )
    features, truth = split_target(read_rows(options.data), str(inputs["target"]))
    slices = slice_columns(features, tuple(inputs["slices"]))

    versions = {"candidate": options.candidate_version}
    if inputs["champion"] != NO_CHAMPION:
        versions["champion"] = options.champion_version
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        models = {
            role: fetch_model(
                f"models:/{options.registered_name}/{version}",
                digest=str(inputs[role]),
                destination=Path(folder) / role,
            )
            for role, version in versions.items()
        }
        scored = {role: pool.submit(predict, model, features) for role, model in models.items()}
        candidate = scored["candidate"].result()
        champion: pd.DataFrame | str | None = None
        try:
            champion = scored["champion"].result() if "champion" in scored else None
        except Terminal as error:  # an old version that no longer runs does not hide the new one's numbers
            champion = error.what
    measuring.publish(
        "evaluate", measure(str(inputs["task"]), truth, slices, candidate, champion), inputs, options
    )


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
) -> dict[str, Metric]:
    """Every metric of the task, on all rows and by each value of each slice column.

    Predictions are for the rows of ``truth``, in its order. ``champion`` is None where there is none, and a
    sentence where it could not predict.
    """

    def scored(rows: pd.Index) -> dict[str, Scores]:
        theirs = champion if champion is None or isinstance(champion, str) else champion.loc[rows]
        return metrics.scores(task, truth.loc[rows], candidate.loc[rows], theirs)

    overall = scored(truth.index)
    groups = {
        column: {
            str(value): scored(rows) for value, rows in slices.groupby(column, dropna=False).groups.items()
        }
        for column in slices.columns
    }
    return {
        name: Metric(
            overall=scores,
            slices={
                column: {value: of_rows[name] for value, of_rows in by_value.items()}
                for column, by_value in groups.items()
            },
        )
        for name, scores in overall.items()
    }
