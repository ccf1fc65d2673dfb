"""The paired bootstrap, for any statistic that can be had from how often each row counts.

Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3: percentile intervals. Candidate and
champion are resampled together, row by row, so that what is hard for both cancels in their difference. Called
by :mod:`workflows.steps.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from reconciler.core.evidence import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Statistic = Callable[[Floats], Floats]
    """From how often each row counts, (draws, rows), to one value a draw, (draws,)."""


@dataclass(frozen=True)
class Sums:
    """A statistic that is a function of sums over rows; those of all of them are one matrix product.

    ``terms`` is (rows, terms), and ``value(sums, n)`` takes (draws, terms) and (draws,) to (draws,).
    """

    terms: NDArray[Any]
    value: Callable[[Floats, Floats], Floats]

    def __call__(self, counts: Floats) -> Floats:
        return self.value(counts @ self.terms, counts.sum(axis=1))


RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20260301
"""Fixed, so that the same predictions give the same evidence."""
POWER = 0.8
"""With which a sample shows the smallest difference that is called detectable."""

_BLOCK = 4_000_000
"""Row counts held at once: 32 MB."""


def once(statistic: Statistic, rows: int) -> float:
    """The statistic where every row counts once: its value on the rows themselves."""
    return float(statistic(np.ones((1, rows)))[0])


def quantile(values: Floats, share: float) -> Statistic:
    """The smallest value that at least ``share`` of the rows, counted as they are drawn, do not exceed."""
    order = np.argsort(values, kind="stable")

    def value(counts: Floats) -> Floats:
        reached = np.cumsum(counts[:, order], axis=1) >= share * counts.sum(axis=1, keepdims=True)
        return np.asarray(values[order][reached.argmax(axis=1)])

    return value


def resampled(
    statistics: Sequence[Statistic],
    rows: int,
    *,
    resamples: int = RESAMPLES,
    seed: int | Sequence[int] = SEED,
) -> Floats:
    """Every statistic on the very same ``resamples`` draws of ``rows`` rows with replacement.

    (statistics, resamples). Equal numbers of rows and equal seeds give equal draws, so values pair. Draws are
    made once for all statistics and in blocks, so that memory does not grow with their number.
    """
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // rows)
    values = np.empty((len(statistics), resamples))
    summed = [(place, each) for place, each in enumerate(statistics) if isinstance(each, Sums)]
    others = [(place, each) for place, each in enumerate(statistics) if not isinstance(each, Sums)]
    ends = np.cumsum([each.terms.shape[1] for _, each in summed])
    terms = np.hstack([np.empty((rows, 0)), *(each.terms for _, each in summed)], dtype=np.float64)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        drawn_rows = np.full(size, float(rows))
        for (place, each), sums in zip(summed, np.split(counts @ terms, ends[:-1], axis=1), strict=False):
            values[place, start : start + size] = each.value(sums, drawn_rows)
        for place, statistic in others:
            values[place, start : start + size] = statistic(counts)
    return values


def estimate(value: float, resampled: Floats, rows: int) -> Estimate:
    """``value`` with the interval between the outer percentiles of its resampled values."""
    if not np.isfinite(value):
        return Estimate(value=None, n=rows, note=f"measured {value}")
    if rows < 2:
        return Estimate(value=value, n=rows, note="no interval: one row")
    if not np.isfinite(resampled).all():
        return Estimate(value=value, n=rows, note="no interval: undefined on some resamples")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value=value, n=rows, low=float(low), high=float(high), confidence=CONFIDENCE)


def estimated(statistic: Statistic, rows: int, n: int) -> Estimate:
    """One statistic of ``rows`` rows, with its interval; it is said to rest on ``n`` samples."""
    return estimate(once(statistic, rows), resampled([statistic], rows)[0], n)


def detectable(difference: Estimate, resampled: Floats) -> Estimate:
    """The difference, with the smallest true one that this many rows show with a probability of POWER.

    (z(1 - alpha/2) + z(POWER)) standard errors, 2.8 of them: Bloom, Minimum Detectable Effects (1995),
    Evaluation Review 19:547-556. The standard error is the bootstrap's.
    """
    if not difference.has_interval:
        return difference
    normal = NormalDist()
    errors = normal.inv_cdf((1 + CONFIDENCE) / 2) + normal.inv_cdf(POWER)
    return difference.model_copy(update={"detectable": float(errors * np.std(resampled, ddof=1))})


def wilson(passed: int, n: int, note: str = "") -> Estimate:
    """A share with its score interval of 95 percent, which has a width also where none or all passed.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
    """
    share, z = passed / n, NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
    return Estimate(value=share, n=n, low=low, high=high, confidence=CONFIDENCE, note=note)
