"""The paired bootstrap, for any statistic that can be had from how often each row counts.

Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3: percentile intervals. Candidate and
champion are resampled together, row by row, so that what is hard for both cancels in their difference. Called
by :mod:`workflows.steps.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reconciler.core.evidence import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Statistic = Callable[[Floats], Floats]
    """From how often each row counts, (draws, rows), to one value a draw, (draws,)."""

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20260301
"""Fixed, so that the same predictions give the same evidence."""

_BLOCK = 4_000_000
"""Row counts held at once: 32 MB."""


def once(statistic: Statistic, rows: int) -> float:
    """The statistic where every row counts once: its value on the rows themselves."""
    return float(statistic(np.ones((1, rows)))[0])


def resampled(
    statistics: Sequence[Statistic], rows: int, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Every statistic on the very same ``resamples`` draws of ``rows`` rows with replacement.

    (statistics, resamples). Equal numbers of rows and equal seeds give equal draws, so values pair. Draws are
    made once for all statistics and in blocks, so that memory does not grow with their number.
    """
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // rows)
    values = np.empty((len(statistics), resamples))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        for place, statistic in enumerate(statistics):
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
