"""The server's endpoints, in this process, over a model that needs no files."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import httpx
import pandas as pd
import pytest

from workflows.server import app as server
from workflows.server.app import Served, create_app


class Doubler:
    """Predicts twice `a`; `b` decides how it fails."""

    def __init__(self) -> None:
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        schema = Schema([ColSpec("long", "a"), ColSpec("double", "b"), ColSpec("string", "c", required=False)])
        outputs = Schema([ColSpec("long", "prediction"), ColSpec("double", "probability_x")])
        signature = ModelSignature(inputs=schema, outputs=outputs)
        self.metadata = SimpleNamespace(get_input_schema=lambda: schema, signature=signature)

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        if (rows["b"] == -1).any():
            raise ValueError("b must not be -1")
        if (rows["b"] == -2).any():
            raise KeyError("a secret of the model")
        return pd.DataFrame({"prediction": rows["a"] * 2, "probability_x": rows["b"]})


def ask(served: Served, *requests: tuple[str, str, bytes]) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=create_app(served))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return [await client.request(method, path, content=body) for method, path, body in requests]

    return asyncio.run(run())


@pytest.fixture
def served() -> Served:
    return Served("digits", "3", "sha256:" + "a" * 64, Doubler())  # type: ignore[arg-type]


def predict(served: Served, body: Any) -> httpx.Response:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(served, ("POST", "/invocations", text))[0]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["b", "a"], "data": [[0.5, 1], [0.25, 2]]}},
        {"dataframe_split": {"columns": ["b", "a"], "index": [7, 9], "data": [[0.5, 1], [0.25, 2]]}},
        {"dataframe_records": [{"a": 1, "b": 0.5}, {"a": 2, "b": 0.25}]},
        {"instances": [{"a": 1, "b": 0.5}, {"a": 2, "b": 0.25}]},
        {"instances": [[1, 0.5, "x"], [2, 0.25, None]]},
        {"inputs": {"a": [1, 2], "b": [0.5, 0.25]}},
        {"inputs": [[1, 0.5, None], [2, 0.25, "y"]]},
        {"inputs": {"a": [1.0, 2.0], "b": [0.5, 0.25], "unknown": ["is", "dropped"]}},
    ],
)
def test_mlflows_input_formats(body, served) -> None:
    response = predict(served, body)
    assert response.status_code == 200
    assert response.json() == {
        "predictions": [{"prediction": 2, "probability_x": 0.5}, {"prediction": 4, "probability_x": 0.25}]
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b'{"inputs": {"a": [1], "b": [NaN]}}', "NaN is not a JSON number"),
        ([1], "the body needs exactly one of dataframe_split, dataframe_records, instances, inputs"),
        ({"inputs": {}, "instances": []}, "the body needs exactly one of"),
        ({"dataframe_split": {"data": [[1]]}}, "dataframe_split needs columns and data"),
        ({"dataframe_split": {"columns": [[1]], "data": [[1]]}}, "needs columns as a list of names"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "names a column twice"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "dataframe_split does not make a table"),
        ({"dataframe_records": {"a": 1}}, "dataframe_records needs a list of rows"),
        ({"dataframe_records": [[1, 2]]}, "dataframe_records needs a list of objects"),
        ({"dataframe_records": []}, "dataframe_records holds no rows"),
        ({"instances": [[1]]}, "instances does not make a table"),
        ({"inputs": {"a": 1, "b": 2}}, "inputs does not make a table"),
        ({"inputs": {"b": [1]}}, "1 of the model's columns are missing: a"),
        ({"inputs": {"a": ["1"], "b": [1]}}, "column a needs whole numbers"),
        ({"inputs": {"a": [1.5], "b": [1]}}, "column a needs whole numbers"),
        ({"inputs": {"a": [None], "b": [1]}}, "column a needs whole numbers"),
        ({"inputs": {"a": [True], "b": [1]}}, "column a needs whole numbers"),
        ({"inputs": {"a": [10**30], "b": [1]}}, "column a needs whole numbers"),
        ({"inputs": {"a": [1e300], "b": [1]}}, "column a needs whole numbers"),
        ({"inputs": {"a": [1], "b": ["x"]}}, "column b needs numbers"),
        ({"inputs": {"a": [1], "b": [1], "c": [3]}}, "column c needs texts"),
        ({"inputs": {"a": [1], "b": [-1]}}, "b must not be -1"),
    ],
)
def test_bad_input_is_named_and_never_a_traceback(body, said, served) -> None:
    response = predict(served, body)
    assert response.status_code == 400
    assert said in response.json()["error"]
    assert "Traceback" not in response.text


def test_a_model_that_fails_says_no_more_than_that(served, caplog) -> None:
    caplog.set_level(logging.ERROR)
    response = predict(served, {"inputs": {"a": [1], "b": [-2]}})
    assert (response.status_code, response.json()) == (500, {"error": "the model failed: KeyError"})
    assert "a secret of the model" in caplog.text


def test_a_prediction_that_is_not_a_number_is_no_answer(served) -> None:
    response = predict(served, {"inputs": {"a": [1], "b": [None]}})
    assert response.status_code == 500


def test_a_body_too_large_is_refused(served, monkeypatch) -> None:
    monkeypatch.setattr(server, "LARGEST_BODY", 1024**2)
    response = predict(served, b" " * (1024**2 + 1))
    assert (response.status_code, response.json()["error"]) == (
        400,
        "the body is larger than 1 MiB; send fewer rows at once",
    )


def test_alive_before_ready() -> None:
    loading = Served("digits", "3", "sha256:" + "a" * 64)
    health, ready, answer = ask(
        loading, ("GET", "/health", b""), ("GET", "/ready", b""), ("POST", "/invocations", b"{}")
    )
    assert (health.status_code, ready.status_code, answer.status_code) == (200, 503, 503)
    assert answer.json() == {"error": "the model is not loaded yet"}


def test_ready_and_version(served) -> None:
    ready, version = ask(served, ("GET", "/ready", b""), ("GET", "/version", b""))
    assert ready.json() == {"status": "ready"}
    assert version.json() == {
        "model": "digits",
        "version": "3",
        "digest": "sha256:" + "a" * 64,
        "server": version.json()["server"],
    }


def test_metrics_count_rows_errors_and_time(served) -> None:
    good = json.dumps({"inputs": {"a": [1, 2], "b": [0, 0]}}).encode()
    failing = json.dumps({"inputs": {"a": [1], "b": [-2]}}).encode()
    requests = [("POST", "/invocations", body) for body in (good, good, b"{", failing)]
    text = ask(served, *requests, ("GET", "/metrics", b""))[-1].text
    labels = 'model="digits",version="3"'
    assert f"trueup_predictions_total{{{labels}}} 4.0" in text
    assert f'trueup_prediction_errors_total{{kind="input",{labels}}} 1.0' in text
    assert f'trueup_prediction_errors_total{{kind="model",{labels}}} 1.0' in text
    assert f"trueup_request_duration_seconds_count{{{labels}}} 4.0" in text


def test_what_it_takes_and_gives_is_a_document_of_openapi(served) -> None:
    """Valid, and true of requests and answers: openapi-core checks them against it."""
    from openapi_core import OpenAPI
    from openapi_core.testing import MockRequest, MockResponse
    from openapi_core.validation.request.exceptions import RequestBodyValidationError

    (answered,) = ask(served, ("GET", "/openapi.json", b""))
    document = answered.json()
    assert answered.status_code == 200
    assert document["info"] == {"title": "digits", "version": "3"}
    api = OpenAPI.from_dict(document)  # validates the document itself
    rows = [{"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": None}]
    body = json.dumps({"dataframe_records": rows}).encode()
    asked = MockRequest("http://server", "post", "/invocations", data=body, content_type="application/json")
    api.validate_request(asked)
    rows[1]["b"] = 0.25
    said = predict(served, {"dataframe_records": rows})
    api.validate_response(asked, MockResponse(said.content, status_code=said.status_code))
    for wrong in ({"a": "one", "b": 0.5}, {"b": 0.5}, {"a": 1.5, "b": 0.5}):
        body = json.dumps({"dataframe_records": [wrong]}).encode()
        with pytest.raises(RequestBodyValidationError):
            api.validate_request(
                MockRequest("http://server", "post", "/invocations", data=body, content_type="application/json")
            )
        assert predict(served, {"dataframe_records": [wrong]}).status_code == 400
    loading = ask(Served("digits", "3", "sha256:" + "a" * 64), ("GET", "/openapi.json", b""))[0]
    assert loading.status_code == 503
