"""What a version was trained on, as counts, and the PSI of other rows against it."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from reconciler.core.errors import Terminal
from workflows.steps.reference import EMPTY, FILE, Numbers, Reference, Texts, psi, read_reference, resampled_psi

RANDOM = np.random.default_rng(11)
ROWS = 5000


def frame(rows: int = ROWS, shift: float = 0.0, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temperature": random.normal(10 + shift, 5, rows),
            "weekday": random.integers(1, 8, rows),
            "rain": np.where(random.random(rows) < 0.9, 0.0, random.exponential(1, rows)),
            "carrier": random.choice(["UA", "AA", "B6"], rows, p=[0.6, 0.3, 0.1]),
            "late": random.random(rows) < 0.2,
        }
    )


def by_hand(expected: list[int], actual: list[int]) -> float:
    total = 0.0
    for e, a in zip(expected, actual, strict=True):
        share, other = max(e / sum(expected), EMPTY), max(a / sum(actual), EMPTY)
        total += (other - share) * math.log(other / share)
    return total


def test_psi_is_the_formula() -> None:
    """Ten bins of a tenth each, half of which lose half of their rows to the others."""
    expected, actual = [100] * 10, [50, 50, 50, 50, 50, 150, 150, 150, 150, 150]
    value = float(psi(np.array(expected), np.array(actual)))
    assert value == pytest.approx(by_hand(expected, actual))
    assert value == pytest.approx(5 * 0.05 * (math.log(2) + math.log(1.5)))
    assert float(psi(np.array(expected), np.array(expected))) == 0


def test_an_empty_bin_counts_as_one_row_in_ten_thousand() -> None:
    value = float(psi(np.array([100, 0]), np.array([80, 20])))
    assert value == pytest.approx((0.8 - 1) * math.log(0.8) + (0.2 - EMPTY) * math.log(0.2 / EMPTY))


def test_of_no_rows_there_is_no_psi() -> None:
    assert math.isnan(float(psi(np.array([1, 2]), np.array([0, 0]))))


def test_numbers_are_counted_in_their_deciles_and_missing_apart() -> None:
    values = pd.Series([*range(1, 101), None, float("nan")])
    column = Numbers.of(values)
    assert column.edges == (10, 20, 30, 40, 50, 60, 70, 80, 90)
    assert (column.counts, column.missing) == ((10,) * 10, 2)
    assert column.count(pd.Series([-1e9, 10, 10.5, float("inf"), None])).tolist() == [2, 1, *[0] * 7, 1, 1]


@pytest.mark.parametrize(
    ("values", "other"),
    [([0.0] * 95 + [1.0] * 5, -999.0), ([7.0] * 100, 6.0), ([7.0] * 100, 8.0)],
)
def test_what_leaves_a_value_that_most_rows_have_is_seen(values: list[float], other: float) -> None:
    column = Numbers.of(pd.Series(values))
    actual = column.count(pd.Series(values[:50] + [other] * 50))
    assert float(psi(column.bins, actual)) > 1


def test_a_column_without_any_number_has_one_bin() -> None:
    column = Numbers.of(pd.Series([None, None], dtype=float))
    assert (column.edges, column.bins.tolist()) == ((), [0, 2])
    assert column.count(pd.Series([1.0, None])).tolist() == [1, 1]


def test_frequent_texts_have_a_bin_and_rare_ones_share_one() -> None:
    values = ["a"] * 60 + ["b"] * 30 + ["the one"] * 9 + ["x" * 200] * 20 + [None] * 5
    column = Texts.of(pd.Series(values))
    assert column.values == {"a": 60, "b": 30}
    assert (column.other, column.missing) == (29, 5)
    assert column.count(pd.Series(["b", "unknown", None, "a", "a"])).tolist() == [2, 1, 1, 1]


def test_at_most_fifty_texts_and_the_file_stays_small(tmp_path) -> None:
    many = pd.DataFrame({f"n{i}": RANDOM.random(30_000) for i in range(30)})
    many["name"] = [f"value {i % 300}" for i in range(30_000)]
    Reference.of(many, pd.Series(RANDOM.random(30_000)), "regression").write(tmp_path)
    assert (tmp_path / FILE).stat().st_size < 16_000
    found = read_reference(tmp_path)
    assert found is not None
    assert len(found.features["name"].bins) == 52


def test_is_read_back_as_it_was_written(tmp_path) -> None:
    rows = frame()
    made = Reference.of(rows, rows["weekday"], "classification")
    made.write(tmp_path)
    assert read_reference(tmp_path) == made
    assert made.rows == ROWS
    assert {name: column.kind for name, column in made.features.items()} == {
        "temperature": "numbers",
        "weekday": "numbers",
        "rain": "numbers",
        "carrier": "texts",
        "late": "texts",
    }
    assert made.prediction is not None
    assert made.prediction.kind == "texts"
    assert all(column.bins.sum() == ROWS for column in made.features.values())


def test_equal_rows_make_equal_bytes(tmp_path) -> None:
    texts = []
    for _ in range(2):
        Reference.of(frame(), "none", "regression").write(tmp_path)
        texts.append((tmp_path / FILE).read_bytes())
    assert texts[0] == texts[1]


def test_what_cannot_be_counted_is_named() -> None:
    rows = pd.DataFrame({"at": pd.to_datetime(["2026-03-01"] * 3), "list": [[1], [2], [3]], "n": [1, 2, 3]})
    made = Reference.of(rows, "the model does not predict", "regression")
    assert list(made.features) == ["n"]
    assert set(made.left_out) == {"at", "list", "prediction"}


def test_without_the_file_there_is_no_reference_and_a_damaged_one_is_an_error(tmp_path) -> None:
    assert read_reference(tmp_path) is None
    (tmp_path / FILE).write_text(json.dumps({"rows": 3}))
    with pytest.raises(Terminal, match="is not readable"):
        read_reference(tmp_path)


def test_rows_of_the_same_kind_have_a_small_psi_and_shifted_ones_a_large_one() -> None:
    made = Reference.of(frame(), "none", "regression")
    for shift, shifted in ((0.0, set()), (5.0, {"temperature"})):
        counts = made.count(frame(2000, shift, seed=2))
        values = {name: float(psi(column.bins, counts[name])) for name, column in made.features.items()}
        assert {name for name, value in values.items() if value > 0.2} == shifted
        assert all(value < 0.02 for name, value in values.items() if name not in shifted)


def test_counts_of_chunks_add_up_and_json_rows_count_like_the_table() -> None:
    made, rows = Reference.of(frame(), "none", "regression"), frame(1000, seed=3)
    whole = made.count(rows)
    chunks = [made.count(rows[start : start + 300]) for start in range(0, 1000, 300)]
    as_json = pd.DataFrame(json.loads(rows.to_json(orient="records")))
    for name, counts in whole.items():
        assert sum(chunk[name] for chunk in chunks).tolist() == counts.tolist()
        assert made.count(as_json)[name].tolist() == counts.tolist()


def test_a_column_that_is_not_sent_is_missing_in_every_row() -> None:
    made = Reference.of(frame(), "none", "regression")
    counts = made.count(frame(100)[["weekday"]])
    assert counts["carrier"][-1] == counts["temperature"][-1] == 100


def test_intervals_hold_the_value_and_shrink_with_rows() -> None:
    made = Reference.of(frame(), "none", "regression").features["temperature"]
    widths = []
    for rows in (500, 5000):
        actual = made.count(frame(rows, 3.0, seed=4)["temperature"])
        low, high = np.quantile(resampled_psi(made.bins, actual), [0.025, 0.975])
        assert low <= float(psi(made.bins, actual)) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """95 percent intervals of 200 samples of 1,000 rows; the truth is the PSI of very many rows."""
    made = Reference.of(frame(), "none", "regression").features["temperature"]
    truth = float(psi(made.bins, made.count(frame(400_000, 2.0, seed=5)["temperature"])))
    inside = 0
    for seed in range(200):
        actual = made.count(frame(1000, 2.0, seed=100 + seed)["temperature"])
        low, high = np.quantile(resampled_psi(made.bins, actual), [0.025, 0.975])
        inside += low <= truth <= high
    assert 0.88 <= inside / 200 <= 0.99
