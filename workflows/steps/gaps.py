"""How far apart a metric is between groups of rows: the largest value of a group minus the smallest.

Selection rate: demographic parity. Rates of true and of false positives, the larger of the two gaps: equalised
odds (Hardt, Price & Srebro 2016, NeurIPS 29). Defined as Fairlearn's `*_difference` between groups. Groups are
resampled apart from each other, as strata, and candidate and champion together. A gap is never negative, so of
groups that do not differ it is about two standard errors of their values: compare models on the same rows, or
allow for it. Called by the step `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.steps.metrics import Measured, Pair

if TYPE_CHECKING:
    from workflows.steps.bootstrap import Floats

FEWEST = 100
"""Rows of a group, of those that its metric is a share of, for it to count in a gap."""
_NAMED = 8
"""Groups that are too small, in a note."""

Rows = Literal["all", "positive", "negative"]
Use = Literal["slice", "protected"]


class Gap(NamedTuple):
    """Of which metrics it is the gap, the larger one of several, and of which rows each is a mean or a share.

    ``uses``: between the groups of which columns.
    """

    metrics: Mapping[str, Rows]
    uses: tuple[Use, ...] = ("protected",)


_EVERYWHERE: tuple[Use, ...] = ("slice", "protected")
GAPS: dict[str, dict[str, Gap]] = {
    "classification": {"accuracy-gap": Gap({"accuracy": "all"}, _EVERYWHERE)},
    "binary-classification": {
        "accuracy-gap": Gap({"accuracy": "all"}, _EVERYWHERE),
        "selection-rate-gap": Gap({"selection-rate": "all"}),
        "true-positive-gap": Gap({"recall": "positive"}),
        "false-positive-gap": Gap({"false-positive-rate": "negative"}),
        "equalised-odds-gap": Gap({"recall": "positive", "false-positive-rate": "negative"}),
    },
    "regression": {"mae-gap": Gap({"mae": "all"}, _EVERYWHERE)},
}
"""The gaps of each task."""


class Group(NamedTuple):
    """The rows with one value of a column: their metrics, and how many of them there are of each kind."""

    pairs: Mapping[str, Pair]
    rows: Mapping[Rows, int]


Groups = Mapping[str, Group]
"""By the value of their column."""


def gaps(task: str, columns: Mapping[Use, Mapping[str, Groups]]) -> dict[str, Metric]:
    """Every gap of the task: overall that of the column where it is widest, and of each column as a slice.

    ``columns``: use -> column -> its groups. Without one that a gap is between, there is no such metric.
    """
    found = {}
    for name, gap in GAPS[task].items():
        slices = {
            use: {column: between(groups, gap) for column, groups in columns[use].items()}
            for use in gap.uses
            if columns.get(use)
        }
        if slices:
            each = [scores for by_column in slices.values() for scores in by_column.values()]
            found[name] = Metric(overall=max(each, key=_width), slices=slices)
    return found


def between(groups: Groups, gap: Gap) -> Scores:
    """The gap between these groups, of both models; its note names the groups that do not count."""
    small: dict[str, int] = {}
    counted: dict[str, list[Group]] = {}
    for metric, kind in gap.metrics.items():
        small |= {value: group.rows[kind] for value, group in groups.items() if group.rows[kind] < FEWEST}
        counted[metric] = [group for group in groups.values() if group.rows[kind] >= FEWEST]

    def widest(of: Callable[[Pair], Measured | str | None]) -> Measured | str:
        spreads = [_spread([of(each.pairs[name]) for each in those]) for name, those in counted.items()]
        return _combined(spreads, np.max)

    ours = widest(lambda pair: pair.candidate)
    alone = all(pair.champion is None for group in groups.values() for pair in group.pairs.values())
    rows = min(sum(each.rows[gap.metrics[name]] for each in those) for name, those in counted.items())
    pair = Pair(rows, ours, None if alone else widest(lambda pair: pair.champion))
    return _noted(pair.scores, _too_small(small))


def _width(scores: Scores) -> float:
    return -1.0 if scores.candidate.value is None else scores.candidate.value


def _spread(values: Sequence[Measured | str | None]) -> Measured | str:
    if len(values) < 2:
        return f"not measured: fewer than two groups have {FEWEST} rows"
    return _combined(values, np.ptp)


def _combined(values: Sequence[Measured | str | None], by: Callable[..., Floats]) -> Measured | str:
    """One value of several, and on every resample likewise; or why one of them is not there."""
    known = [each for each in values if isinstance(each, Measured)]
    if len(known) < len(values):
        return next(each for each in values if isinstance(each, str))
    return Measured(
        float(by(np.array([each.value for each in known]))),
        by(np.stack([each.resampled for each in known]), axis=0),
    )


def _noted(scores: Scores, note: str) -> Scores:
    def told(value: Estimate | None) -> Estimate | None:
        said = "; ".join(filter(None, (value.note, note))) if value else ""
        return value.model_copy(update={"note": said}) if value else None

    candidate = told(scores.candidate)
    assert candidate is not None
    return scores.model_copy(update={"candidate": candidate, "champion": told(scores.champion)})


def _too_small(small: Mapping[str, int]) -> str:
    if not small:
        return ""
    named = [f"{value} ({rows})" for value, rows in sorted(small.items())]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"without groups of fewer than {FEWEST} rows: {', '.join(named[:_NAMED])}{more}"
