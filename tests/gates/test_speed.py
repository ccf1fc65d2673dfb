"""What a model brings became slower: its own code, or a library in one of its wheels."""

from __future__ import annotations

import pytest

from reconciler.core.observed import ModelVersion
from tests.gates.libraries import SLOW, bring

pytestmark = pytest.mark.gates

PASSED = dict.fromkeys(("slower", "slower-batch", "slower-elapsed"), "pass")


def verdicts(bench, candidate: ModelVersion, champion: ModelVersion) -> dict[str, str]:
    evidence = bench.measure("speed", candidate, champion)
    return {gate: said.verdict for gate, said in bench.judged(evidence, candidate, champion).items()}


def test_another_version_that_is_as_quick_passes(digits, good) -> None:
    other = digits.train(seed="1")
    for _ in range(3):
        assert verdicts(digits, other, good) == PASSED


def test_a_library_that_became_slower_is_caught(digits) -> None:
    quick = digits.edited(lambda folder: bring(folder / "src", "1.0")).train()
    slow = digits.edited(lambda folder: bring(folder / "src", "1.1", SLOW)).train()
    evidence = digits.measure("speed", slow, quick)
    said = digits.judged(evidence, slow, quick)["slower-batch"]
    assert said.verdict == "block", said
    same = digits.judged(digits.measure("parity", slow), slow)["parity"]
    assert same.verdict == "pass", same
    assert verdicts(digits, quick, slow) == PASSED


def test_slower_code_is_caught(digits, good, rewrite) -> None:
    slower = "(sum(self.network(images(model_input)) for _ in range(100)) / 100)"
    edit = rewrite("predictor.py", "self.network(images(model_input))", slower)
    said = verdicts(digits, digits.planted(good, edit), good)
    assert (said["slower"], said["slower-batch"]) == ("block", "block")


def test_one_that_waits_is_for_a_person_to_see(digits, good, rewrite) -> None:
    """Waiting costs the processor nothing: only the clock on the wall sees it."""
    edit = rewrite(
        "predictor.py", "with torch.no_grad():", "__import__('time').sleep(0.05)\n        with torch.no_grad():"
    )
    said = verdicts(digits, digits.planted(good, edit), good)
    assert said["slower-elapsed"] == "review"


def test_without_a_champion_the_rest_is_measured(digits, good) -> None:
    evidence = digits.measure("speed", good)
    assert digits.judged(evidence, good) == {}
    ratio = evidence.metrics["ratio"].overall.candidate
    assert (ratio.value, ratio.note) == (None, "there is no champion")
    for name in ("p50-ms", "p95-ms", "rows-per-second", "memory-mib"):
        scores = evidence.metrics[name].overall
        assert scores.candidate.usable
        assert scores.champion is None


def test_a_champion_that_no_longer_runs_hides_nothing(digits, good, rewrite) -> None:
    broken = digits.planted(
        good, rewrite("network.py", "import torch\n", "import torch\nimport no_such_library\n")
    )
    evidence = digits.measure("speed", good, broken)
    assert "no_such_library" in evidence.metrics["ratio"].overall.candidate.note
    assert evidence.metrics["p95-ms"].overall.candidate.usable
    assert digits.judged(evidence, good, broken)["slower"].verdict == "block"
