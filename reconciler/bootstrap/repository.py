"""The GitOps repository that a command works on: its clone, what Git says there, and who works in it.

Git runs as the person does, with their settings; what is fetched goes another way (:mod:`.sources`).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from reconciler.core.errors import Terminal


class Repository(NamedTuple):
    """A GitOps repository, the clone of it if there is one, and who works in it, as ``NAME <EMAIL>``.

    Empty is what is not set.
    """

    clone: Path | None
    origin: str
    person: str

    @property
    def root(self) -> Path:
        """The clone's folder. Terminal without one."""
        if self.clone is None:
            raise Terminal(
                "needs a clone, and this names only an address",
                where="TRUEUP_REPOSITORY",
                hint="run it in a clone, with TRUEUP_REPOSITORY unset",
            )
        return self.clone

    @property
    def name(self) -> str:
        """The person, as pull requests name them."""
        return self.person.partition(" <")[0]

    @property
    def home(self) -> Path:
        """State of the embedded stack. Deleting it deletes its registry, runs and servers."""
        chosen = os.environ.get("TRUEUP_HOME")
        if not chosen and self.clone is None:
            raise Terminal(
                "without a clone there is no place for the embedded stack's state",
                where="TRUEUP_REPOSITORY",
                hint="set TRUEUP_HOME to a folder that stays",
            )
        return Path(chosen or self.root / ".trueup").absolute()

    def commit(self, revision: str) -> str:
        """What this clone calls ``revision``, as a commit id; empty if it does not know it."""
        asked = f"{revision}^{{commit}}"
        return _git(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", asked)

    @property
    def branch(self) -> str:
        """The branch that is checked out; empty on none."""
        return _git(self.root, "branch", "--show-current")

    def subject(self, revision: str) -> str:
        """The first line of a commit's message."""
        return _git(self.root, "log", "-1", "--format=%s", "--end-of-options", revision)

    def is_behind(self, base: str, head: str) -> bool:
        """Whether ``head`` does not contain ``base``. Not known, and so False, if this clone lacks ``head``."""
        command = ["git", "merge-base", "--is-ancestor", base, head]
        contains = subprocess.run(command, cwd=self.root, capture_output=True, check=False).returncode == 0
        return not contains and bool(self.commit(head))


def open_repository(start: Path) -> Repository:
    """The repository around ``start``, or the one that ``TRUEUP_REPOSITORY`` names. Terminal without any."""
    start = start.resolve()
    chosen = os.environ.get("TRUEUP_REPOSITORY")
    if chosen:
        return Repository(None, chosen, _person(start))
    root = _git(start, "rev-parse", "--show-toplevel")
    if not root:
        raise Terminal(
            "is not inside a Git repository",
            where=str(start),
            hint="cd to your GitOps repository, or write a new one: reconcile init DIRECTORY --example",
        )
    origin = _git(start, "remote", "get-url", "origin")
    if origin.startswith("."):
        origin = str((Path(root) / origin).resolve())
    return Repository(Path(root), origin, _person(start))


def _person(start: Path) -> str:
    name, email = _git(start, "config", "user.name"), _git(start, "config", "user.email")
    return f"{name} <{email}>" if name and email else name


def _git(folder: Path, *arguments: str) -> str:
    """One line of Git's answer, or nothing where it has none."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if not folder.is_dir():
            raise Terminal("is not a folder", where=str(folder)) from error
        raise Terminal("Git was not found", hint="install Git 2.38 or newer") from error
    return done.stdout.strip() if done.returncode == 0 else ""
