"""A server that is slow, fails, grows or starts slowly, under the load that its model declares."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gates

PASSED = dict.fromkeys(("latency", "errors", "start-up", "memory", "leak"), "pass")
HERE = "        with torch.no_grad():"
"""Where a request is answered; and where the model is loaded:"""
LOADED = "        self.network.eval()"

COUNT = "self.asked = getattr(self, 'asked', 0) + 1"
FAULTS = {
    "slow": (HERE, "time.sleep(0.11)", {"latency": "block"}),
    # One request of ten: the median does not know.
    "slow now and then": (HERE, f"{COUNT}; time.sleep(0.3 * (self.asked % 10 == 0))", {"latency": "block"}),
    "fails for some rows": (
        HERE,
        "assert model_input[['pixel_12', 'pixel_43']].iloc[0].sum() < 32",
        {"errors": "block"},
    ),
    "leaks": (HERE, "self.kept = [*getattr(self, 'kept', []), np.ones(60_000)]", {"leak": "review"}),
    "starts slowly": (LOADED, "time.sleep(121)", {"start-up": "review"}),
    "fills its memory": (LOADED, "self.cache = np.ones(60_000_000)", {"memory": "review"}),
}


def verdicts(bench, version) -> dict[str, str]:
    judged = bench.judged(bench.measure("load", version), version)
    return {gate: said.verdict for gate, said in judged.items()}


def with_line(rewrite, place: str, line: str):
    """An edit that puts a line into the predictor, before ``place``."""

    def edit(folder) -> None:
        rewrite("predictor.py", place, f"        {line}\n{place}")(folder)
        imports = "import time\nimport numpy as np\nimport pandas as pd"
        rewrite("predictor.py", "import pandas as pd", imports)(folder)

    return edit


def test_a_server_that_keeps_up_passes(digits, good) -> None:
    for _ in range(3):
        assert verdicts(digits, good) == PASSED


@pytest.mark.parametrize(("place", "line", "caught"), FAULTS.values(), ids=FAULTS)
def test_what_would_trouble_callers_is_caught(place, line, caught, digits, good, rewrite) -> None:
    planted = digits.planted(good, with_line(rewrite, place, line))
    assert verdicts(digits, planted) == PASSED | caught


def test_a_server_that_ends_is_caught(digits, good, rewrite) -> None:
    """It answers the first requests; too few of them never pass."""
    line = f"{COUNT}; self.asked > 50 and __import__('os')._exit(3)"
    said = verdicts(digits, digits.planted(good, with_line(rewrite, HERE, line)))
    assert (said["latency"], said["errors"]) == ("block", "block")


def test_a_rate_that_it_cannot_keep_is_caught(digits, good) -> None:
    """The model says that it is asked 400 times a second; alone, each answer would be quick enough."""

    def edit(folder) -> None:
        document = folder / "model.yaml"
        document.write_text(document.read_text() + "serving:\n  latency: {rate: 400, seconds: 5}\n")

    busy = digits.edited(edit)
    assert verdicts(busy, good)["latency"] == "block"
