"""What is served differs from what was measured."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gates


def test_a_server_that_gives_what_was_measured_passes(digits, good) -> None:
    verdicts = digits.judged(digits.measure("parity", good), good)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {"parity": "pass"}


def test_a_prediction_that_depends_on_its_neighbours_is_caught(digits, good, rewrite) -> None:
    """It normalises by the batch: 800 rows at once and a hundred at a time are answered differently."""
    edit = rewrite("predictor.py", "images(model_input)", "images(model_input - model_input.median())")
    planted = digits.planted(good, edit)
    said = digits.judged(digits.measure("parity", planted), planted)["parity"]
    assert said.verdict == "block", said
