"""The metrics of a model's predictions, each as a statistic of how often every row counts.

:data:`METRICS` is the one list: adding a metric is one entry and one function, which looks at truth and
predictions once and gives the :data:`~workflows.steps.bootstrap.Statistic` that is then resampled. A metric
that cannot be had from some predictions raises :class:`UnmeasurableError`, which becomes a null value that says
why. Called by the step `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reconciler.core.evidence import Estimate, Scores
from workflows.steps.bootstrap import SEED, Sums, detectable, estimate, once, resampled

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from workflows.steps.bootstrap import Floats, Statistic

    Metric = Callable[[pd.Series, pd.DataFrame], Statistic]


class UnmeasurableError(Exception):
    """Why a metric has no value for these predictions."""


class Measured(NamedTuple):
    """A metric's value, and its values on every resample. Equal rows have equal resamples: they pair."""

    value: float
    resampled: Floats


class Pair(NamedTuple):
    """One metric of both models on the same rows. A sentence says why there is no value.

    ``champion`` is None where there is none.
    """

    rows: int
    candidate: Measured | str
    champion: Measured | str | None

    @property
    def scores(self) -> Scores:
        candidate = _estimate(self.candidate, self.rows)
        if self.champion is None:
            return Scores(candidate=candidate)
        paired = _difference(self.candidate, self.champion)
        difference = _estimate(paired, self.rows)
        if isinstance(paired, Measured):
            difference = detectable(difference, paired.resampled)
        return Scores(candidate=candidate, champion=_estimate(self.champion, self.rows), difference=difference)


def scores(
    task: str, truth: pd.Series, candidate: pd.DataFrame, champion: pd.DataFrame | str | None
) -> dict[str, Scores]:
    """Every metric of the task on these rows, with what its value was had at: see :func:`measured`."""
    given = {"candidate": candidate, "champion": champion}
    return {
        name: _noted(name, pair.scores, given)
        for name, pair in measured(task, truth, candidate, champion).items()
    }


def measured(
    task: str,
    truth: pd.Series,
    candidate: pd.DataFrame,
    champion: pd.DataFrame | str | None,
    seed: int | Sequence[int] = SEED,
) -> dict[str, Pair]:
    """Every metric of the task on these rows: of the candidate, of the champion, on the same resamples.

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
    found: dict[tuple[str, str], Measured | str] = {p: w for p, w in asked.items() if isinstance(w, str)}
    values = resampled(list(could.values()), rows, seed=seed)
    for (place, statistic), drawn in zip(could.items(), values, strict=True):
        found[place] = Measured(once(statistic, rows), drawn)
    return {name: Pair(rows, found[name, "candidate"], found.get((name, "champion"))) for name in METRICS[task]}


def values(task: str, truth: pd.Series, predictions: pd.DataFrame) -> dict[str, float | str]:
    """Every metric of the task on these rows, without resampling; or why there is none."""
    found = {name: _statistic(metric, truth, predictions) for name, metric in METRICS[task].items()}
    return {name: each if isinstance(each, str) else once(each, len(truth)) for name, each in found.items()}


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


def _difference(ours: Measured | str, theirs: Measured | str) -> Measured | str:
    if isinstance(ours, str) or isinstance(theirs, str):
        return "candidate and champion were not both measured"
    return Measured(ours.value - theirs.value, ours.resampled - theirs.resampled)


def _estimate(found: Measured | str, rows: int) -> Estimate:
    if isinstance(found, str):
        return Estimate(value=None, n=rows, note=found)
    return estimate(found.value, found.resampled, rows)


def _noted(name: str, found: Scores, given: dict[str, pd.DataFrame | str | None]) -> Scores:
    """With what a number means that depends on the model."""
    note = NOTES.get(name)
    if note is None:
        return found
    told = {}
    for role, predictions in given.items():
        value: Estimate | None = getattr(found, role)
        if value is not None and value.usable and not isinstance(predictions, (str, type(None))):
            said = "; ".join(filter(None, (value.note, note(predictions))))
            told[role] = value.model_copy(update={"note": said})
    return found.model_copy(update=told)


def _mean(terms: NDArray[Any]) -> Statistic:
    return Sums(terms.reshape(-1, 1), lambda sums, n: np.asarray(sums[:, 0] / n))


# --- classification ---------------------------------------------------------------------------------------


def _accuracy(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    return _mean(np.asarray(truth.to_numpy() == predictions["prediction"].to_numpy()))


def _macro(of: Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]) -> Metric:
    """Mean over the classes that occur of a share; 0 where it has no rows, as in scikit-learn.

    ``of`` takes how often a class was told rightly, occurs, and was told, and gives the share's two parts.
    """

    def metric(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
        actual, given = truth.to_numpy(), predictions["prediction"].to_numpy()
        columns = []
        for label in dict.fromkeys([*actual.tolist(), *given.tolist()]):
            is_it, called_it = actual == label, given == label
            columns += [is_it & called_it, is_it, called_it]

        def value(sums: Floats, _n: Floats) -> Floats:
            hits, actually, called = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
            part, whole = of(hits, actually, called)
            share = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
            return np.asarray(share.sum(axis=1) / (actually + called > 0).sum(axis=1))

        return Sums(np.stack(columns, axis=1), value)

    return metric


_PRECISION_MACRO = _macro(lambda hits, _actually, called: (hits, called))
_RECALL_MACRO = _macro(lambda hits, actually, _called: (hits, actually))
_F1_MACRO = _macro(lambda hits, actually, called: (2 * hits, actually + called))


class _Probabilities(NamedTuple):
    """Probabilities (rows, classes) as the model gave them, and the place of each row's true class."""

    given: Floats
    true: np.ndarray[tuple[int], np.dtype[np.intp]]

    names: tuple[str, ...]

    @property
    def all(self) -> Floats:
        """(rows, classes), where those of a row are made to sum to one."""
        return np.asarray(self.given / self.given.sum(axis=1, keepdims=True))

    @property
    def scaled(self) -> Floats:
        """(rows,): of the true class, where those of a row are made to sum to one."""
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
    names = tuple(name.removeprefix("probability_") for name in columns)
    return _Probabilities(given, np.array([position[name] for name in wanted], dtype=np.intp), names)


