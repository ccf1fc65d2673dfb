"""The paired bootstrap and the metrics, against brute force and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from workflows.steps.bootstrap import estimate, resampled_sums
from workflows.steps.metrics import METRICS, score

RANDOM = np.random.default_rng(7)
ROWS = 300
TRUTH = pd.Series(RANDOM.choice(["a", "b", "c"], ROWS))


def predictions(truth: pd.Series, right: float, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1, 1, 1], ROWS)
    called = np.where(random.random(ROWS) < right, truth, random.choice(["a", "b", "c"], ROWS))
    frame = pd.DataFrame(probabilities, columns=["probability_a", "probability_b", "probability_c"])
    return frame.assign(prediction=called)


CANDIDATE, CHAMPION = predictions(TRUTH, 0.9, 1), predictions(TRUTH, 0.7, 2)


def draws(rows: int, resamples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, rows, (resamples, rows))


def test_sums_are_those_of_the_drawn_rows() -> None:
    terms = RANDOM.random((50, 3))
    brute = np.array([terms[drawn].sum(axis=0) for drawn in draws(50, 200, 3)])
    assert np.allclose(resampled_sums(terms, resamples=200, seed=3), brute)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = RANDOM.random((50, 3))
    whole = resampled_sums(terms, resamples=200, seed=3)
    monkeypatch.setattr("workflows.steps.bootstrap._BLOCK", 50 * 7)
    assert np.allclose(resampled_sums(terms, resamples=200, seed=3), whole)


@pytest.mark.parametrize("name", ["accuracy", "f1-macro", "log-loss"])
def test_difference_interval_equals_a_loop_over_paired_resamples(name: str) -> None:
    """Every resample is scored by scikit-learn, candidate and champion on the same drawn rows."""
    from workflows.steps.bootstrap import RESAMPLES, SEED

    def by_sklearn(frame: pd.DataFrame, drawn: np.ndarray) -> float:
        truth, picked = TRUTH.iloc[drawn], frame.iloc[drawn]
        if name == "accuracy":
            return float((truth.to_numpy() == picked["prediction"].to_numpy()).mean())
        if name == "f1-macro":
            return float(reference.f1_score(truth, picked["prediction"], average="macro"))
        return float(reference.log_loss(truth, picked[[f"probability_{c}" for c in "abc"]], labels=list("abc")))

    scored = score(METRICS["classification"][name], TRUTH, CANDIDATE, CHAMPION)
    everything = np.arange(ROWS)
    assert scored.candidate.value == pytest.approx(by_sklearn(CANDIDATE, everything))
    assert scored.champion is not None
    assert scored.champion.value == pytest.approx(by_sklearn(CHAMPION, everything))

    some = draws(ROWS, RESAMPLES, SEED)[:60]
    terms = METRICS["classification"][name].terms(TRUTH, CANDIDATE)
    ours = METRICS["classification"][name].value(resampled_sums(terms)[:60], ROWS)
    assert ours == pytest.approx([by_sklearn(CANDIDATE, drawn) for drawn in some])
    theirs = METRICS["classification"][name].value(
        resampled_sums(METRICS["classification"][name].terms(TRUTH, CHAMPION)), ROWS
    )
    paired = METRICS["classification"][name].value(resampled_sums(terms), ROWS) - theirs
    assert scored.difference is not None
    assert scored.difference.low == pytest.approx(np.percentile(paired, 2.5))
    assert scored.difference.high == pytest.approx(np.percentile(paired, 97.5))
    assert scored.difference.value == pytest.approx(scored.candidate.value - scored.champion.value)


def test_pairing_makes_the_interval_of_equal_predictions_nothing() -> None:
    scored = score(METRICS["classification"]["accuracy"], TRUTH, CANDIDATE, CANDIDATE)
    assert scored.difference is not None
    assert (scored.difference.low, scored.difference.high) == (0.0, 0.0)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        hits = (np.random.default_rng(seed).random((120, 1)) < 0.8).astype(float)
        found = estimate(hits.mean(), resampled_sums(hits, resamples=400)[:, 0] / 120, 120)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.8 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.parametrize(
    ("name", "by_sklearn"),
    [
        ("mae", reference.mean_absolute_error),
        ("rmse", reference.root_mean_squared_error),
        ("r2", reference.r2_score),
    ],
)
def test_regression_metrics_are_scikit_learns(name: str, by_sklearn: object) -> None:
    truth = pd.Series(RANDOM.normal(1e4, 3, ROWS))
    frame = pd.DataFrame({"prediction": truth + RANDOM.normal(0, 1, ROWS)})
    scored = score(METRICS["regression"][name], truth, frame, None)
    assert scored.candidate.value == pytest.approx(by_sklearn(truth, frame["prediction"]))  # type: ignore[operator]
    assert scored.candidate.has_interval
    assert scored.champion is None
    assert scored.difference is None


def test_what_cannot_be_measured_is_null_and_says_why() -> None:
    kinds = METRICS["classification"]
    bare = CANDIDATE[["prediction"]]
    assert (
        score(kinds["log-loss"], TRUTH, bare, None).candidate.note == "the predictions carry no probabilities"
    )
    unknown = score(kinds["log-loss"], TRUTH.replace("c", "d"), CANDIDATE, None).candidate
    assert (unknown.value, unknown.note) == (None, "the model has no class d")
    holes = CANDIDATE.assign(prediction=CANDIDATE["prediction"].where(CANDIDATE.index > 2))
    found = score(kinds["accuracy"], TRUTH, holes, None).candidate
    assert (found.value, found.n, found.note) == (None, ROWS, f"3 of {ROWS} predictions are missing")
    constant = pd.Series([2.0] * 5)
    flat = score(METRICS["regression"]["r2"], constant, pd.DataFrame({"prediction": [1.0] * 5}), None).candidate
    assert (flat.value, flat.note) == (None, "measured nan")


def test_a_champion_that_cannot_predict_leaves_the_candidates_numbers() -> None:
    scored = score(METRICS["classification"]["accuracy"], TRUTH, CANDIDATE, "does not predict: KeyError")
    assert scored.candidate.usable
    assert scored.champion is not None
    assert scored.difference is not None
    assert scored.champion.note == "does not predict: KeyError"
    assert scored.difference.value is None


def test_one_row_has_no_interval() -> None:
    one = score(METRICS["classification"]["accuracy"], TRUTH[:1], CANDIDATE[:1], None).candidate
    assert (one.value is not None, one.has_interval, one.note) == (True, False, "no interval: one row")


def test_a_certain_and_wrong_probability_is_finite() -> None:
    wrong = pd.DataFrame({"prediction": ["b"], "probability_a": [0.0], "probability_b": [1.0]})
    value = score(METRICS["classification"]["log-loss"], pd.Series(["a"]), wrong, None).candidate.value
    assert value is not None
    assert math.isfinite(value)
