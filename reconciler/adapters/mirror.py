"""A bare mirror of one repository: what is fetched into it, pushed from it, and with whose credentials.

:mod:`reconciler.adapters.git_source` reads it. :mod:`reconciler.adapters.forges.gitea` looks at pull requests
and pushes branches with it, so that both share what one of them fetched. The mirror holds full history and
every pull request's head. It is a cache: whoever deletes it loses time only.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from reconciler.adapters.git_command import Answer, GitCommand, LostRace, branch_name, commit_id
from reconciler.core.errors import Retryable, Terminal

_MIRRORED = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/pull/*/head:refs/pull/*/head")
_REMOTE = re.compile(r"(?:https?|ssh|file)://\S+|(?:[\w.-]+@)?\w[\w.-]*:(?:[\w.~]|/(?!/))\S*")
_PASSWORD = re.compile(r"[a-z]+://[^/@\s]*:[^/@\s]*@")
_DETACHED = "refs/trueup/head"
_FORBIDDEN = re.compile(r"returned error: 403$")
_REJECTED = 1  # of git-push, where the remote answered and did not take the ref


class Credentials(NamedTuple):
    """A token for HTTP: asked for at each use, and where it comes from, for hints."""

    token: Callable[[], str]
    token_from: str

    def settings(self, url: str) -> tuple[dict[str, str], dict[str, str]]:
        """Git's settings for calls to ``url``: open ones, and the header that must not be seen.

        The token is the password and any user name does, with Gitea and GitHub. Git is kept from asking other
        helpers and from carrying the header on to where a redirect points.
        """
        basic = base64.b64encode(f"x-access-token:{self.token()}".encode()).decode()
        place = urlsplit(url)
        header = f"http.{place.scheme}://{place.netloc}/.extraHeader"
        visible = {"credential.helper": "", "http.followRedirects": "false", header: ""}
        return visible, {header: f"Authorization: Basic {basic}"}


class Mirror:
    """``url`` mirrored in ``cache/mirrors``; one folder for one address, whoever uses it.

    ``url`` is HTTPS, SSH or a local path; ``branch`` the default branch, if not the one that the remote's HEAD
    names; ``credentials`` are for HTTPS, in place of what Git itself is set up to use. A remote that cannot be
    reached raises Retryable; a shallow clone raises Terminal, because it cannot tell the history of a pin.
    """

    def __init__(
        self, url: str, cache: Path, branch: str | None = None, credentials: Credentials | None = None
    ) -> None:
        self.url, self._local = _remote(url)
        self.main = f"refs/heads/{branch_name(branch)}" if branch else "HEAD"
        self._folder = cache / "mirrors" / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self._git = GitCommand(self._folder)
        self._credentials = credentials if self.url.startswith(("http://", "https://")) else None

    def git(self) -> GitCommand:
        """The mirror's Git, once there is a whole mirror."""
        if not self._folder.exists() or self._unfinished.exists():
            with self._locked() as lock:
                if not self._folder.exists() or self._unfinished.exists():
                    self._fetch(lock)
        return self._git

    def fetch(self) -> GitCommand:
        """The mirror's Git, after a fetch."""
        with self._locked() as lock:
            self._fetch(lock)
        return self._git

    def push(self, branch: str, *, old: str, new: str) -> None:
        """Move the remote's branch from commit ``old`` to ``new``; empty is none. Done already is success.

        LostRace, and nothing is changed, where the branch is not at ``old``. Terminal where the remote does not
        take it: a protected branch, a missing right. There is no ``+``: it would overrule the lease.
        """
        ref = f"refs/heads/{branch_name(branch)}"
        lease = f"--force-with-lease={ref}:{commit_id(old) if old else ''}"
        what = f"{commit_id(new) if new else ''}:{ref}"
        how = ("--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")
        with self._locked() as lock:
            answer = self._ask(lock, "push", *how, lease, "--end-of-options", self.url, what, accept=_REJECTED)
            if answer.code != _REJECTED:
                return
            there = self._ask(lock, "ls-remote", "--end-of-options", self.url, ref).text.partition("\t")[0]
        if there == new:
            return
        if there != old:
            hint = "look at its new commits first"
            raise LostRace(f"branch {branch} moved on from {old[:12] or 'nothing'}", where=self.url, hint=hint)
        said = next((line for line in answer.text.splitlines() if line.startswith("!")), "").rpartition("\t")[2]
        hint = "give trueup's account the right to push its own branches"
        raise Terminal(
            f"the push of {branch} is refused: {said or 'no reason given'}", where=self.url, hint=hint
        )

    def may_push(self) -> bool:
        """Whether the remote takes a push by these credentials at all, as far as it says before one is sent."""
        self.git()
        how = ("--dry-run", "--no-verify", "--no-signed", "--recurse-submodules=no", "--end-of-options")
        with self._locked() as lock:
            try:
                self._ask(lock, "push", *how, self.url, "HEAD:refs/heads/trueup/asked", accept=_REJECTED)
            except Retryable as error:
                if _FORBIDDEN.search(error.what):
                    return False
                raise
        return True

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """One process at a time in this mirror. Git inherits the lock, so one that outlives us keeps it."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    @property
    def _unfinished(self) -> Path:
        """Beside the mirror while it is made or fetched into; a process that was killed leaves it behind."""
        return self._folder.with_suffix(".unfinished")

    def _fetch(self, lock: int) -> None:
        if self._local is not None:
            _refuse_shallow(self._local)
        if self._unfinished.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._unfinished.touch()
        new = not self._folder.exists()
        try:
            if new:
                self._git.run("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            main, extra = self._default_branch(lock)
            how = ("--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
            self._ask(lock, "fetch", *how, "--end-of-options", self.url, *_MIRRORED, *extra)
            if (self._folder / "shallow").exists():
                hint = "name one with full history"
                raise Terminal("the repository is a shallow clone", where=self.url, hint=hint)
            if main:
                self._git.run("symbolic-ref", "HEAD", main)
        except BaseException:
            if new:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._unfinished.unlink()
            raise
        self._unfinished.unlink()

    def _default_branch(self, lock: int) -> tuple[str, tuple[str, ...]]:
        """The ref that the mirror's HEAD is to name, if it matters, and what must be fetched for it.

        A clone that stands at a commit, as continuous integration checks it out, has that commit for a branch.
        """
        if self.main != "HEAD":
            return "", ()
        said = self._ask(lock, "ls-remote", "--symref", "--end-of-options", self.url, "HEAD").text
        named = re.search(r"^ref: (refs/heads/\S+)\tHEAD$", said, re.MULTILINE)
        if named is not None:
            return named[1], ()
        if said:
            return _DETACHED, (f"+HEAD:{_DETACHED}",)
        hint = "push to it, or set its HEAD: git symbolic-ref HEAD refs/heads/BRANCH"
        raise Terminal("the remote's HEAD names no branch that is there", where=self.url, hint=hint)

    def _ask(self, lock: int, *arguments: str, accept: int = 0) -> Answer:
        """A command that talks to the remote."""
        if self._credentials is None:
            hint = "check the network, the address and the credentials that Git uses"
            return self._git.run(*arguments, accept=(0, accept), failure=Retryable, hint=hint, pass_fds=(lock,))
        settings, secrets = self._credentials.settings(self.url)
        return self._git.run(
            *arguments,
            accept=(0, accept),
            env={"GIT_ASKPASS": "true"},  # says nothing, so that a token that is refused ends it
            settings=settings,
            secrets=secrets,
            failure=Retryable,
            hint=f"check the network, the address, and the token in {self._credentials.token_from}",
            pass_fds=(lock,),
        )


def _remote(url: str) -> tuple[str, Path | None]:
    """The address for Git, and the folder if it is one of this machine."""
    if _PASSWORD.match(url):
        hint = "keep it in a Git credential helper, or use an SSH key"
        raise Terminal("the repository's address carries a password", hint=hint)
    if _REMOTE.fullmatch(url) and not url.startswith("file://"):
        return url, None
    folder = Path(url.removeprefix("file://")).absolute()
    if "://" in url.removeprefix("file://") or not folder.is_dir():
        hint = "give an HTTPS or SSH address, or the path of a Git repository"
        raise Terminal(f"{url!r} is no repository that can be mirrored", hint=hint)
    return str(folder.resolve()), folder


def _refuse_shallow(folder: Path) -> None:
    git_dir = folder / ".git" if (folder / ".git").exists() else folder
    if git_dir.is_file():  # a linked worktree or a submodule names its repository in a file
        git_dir = folder / git_dir.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
    if GitCommand(git_dir).run("rev-parse", "--is-shallow-repository").text == "true":
        hint = f"run: git -C {folder} fetch --unshallow"
        raise Terminal("the repository is a shallow clone; history is needed", where=str(folder), hint=hint)
