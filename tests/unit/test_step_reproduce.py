"""Step `reproduce`: how far two models are from each other, and what is not measured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workflows.steps.reproduce import equal_files, measure

TRUTH = pd.Series([0, 1, 0, 1])


def told(*one: float) -> pd.DataFrame:
    called = [int(each > 0.5) for each in one]
    return pd.DataFrame(
        {"prediction": called, "probability_0": [1 - each for each in one], "probability_1": list(one)}
    )


def test_the_same_predictions_have_a_score_of_one() -> None:
    found = measure("classification", TRUTH, told(0.1, 0.9, 0.2, 0.8), told(0.1, 0.9, 0.2, 0.8))
    assert found["score"].overall.candidate.value == 1.0
    assert found["metric-difference"].overall.candidate.value == 0.0
    assert found["agreement"].overall.candidate.n == 4


def test_the_score_is_the_agreement_less_the_largest_relative_difference() -> None:
    found = measure("classification", TRUTH, told(0.1, 0.9, 0.2, 0.8), told(0.1, 0.9, 0.2, 0.4))
    apart = found["metric-difference"]
    assert apart.slices["metric"]["accuracy"].candidate.value == pytest.approx(0.25)
    largest = max(scores.candidate.value or 0 for scores in apart.slices["metric"].values())
    assert apart.overall.candidate.value == largest
    assert found["score"].overall.candidate.value == pytest.approx(0.75 * (1 - largest))


def test_a_regression_agrees_to_a_thousandth() -> None:
    truth = pd.Series([1.0, 2.0, 4.0])
    first, again = (pd.DataFrame({"prediction": each}) for each in ([1.1, 2.1, 3.9], [1.1, 2.1001, 3.8]))
    found = measure("regression", truth, first, again)
    assert found["agreement"].overall.candidate.value == pytest.approx(2 / 3)


def test_a_metric_that_one_of_them_lacks_says_why_and_is_left_out() -> None:
    bare = told(0.1, 0.9, 0.2, 0.8)[["prediction"]]
    found = measure("classification", TRUTH, told(0.1, 0.9, 0.2, 0.8), bare)
    loss = found["metric-difference"].slices["metric"]["log-loss"].candidate
    assert (loss.value, loss.note) == (None, "the predictions carry no probabilities")
    assert found["score"].overall.candidate.value == 1.0


def test_files_are_compared_by_their_bytes(tmp_path: Path) -> None:
    for name, weights in (("first", "1"), ("again", "2")):
        (tmp_path / name / "weights").mkdir(parents=True)
        (tmp_path / name / "weights/network.pt").write_text(weights)
        (tmp_path / name / "weights/network.json").write_text("{}")
    found = equal_files(tmp_path / "first", tmp_path / "again").overall.candidate
    assert (found.value, found.n, found.note) == (0.5, 2, "other bytes: weights/network.pt")
    none = equal_files(tmp_path / "nowhere", tmp_path / "neither").overall.candidate
    assert (none.value, none.note) == (None, "the model has no artifacts")
