"""The champion's recorded requests, asked of one that refuses some, and of one that answers otherwise."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest

from tests.gates.workbench import Workbench
from workflows.steps.parity import ask, running_server

pytestmark = pytest.mark.gates

RELEASE = "sha256:" + "4" * 64
ROWS = 400


@pytest.fixture(scope="module")
def recording(digits: Workbench) -> Workbench:
    """digits where requests are recorded, and asked about."""

    def record(folder: Path) -> None:
        path = folder / "model.yaml"
        path.write_text(path.read_text() + "monitoring: {record: {sample: 1}}\n")

    return digits.edited(record)


@pytest.fixture(scope="module")
def recorded(recording: Workbench, good) -> Iterator[str]:
    """The address of the recording of a server of `good`, which has answered rows of the evaluation data."""
    rows = pd.read_csv(recording.rows("evaluation"), nrows=ROWS).filter(like="pixel_")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        **recording.environment,
        "TRUEUP_MODEL_NAME": recording.model,
        "TRUEUP_MODEL_VERSION": good.version,
        "TRUEUP_MODEL_DIGEST": good.digest,
        "TRUEUP_MODEL_URI": f"models:/{recording.model}/{good.version}",
        "TRUEUP_RECORD_SAMPLE": "1",
        "TRUEUP_RELEASE": RELEASE,
        "RECORDED_PORT": str(port),
    }
    with running_server(settings) as address:
        assert isinstance(ask(address, rows), pd.DataFrame)
        there = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while len(httpx.get(f"{there}/recorded", trust_env=False).text.splitlines()) - 1 < ROWS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield there


@pytest.fixture
def replayed(recording: Workbench, recorded: str, good):
    """``replayed(CANDIDATE)``: the evidence, and the verdicts of production's policy."""

    def run(candidate):
        given = {"traffic": RELEASE}
        evidence = recording.measure("replay", candidate, good, recorded=recorded, **given)
        return evidence, recording.judged(evidence, candidate, good, **given)

    return run


def test_a_good_version_answers_what_the_champion_was_asked(replayed, better) -> None:
    evidence, verdicts = replayed(better)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {"replay": "pass", "same-answers": "pass"}
    errors = evidence.metrics["errors"].overall.candidate
    assert (errors.value, errors.n, errors.low) == (0, ROWS, 0)


def test_one_that_refuses_some_of_the_requests_is_caught(replayed, recording, good, rewrite) -> None:
    """It takes every row of its own training data; a dark corner was in none of them."""
    check = "if (model_input['pixel_20'] > 15).any(): raise ValueError('too dark')\n        with torch"
    planted = recording.planted(good, rewrite("predictor.py", "with torch", check))
    evidence, verdicts = replayed(planted)
    assert verdicts["replay"].verdict == "block"
    assert verdicts["same-answers"].verdict == "pass"  # of those that it answers
    errors = evidence.metrics["errors"].overall.candidate
    assert 0 < errors.value < 1
    assert f"{round(errors.value * ROWS)} x 400" in errors.note
    assert "too dark" not in evidence.model_dump_json()


def test_one_that_answers_otherwise_is_for_a_person(replayed, recording, good, rewrite) -> None:
    mirrored = rewrite("predictor.py", "images(model_input)", "images(model_input).flip(3)")
    planted = recording.planted(good, mirrored)
    _, verdicts = replayed(planted)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {
        "replay": "pass",
        "same-answers": "review",
    }
