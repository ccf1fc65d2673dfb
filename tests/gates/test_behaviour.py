"""A model that breaks what everybody knows about its rows, as accurate as it may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gates

PYTEST = '''
import numpy as np
import pytest

@pytest.mark.parametrize("shift", [1, -1])
def test_a_digit_at_the_edge_is_no_other(predict, rows, truth, shift):
    """Shifted by one column, with the ink that leaves the picture lost, half of the answers stay at least."""
    pixels = [f"pixel_{i:02d}" for i in range(64)]
    images = rows[pixels].to_numpy().reshape(-1, 8, 8)
    moved = rows.copy()
    moved[pixels] = np.roll(images, shift, axis=2).reshape(-1, 64)
    same = (predict(moved)["prediction"] == predict(rows)["prediction"]).mean()
    assert same >= 0.5, f"{same:.2f} stay the same"

def test_ten_digits(predict, rows, truth):
    assert set(predict(rows)["prediction"]) == set(truth)
'''


def test_what_main_trains_keeps_its_promises(digits, good) -> None:
    evidence = digits.measure("behaviour", good, environment="staging")
    for environment in ("staging", "production"):
        verdicts = digits.judged(evidence, good, environment=environment)
        assert {gate: said.verdict for gate, said in verdicts.items()} == {"behaviour": "pass"}
    rates = evidence.metrics["pass-rate"].slices["test"]
    assert len(rates) == 5
    assert all(scores.candidate.has_interval for scores in rates.values())


FAULTS = {
    # the test that says so -> what the predictor does to the pixels
    "specks": '.where(model_input["pixel_00"] < 1, 0)',  # no ink in the corner in any row that evaluates
    "noise": ".where(model_input.sum(axis=1) % 2 == 0, 0)",
    "filled-hole": ".assign(pixel_27=0, pixel_28=0, pixel_35=0, pixel_36=0)",
    "drawn-one": ".clip(upper=2)",
}


def broken(rewrite: Any, test: str) -> Callable[[Path], None]:
    return rewrite("predictor.py", "images(model_input)", f"images(model_input{FAULTS[test]})")


@pytest.mark.parametrize("test", FAULTS)
def test_a_predictor_that_breaks_a_rule_is_caught(test, digits, good, rewrite) -> None:
    planted = digits.planted(good, broken(rewrite, test))
    evidence = digits.measure("behaviour", planted, environment="staging")
    said = digits.judged(evidence, planted, environment="staging")["behaviour"]
    assert said.verdict == "block", said
    short = evidence.metrics["shortfall"].slices["test"][test].candidate
    assert short.value is not None
    assert short.value > 0
    assert test in evidence.metrics["pass-rate"].overall.candidate.note


def test_a_model_that_refuses_the_rows_of_a_test_has_no_number_and_is_blocked(digits, good, rewrite) -> None:
    refusing = 'images(model_input.astype(float).where(model_input["pixel_00"] < 8))'
    planted = digits.planted(good, rewrite("predictor.py", "images(model_input)", refusing))
    evidence = digits.measure("behaviour", planted, environment="staging")
    said = digits.judged(evidence, planted, environment="staging")["behaviour"]
    assert said.verdict == "block"
    assert "the model does not predict its rows: ValueError: a pixel has no value" in said.why
    rates = evidence.metrics["pass-rate"].slices["test"]
    assert [name for name, scores in rates.items() if scores.candidate.value is None] == ["specks"]


def test_failing_examples_are_beside_the_evidence(digits, good, rewrite) -> None:
    import mlflow

    planted = digits.planted(good, broken(rewrite, "drawn-one"))
    evidence = digits.measure("behaviour", planted, environment="staging")
    uri = f"runs:/{evidence.measured_on.run}/evidence/behaviour-{evidence.key}-failures.json"
    tracking = digits.environment["MLFLOW_TRACKING_URI"]
    told = json.loads(Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=tracking)).read_text())
    assert told["drawn-one"]["failed"] == 1
    assert told["drawn-one"]["first"][0]["prediction"] != [1]


def test_tests_of_pytest_are_run_with_the_model_and_the_rows(digits, good, rewrite) -> None:
    def add(folder: Path) -> None:
        (folder / "behaviour").mkdir()
        (folder / "behaviour" / "test_shift.py").write_text(PYTEST)

    bench = digits.edited(add)
    assert bench.desired.models["digits"].behaviour != digits.desired.models["digits"].behaviour
    evidence = bench.measure("behaviour", good, environment="staging")
    rates = {name: s.candidate for name, s in evidence.metrics["pass-rate"].slices["test"].items()}
    assert (rates["test_ten_digits"].value, rates["test_ten_digits"].n) == (1.0, 1)
    assert rates["test_a_digit_at_the_edge_is_no_other"].n == 2

    always = rewrite("predictor.py", "probabilities.argmax(1)", "(0 * probabilities).argmax(1)")
    planted = bench.planted(good, always)
    evidence = bench.measure("behaviour", planted, environment="staging")
    said = bench.judged(evidence, planted, environment="staging")["behaviour"]
    assert (said.verdict, said.value) == ("block", 1.0)
    assert evidence.metrics["pass-rate"].slices["test"]["test_ten_digits"].candidate.value == 0


def test_without_tests_nothing_is_asked(digits, good) -> None:
    bench = digits.edited(lambda folder: (folder / "behaviour.yaml").unlink())
    case = bench.case(good, environment="staging")
    asked = [gate.name for gate in bench.desired.policies["staging"].gates if case.asked_by(gate)]
    assert "behaviour" not in asked
    assert "parity" in asked
