"""The paired bootstrap and the metrics, against brute force and against scikit-learn."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from reconciler.core.evidence import Estimate
from workflows.steps.bootstrap import RESAMPLES, SEED, detectable, estimate, resampled
from workflows.steps.metrics import BINS, METRICS, scores

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
    called, two = frame["prediction"], {"pos_label": "yes", "zero_division": 0}
    match name:
        case "accuracy":
            return float((truth.to_numpy() == called.to_numpy()).mean())
        case "precision-macro":
            return float(reference.precision_score(truth, called, average="macro", zero_division=0))
        case "recall-macro":
            return float(reference.recall_score(truth, called, average="macro", zero_division=0))
        case "f1-macro":
            return float(reference.f1_score(truth, called, average="macro"))
        case "precision":
            return float(reference.precision_score(truth, called, **two))
        case "recall":
            return float(reference.recall_score(truth, called, **two))
        case "f1":
            return float(reference.f1_score(truth, called, **two))
        case "false-positive-rate":
            return 1 - float(reference.recall_score(truth, called, pos_label="no", zero_division=0))
        case "selection-rate":
            return float((called == "yes").mean())
        case "log-loss":
            return float(reference.log_loss(truth, probabilities, labels=labels))
        case "auc":
            return float(reference.roc_auc_score(truth == "yes", frame["probability_yes"]))
        case "brier" if len(labels) == 2:
            return float(reference.brier_score_loss(truth == "yes", frame["probability_yes"]))
        case "brier":
            return float(reference.brier_score_loss(truth, probabilities, labels=labels))
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (task, name)
        for task in ("classification", "binary-classification")
        for name in METRICS[task]
        if name != "ece"  # which scikit-learn has not: see below
    ],
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
    assert scored.difference.detectable == pytest.approx(2.8016 * np.std(ours - theirs, ddof=1), rel=1e-4)


def by_bins(promised: np.ndarray, came: np.ndarray, edges: np.ndarray) -> float:
    place = np.searchsorted(edges, promised)
    bins = [place == each for each in range(len(edges) + 1)]
    return float(sum(abs(promised[each].sum() - came[each].sum()) for each in bins) / len(promised))


def test_the_calibration_error_of_two_classes_is_that_of_scikit_learns_curve() -> None:
    truth, candidate, _ = two_classes(ROWS)
    promised, came = candidate["probability_yes"].to_numpy(), (truth == "yes").to_numpy(float)
    curve = calibration_curve(came, promised, n_bins=BINS, strategy="quantile")
    edges = np.quantile(promised, np.linspace(0, 1, BINS + 1)[1:-1])
    rows = np.bincount(np.searchsorted(edges, promised), minlength=BINS)
    expected = float(np.abs(curve[0] - curve[1]) @ rows[rows > 0] / ROWS)
    metric = METRICS["binary-classification"]["ece"](truth, candidate)
    assert scores("binary-classification", truth, candidate, None)["ece"].candidate.value == pytest.approx(
        expected
    )
    (drawn_values,) = resampled([metric], ROWS)
    for drawn, value in zip(draws(ROWS, RESAMPLES, SEED)[:60], drawn_values, strict=False):
        assert value == pytest.approx(by_bins(promised[drawn], came[drawn], edges))


def test_the_calibration_error_of_many_classes_is_that_of_the_largest_probability() -> None:
    probabilities = CANDIDATE.filter(like="probability_").to_numpy()
    promised, right = probabilities.max(axis=1), (CANDIDATE["prediction"] == TRUTH).to_numpy(float)
    edges = np.quantile(promised, np.linspace(0, 1, BINS + 1)[1:-1])
    found = scores("classification", TRUTH, CANDIDATE, None)["ece"].candidate
    assert found.value == pytest.approx(by_bins(promised, right, edges))
    assert found.has_interval


def test_a_model_that_promises_what_comes_has_less_of_it_than_one_that_overstates() -> None:
    random = np.random.default_rng(11)
    share = random.random(5000)
    truth = pd.Series(np.where(random.random(5000) < share, "yes", "no"))

    def told(probability: np.ndarray) -> pd.DataFrame:
        called = np.where(probability > 0.5, "yes", "no")
        return pd.DataFrame(
            {"prediction": called, "probability_no": 1 - probability, "probability_yes": probability}
        )

    sharp = share**3 / (share**3 + (1 - share) ** 3)
    scored = scores("binary-classification", truth, told(sharp), told(share))["ece"]
    assert scored.champion is not None
    assert scored.difference is not None
    assert (scored.champion.value or 1) < 0.03
    assert (scored.difference.low or 0) > 0.09


def test_the_positive_class_and_where_it_begins_are_stated() -> None:
    truth, candidate, champion = two_classes(ROWS)
    note = scores("binary-classification", truth, candidate, champion)["f1"].candidate.note
    assert note == "yes is the positive class, from a probability between 0.5 and 0.51 on"
    none = candidate.assign(prediction="no")
    alone = scores("binary-classification", truth, none, None)
    assert alone["precision"].candidate.note == "not measured: no row is called yes"
    assert (
        alone["recall"].candidate.value,
        alone["recall"].candidate.note,
    ) == (0.0, "yes is the positive class; no row is called so")
    mixed = candidate.assign(prediction=["yes", "no"] * (ROWS // 2))
    assert scores("binary-classification", truth, mixed, None)["f1"].candidate.note == (
        "yes is the positive class; no single probability decides"
    )


def test_a_difference_that_is_called_detectable_is_found_four_times_in_five() -> None:
    random, rows = np.random.default_rng(3), 200

    def difference(step: float) -> Estimate:
        better, before = random.random(rows) < 0.5 + step, random.random(rows) < 0.5
        paired = better.astype(float) - before
        (means,) = resampled([lambda counts: counts @ paired / rows], rows, resamples=300)
        return detectable(estimate(paired.mean(), means, rows), means)

    step = float(np.mean([difference(0).detectable or 0 for _ in range(20)]))
    assert step == pytest.approx(2.8016 * (0.5 / rows) ** 0.5, rel=0.05)
    found = sum((difference(step).low or 0) > 0 for _ in range(200))
    assert 0.7 < found / 200 < 0.9


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
