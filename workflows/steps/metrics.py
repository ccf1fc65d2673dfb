"""The metrics of a model's predictions, each as terms per row and a function of their sums.

:data:`METRICS` is the one list: adding a metric is one entry and two functions. A metric that cannot be had
from some predictions raises :class:`UnmeasurableError`, which becomes a null value that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reconciler.core.evidence import Estimate, Scores
from workflows.steps.bootstrap import estimate, resampled_sums

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class UnmeasurableError(Exception):
    """Why a metric has no value for these predictions."""


class Metric(NamedTuple):
    """``terms(truth, predictions)`` gives (rows, terms); ``value(sums, rows)`` takes (..., terms) to (...)."""

    terms: Callable[[pd.Series, pd.DataFrame], Floats]
    value: Callable[[Floats, int], Floats]


def score(
    metric: Metric, truth: pd.Series, candidate: pd.DataFrame, champion: pd.DataFrame | str | None
) -> Scores:
    """The metric on these rows: of the candidate, of the champion, and paired.

    The frames are predictions (``prediction``, ``probability_CLASS``) for the rows of ``truth``, in its order.
    ``champion`` is None where there is none, and a sentence where it could not predict.
    """
    ours = _measured(metric, truth, candidate)
    if champion is None:
        return Scores(candidate=_estimate(ours, len(truth)))
    theirs = champion if isinstance(champion, str) else _measured(metric, truth, champion)
    difference: _Measured | str = "candidate and champion were not both measured"
    if isinstance(ours, _Measured) and isinstance(theirs, _Measured):
        difference = _Measured(ours.value - theirs.value, ours.resampled - theirs.resampled)
    return Scores(
        candidate=_estimate(ours, len(truth)),
        champion=_estimate(theirs, len(truth)),
        difference=_estimate(difference, len(truth)),
    )


class _Measured(NamedTuple):
    """A metric's value, and its values on every resample. Equal rows have equal resamples: they pair."""

    value: float
    resampled: Floats


def _measured(metric: Metric, truth: pd.Series, predictions: pd.DataFrame) -> _Measured | str:
    """The metric, or why there is none."""
    rows = len(truth)
    missing = int(predictions["prediction"].isna().sum())
    if missing:
        return f"{missing} of {rows} predictions are missing"
    try:
        terms = metric.terms(truth, predictions)
    except UnmeasurableError as reason:
        return str(reason)
    return _Measured(float(metric.value(terms.sum(axis=0), rows)), metric.value(resampled_sums(terms), rows))


def _estimate(measured: _Measured | str, rows: int) -> Estimate:
    if isinstance(measured, str):
        return Estimate(value=None, n=rows, note=measured)
    return estimate(measured.value, measured.resampled, rows)


# --- classification ---------------------------------------------------------------------------------------


def _correct(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    hits = truth.to_numpy() == predictions["prediction"].to_numpy()
    return np.asarray(hits, dtype=np.float64).reshape(-1, 1)


def _mean(sums: Floats, rows: int) -> Floats:
    return np.asarray(sums[..., 0] / rows)


def _hits_and_counts(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    """Per class: hits, and the rows that have or are given it; classes in no fixed order."""
    actual, given = truth.to_numpy(), predictions["prediction"].to_numpy()
    columns = []
    for label in dict.fromkeys([*actual.tolist(), *given.tolist()]):
        is_it, called_it = actual == label, given == label
        columns += [is_it & called_it, is_it.astype(int) + called_it]
    return np.stack(columns, axis=1).astype(np.float64)


def _f1_macro(sums: Floats, rows: int) -> Floats:  # noqa: ARG001 - one signature for all
    """Mean over the classes that occur of 2 hits / (actual + given), as scikit-learn's f1_score(macro)."""
    hits, counts = sums[..., 0::2], sums[..., 1::2]
    occurs = counts > 0
    f1 = np.divide(2 * hits, counts, out=np.zeros_like(hits), where=occurs)
    return np.asarray(f1.sum(axis=-1) / occurs.sum(axis=-1))


def _log_loss(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    """-ln of the probability given to the true class, in nats; probabilities scaled to sum to one.

    Clipped at the smallest step of a double from 0, as scikit-learn's log_loss.
    """
    columns = [name for name in predictions.columns if str(name).startswith("probability_")]
    if not columns:
        raise UnmeasurableError("the predictions carry no probabilities")
    wanted = [f"probability_{label}" for label in truth]
    unknown = sorted(set(wanted) - set(columns))
    if unknown:
        raise UnmeasurableError(
            f"the model has no class {', '.join(n.removeprefix('probability_') for n in unknown)}"
        )
    probabilities = predictions[columns].to_numpy(dtype=np.float64)
    if not np.isfinite(probabilities).all():
        raise UnmeasurableError("a probability is not a number")
    position = {name: i for i, name in enumerate(columns)}
    given = probabilities[np.arange(len(truth)), [position[name] for name in wanted]]
    scaled = given / probabilities.sum(axis=1)
    smallest = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(scaled, smallest, 1 - smallest))).reshape(-1, 1)


# --- regression -------------------------------------------------------------------------------------------


def _errors(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    return np.asarray(predictions["prediction"].to_numpy(dtype=np.float64) - truth.to_numpy(dtype=np.float64))


def _absolute(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    return np.abs(_errors(truth, predictions)).reshape(-1, 1)


def _squared(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    return (_errors(truth, predictions) ** 2).reshape(-1, 1)


def _root_mean(sums: Floats, rows: int) -> Floats:
    return np.asarray(np.sqrt(sums[..., 0] / rows))


def _squared_and_moments(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    """Squared error, and the target and its square, about its mean so that little is lost to rounding."""
    centred = truth.to_numpy(dtype=np.float64) - truth.mean()
    return np.stack([_errors(truth, predictions) ** 2, centred, centred**2], axis=1)


def _r2(sums: Floats, rows: int) -> Floats:
    """1 - residual / total sum of squares; not a number where the target does not vary."""
    total = sums[..., 2] - sums[..., 1] ** 2 / rows
    varies = total > 0
    share = np.divide(sums[..., 0], total, out=np.full_like(total, np.nan), where=varies)
    return np.asarray(1 - share)


METRICS: dict[str, dict[str, Metric]] = {
    "classification": {
        "accuracy": Metric(_correct, _mean),
        "f1-macro": Metric(_hits_and_counts, _f1_macro),
        "log-loss": Metric(_log_loss, _mean),
    },
    "regression": {
        "mae": Metric(_absolute, _mean),
        "rmse": Metric(_squared, _root_mean),
        "r2": Metric(_squared_and_moments, _r2),
    },
}
