"""An MLflow server for tests, on SQLite or on a PostgreSQL of its own: started on loopback, stopped again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60.0
POSTGRESQL = "postgres"
"""Whom the database runs as where tests run as root, which PostgreSQL refuses."""


class UnavailableError(Exception):
    """The server cannot run on this machine; the message says what is missing."""


@contextmanager
def mlflow_server(backend: str, artifacts: str, log: Path) -> Iterator[str]:
    """Its address. ``backend`` is the URI of its database, ``artifacts`` the folder of the files it serves."""
    port = _free_port()
    where = ("--artifacts-destination", artifacts, "--host", "127.0.0.1", "--port", str(port))
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        backend,
        *where,
        "--workers",
        "1",
    ]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    address = f"http://127.0.0.1:{port}"
    with _running(command, log, lambda: _answers(f"{address}/health"), env=environment):
        yield address


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """An empty database in ``folder``; its URI, for SQLAlchemy. Nothing is synced to the disk."""
    programs = _programs()
    user = POSTGRESQL if os.geteuid() == 0 else None
    folder.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
        for parent in folder.parents[:-1]:  # pytest's folders are closed to others; entering is enough
            parent.chmod(parent.stat().st_mode | 0o011)
    data, port = folder / "data", _free_port()
    made = [programs / "initdb", "--pgdata", data, "--username", "mlflow", "--auth", "trust", "--no-sync"]
    subprocess.run(made, user=user, check=True, capture_output=True, cwd=folder)
    settings = ("fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", f"port={port}")
    command = [str(programs / "postgres"), "-D", str(data), *(f"-c{setting}" for setting in settings)]
    ready = [programs / "pg_isready", "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    with _running(
        command, folder / "log", lambda: subprocess.run(ready, check=False).returncode == 0, user=user
    ):
        yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/postgres"


def _programs() -> Path:
    """Debian keeps them out of PATH, by version; the newest."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if not on_path:
        raise UnavailableError("PostgreSQL is needed: apt-get install postgresql")
    return Path(on_path).parent


@contextmanager
def _running(
    command: list[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    user: str | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[None]:
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env=env, user=user, start_new_session=True, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])
