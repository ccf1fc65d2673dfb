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
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

MODULE = "code.gitea.io/gitea"
TOOLS = Path(__file__).parent / "tools" / "gitea"
BUILD = ("-trimpath", "-buildvcs=false", "-tags", "sqlite sqlite_unlock_notify", "-ldflags", "-s -w")
SHOWN = ("templates", "options", "public")
"""Folders of the sources that a running Gitea reads."""
BROWSER_TOOLS = ("node@22.23.3", "pnpm@10.33.0")
"""What makes the pages' style sheets; Gitea's own lock names the rest."""
PATIENCE = 60.0


class UnavailableError(Exception):
    """Gitea cannot be built on this machine; the message says what is missing."""


class Gitea(NamedTuple):
    """A Gitea that runs, its administrator's token, and the password of everybody else."""

    url: str
    token: str
    password: str

    def admin(self) -> httpx.Client:
        """For calls below ``/api/v1``."""
        headers = {"Authorization": f"token {self.token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=30)

    def account(self, name: str) -> str:
        """A token of a new account, with the scopes that trueup asks for."""
        wish = {"username": name, "email": f"{name.lower()}@example.org", "password": self.password}
        with self.admin() as admin:
            admin.post("/admin/users", json=wish | {"must_change_password": False}).raise_for_status()
        made = httpx.post(
            f"{self.url}/api/v1/users/{name}/tokens",
            auth=(name, self.password),
            json={"name": "trueup", "scopes": ["read:user", "write:repository", "write:issue"]},
            timeout=30,
        )
        return str(made.raise_for_status().json()["sha1"])


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


def dress() -> bool:
    """Make the style sheets and scripts of Gitea's pages, which its sources lack. False where there is no npm.

    A browser shows its pages without them too, only plainly. About a minute, once; 600 MB meanwhile.
    """
    static = cached() / "static" / "public" / "assets"
    if (static / ".vite").exists():
        return True
    if not shutil.which("npm"):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        sources, tools = Path(scratch) / "gitea", Path(scratch) / "tools"
        shutil.copytree(_go("list", "-m", "-f", "{{.Dir}}", MODULE), sources, copy_function=shutil.copyfile)
        tools.mkdir()
        _run(["npm", "install", "--no-save", "--prefix", str(tools), *BROWSER_TOOLS])
        env = {**os.environ, "PATH": f"{tools}/node_modules/.bin{os.pathsep}{os.environ['PATH']}", "CI": "true"}
        _run(["pnpm", "install", "--frozen-lockfile", "--ignore-scripts"], cwd=sources, env=env)
        _run(["pnpm", "exec", "vite", "build"], cwd=sources, env=env | {"ENABLE_SOURCEMAP": "false"})
        made = sources / "public" / "assets"
        for name in ("js", "css", "fonts", ".vite"):  # the last one is what Gitea looks for
            if (made / name).exists():
                shutil.copytree(made / name, static / name, dirs_exist_ok=True)
    return True


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
            yield Gitea(url, token[0], secrets.token_urlsafe(9))
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _run(command: list[str], *arguments: str, **how: Any) -> str:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, **how)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()[-1000:]
        raise RuntimeError(f"{Path(command[0]).name} failed: {said}")
    return done.stdout


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/api/v1/version", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
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
