"""A real Gitea for tests: built once from its own sources, started on this machine's loopback, stopped again.

tests/conftest.py and `make demo FORGE=gitea` call it. Continuous integration builds it while quick tests run:

    python -m tests.servers.gitea build

It needs Go and a C compiler to be built, and nothing to run. The version is the one in tools/gitea/go.mod.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

MODULE = "code.gitea.io/gitea"
TOOLS = Path(__file__).parent / "tools" / "gitea"
BUILD = ("-trimpath", "-tags", "sqlite sqlite_unlock_notify", "-ldflags", "-s -w")
SHOWN = ("templates", "options", "public")
"""Folders of the sources that a running Gitea reads."""
PATIENCE = 60.0


class UnavailableError(Exception):
    """Gitea cannot be built on this machine; the message says what is missing."""


class Gitea(NamedTuple):
    """A Gitea that runs, and its administrator's token."""

    url: str
    token: str


def cached() -> Path:
    """The folder of this version: ``gitea``, and ``static`` with what it reads."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = os.environ.get("TRUEUP_TEST_CACHE") or Path(caches) / "trueup-tests"
    found = re.search(rf"^require {MODULE} v(\S+)$", (TOOLS / "go.mod").read_text(), re.MULTILINE)
    assert found, "go.mod names no version"
    return Path(chosen).absolute() / f"gitea-{found[1]}"


def build() -> Path:
    """:func:`cached` with everything in it. Minutes the first time; who comes second waits for the first."""
    folder = cached()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "static").exists():
            sources = Path(_go("list", "-m", "-f", "{{.Dir}}", MODULE, first=("mod", "download", MODULE)))
            unfinished = folder / "static.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            for name in SHOWN:
                shutil.copytree(sources / name, unfinished / name, copy_function=shutil.copyfile)
            unfinished.rename(folder / "static")
        if not (folder / "gitea").exists():
            if not shutil.which(os.environ.get("CC", "gcc")):
                raise UnavailableError("a C compiler is needed to build Gitea: apt-get install gcc libc6-dev")
            _go("build", *BUILD, "-o", str(folder / "gitea.unfinished"), MODULE)
            (folder / "gitea.unfinished").rename(folder / "gitea")
    return folder


def _go(*command: str, first: tuple[str, ...] = ()) -> str:
    if not shutil.which("go"):
        raise UnavailableError("Go is needed to build Gitea: https://go.dev/doc/install")
    if first:
        _go(*first)
    done = subprocess.run(
        ["go", *command],
        cwd=TOOLS,
        env={**os.environ, "CGO_ENABLED": "1", "GOFLAGS": "-mod=readonly"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"go {command[0]} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout.strip()


@contextmanager
def running(folder: Path) -> Iterator[Gitea]:
    """A new Gitea with everything it writes in ``folder``, which must be empty or not there yet."""
    binary, port = build() / "gitea", _free_port()
    url = f"http://127.0.0.1:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "app.ini"
    settings.write_text(_settings(folder, url, port))
    command = [str(binary), "--config", str(settings)]
    log = (folder / "gitea.log").open("w")
    with log:
        _run(command, "migrate")
        made = _run(
            [
                *command,
                "admin",
                "user",
                "create",
                "--username",
                "root",
                "--password",
                secrets.token_urlsafe(16),
            ],
            *("--email", "root@example.org", "--admin", "--must-change-password=false"),
            *("--access-token", "--access-token-scopes", "all"),
        )
        token = re.search(r"\b[0-9a-f]{40}\b", made)
        assert token, "Gitea made no token"
        process = subprocess.Popen(
            [*command, "web"], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _until_ready(process, url, folder / "gitea.log")
            yield Gitea(url, token[0])
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _run(command: list[str], *arguments: str) -> str:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gitea {arguments[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/api/v1/version", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"Gitea did not start: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _settings(folder: Path, url: str, port: int) -> str:
    """See Gitea's configuration cheat sheet. Nothing here reaches beyond loopback."""
    unsafe = "I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true\n" if os.geteuid() == 0 else ""
    return f"""{unsafe}APP_NAME = Gitea
RUN_USER = {pwd.getpwuid(os.geteuid()).pw_name}
RUN_MODE = prod
WORK_PATH = {folder / "data"}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = {url}/
STATIC_ROOT_PATH = {cached() / "static"}
OFFLINE_MODE = true
DISABLE_SSH = true
[database]
DB_TYPE = sqlite3
PATH = {folder / "data" / "gitea.db"}
SQLITE_JOURNAL_MODE = WAL
[repository]
ROOT = {folder / "data" / "repositories"}
[security]
INSTALL_LOCK = true
SECRET_KEY = {secrets.token_hex(32)}
PASSWORD_HASH_ALGO = pbkdf2$100$50
[oauth2]
JWT_SECRET = {secrets.token_urlsafe(32)}
[service]
DISABLE_REGISTRATION = true
[indexer]
ISSUE_INDEXER_TYPE = db
[queue]
TYPE = channel
[session]
PROVIDER = memory
[log]
LEVEL = Warn
[actions]
ENABLED = false
[packages]
ENABLED = false
[cron]
ENABLED = false
[mailer]
ENABLED = false
[webhook]
ALLOWED_HOST_LIST = loopback
"""


if __name__ == "__main__":
    if sys.argv[1:] != ["build"]:
        sys.exit("usage: python -m tests.servers.gitea build")
    try:
        print(build())
    except UnavailableError as unavailable:
        sys.exit(str(unavailable))
