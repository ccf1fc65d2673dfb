"""The metrics of a model's predictions, each as a statistic of how often every row counts.

:data:`METRICS` is the one list: adding a metric is one entry and one function, which looks at truth and
predictions once and gives the :data:`~workflows.steps.bootstrap.Statistic` that is then resampled. A metric
that cannot be had from some predictions raises :class:`UnmeasurableError`, which becomes a null value that says
why. Called by the step `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reconciler.core.evidence import Estimate, Scores
from workflows.steps.bootstrap import estimate, once, resampled

if TYPE_CHECKING:
    import pandas as pd

    from workflows.steps.bootstrap import Floats, Statistic

    Metric = Callable[[pd.Series, pd.DataFrame], Statistic]


class UnmeasurableError(Exception):
    """Why a metric has no value for these predictions."""


class _Measured(NamedTuple):
    """A metric's value, and its values on every resample. Equal rows have equal resamples: they pair."""

    value: float
    resampled: Floats


def scores(
    task: str, truth: pd.Series, candidate: pd.DataFrame, champion: pd.DataFrame | str | None
) -> dict[str, Scores]:
    """Every metric of the task on these rows: of the candidate, of the champion, and paired.

    The frames are predictions (``prediction``, ``probability_CLASS``) for the rows of ``truth``, in its order.
    ``champion`` is None where there is none, and a sentence where it could not predict.
    """
    given = {"candidate": candidate} | ({} if champion is None else {"champion": champion})
    asked = {
        (name, role): _statistic(metric, truth, predictions)
        for name, metric in METRICS[task].items()
        for role, predictions in given.items()
    }
    could = {place: found for place, found in asked.items() if not isinstance(found, str)}
    rows = len(truth)
    measured: dict[tuple[str, str], _Measured | str] = {p: w for p, w in asked.items() if isinstance(w, str)}
    for (place, statistic), values in zip(could.items(), resampled(list(could.values()), rows), strict=True):
        measured[place] = _Measured(once(statistic, rows), values)
    if champion is None:
        return {name: Scores(candidate=_estimate(measured[name, "candidate"], rows)) for name in METRICS[task]}
    return {
        name: Scores(
            candidate=_estimate(measured[name, "candidate"], rows),
            champion=_estimate(measured[name, "champion"], rows),
            difference=_estimate(_difference(measured[name, "candidate"], measured[name, "champion"]), rows),
        )
        for name in METRICS[task]
    }


def _statistic(metric: Metric, truth: pd.Series, predictions: pd.DataFrame | str) -> Statistic | str:
    """The metric of these predictions, or why there is none."""
    if isinstance(predictions, str):
        return predictions
    missing = int(predictions["prediction"].isna().sum())
    if missing:
        return f"{missing} of {len(truth)} predictions are missing"
    try:
        return metric(truth, predictions)
    except UnmeasurableError as reason:
        return str(reason)


def _difference(ours: _Measured | str, theirs: _Measured | str) -> _Measured | str:
    if isinstance(ours, str) or isinstance(theirs, str):
        return "candidate and champion were not both measured"
    return _Measured(ours.value - theirs.value, ours.resampled - theirs.resampled)


def _estimate(measured: _Measured | str, rows: int) -> Estimate:
    if isinstance(measured, str):
        return Estimate(value=None, n=rows, note=measured)
    return estimate(measured.value, measured.resampled, rows)


def _of_sums(terms: Floats, value: Callable[[Floats, Floats], Floats]) -> Statistic:
    """A function of sums over rows: ``terms`` is (rows, terms), and ``value(sums, n)`` takes (draws, terms) and
    (draws,) to (draws,). All sums of a block of draws are one matrix product."""
    return lambda counts: value(counts @ terms, counts.sum(axis=1))


def _mean(terms: Floats) -> Statistic:
    return _of_sums(terms.reshape(-1, 1), lambda sums, n: np.asarray(sums[:, 0] / n))


# --- classification ---------------------------------------------------------------------------------------


