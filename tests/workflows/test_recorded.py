"""What the server records of the requests that it answered: a sample, bounded, and never at their cost."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pandas as pd
import pytest
from mlflow.types import ColSpec, Schema

from workflows.server import recorded
from workflows.server.app import Served, create_app
from workflows.server.recorded import Recording, create_recorded_app

ABOUT = {"model": "digits", "version": "3", "digest": "sha256:" + "a" * 64, "release": "sha256:" + "b" * 64}


class Mutating:
    """Predicts twice `a`, and leaves its rows otherwise than it got them."""

    metadata = SimpleNamespace(
        get_input_schema=lambda: Schema([ColSpec("double", "a"), ColSpec("string", "c", required=False)])
    )

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        if (rows["a"] == -1).any():
            raise ValueError("a must not be -1")
        answer = pd.DataFrame({"prediction": rows["a"] * 2})
        rows["a"] = 0.0
        return answer.head(1) if (answer["prediction"] == 14).all() else answer


def recording(sample: float = 1.0, rows: int = 100) -> Recording:
    return Recording(ABOUT, sample=sample, rows=rows)


def read(made: Recording) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what is said about the recording, its lines), by way of its endpoint."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_recorded_app(made))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get("/recorded")

    response = asyncio.run(ask())
    assert response.status_code == 200
    first, *lines = [json.loads(line) for line in response.text.splitlines()]
    return first["recording"], lines


def until(made: Recording, enough: Callable[[dict[str, Any], list[dict[str, Any]]], bool]) -> None:
    """Rows are written in a thread of their own."""
    deadline = time.monotonic() + 20
    while not enough(*read(made)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def post(made: Recording, *bodies: Any) -> list[httpx.Response]:
    served = Served("digits", "3", ABOUT["digest"], Mutating())  # type: ignore[arg-type]

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=create_app(served, made))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return list(await asyncio.gather(*(client.post("/invocations", json=body) for body in bodies)))

    return asyncio.run(run())


def test_rows_as_they_came_and_what_they_were_answered() -> None:
    made = recording()
    body = {"inputs": {"a": [0.1, 2], "c": [None, "y"], "not the model's": ["secret", "too"]}}
    (response,) = post(made, body)
    until(made, lambda _, lines: len(lines) == 2)
    said, lines = read(made)
    assert [line["row"] for line in lines] == [{"a": 0.1, "c": None}, {"a": 2.0, "c": "y"}]
    assert [line["prediction"] for line in lines] == response.json()["predictions"]
    own = {name: said[name] for name in ("id", "since")}
    assert said == {**ABOUT, **own, "sample": 1.0, "answered": 2, "dropped": 0}
    assert lines[0]["at"] >= said["since"]


def test_what_was_not_answered_is_not_recorded() -> None:
    made = recording()
    wrong, unknown, good = post(made, {"inputs": {"a": [-1]}}, {"inputs": {"b": [1]}}, {"inputs": {"a": [5]}})
    assert (wrong.status_code, unknown.status_code, good.status_code) == (400, 400, 200)
    until(made, lambda _, lines: len(lines) == 1)
    said, lines = read(made)
    assert [line["row"]["a"] for line in lines] == [5]
    assert said["answered"] == 1


def test_nothing_recorded_is_an_empty_recording() -> None:
    said, lines = read(recording())
    assert (said["answered"], said["dropped"], lines) == (0, 0, [])


def test_the_oldest_rows_make_room() -> None:
    made = recording(rows=10)
    for start in range(0, 40, 4):
        post(made, {"inputs": {"a": [float(n) for n in range(start, start + 4)]}})
        until(made, lambda _, lines, last=start + 3: bool(lines) and lines[-1]["row"]["a"] == last)
    _, lines = read(made)
    assert [line["row"]["a"] for line in lines] == list(range(30, 40))


def test_one_request_of_more_rows_than_are_kept() -> None:
    made = recording(rows=10)
    post(made, {"inputs": {"a": [float(n) for n in range(1000)]}})
    until(made, lambda _, lines: bool(lines))
    _, lines = read(made)
    assert [line["row"]["a"] for line in lines] == list(range(990, 1000))


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST_BYTES", 4000)
    made = recording(rows=1000)
    post(made, {"inputs": {"a": [1.0] * 50, "c": ["x" * 300] * 50}})
    until(made, lambda _, lines: bool(lines))
    assert 0 < sum(len(line) for line in made.read()) < 4000 + 1000


def test_a_row_too_long_and_rows_that_no_one_predicted_are_dropped() -> None:
    made = recording()
    long = {"inputs": {"a": [1.0], "c": ["x" * 70_000]}}
    fewer = {"inputs": {"a": [7.0, 7.0]}}
    assert [response.status_code for response in post(made, long, fewer)] == [200, 200]
    until(made, lambda said, _: said["dropped"] == 3)
    assert read(made)[1] == []


def test_while_too_much_waits_nothing_more_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST_WAITING", 10)
    made = recording()
    (response,) = post(made, {"inputs": {"a": [1.0] * 5}})
    assert response.status_code == 200
    said, lines = read(made)
    assert (said["answered"], said["dropped"], lines) == (5, 5, [])


def test_a_sample_is_about_as_large_as_it_says() -> None:
    made = recording(sample=0.1, rows=10_000)
    post(made, *[{"inputs": {"a": [1.0] * 500}}] * 40)
    until(made, lambda said, lines: said["answered"] == 20_000 and len(lines) > 1700)
    assert len(read(made)[1]) < 2300  # 2,000 expected; seven standard deviations either way


def test_a_recording_that_fails_fails_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recording()
    monkeypatch.setattr(made, "_random", None)
    (response,) = post(made, {"inputs": {"a": [1.0]}})
    assert response.status_code == 200
    assert read(made)[0]["answered"] == 1


def test_many_at_once_lose_and_double_nothing() -> None:
    made = recording(rows=100_000)

    def send(sender: int) -> None:
        rows = [float(sender * 1000 + n) for n in range(50)]
        for start in range(0, 50, 5):
            responses = post(made, {"inputs": {"a": rows[start : start + 5]}})
            assert responses[0].status_code == 200

    senders = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    until(made, lambda _, lines: len(lines) == 400)
    said, lines = read(made)
    values = [line["row"]["a"] for line in lines]
    assert len(set(values)) == 400
    assert (said["answered"], said["dropped"]) == (400, 0)
    assert all(line["prediction"]["prediction"] == 2 * line["row"]["a"] for line in lines)
