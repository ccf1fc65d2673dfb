"""Models that are worse than they should be: as a whole, in one slice, in what they promise, to one group."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reconciler.core.evidence import Evidence
from reconciler.core.observed import ModelVersion
from tests.gates.workbench import Workbench

pytestmark = pytest.mark.gates

AS_IT_PROMISES = ".double().softmax(1)"


@pytest.fixture(scope="module")
def against_good(digits: Workbench, good: ModelVersion, better: ModelVersion) -> Evidence:
    return digits.measure("evaluate", better, good)


def answers(
    bench: Workbench, evidence: Evidence, candidate: ModelVersion, champion: ModelVersion | None
) -> dict[str, str]:
    """Gate -> answer, of production and of staging, which must agree here."""
    production, staging = (
        {
            gate: said.verdict
            for gate, said in bench.judged(evidence, candidate, champion, environment=where).items()
        }
        for where in ("production", "staging")
    )
    assert production == staging
    return production


def test_a_better_model_passes(digits, good, better, against_good) -> None:
    said = answers(digits, against_good, better, good)
    assert said.keys() >= {"accuracy", "not-worse", "f1-macro", "not-worse-f1", "calibration", "worst-slice"}
    assert set(said.values()) == {"pass"}
    f1 = digits.judged(against_good, better, good)["not-worse-f1"]
    assert "n 800, enough to show a difference of 0.0" in f1.why


def test_f1_below_that_of_production_is_blocked(digits, good) -> None:
    weak = digits.train(hyperparameters=json.dumps({"channels": 2, "epochs": 3}))
    said = digits.judged(digits.measure("evaluate", weak, good), weak, good)["not-worse-f1"]
    assert said.verdict == "block", said
    assert "a drop of more than 0.05 cannot be ruled out" in said.why


def test_a_slice_that_is_not_seen_is_for_a_person(digits, good, rewrite) -> None:
    """Of digits with little ink it sees a white page."""
    blind = "images(model_input.where(model_input.sum(axis=1) >= 297, 0))"
    planted = digits.planted(good, rewrite("predictor.py", "images(model_input)", blind))
    evidence = digits.measure("evaluate", planted, good)
    said = digits.judged(evidence, planted, good)["worst-slice"]
    assert (said.verdict, said.slice) == ("review", "ink=light"), said
    assert (evidence.metrics["accuracy-gap"].overall.candidate.value or 0) > 0.5


def test_labels_of_one_slice_that_are_wrong_are_for_a_person(digits, good) -> None:
    def shuffled(rows: pd.DataFrame) -> pd.DataFrame:
        heavy = rows["ink"] == "heavy"
        mixed = np.random.default_rng(0).permutation(rows.loc[heavy, "label"])
        return rows.assign(label=rows["label"].mask(heavy, pd.Series(mixed, index=rows.index[heavy])))

    bench = digits.with_rows("evaluation", shuffled)
    said = bench.judged(bench.measure("evaluate", good), good)["worst-slice"]
    assert (said.verdict, said.slice) == ("review", "ink=heavy"), said


def test_a_model_that_promises_too_much_is_for_a_person(digits, good, rewrite) -> None:
    """Its answers are the same, so of all gates only that of its promises notices."""
    sharp = rewrite("predictor.py", AS_IT_PROMISES, ".double().mul(5).softmax(1)")
    planted = digits.planted(good, sharp)
    said = answers(digits, digits.measure("evaluate", planted, good), planted, good)
    assert {gate for gate, answer in said.items() if answer != "pass"} == {"calibration"}
    assert said["calibration"] == "review"


def test_a_model_that_is_unfair_to_one_airport_is_for_a_person(
    home: Callable[[str], Path], rewrite: Callable[[str, str, str], Callable[[Path], None]]
) -> None:
    flights = Workbench(home("flights"), "flight-delay")
    fair = flights.train()
    called = '((late > 0.5) | (model_input["origin"] == "LGA").to_numpy())'
    unfair = flights.planted(fair, rewrite("predictor.py", "(late > 0.5)", called))
    evidence = flights.measure("evaluate", unfair, fair)
    said = flights.judged(evidence, unfair, fair)["fairness"]
    assert (said.verdict, said.slice) == ("review", "protected=origin"), said
    gap = evidence.metrics["equalised-odds-gap"].slices["protected"]["origin"]
    assert gap.champion is not None
    assert (gap.champion.value or 1) < 0.1
    assert (gap.candidate.value or 0) > 0.9
    alone = flights.measure("evaluate", fair)
    assert flights.judged(alone, fair)["fairness"].verdict == "pass"
