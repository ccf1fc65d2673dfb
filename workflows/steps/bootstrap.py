"""The paired bootstrap, for any metric that is a function of sums over rows.

Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3: percentile intervals. Candidate and
champion are resampled together, row by row, so that what is hard for both cancels in their difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reconciler.core.evidence import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20260301
"""Fixed, so that the same predictions give the same evidence."""

_BLOCK = 4_000_000
"""Row counts held at once: 32 MB."""


def resampled_sums(
    terms: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float64]:
    """Sums of ``terms`` (rows, terms) over ``resamples`` draws of as many rows with replacement.

    (resamples, terms). Equal numbers of rows and equal seeds give equal draws. Each draw is written as how
    often it has each row, so that all its sums are one matrix product.
    """
    rows = len(terms)
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // rows)
    sums = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        sums.append(counts @ terms)
    return np.concatenate(sums)


def estimate(value: float, resampled: NDArray[np.float64], rows: int) -> Estimate:
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
