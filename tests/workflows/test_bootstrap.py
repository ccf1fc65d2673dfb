"""The paired bootstrap and the metrics, against brute force and against scikit-learn."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from workflows.steps.bootstrap import RESAMPLES, SEED, estimate, resampled
from workflows.steps.metrics import METRICS, scores

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


def test_every_statistic_sees_the_drawn_rows() -> None:
    terms = RANDOM.random((50, 3))
    brute = np.array([terms[drawn].sum(axis=0) for drawn in draws(50, 200, 3)])
    sums = [lambda counts, place=place: counts @ terms[:, place] for place in range(3)]
    assert np.allclose(resampled(sums, 50, resamples=200, seed=3), brute.T)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = RANDOM.random(50)
    whole = resampled([lambda counts: counts @ weights], 50, resamples=200, seed=3)
    monkeypatch.setattr("workflows.steps.bootstrap._BLOCK", 50 * 7)
    assert np.allclose(resampled([lambda counts: counts @ weights], 50, resamples=200, seed=3), whole)


Frames = tuple[pd.Series, pd.DataFrame, pd.DataFrame]


def two_classes(rows: int, seed: int = 5) -> Frames:
    """Truth, a candidate and a weaker champion, with many scores that tie."""
    random = np.random.default_rng(seed)
    late = random.random(rows) < 0.3

    def told(noise: float) -> pd.DataFrame:
        score = np.clip(np.round(0.4 * late + random.normal(0.3, noise, rows), 2), 0, 1)
        called = np.where(score > 0.5, "yes", "no")
        return pd.DataFrame({"prediction": called, "probability_no": 1 - score, "probability_yes": score})

    return pd.Series(np.where(late, "yes", "no")), told(0.25), told(0.5)


def by_sklearn(name: str, truth: pd.Series, frame: pd.DataFrame) -> float:
    probabilities = frame.filter(like="probability_")
    labels = [str(column).removeprefix("probability_") for column in probabilities.columns]
    match name:
        case "accuracy":
            return float((truth.to_numpy() == frame["prediction"].to_numpy()).mean())
        case "f1-macro":
            return float(reference.f1_score(truth, frame["prediction"], average="macro"))
        case "log-loss":
            return float(reference.log_loss(truth, probabilities, labels=labels))
        case "auc":
            return float(reference.roc_auc_score(truth == "yes", frame["probability_yes"]))
        case "brier":
            return float(reference.brier_score_loss(truth == "yes", frame["probability_yes"]))
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("task", "name"),
    [(task, name) for task in ("classification", "binary-classification") for name in METRICS[task]],
)
def test_every_resample_is_the_one_that_scikit_learn_scores(task: str, name: str) -> None:
    """Value, resamples and interval against a loop: candidate and champion on the same drawn rows."""
    frames = (TRUTH, CANDIDATE, CHAMPION) if task == "classification" else two_classes(ROWS)
    truth, candidate, champion = frames
    scored = scores(task, truth, candidate, champion)[name]
    assert scored.candidate.value == pytest.approx(by_sklearn(name, truth, candidate))
    assert scored.champion is not None
    assert scored.champion.value == pytest.approx(by_sklearn(name, truth, champion))

    metric = METRICS[task][name]
    ours, theirs = resampled([metric(truth, candidate), metric(truth, champion)], ROWS)
    for drawn, mine, other in zip(draws(ROWS, RESAMPLES, SEED)[:60], ours, theirs, strict=False):
        assert mine == pytest.approx(by_sklearn(name, truth.iloc[drawn], candidate.iloc[drawn]))
        assert other == pytest.approx(by_sklearn(name, truth.iloc[drawn], champion.iloc[drawn]))
    assert scored.difference is not None
    assert scored.difference.low == pytest.approx(np.percentile(ours - theirs, 2.5))
    assert scored.difference.high == pytest.approx(np.percentile(ours - theirs, 97.5))
    assert scored.difference.value == pytest.approx(scored.candidate.value - scored.champion.value)


def test_the_ranking_is_the_same_whichever_class_is_called_the_one() -> None:
    truth, candidate, _ = two_classes(ROWS)
    other_way = candidate[["prediction", "probability_yes", "probability_no"]]
    first, second = (METRICS["binary-classification"]["auc"](truth, frame) for frame in (candidate, other_way))
    assert resampled([first], ROWS) == pytest.approx(resampled([second], ROWS))


def test_rows_of_one_class_have_no_ranking_and_say_so() -> None:
    truth, candidate, champion = two_classes(ROWS)
    late = truth == "yes"
    alone = scores("binary-classification", truth[late], candidate[late], champion[late])
    assert (alone["auc"].candidate.value, alone["auc"].candidate.note) == (
        None,
        "not measured: all rows are of one class",
    )
    assert alone["auc"].difference is not None
    assert alone["auc"].difference.value is None
    assert alone["brier"].candidate.usable
    few = scores("binary-classification", truth[:6], candidate[:6], None)["auc"].candidate
    assert (few.usable, few.has_interval, few.note) == (True, False, "no interval: undefined on some resamples")


def test_three_classes_have_no_ranking_of_two() -> None:
    scored = scores("binary-classification", TRUTH, CANDIDATE, None)
    assert scored["auc"].candidate.note == "the model tells 3 classes apart, not two"
    assert scored["accuracy"].candidate.usable


def test_a_month_of_flights_takes_seconds_and_little_memory() -> None:
    """30,000 rows, 2,000 resamples, five metrics of two models: draws are made once, and held in blocks."""
    truth, candidate, champion = two_classes(30_000)
    began = time.process_time()
    tracemalloc.start()
    try:
        scored = scores("binary-classification", truth, candidate, champion)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scored["auc"].difference is not None
    assert scored["auc"].difference.has_interval
    assert peak < 400e6
    assert time.process_time() - began < 60


def test_pairing_makes_the_interval_of_equal_predictions_nothing() -> None:
    scored = scores("classification", TRUTH, CANDIDATE, CANDIDATE)["accuracy"]
    assert scored.difference is not None
    assert (scored.difference.low, scored.difference.high) == (0.0, 0.0)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        hits = (np.random.default_rng(seed).random(120) < 0.8).astype(float)
        (means,) = resampled([lambda counts, hits=hits: counts @ hits / 120], 120, resamples=400)
        found = estimate(hits.mean(), means, 120)
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
    scored = scores("regression", truth, frame, None)[name]
    assert scored.candidate.value == pytest.approx(by_sklearn(truth, frame["prediction"]))  # type: ignore[operator]
    assert scored.candidate.has_interval
    assert scored.champion is None
    assert scored.difference is None


def test_what_cannot_be_measured_is_null_and_says_why() -> None:
    bare = scores("classification", TRUTH, CANDIDATE[["prediction"]], None)
    assert bare["log-loss"].candidate.note == "the predictions carry no probabilities"
    assert bare["accuracy"].candidate.usable
    unknown = scores("classification", TRUTH.replace("c", "d"), CANDIDATE, None)["log-loss"].candidate
    assert (unknown.value, unknown.note) == (None, "the model has no class d")
    holes = CANDIDATE.assign(prediction=CANDIDATE["prediction"].where(CANDIDATE.index > 2))
    found = scores("classification", TRUTH, holes, None)["accuracy"].candidate
    assert (found.value, found.n, found.note) == (None, ROWS, f"3 of {ROWS} predictions are missing")
    constant = pd.Series([2.0] * 5)
    flat = scores("regression", constant, pd.DataFrame({"prediction": [1.0] * 5}), None)["r2"].candidate
    assert (flat.value, flat.note) == (None, "measured nan")


def test_a_champion_that_cannot_predict_leaves_the_candidates_numbers() -> None:
    scored = scores("classification", TRUTH, CANDIDATE, "does not predict: KeyError")["accuracy"]
    assert scored.candidate.usable
    assert scored.champion is not None
    assert scored.difference is not None
    assert scored.champion.note == "does not predict: KeyError"
    assert scored.difference.value is None


def test_one_row_has_no_interval() -> None:
    one = scores("classification", TRUTH[:1], CANDIDATE[:1], None)["accuracy"].candidate
    assert (one.value is not None, one.has_interval, one.note) == (True, False, "no interval: one row")


def test_a_certain_and_wrong_probability_is_finite() -> None:
    wrong = pd.DataFrame({"prediction": ["b"], "probability_a": [0.0], "probability_b": [1.0]})
    value = scores("classification", pd.Series(["a"]), wrong, None)["log-loss"].candidate.value
    assert value is not None
    assert math.isfinite(value)
