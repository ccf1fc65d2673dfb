"""A training that does not give the same model twice."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gates


def test_a_seeded_training_comes_out_again(digits, good) -> None:
    found = digits.measure("reproduce", good).metrics
    for name, value in {"score": 1.0, "agreement": 1.0, "metric-difference": 0.0, "equal-files": 1.0}.items():
        assert found[name].overall.candidate.value == value, found[name]
    assert found["agreement"].overall.candidate.n == 800
    assert set(found["metric-difference"].slices["metric"]) >= {"accuracy", "f1-macro", "log-loss", "ece"}


def test_a_training_that_ignores_its_seed_is_caught(digits, rewrite) -> None:
    """Its weights begin and its batches come by chance: nearly as good, and another model."""
    chance = digits.edited(rewrite("train.py", "torch.manual_seed(seed)", "torch.seed()"))
    found = chance.measure("reproduce", chance.train()).metrics
    assert (found["score"].overall.candidate.value or 1) < 0.95, found["score"]
    assert (found["agreement"].overall.candidate.value or 1) < 1
    files = found["equal-files"].overall.candidate
    assert (files.value or 0) < 1
    assert files.note == "other bytes: weights/network.pt"