def _log_loss(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """-ln of the probability given to the true class, in nats; probabilities scaled to sum to one.

    Clipped at the smallest step of a double from 0, as scikit-learn's log_loss.
    """
    smallest = np.finfo(np.float64).eps
    return _mean(-np.log(np.clip(_probabilities(truth, predictions).scaled, smallest, 1 - smallest)))


def _brier_of_all(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """Squared distance of a row's probabilities from 1 for its class and 0 for the others: 0 to 2.

    Brier (1950), Monthly Weather Review 78:1-3, as scikit-learn's brier_score_loss of more than two classes.
    """
    found = _probabilities(truth, predictions)
    wanted = found.true[:, None] == np.arange(len(found.names))
    return _mean(((found.all - wanted) ** 2).sum(axis=1))


BINS = 15


def _calibration_error(probability: Floats, came_true: Floats) -> Statistic:
    """Mean distance of what was promised from what came, over BINS bins of equal mass: 0 to 1.

    Naeini, Cooper & Hauskrecht (2015), AAAI 29:2901-2907, with as many rows in each bin: where most promises
    are near 1, one of the bins of equal width holds nearly all rows, and more of the error is chance (Roelofs
    et al. 2022, AISTATS, PMLR 151:4036-4054). Equal probabilities share a bin. A perfect model of few rows has
    not 0 either: compare models on the same rows.
    """
    edges = np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1])
    place = np.searchsorted(edges, probability)
    terms = np.zeros((len(probability), BINS), dtype=np.float32)  # half the memory of a million rows
    terms[np.arange(len(probability)), place] = probability - came_true
    return Sums(terms, lambda sums, n: np.asarray(np.abs(sums).sum(axis=1) / n))


