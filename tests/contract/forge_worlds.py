"""One repository on a forge, whichever it is, and a person's clone of it: where the forge's contract runs."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx

from reconciler.adapters.embedded.forge import EmbeddedForge
from reconciler.adapters.forges.gitea import GiteaForge
from reconciler.adapters.forges.github import GitHubForge
from reconciler.core.observed import Marker
from reconciler.core.plan import FileChange
from reconciler.ports import ForgePerson, ForgeReader, ForgeWriter
from tests.contract.github_server import GitHub
from tests.servers.gitea import Gitea

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BRANCH = "trueup/promote/staging/digits"
PIN = "environments/staging/releases/digits.yaml"
MARKER = Marker(
    intent="promote",
    environment="staging",
    model="digits",
    candidate=f"sha256:{'a' * 64}",
    inputs=f"sha256:{'b' * 64}",
)


FIRST = {PIN: "version: 1\n", "README.md": "hello\n"}


class Forge(ForgeReader, ForgeWriter, ForgePerson, Protocol):
    pass


def git(folder: Path, *arguments: str, who: str = "Ada") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": who, f"GIT_{role}_EMAIL": f"{who.lower()}@example.org"}
    done = subprocess.run(
        ["git", "-C", folder, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def soon(holds: Callable[[], object], within: float = 10.0) -> bool:
    """Whether it comes true in time: a server shows a push in its lists after a moment."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class World:
    """The embedded forge: a bare repository on this machine."""

    us = "trueup <trueup@localhost>"
    clocked = True
    """Whether the forge takes its instants from our clock."""

    def __init__(self, folder: Path) -> None:
        self.origin = folder / "origin.git"
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        self._start(folder, str(self.origin), FIRST)

    def _start(self, folder: Path, address: str, files: dict[str, str]) -> None:
        self.clone = folder / "clone"
        git(folder, "clone", "--quiet", address, str(self.clone))
        git(self.clone, "checkout", "--quiet", "-B", "main")
        self.push(files)

    @property
    def bare(self) -> Path:
        """What the forge has now."""
        return self.origin

    def forge(self, person: str = "Ada <ada@example.org>", clock: Callable[[], datetime] = lambda: AT) -> Forge:
        """Trueup's own, and this person's on a forge that takes people at their word."""
        return EmbeddedForge(self.origin, person, clock)

    def person(self, name: str = "Ada") -> Forge:
        return self.forge(f"{name} <{name.lower()}@example.org>")

    def push(self, files: dict[str, str], branch: str = "main", who: str = "Ada") -> str:
        """A person commits on the branch as it is on the forge, or on main, and pushes."""
        git(self.clone, "fetch", "--quiet", "--prune", "origin")
        known = git(self.clone, "for-each-ref", "--format=%(refname)", "refs/remotes/origin").splitlines()
        start = f"refs/remotes/origin/{branch}"
        if known:
            start = start if start in known else "refs/remotes/origin/main"
            git(self.clone, "checkout", "--quiet", "--detach", start)
        for path, text in files.items():
            (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
            (self.clone / path).write_text(text)
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "--quiet", "-m", f"edit {', '.join(files)}", who=who)
        git(self.clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return git(self.clone, "rev-parse", "HEAD")

    def rev(self, name: str) -> str:
        return git(self.bare, "rev-parse", "--verify", name)

    def show(self, name: str) -> str:
        return git(self.bare, "show", name)


class GitHubWorld(World):
    """GitHub's answers over a bare repository, where trueup is an account like Ada and Grace."""

    us = "trueup <trueup@example.org>"
    clocked = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.github = GitHub(self.origin)

    def forge(
        self, person: str = "trueup", clock: Callable[[], datetime] = lambda: AT, **options: Any
    ) -> GitHubForge:
        wish: dict[str, Any] = {
            "token": lambda: f"token-{person.lower()}",
            "token_from": "$FORGE_TOKEN",
            "transport": httpx.MockTransport(self.github),
            "sleep": lambda seconds: None,
        }
        return GitHubForge("https://api.github.com", "o/r", clock=clock, **wish | options)

    def person(self, name: str = "Ada") -> Forge:
        return self.forge(name)


class Recorder(httpx.HTTPTransport):
    """Real calls, kept as ``METHOD PATH`` (below the repository) in ``calls``.

    ``before`` gets each first, and may answer it in the forge's place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.before: Callable[[str], httpx.Response | None] = lambda call: None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.removeprefix("/api/v1/").split("/", 3)
        call = f"{request.method} {parts[3] if parts[0] == 'repos' else parts[0]}"
        self.calls.append(call)
        return self.before(call) or super().handle_request(request)


class GiteaWorld(World):
    """A private repository of an administrator on a real Gitea, where trueup, Ada and Grace may write."""

    us = "trueup <trueup@example.org>"
    clocked = False
    _numbers = itertools.count(1)
    _accounts: dict[str, dict[str, str]] = {}  # noqa: RUF012 - of every server, for as long as the tests run

    def __init__(self, folder: Path, server: Gitea, files: dict[str, str] | None = None) -> None:
        self.server, self.url, self.folder = server, server.url, folder
        self.admin = server.admin()
        self.tokens = self._accounts.setdefault(self.url, {})
        owner = self.admin.get("/user").json()["login"]
        self.repository = f"{owner}/r{next(self._numbers)}-{os.getpid()}"
        wish = {"name": self.repository.split("/")[1], "default_branch": "main", "private": True}
        self.admin.post("/user/repos", json=wish).raise_for_status()
        for name in ("trueup", "Ada", "Grace"):
            self.token(name)
            self.invite(name, "write")
        self.transport = Recorder()
        place = self.url.replace("://", f"://Ada:{self.tokens['Ada']}@")
        self._start(folder, f"{place}/{self.repository}.git", files or FIRST)
        assert soon(lambda: not self.admin.get(f"/repos/{self.repository}").json()["empty"])
        self._copy = folder / "copy.git"
        git(folder, "clone", "--quiet", "--mirror", f"{place}/{self.repository}.git", str(self._copy))

    def token(self, name: str) -> str:
        if name not in self.tokens:
            self.tokens[name] = self.server.account(name)
        return self.tokens[name]

    def invite(self, name: str, permission: str) -> None:
        path = f"/repos/{self.repository}/collaborators/{name}"
        self.admin.put(path, json={"permission": permission}).raise_for_status()

    def protect(self, **rules: Any) -> None:
        """Nobody pushes to main, not even the administrator merges against these rules."""
        wish = {"rule_name": "main", "enable_push": False, "block_admin_merge_override": True, **rules}
        self.admin.post(f"/repos/{self.repository}/branch_protections", json=wish).raise_for_status()

    @property
    def bare(self) -> Path:
        git(self._copy, "fetch", "--quiet", "--prune", "origin")
        return self._copy

    def forge(
        self, person: str = "trueup", clock: Callable[[], datetime] = lambda: AT, **options: Any
    ) -> GiteaForge:
        wish: dict[str, Any] = {
            "token": lambda: self.tokens[person],
            "token_from": "$FORGE_TOKEN",
            "cache": self.folder / "cache",
            "clock": clock,
            "transport": self.transport,
        }
        return GiteaForge(self.url, self.repository, **wish | options)

    def person(self, name: str = "Ada") -> Forge:
        return self.forge(name)


def propose(forge: Forge, base: str, text: str = "version: 2\n", **changed: Any) -> int:
    wish: dict[str, Any] = {
        "branch": BRANCH,
        "base": base,
        "title": "Promote digits to staging",
        "body": f"Gates passed.\n\n{MARKER}",
        "files": (FileChange(path=PIN, content=text),),
        "draft": False,
        "labels": ("trueup",),
    }
    return forge.open(**wish | changed)


def revise(forge: Forge, number: int, head: str, base: str, text: str, **changed: Any) -> None:
    wish: dict[str, Any] = {
        "head": head,
        "base": base,
        "title": "Promote digits again",
        "body": f"Gates passed.\n\n{MARKER}",
        "files": (FileChange(path=PIN, content=text),),
        "draft": False,
        "labels": (),
    }
    forge.update(number, **wish | changed)
