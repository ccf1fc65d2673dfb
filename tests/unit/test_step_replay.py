"""What step `replay` asks and counts, with answers of a server that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.steps.replay import Asked, measure, replay

ROWS = [{"a": i} for i in range(23)]


def client(answer: Callable[[list[dict[str, Any]]], httpx.Response]) -> httpx.Client:
    def respond(request: httpx.Request) -> httpx.Response:
        return answer(json.loads(request.content)["dataframe_records"])

    return httpx.Client(base_url="http://server", transport=httpx.MockTransport(respond))


def doubled(rows: list[dict[str, Any]]) -> httpx.Response:
    return httpx.Response(200, json={"predictions": [{"prediction": row["a"] * 2} for row in rows]})


def test_every_row_is_answered_in_its_order() -> None:
    assert list(replay(client(doubled), ROWS)) == [{"prediction": i * 2} for i in range(23)]


@given(st.sets(st.integers(0, 22)))
def test_a_row_does_not_answer_for_its_neighbours(refused) -> None:
    def answer(rows: list[dict[str, Any]]) -> httpx.Response:
        bad = any(row["a"] in refused for row in rows)
        return httpx.Response(400, json={"error": "no such person: Ada"}) if bad else doubled(rows)

    found = list(replay(client(answer), ROWS))
    assert found == ["400" if i in refused else {"prediction": i * 2} for i in range(23)]
    metrics = measure([Asked(row, {"prediction": row["a"] * 2}) for row in ROWS], found, "23 rows")
    errors, agreement = (metrics[name].overall.candidate for name in ("errors", "agreement"))
    assert errors.value == len(refused) / 23
    assert agreement.value == (1 if len(refused) < 23 else None)
    assert "Ada" not in errors.note


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda rows: httpx.Response(500, text="no"), "500"),
        (lambda rows: httpx.Response(200, json={"predictions": []}), "200"),
    ],
)
def test_what_is_no_answer_is_an_error(answer, said) -> None:
    assert list(replay(client(answer), ROWS)) == [said] * 23


def test_a_server_that_ends_answers_nothing() -> None:
    def end(rows: list[dict[str, Any]]) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert list(replay(client(end), ROWS)) == ["ConnectError"] * 23


def test_classes_are_equal_or_not_and_numbers_nearly() -> None:
    asked = [Asked({}, {"prediction": c, "probability_a": 0.9}) for c in "aabb"]
    answers = [{"prediction": c, "probability_a": 0.1} for c in "abbb"]
    found = measure(asked, answers, "4 rows")["agreement"].overall.candidate
    assert (found.value, found.n) == (0.75, 4)
    assert found.note == "1 x a -> b; 4 rows"
    asked = [Asked({}, {"prediction": value}) for value in (1.0, 2.0)]
    answers = [{"prediction": value} for value in (1.0 + 1e-9, 2.1)]
    found = measure(asked, answers, "2 rows")["agreement"].overall.candidate
    assert (found.value, found.note) == (0.5, "2 rows")


def test_without_rows_there_is_no_number() -> None:
    for metric in measure([], [], "0 rows of a release").values():
        assert metric.overall.candidate.value is None
        assert metric.overall.candidate.note == "0 rows of a release"
