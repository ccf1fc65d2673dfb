"""Whether chance explains a difference of counts: against scipy's own tests of the same data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workflows.steps import drift_report
from workflows.steps.distances import (
    FALSE_DISCOVERIES,
    Compared,
    chi_square,
    compared,
    corrected,
    kolmogorov_smirnov,
)
from workflows.steps.drift import Recorded, count, measure
from workflows.steps.reference import Numbers, Reference, Texts


def normal(n: int, seed: int, shift: float = 0.0) -> pd.Series:
    return pd.Series(np.random.default_rng(seed).normal(shift, 1, n))


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_of_bins_the_distance_is_a_lower_bound_of_that_of_the_values(shift: float) -> None:
    then, now = normal(5000, 1), normal(2000, 2, shift)
    column = Numbers.of(then)
    found = kolmogorov_smirnov(column.bins, column.count(now))
    exact = stats.ks_2samp(then, now, method="asymp")
    assert 0 < found.statistic <= exact.statistic
    assert found.statistic == pytest.approx(exact.statistic, abs=0.04)
    assert found.p >= exact.pvalue


def test_where_each_value_has_a_bin_of_its_own_the_test_is_scipys() -> None:
    random = np.random.default_rng(3)
    then, now = random.integers(0, 5, 4000), random.integers(0, 5, 900) ** 2 // 4
    column = Numbers.of(pd.Series(then))
    found = kolmogorov_smirnov(column.bins, column.count(pd.Series(now)))
    exact = stats.ks_2samp(then, now, method="asymp")
    assert found.statistic == pytest.approx(exact.statistic)
    assert found.p == pytest.approx(exact.pvalue, rel=0.1)


def test_missing_is_less_than_every_number() -> None:
    then, now = normal(3000, 4), normal(3000, 5)
    now[:600] = np.nan
    column = Numbers.of(then)
    found = kolmogorov_smirnov(column.bins, column.count(now))
    assert found.statistic == pytest.approx(0.2, abs=0.02)
    assert found.p < 1e-9


def test_chi_square_is_scipys() -> None:
    column = Texts(values={"a": 600, "b": 300}, other=100, missing=0)
    actual = np.array([250, 200, 50, 0])
    exact = stats.chi2_contingency([[600, 300, 100], [250, 200, 50]], correction=False)
    found = compared(column, actual)
    assert (found.statistic, found.p) == pytest.approx((exact.statistic, exact.pvalue))


def test_bins_with_too_few_rows_are_one() -> None:
    expected, actual = np.array([1000, 4, 3, 2, 1, 0]), np.array([990, 4, 3, 2, 1, 0])
    pooled = stats.chi2_contingency([[1000, 10], [990, 10]], correction=False)
    found = chi_square(expected, actual)
    assert (found.statistic, found.p) == pytest.approx((pooled.statistic, pooled.pvalue))
    assert chi_square(np.array([1000, 0]), np.array([10, 0])).p == 1


def test_the_correction_is_benjamini_and_hochbergs() -> None:
    values = [0.001, 0.2, 0.03, 0.03, 0.9, 0.0004]
    tests = {str(n): Compared(True, 0.0, p) for n, p in enumerate(values)}
    adjusted = [test.adjusted for test in corrected(tests).values()]
    assert adjusted == pytest.approx(stats.false_discovery_control(values))


def drawn(n: int, seed: int, moved: int = 0) -> pd.DataFrame:
    """Twenty features, of which the first ``moved`` are shifted by a fifth of their deviation."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({f"f{i:02d}": random.normal(0.2 * (i < moved), 1, n) for i in range(15)})
    for i in range(5):
        frame[f"t{i}"] = random.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    return frame


def test_without_drift_at_most_as_many_recordings_are_rejected_as_the_rate_says() -> None:
    """Of 200 with 20 features that chance alone makes differ: in 5 percent one is rejected, by the rate."""
    reference = Reference.of(drawn(5000, 1), "none", "regression")
    rejecting = 0
    for seed in range(200):
        frame = drawn(1000, 1000 + seed)
        tests = corrected({n: compared(c, reference.count(frame)[n]) for n, c in reference.features.items()})
        rejecting += any(test.adjusted <= FALSE_DISCOVERIES for test in tests.values())
    assert rejecting <= 20


def test_what_moved_a_little_is_rejected_by_name_although_its_psi_is_small() -> None:
    reference = Reference.of(drawn(5000, 1), "none", "regression")
    chunks = (part for part in (drawn(1000, 2, moved=3), drawn(1000, 3, moved=3)))
    found = measure(reference, count(reference, Recorded(chunks, lambda: "said"), "none"))
    rejected = found["rejected-features"]
    assert rejected.overall.candidate.value == 3
    assert {n for n, s in rejected.slices["feature"].items() if s.candidate.value} == {"f00", "f01", "f02"}
    assert "KS 0." in rejected.overall.candidate.note
    largest = found["ks-max"].overall.candidate
    assert largest.value == pytest.approx(0.08, abs=0.03)
    assert "at least" in largest.note
    assert set(found["ks-max"].slices["feature"]) == {f"f{i:02d}" for i in range(15)}
    psi = found["psi-max"].overall.candidate.value
    assert psi is not None
    assert psi < 0.1


def test_of_texts_alone_there_is_no_distance() -> None:
    texts = drawn(1000, 1)[[f"t{i}" for i in range(5)]]
    reference = Reference.of(texts, "none", "regression")
    found = measure(reference, count(reference, Recorded(iter([texts]), lambda: "said"), "none"))
    assert found["ks-max"].overall.candidate.value is None
    assert found["ks-max"].overall.candidate.note == "no feature is a number"
    assert found["rejected-features"].overall.candidate.value == 0


def test_counting_above_edges_is_looking_up_bins() -> None:
    values = pd.Series([*np.random.default_rng(7).normal(0, 1, 5000), np.nan, np.inf, -np.inf])
    column = Numbers.of(values[:5000])
    present = values.dropna().to_numpy()
    looked_up = np.bincount(np.searchsorted(column.edges, present), minlength=len(column.edges) + 1)
    assert column.count(values).tolist() == [*looked_up, 1]


def test_a_report_is_of_as_many_old_lines_as_new_ones_and_of_too_few_there_is_none() -> None:
    recorded = Recorded(iter(()), lambda: "")
    recorded.sample([str(n) for n in range(1000)], at_most=100)
    assert (recorded.older[0], recorded.older[-1], recorded.newer[0]) == ("0", "490", "500")
    assert len(recorded.older) == len(recorded.newer) == 50
    said = drift_report.report(recorded.older, recorded.newer)
    assert said == "no report: each half of the recording needs 100 rows"


def test_where_evidently_ends_badly_there_is_a_sentence() -> None:
    lines = ["no recording"] * drift_report.FEWEST
    assert (
        drift_report.report(lines, lines) == "no report: Evidently ended with 1; the log of the step says why"
    )
