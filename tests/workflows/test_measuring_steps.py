"""Steps `evaluate` and `parity`: what they measure, on what, and the evidence that they leave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reconciler.core.digests import sha256
from reconciler.core.evidence import Evidence, Scores, parse_evidence
from workflows.steps import parity
from workflows.steps.evaluate import measure, slice_columns


def published(out: Path) -> Evidence:
    """The evidence as the reconciler reads it: by URI, checked against its SHA-256."""
    import mlflow

    uri = (out / "evidence-uri").read_text()
    content = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)).read_bytes()
    assert sha256(content) == (out / "evidence-sha256").read_text()
    return parse_evidence(content, where=uri)


def test_evaluate_scores_both_on_the_same_rows(versions, measurement, step, tmp_path) -> None:
    """The better one challenges; each version runs its own code, though their modules have the same names."""
    good, coarse = versions["centroids"], versions["coarse"]
    options = measurement("evaluate", good, coarse, tmp_path)
    assert step("evaluate", **options) == 0

    evidence = published(tmp_path)
    assert evidence.key == options["key"]
    assert evidence.inputs == {**json.loads(str(options["inputs"])), "slices": ("ink",), "protected": ()}
    assert evidence.measured_on.commit == "1" * 40
    of_macro = {f"{each}-macro" for each in ("precision", "recall", "f1")}
    assert set(evidence.metrics) == {"accuracy", *of_macro, "log-loss", "brier", "ece", "accuracy-gap"}
    accuracy = evidence.metrics["accuracy"]
    assert (accuracy.overall.candidate.n, accuracy.overall.champion.n) == (800, 800)
    assert accuracy.overall.candidate.value > 0.8 > accuracy.overall.champion.value
    assert 0 < accuracy.overall.difference.low < accuracy.overall.difference.value
    by_ink = accuracy.slices["ink"]
    assert set(by_ink) == {"light", "medium", "heavy"}
    assert sum(scores.candidate.n for scores in by_ink.values()) == 800
    pooled = sum(scores.candidate.n * scores.candidate.value for scores in by_ink.values()) / 800
    assert pooled == pytest.approx(accuracy.overall.candidate.value)


def test_evaluate_without_a_champion(versions, measurement, step, tmp_path) -> None:
    import mlflow

    options = measurement("evaluate", versions["centroids"], None, tmp_path)
    assert step("evaluate", **options) == 0
    evidence = published(tmp_path)
    assert evidence.inputs["champion"] == "none"
    assert evidence.metrics["accuracy"].overall.champion is None
    assert evidence.metrics["accuracy"].overall.difference is None
    run = mlflow.MlflowClient().get_run(evidence.measured_on.run)
    assert run.info.run_name == options["workflow"]
    assert run.data.metrics["evaluate.accuracy"] == evidence.metrics["accuracy"].overall.candidate.value


def test_another_digest_than_the_inputs_say_is_a_failure(versions, measurement, step, tmp_path, capsys) -> None:
    swapped = versions["centroids"]._replace(number=versions["coarse"].number)
    assert step("evaluate", **measurement("evaluate", swapped, None, tmp_path)) == 1
    assert "its files have digest" in capsys.readouterr().err
    assert not (tmp_path / "evidence-uri").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": '{"candidate": "x"}'}, "has candidate; evaluate declares candidate, champion, data"),
        ({"inputs": "[]"}, "is not a JSON object of texts"),
        ({"key": "0" * 12}, "does not make the key 000000000000"),
        ({"champion_version": "7"}, "is '7', but --inputs say otherwise"),
    ],
)
def test_inputs_that_do_not_belong_together_are_refused(
    change, said, versions, measurement, step, tmp_path, capsys
) -> None:
    options = measurement("evaluate", versions["centroids"], None, tmp_path) | change
    assert step("evaluate", **options) == 1
    assert said in capsys.readouterr().err


def test_slices_are_categories_of_the_data() -> None:
    frame = pd.DataFrame({"a": range(200), "b": ["x", None] * 100})
    assert list(slice_columns(frame, ("b",))) == ["b"]
    with pytest.raises(Exception, match="no slice column c"):
        slice_columns(frame, ("b", "c"))
    with pytest.raises(Exception, match="a has 200 values, more than 100"):
        slice_columns(frame, ("a",))


def test_a_missing_slice_value_is_a_slice_of_its_own() -> None:
    truth, slices = pd.Series([1.0, 2.0, 3.0, 4.0]), pd.DataFrame({"b": ["x", None, "x", None]})
    metrics = measure("regression", truth, slices, pd.DataFrame({"prediction": [1.0, 2.0, 3.0, 5.0]}), None)
    values = {name: scores.candidate.value for name, scores in metrics["mae"].slices["b"].items()}
    assert values == {"x": 0.0, "nan": 0.5}


def two_groups(rows: dict[str, int]) -> tuple[pd.Series, pd.DataFrame]:
    """Half of each group is late."""
    group = [name for name, number in rows.items() for _ in range(number)]
    late = pd.Series([place % 2 for place in range(len(group))])
    return late, pd.DataFrame({"group": group})


def told(called: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {"prediction": called, "probability_0": 0.9 - 0.8 * called, "probability_1": 0.1 + 0.8 * called}
    )


def test_the_gap_between_groups_is_that_of_fairlearns_definition() -> None:
    """b is never called late; of a, every late row is, and every tenth of the others."""
    late, groups = two_groups({"a": 400, "b": 300, "few": 160})
    ours = groups["group"] != "b"
    called = pd.Series(np.where(ours & ((late == 1) | (late.index % 20 == 0)), 1, 0))
    fair = measure("binary-classification", late, groups, told(called), told(late), ("group",))

    def gap(name: str) -> Scores:
        return fair[name].slices["protected"]["group"]

    assert gap("selection-rate-gap").candidate.value == pytest.approx(0.55)
    assert gap("true-positive-gap").candidate.value == gap("equalised-odds-gap").candidate.value == 1.0
    assert gap("false-positive-gap").candidate.value == pytest.approx(0.1)
    assert gap("accuracy-gap").candidate.value == pytest.approx(0.45)
    assert fair["equalised-odds-gap"].overall == gap("equalised-odds-gap")
    champion, difference = gap("selection-rate-gap").champion, gap("selection-rate-gap").difference
    assert champion is not None
    assert difference is not None
    assert champion.value == 0.0
    assert difference.value == pytest.approx(0.55)
    assert (difference.low or 0) < 0.55 < (difference.high or 0)
    said = "without groups of fewer than 100 rows: few (80)"
    assert (gap("false-positive-gap").candidate.n, gap("false-positive-gap").candidate.note) == (350, said)
    assert (gap("selection-rate-gap").candidate.n, gap("selection-rate-gap").candidate.note) == (860, "")


def test_a_gap_needs_two_groups_that_are_large_enough() -> None:
    late, groups = two_groups({"a": 400, "b": 60})
    fair = measure("binary-classification", late, groups, told(late), None, ("group",))
    gap = fair["equalised-odds-gap"].slices["protected"]["group"].candidate
    assert (gap.value, gap.n) == (None, 200)
    assert gap.note == (
        "not measured: fewer than two groups have 100 rows; without groups of fewer than 100 rows: b (30)"
    )
    assert "equalised-odds-gap" not in measure("binary-classification", late, groups, told(late), None)
    assert "accuracy-gap" not in measure("binary-classification", late, groups[[]], told(late), None)


def test_the_gap_of_a_regression_is_of_its_error() -> None:
    truth = pd.Series(np.zeros(300))
    groups = pd.DataFrame({"group": ["a"] * 150 + ["b"] * 150})
    metrics = measure(
        "regression", truth, groups, pd.DataFrame({"prediction": [1.0] * 150 + [3.0] * 150}), "is gone"
    )
    scores = metrics["mae-gap"].slices["slice"]["group"]
    assert scores.candidate.value == 2.0
    assert scores.champion is not None
    assert scores.champion.note == "is gone"


def test_parity_of_the_real_server(versions, measurement, step, tmp_path) -> None:
    assert step("parity", **measurement("parity", versions["centroids"], None, tmp_path)) == 0
    metrics = published(tmp_path).metrics
    assert (metrics["agreement"].overall.candidate.value, metrics["agreement"].overall.candidate.n) == (
        1.0,
        800,
    )
    assert metrics["max-difference"].overall.candidate.value == pytest.approx(0.0, abs=1e-12)


def test_parity_counts_what_differs() -> None:
    expected = pd.DataFrame({"prediction": [0, 1, 1, 0], "probability_0": [0.9, 0.1, 0.2, 0.8]})
    answers = expected.assign(prediction=[0, 1, 0, 0], probability_0=[0.9, 0.1, 0.7, 0.8])
    metrics = parity.compare(expected, answers)
    assert metrics["agreement"].overall.candidate.value == 0.75
    assert metrics["max-difference"].overall.candidate.value == pytest.approx(0.5)


def test_parity_of_regressions_allows_for_rounding() -> None:
    expected = pd.DataFrame({"prediction": [1.0, 2.0]})
    answers = pd.DataFrame({"prediction": [1.0 + 1e-9, 2.1]})
    metrics = parity.compare(expected, answers)
    assert metrics["agreement"].overall.candidate.value == 0.5
    assert metrics["max-difference"].overall.candidate.value == pytest.approx(0.1)


def test_parity_without_answers_measured_nothing() -> None:
    expected = pd.DataFrame({"prediction": [1, 2]})
    for answers in ("the server answered 500: the model failed", pd.DataFrame({"other": [1, 2]})):
        estimate = parity.compare(expected, answers)["agreement"].overall.candidate
        assert estimate.value is None
        assert "the server answer" in estimate.note


def test_rows_reach_the_server_with_every_digit() -> None:
    rows = pd.DataFrame(
        {"x": [0.1 + 0.2, np.nan], "n": [1, 2], "t": pd.to_datetime(["2026-03-01", "2026-03-02"])}
    )
    sent = json.loads(json.dumps(parity._split(rows), default=parity._plain, allow_nan=False))
    assert sent == {
        "columns": ["x", "n", "t"],
        "data": [[0.1 + 0.2, 1, "2026-03-01T00:00:00"], [None, 2, "2026-03-02T00:00:00"]],
    }
