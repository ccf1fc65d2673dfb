"""``reconcile-server``: serve one model version, after its files have been verified.

Environment: TRUEUP_MODEL_NAME, TRUEUP_MODEL_VERSION, TRUEUP_MODEL_DIGEST (``sha256:...``), TRUEUP_MODEL_URI
(``models:/NAME/VERSION``), MLFLOW_TRACKING_URI, HOST (127.0.0.1), PORT (8080; 0 takes a free one). The first
line on stdout is the address. With TRUEUP_RECORD_SAMPLE (a share of the rows, as in 0.1) it records requests:
TRUEUP_RECORD_ROWS (20000) rows at most, of the release TRUEUP_RELEASE, to be asked for at RECORDED_PORT (8081),
whose address is the second line. OMP_NUM_THREADS (1) are the threads of one prediction. Loading happens behind
/health and /ready, so that a slow model is not taken for a dead one; a model that is not what it should be ends
the process with 1.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from fastapi import FastAPI

from reconciler.core.errors import Terminal, TrueupError
from workflows.model_files import fetch_model, load_model
from workflows.server.app import Served, create_app
from workflows.server.recorded import Recording, create_recorded_app

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel


class Record(NamedTuple):
    """How much is recorded, and where it can be asked for."""

    sample: float
    rows: int
    release: str
    port: int


class Settings(NamedTuple):
    name: str
    version: str
    digest: str
    uri: str
    host: str
    port: int
    record: Record | None = None


def settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment. Terminal where a variable is missing or is not the number that it should be."""
    required = ("TRUEUP_MODEL_NAME", "TRUEUP_MODEL_VERSION", "TRUEUP_MODEL_DIGEST", "TRUEUP_MODEL_URI")
    missing = [name for name in required if not environment.get(name)]
    if missing:
        raise Terminal(f"{', '.join(missing)} not set in the environment")
    port = _whole(environment, "PORT", "8080")
    name, version, digest, uri = (environment[variable] for variable in required)
    return Settings(
        name, version, digest, uri, environment.get("HOST", "127.0.0.1"), port, _record(environment)
    )


def _record(environment: Mapping[str, str]) -> Record | None:
    text = environment.get("TRUEUP_RECORD_SAMPLE", "")
    if not text:
        return None
    try:
        sample = float(text)
    except ValueError:
        sample = math.nan
    if not 0 < sample <= 1:
        raise Terminal(f"TRUEUP_RECORD_SAMPLE is {text!r}, not a number above 0 and up to 1")
    rows = _whole(environment, "TRUEUP_RECORD_ROWS", "20000")
    if not rows:
        raise Terminal("TRUEUP_RECORD_ROWS is 0; without TRUEUP_RECORD_SAMPLE nothing is recorded")
    port = _whole(environment, "RECORDED_PORT", "8081")
    return Record(sample, rows, environment.get("TRUEUP_RELEASE", ""), port)


def _whole(environment: Mapping[str, str], name: str, default: str) -> int:
    text = environment.get(name, default)
    if not text.isdecimal():
        raise Terminal(f"{name} is {text!r}, not a number")
    return int(text)


def main() -> None:
    """Serve until SIGTERM; exit 0 then, 1 if the model cannot be served."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # several requests at once have a thread each
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn drains, then raises the signal again
    try:
        wanted = settings(os.environ)
    except Terminal as error:
        sys.exit(f"reconcile-server: {error}")
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(_serve(wanted, Path(folder)))


def _serve(wanted: Settings, folder: Path) -> int:
    served = Served(wanted.name, wanted.version, wanted.digest)
    recording = _recording(wanted, wanted.record) if wanted.record else None
    server = _server(create_app(served, recording), wanted.host, wanted.port)
    failures: list[str] = []

    def load() -> None:
        try:
            served.model = _load(wanted, folder)
        except TrueupError as error:
            failures.append(str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            failures.append(f"{wanted.uri} does not load: {type(error).__name__}: {error}")
        server.should_exit = bool(failures)

    listening = _listen(server)
    if recording and wanted.record:
        # A loop of its own: whoever reads the recording does not hold up requests.
        reading = _server(create_recorded_app(recording), wanted.host, wanted.record.port)
        sockets = [_listen(reading)]
        threading.Thread(target=reading.run, kwargs={"sockets": sockets}, daemon=True).start()
    threading.Thread(target=load, daemon=True).start()
    server.run(sockets=[listening])
    for failure in failures:
        sys.stderr.write(f"reconcile-server: {failure}\n")
    return 1 if failures else 0


def _recording(wanted: Settings, record: Record) -> Recording:
    about = {
        "model": wanted.name,
        "version": wanted.version,
        "digest": wanted.digest,
        "release": record.release,
    }
    return Recording(about, sample=record.sample, rows=record.rows)


def _server(app: FastAPI, host: str, port: int) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False))


def _listen(server: uvicorn.Server) -> socket.socket:
    """Its socket, and its address as a line on stdout."""
    bound = server.config.bind_socket()
    host, port = bound.getsockname()[:2]
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    return bound


def _load(wanted: Settings, folder: Path) -> PyFuncModel:
    return load_model(fetch_model(wanted.uri, digest=wanted.digest, destination=folder))


if __name__ == "__main__":
    main()
