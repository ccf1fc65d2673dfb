"""Whether chance alone would make recorded rows differ so much from the training rows; step `drift` asks.

Both sides are counts in the same bins, and the tests are those of counts. Of a number it is the two-sample test
of Kolmogorov and Smirnov, where missing is less than every number: the distance between the cumulative shares
is looked at only at the edges of the bins. So it is a lower bound of the distance of the values themselves, and
the test is conservative: it rejects no more often than it says (Noether, Technometrics 5 (1963), 397-401). Of
texts it is Pearson's chi-square test of homogeneity. Several features are corrected by Benjamini & Hochberg,
J. R. Statist. Soc. B 57 (1995), 289-300. Rows that depend on each other, as those of one day do, make both
reject more often: a p-value says that chance does not explain it, and PSI says how much it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflows.steps.reference import Numbers, Texts

if TYPE_CHECKING:
    from workflows.steps.reference import Counts

FALSE_DISCOVERIES = 0.05
"""Of the features that are said to differ, the share that chance alone may be to blame for."""
FEWEST_EXPECTED = 5.0
"""Rows of either side in a bin of the chi-square test, or it is put together with others (Cochran, 1954)."""


class Compared(NamedTuple):
    """One feature: its distance (of numbers) or chi-square, the p-value, and that after the correction."""

    ordered: bool
    statistic: float
    p: float
    adjusted: float = 1.0

    def __str__(self) -> str:
        name = "KS" if self.ordered else "chi-square"
        return f"{name} {self.statistic:.3g}, p {self.p:.2g}, corrected {self.adjusted:.2g}"


def compared(column: Numbers | Texts, actual: Counts) -> Compared:
    """Rows of ``actual`` in the bins of this feature against those that trained; neither is without rows."""
    if isinstance(column, Numbers):
        return kolmogorov_smirnov(column.bins, actual)
    return chi_square(column.bins, actual)


def kolmogorov_smirnov(expected: Counts, actual: Counts) -> Compared:
    """The largest difference of cumulative shares, bins in their order, the last (missing) before all others.

    p by Kolmogorov's limit distribution at D sqrt(n m / (n + m)).
    """
    from scipy.special import kolmogorov

    n, m = float(expected.sum()), float(actual.sum())
    shares = np.roll(expected, 1).cumsum() / n - np.roll(actual, 1).cumsum() / m
    distance = float(np.abs(shares).max())
    return Compared(True, distance, float(kolmogorov(distance * math.sqrt(n * m / (n + m)))))


def chi_square(expected: Counts, actual: Counts) -> Compared:
    """Pearson's statistic of the table with these two rows; bins with too few rows are one."""
    from scipy.special import chdtrc

    table = np.array([expected, actual], dtype=np.float64)
    total = table.sum()
    smallest = table.sum(axis=0) * table.sum(axis=1).min() / total
    few = smallest < FEWEST_EXPECTED
    table = np.column_stack([table[:, ~few], table[:, few].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return Compared(False, 0.0, 1.0)
    mean = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    statistic = float(((table - mean) ** 2 / mean).sum())
    return Compared(False, statistic, float(chdtrc(table.shape[1] - 1, statistic)))


def corrected(tests: dict[str, Compared]) -> dict[str, Compared]:
    """The same, each with the false discovery rate at which it is just rejected."""
    ranked = sorted(tests, key=lambda name: tests[name].p, reverse=True)
    adjusted, least = {}, 1.0
    for place, name in enumerate(ranked):
        least = min(least, tests[name].p * len(tests) / (len(tests) - place))
        adjusted[name] = least
    return {name: test._replace(adjusted=adjusted[name]) for name, test in tests.items()}