def _calibration_of_all(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """Of the largest probability of a row, against whether the prediction is right (Guo et al. 2017, ICML)."""
    right = truth.to_numpy() == predictions["prediction"].to_numpy()
    return _calibration_error(_probabilities(truth, predictions).all.max(axis=1), right.astype(np.float64))


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


def _calibration_of_two(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """Of the positive class's probability, against whether the row is of that class."""
    found = _of_two(truth, predictions)
    place = found.names.index(max(found.names))
    return _calibration_error(found.all[:, place], (found.true == place).astype(np.float64))


class _Calls(NamedTuple):
    """Of each row, whether it is of the positive class, and whether it was called so.

    That class is the second of the two names in order, as in scikit-learn: 1 of 0 and 1, yes of no and yes.
    """

    positive: str
    actual: Floats
    called: Floats


def _calls(truth: pd.Series, predictions: pd.DataFrame) -> _Calls:
    found = _of_two(truth, predictions)
    positive = max(found.names)
    actual = (found.true == found.names.index(positive)).astype(np.float64)
    return _Calls(positive, actual, _called(predictions, positive))


def _called(predictions: pd.DataFrame, positive: str) -> Floats:
    labels = [label for label in predictions["prediction"].unique() if str(label) == positive]
    return np.asarray(predictions["prediction"].isin(labels), dtype=np.float64)


def _share(of: Callable[[_Calls], tuple[Floats, Floats]], without: str) -> Metric:
    """A share of two sums over rows. ``without``: what is said where the rows have none of the second."""

    def metric(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
        calls = _calls(truth, predictions)
        part, whole = of(calls)
        if not whole.any():
            raise UnmeasurableError(without.format(positive=calls.positive))

        def value(sums: Floats, _n: Floats) -> Floats:
            part, whole = sums[:, 0], sums[:, 1]
            return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))

        return Sums(np.stack([part, whole], axis=1), value)

    return metric


_PRECISION = _share(lambda it: (it.actual * it.called, it.called), "not measured: no row is called {positive}")
_RECALL = _share(lambda it: (it.actual * it.called, it.actual), "not measured: no row is {positive}")
_F1 = _share(
    lambda it: (2 * it.actual * it.called, it.actual + it.called),
    "not measured: no row is {positive}, and none is called so",
)
_SELECTION_RATE = _share(lambda it: (it.called, np.ones_like(it.called)), "")
_FALSE_POSITIVE_RATE = _share(
    lambda it: ((1 - it.actual) * it.called, 1 - it.actual), "not measured: every row is {positive}"
)


def of_positive_class(truth: pd.Series, predictions: pd.DataFrame) -> pd.Series | None:
    """Which rows are of the positive class; None where these predictions are not of two classes."""
    import pandas as pd

    try:
        return pd.Series(_calls(truth, predictions).actual > 0, index=truth.index)
    except UnmeasurableError:
        return None


def decided(predictions: pd.DataFrame) -> str:
    """At what probability of the positive class the model's own predictions turn to it, in words."""
    columns = [str(name) for name in predictions.columns if str(name).startswith("probability_")]
    chosen = max(columns)
    positive = chosen.removeprefix("probability_")
    probability, called = predictions[chosen].to_numpy(np.float64), _called(predictions, positive) > 0
    said = f"{positive} is the positive class"
    if called.all() or not called.any():
        return f"{said}; {'every' if called.any() else 'no'} row is called so"
    below, above = float(probability[~called].max()), float(probability[called].min())
    if below >= above:
        return f"{said}; no single probability decides"
    return f"{said}, from a probability between {below:.4g} and {above:.4g} on"


# --- regression -------------------------------------------------------------------------------------------


def _errors(truth: pd.Series, predictions: pd.DataFrame) -> Floats:
    return np.asarray(predictions["prediction"].to_numpy(dtype=np.float64) - truth.to_numpy(dtype=np.float64))


def _mae(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    return _mean(np.abs(_errors(truth, predictions)))


def _rmse(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    squared = _errors(truth, predictions).reshape(-1, 1) ** 2
    return Sums(squared, lambda sums, n: np.asarray(np.sqrt(sums[:, 0] / n)))


def _r2(truth: pd.Series, predictions: pd.DataFrame) -> Statistic:
    """1 - residual / total sum of squares; not a number where the target does not vary.

    From sums of the target and its square about its mean, so that little is lost to rounding.
    """
    centred = truth.to_numpy(dtype=np.float64) - truth.mean()

    def value(sums: Floats, n: Floats) -> Floats:
        total = sums[:, 2] - sums[:, 1] ** 2 / n
        share = np.divide(sums[:, 0], total, out=np.full_like(total, np.nan), where=total > 0)
        return np.asarray(1 - share)

    return Sums(np.stack([_errors(truth, predictions) ** 2, centred, centred**2], axis=1), value)


METRICS: dict[str, dict[str, Metric]] = {
    "classification": {
        "accuracy": _accuracy,
        "precision-macro": _PRECISION_MACRO,
        "recall-macro": _RECALL_MACRO,
        "f1-macro": _F1_MACRO,
        "log-loss": _log_loss,
        "brier": _brier_of_all,
        "ece": _calibration_of_all,
    },
    "binary-classification": {
        "accuracy": _accuracy,
        "precision": _PRECISION,
        "recall": _RECALL,
        "f1": _F1,
        "f1-macro": _F1_MACRO,
        "auc": _auc,
        "log-loss": _log_loss,
        "brier": _brier,
        "ece": _calibration_of_two,
        "selection-rate": _SELECTION_RATE,
        "false-positive-rate": _FALSE_POSITIVE_RATE,
    },
    "regression": {"mae": _mae, "rmse": _rmse, "r2": _r2},
}
NOTES: dict[str, Callable[[pd.DataFrame], str]] = dict.fromkeys(
    ("precision", "recall", "f1", "selection-rate", "false-positive-rate"), decided
)
"""What is said beside a value, over all rows, of a metric that depends on a choice of the model."""