def _accuracy(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    return _mean(np.asarray(truth.to_numpy() == predictions["prediction"].to_numpy(), dtype=np.float64))


def _f1_macro(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """Mean over the classes that occur of 2 hits / (actual + given), as scikit-learn's f1_score(macro)."""
    actual, given = truth.to_numpy(), predictions["prediction"].to_numpy()
    columns = []
    for label in dict.fromkeys([*actual.tolist(), *given.tolist()]):
        is_it, called_it = actual == label, given == label
        columns += [is_it & called_it, is_it.astype(int) + called_it]

    def value(sums: Floats, _n: Floats) -> Floats:
        hits, counts = sums[:, 0::2], sums[:, 1::2]
        occurs = counts > 0
        f1 = np.divide(2 * hits, counts, out=np.zeros_like(hits), where=occurs)
        return np.asarray(f1.sum(axis=1) / occurs.sum(axis=1))

    return _of_sums(np.stack(columns, axis=1).astype(np.float64), value)


class _Probabilities(NamedTuple):
    """Probabilities (rows, classes) as the model gave them, and the place of each row's true class."""

    given: Floats
    true: np.ndarray[tuple[int], np.dtype[np.intp]]

    @property
    def scaled(self) -> Floats:
        """Of the true class, where those of a row are made to sum to one."""
        return np.asarray(self.given[np.arange(len(self.true)), self.true] / self.given.sum(axis=1))


def _probabilities(truth: pd.Series, predictions: pd.DataFrame) -> _Probabilities:
    columns = [str(name) for name in predictions.columns if str(name).startswith("probability_")]
    if not columns:
        raise UnmeasurableError("the predictions carry no probabilities")
    position = {name: i for i, name in enumerate(columns)}
    wanted = [f"probability_{label}" for label in truth]
    unknown = sorted(set(wanted) - set(columns))
    if unknown:
        raise UnmeasurableError(
            f"the model has no class {', '.join(n.removeprefix('probability_') for n in unknown)}"
        )
    given = predictions[columns].to_numpy(dtype=np.float64)
    if not np.isfinite(given).all():
        raise UnmeasurableError("a probability is not a number")
    return _Probabilities(given, np.array([position[name] for name in wanted], dtype=np.intp))


def _log_loss(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """-ln of the probability given to the true class, in nats; probabilities scaled to sum to one.

    Clipped at the smallest step of a double from 0, as scikit-learn's log_loss.
    """
    smallest = np.finfo(np.float64).eps
    return _mean(-np.log(np.clip(_probabilities(truth, predictions).scaled, smallest, 1 - smallest)))


# --- classification in two classes ------------------------------------------------------------------------


def _of_two(truth: pd.Series, predictions: pd.DataFrame) -> _Probabilities:
    found = _probabilities(truth, predictions)
    if found.given.shape[1] != 2:
        raise UnmeasurableError(f"the model tells {found.given.shape[1]} classes apart, not two")
    return found


def _brier(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """Mean squared distance of a class's probability from 1 where it is and 0 where it is not: 0 to 1.

    Half of what Brier (1950, Monthly Weather Review 78:1-3) sums over both classes, as scikit-learn's
    brier_score_loss.
    """
    return _mean((1 - _of_two(truth, predictions).scaled) ** 2)


def _auc(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """Area under the ROC curve: how often a row of one class scores above a row of the other, ties half.

    The Mann-Whitney statistic by the number of pairs (Hanley & McNeil 1982, Radiology 143:29-36). Rows are
    sorted once; in a draw each row of the one class then meets the running total of the other below it. Which
    class is called the one makes no difference where two probabilities sum to one.
    """
    found = _of_two(truth, predictions)
    score, positive = found.given[:, 1], found.true == 1
    ones, others = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(ones) or not len(others):
        raise UnmeasurableError("not measured: all rows are of one class")
    others = others[np.argsort(score[others], kind="stable")]
    ones = ones[np.argsort(score[ones], kind="stable")]  # so that memory is read in order
    below = np.searchsorted(score[others], score[ones], side="left")
    up_to = np.searchsorted(score[others], score[ones], side="right")

    def value(counts: Floats) -> Floats:
        total = np.zeros((len(counts), len(others) + 1))
        np.cumsum(counts[:, others], axis=1, out=total[:, 1:])
        won = total[:, below]
        won += total[:, up_to]
        here = counts[:, ones]
        pairs = here.sum(axis=1) * total[:, -1]
        wins = np.einsum("ij,ij->i", here, won) / 2
        return np.asarray(np.divide(wins, pairs, out=np.full(len(counts), np.nan), where=pairs > 0))

    return value


# --- regression -------------------------------------------------------------------------------------------


def _errors(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    return np.asarray(predictions["prediction"].to_numpy(dtype=np.float64) - truth.to_numpy(dtype=np.float64))


def _mae(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    return _mean(np.abs(_errors(truth, predictions)))


def _rmse(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    squared = _errors(truth, predictions).reshape(-1, 1) ** 2
    return _of_sums(squared, lambda sums, n: np.asarray(np.sqrt(sums[:, 0] / n)))


def _r2(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """1 - residual / total sum of squares; not a number where the target does not vary.

    From sums of the target and its square about its mean, so that little is lost to rounding.
    """
    centred = truth.to_numpy(dtype=np.float64) - truth.mean()

    def value(sums: Floats, n: Floats) -> Floats:
        total = sums[:, 2] - sums[:, 1] ** 2 / n
        share = np.divide(sums[:, 0], total, out=np.full_like(total, np.nan), where=total > 0)
        return np.asarray(1 - share)

    return _of_sums(np.stack([_errors(truth, predictions) ** 2, centred, centred**2], axis=1), value)


_CLASSIFICATION: dict[str, Metric] = {"accuracy": _accuracy, "f1-macro": _f1_macro, "log-loss": _log_loss}
METRICS: dict[str, dict[str, Metric]] = {
    "classification": _CLASSIFICATION,
    "binary-classification": {**_CLASSIFICATION, "auc": _auc, "brier": _brier},
    "regression": {"mae": _mae, "rmse": _rmse, "r2": _r2},
}
