"""``reconcile-server``: serve one model version, after its files have been verified.

Environment: TRUEUP_MODEL_NAME, TRUEUP_MODEL_VERSION, TRUEUP_MODEL_DIGEST (``sha256:...``), TRUEUP_MODEL_URI
(``models:/NAME/VERSION``), MLFLOW_TRACKING_URI, HOST (127.0.0.1), PORT (8080; 0 takes a free one). The first
line on stdout is the address. Loading happens behind /health and /ready, so that a slow model is not taken
for a dead one; a model that is not what it should be ends the process with 1.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvicorn

from reconciler.core.errors import Terminal, TrueupError
from workflows.model_files import fetch_model
from workflows.server.app import Served, create_app

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel


class Settings(NamedTuple):
    name: str
    version: str
    digest: str
    uri: str
    host: str
    port: int


def settings(environment: Mapping[str, str]) -> Settings:
    """Read the environment. Terminal where a variable is missing or PORT is no number."""
    required = ("TRUEUP_MODEL_NAME", "TRUEUP_MODEL_VERSION", "TRUEUP_MODEL_DIGEST", "TRUEUP_MODEL_URI")
    missing = [name for name in required if not environment.get(name)]
    if missing:
        raise Terminal(f"{', '.join(missing)} not set in the environment")
    port = environment.get("PORT", "8080")
    if not port.isdecimal():
        raise Terminal(f"PORT is {port!r}, not a number")
    name, version, digest, uri = (environment[variable] for variable in required)
    return Settings(name, version, digest, uri, environment.get("HOST", "127.0.0.1"), int(port))


def main() -> None:
    """Serve until SIGTERM; exit 0 then, 1 if the model cannot be served."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
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
    config = uvicorn.Config(
        create_app(served), host=wanted.host, port=wanted.port, log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
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

    socket = config.bind_socket()
    host, port = socket.getsockname()[:2]
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    threading.Thread(target=load, daemon=True).start()
    server.run(sockets=[socket])
    for failure in failures:
        sys.stderr.write(f"reconcile-server: {failure}\n")
    return 1 if failures else 0


def _load(wanted: Settings, folder: Path) -> PyFuncModel:
    import mlflow

    verified = fetch_model(wanted.uri, digest=wanted.digest, destination=folder)
    model: PyFuncModel = mlflow.pyfunc.load_model(str(verified))
    return model


if __name__ == "__main__":
    main()
