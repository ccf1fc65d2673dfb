"""A real Gitea for tests: built once from its own sources, started on this machine's loopback, stopped again.

tests/conftest.py and `make demo FORGE=gitea` call it. It needs Go and a C compiler to be built, and nothing to
run. The version is the one in tools/gitea/go.mod.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.servers import programs
from tests.servers.programs import alone, answers, free_port, make, run, started

MODULE = "code.gitea.io/gitea"
TOOLS = Path(__file__).parent / "tools" / "gitea"
BUILD = ("-trimpath", "-buildvcs=false", "-tags", "sqlite sqlite_unlock_notify", "-ldflags", "-s -w")
SHOWN = ("templates", "options", "public")
"""Folders of the sources that a running Gitea reads."""
BROWSER_TOOLS = ("node@22.23.3", "pnpm@10.33.0")
"""What makes the pages' style sheets; Gitea's own lock names the rest."""


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
    found = re.search(rf"^require {MODULE} v(\S+)$", (TOOLS / "go.mod").read_text(), re.MULTILINE)
    assert found, "go.mod names no version"
    return programs.cached(f"gitea-{found[1]}")


def build() -> Path:
    """:func:`cached` with everything in it. Minutes the first time; who comes second waits for the first."""
    folder = cached()
    with alone(folder):
        if not (folder / "static").exists():
            sources = _sources()
            unfinished = folder / "static.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            for name in SHOWN:
                shutil.copytree(sources / name, unfinished / name, copy_function=shutil.copyfile)
            unfinished.rename(folder / "static")
        if not (folder / "gitea").exists():
            compiler = os.environ.get("CC", "gcc")
            make(
                [compiler, "--version"],
                needs="a C compiler is needed to build Gitea: apt-get install gcc libc6-dev",
            )
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
        shutil.copytree(_sources(), sources, copy_function=shutil.copyfile)
        tools.mkdir()
        run(["npm", "install", "--no-save", "--prefix", str(tools), *BROWSER_TOOLS])
        env = {**os.environ, "PATH": f"{tools}/node_modules/.bin{os.pathsep}{os.environ['PATH']}", "CI": "true"}
        run(["pnpm", "install", "--frozen-lockfile", "--ignore-scripts"], cwd=sources, env=env)
        run(["pnpm", "exec", "vite", "build"], cwd=sources, env=env | {"ENABLE_SOURCEMAP": "false"})
        made = sources / "public" / "assets"
        for name in ("js", "css", "fonts", ".vite"):  # the last one is what Gitea looks for
            if (made / name).exists():
                shutil.copytree(made / name, static / name, dirs_exist_ok=True)
    return True


def _sources() -> Path:
    _go("mod", "download", MODULE)
    return Path(_go("list", "-m", "-f", "{{.Dir}}", MODULE))


def _go(*command: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "1", "GOFLAGS": "-mod=readonly"}
    needs = "Go is needed to build Gitea: https://go.dev/doc/install"
    return make(["go", *command], needs=needs, cwd=TOOLS, env=environment).strip()


@contextmanager
def running(folder: Path) -> Iterator[Gitea]:
    """A new Gitea with everything it writes in ``folder``, which must be empty or not there yet."""
    binary, port = build() / "gitea", free_port()
    url = f"http://127.0.0.1:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "app.ini"
    settings.write_text(_settings(folder, url, port))
    command = [str(binary), "--config", str(settings)]
    run([*command, "migrate"])
    person = ("--username", "root", "--password", secrets.token_urlsafe(16), "--email", "root@example.org")
    rights = ("--admin", "--must-change-password=false", "--access-token", "--access-token-scopes", "all")
    token = re.search(r"\b[0-9a-f]{40}\b", run([*command, "admin", "user", "create", *person, *rights]))
    assert token, "Gitea made no token"
    ready = f"{url}/api/v1/version"
    with started([*command, "web"], folder / "gitea.log", lambda: answers(ready)):
        yield Gitea(url, token[0], secrets.token_urlsafe(9))


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
