"""An MLflow server for tests, on SQLite or on a PostgreSQL of its own: started on loopback, stopped again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.programs import UnavailableError, answers, free_port, run, started

POSTGRESQL = "postgres"
"""Whom the database runs as where tests run as root, which PostgreSQL refuses."""


@contextmanager
def mlflow_server(backend: str, artifacts: str, log: Path) -> Iterator[str]:
    """Its address. ``backend`` is the URI of its database, ``artifacts`` the folder of the files it serves."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", backend, "--artifacts-destination", artifacts]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    address = f"http://127.0.0.1:{port}"
    with started(command, log, lambda: answers(f"{address}/health"), env=environment):
        yield address


@contextmanager
def postgresql() -> Iterator[str]:
    """An empty database; its URI, for SQLAlchemy. Nothing is synced to the disk.

    It is not in pytest's folders: those are closed to other users, again by each pytest that starts.
    """
    programs, port = _programs(), free_port()
    user = POSTGRESQL if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)
        options = ("--pgdata", f"{folder}/data", "--username", "mlflow", "--auth", "trust", "--no-sync")
        run([str(programs / "initdb"), *options], user=user, cwd=folder)
        settings = (
            "fsync=off",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
            f"port={port}",
        )
        command = [str(programs / "postgres"), "-D", f"{folder}/data", *(f"-c{one}" for one in settings)]
        ready = [str(programs / "pg_isready"), "--host", "127.0.0.1", "--port", str(port)]
        with started(command, Path(folder) / "log", lambda: run(ready), user=user):
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
