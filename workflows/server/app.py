"""The HTTP surface of one served model version, as a FastAPI application."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from workflows.interface import openapi
from workflows.server.recorded import Recording
from workflows.server.rows import BadRequestError, parse_rows

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

log = logging.getLogger(__name__)

LARGEST_BODY = 32 * 1024 * 1024
"""Bytes of one request; a caller with more rows sends several."""


@dataclass
class Served:
    """The version that this process is for; ``model`` is None until it is verified and loaded."""

    name: str
    version: str
    digest: str
    model: PyFuncModel | None = None


def create_app(served: Served, recording: Recording | None = None) -> FastAPI:
    """Endpoints /invocations, /health, /ready, /version, /metrics and /openapi.json for ``served``.

    What is answered is offered to ``recording``, where there is one.
    """
    app = FastAPI(title=f"{served.name} {served.version}", docs_url=None, redoc_url=None, openapi_url=None)
    registry = CollectorRegistry()
    labels = {"model": served.name, "version": served.version}
    latency = Histogram(
        "trueup_request_duration_seconds",
        "Time to answer a request for predictions.",
        list(labels),
        registry=registry,
    ).labels(**labels)
    predictions = Counter(
        "trueup_predictions_total", "Rows that were predicted.", list(labels), registry=registry
    ).labels(**labels)
    errors = Counter(
        "trueup_prediction_errors_total",
        "Requests without predictions: the request was wrong (input) or the model failed (model).",
        [*labels, "kind"],
        registry=registry,
    )
    for kind in ("input", "model"):
        errors.labels(**labels, kind=kind)

    def refuse(status: int, message: str, kind: str) -> JSONResponse:
        errors.labels(**labels, kind=kind).inc()
        return JSONResponse({"error": message}, status)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        if served.model is None:
            return JSONResponse({"error": "the model is not loaded yet"}, 503)
        started = time.perf_counter()
        try:
            rows, text = await run_in_threadpool(_predict, served.model, await _body(request), recording)
        except BadRequestError as error:
            return refuse(400, str(error), "input")
        except Exception as error:  # whatever model code raises must not end the server
            log.exception("%s %s failed on a request", served.name, served.version)
            return refuse(500, f"the model failed: {type(error).__name__}", "model")
        finally:
            latency.observe(time.perf_counter() - started)
        predictions.inc(rows)
        return Response(text, media_type="application/json")

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    def ready() -> JSONResponse:
        loaded = served.model is not None
        return JSONResponse({"status": "ready" if loaded else "loading"}, 200 if loaded else 503)

    @app.get("/version")
    def version() -> dict[str, str]:
        return {**labels, "digest": served.digest, "server": package_version("trueup")}

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json")
    def document() -> JSONResponse:
        if served.model is None:
            return JSONResponse({"error": "the model is not loaded yet"}, 503)
        signature = served.model.metadata.signature
        return JSONResponse(
            openapi(served.name, served.version, signature.to_dict() if signature is not None else None)
        )

    return app


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise BadRequestError(
                f"the body is larger than {LARGEST_BODY // 1024**2} MiB; send fewer rows at once"
            )
    return bytes(body)


def _predict(model: PyFuncModel, body: bytes, recording: Recording | None) -> tuple[int, str]:
    """The number of rows, and MLflow's answer: ``{"predictions": [one object a row]}``.

    MLflow says with its own exception that rows do not fit the signature, model code with ValueError that it
    cannot take them: both are the request's fault.
    """
    from mlflow.exceptions import MlflowException

    rows = parse_rows(body, model.metadata.get_input_schema())  # type: ignore[no-untyped-call]
    drawn = recording.draw(rows, len(body)) if recording else None
    try:
        answer: Any = model.predict(rows)
    except (MlflowException, ValueError) as error:
        raise BadRequestError(str(error)[:500]) from error
    text = json.dumps({"predictions": answer.to_dict("records")}, allow_nan=False, default=_number)
    if recording:
        recording.keep(drawn, len(rows), answer)
    return len(rows), text


def _number(value: Any) -> Any:
    """numpy's scalars as Python's."""
    return value.item()
