"""The one place that runs Git: on one bare repository, without a shell, with arguments that cannot be options.

:mod:`reconciler.adapters.mirror` and :mod:`reconciler.adapters.embedded.forge` call it. Only plumbing
commands are used, so that a person's aliases, hooks, filters and log settings change nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from reconciler.core.base import RelativePath
from reconciler.core.errors import Retryable, Terminal, TrueupError

_SETTINGS = ("core.hooksPath=/dev/null", "gc.autoDetach=false", "maintenance.autoDetach=false")
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|/\.|\.lock(?:/|$)|[./]$))[A-Za-z0-9_][A-Za-z0-9_./+#-]{0,199}")
_PATH: TypeAdapter[str] = TypeAdapter(RelativePath)


class LostRace(Retryable):
    """A ref was not what the caller had seen, or another process had it locked. Nothing was changed."""


class Answer(NamedTuple):
    code: int
    out: bytes

    @property
    def text(self) -> str:
        """Bytes that are not UTF-8 (in paths and names) survive as surrogates."""
        return self.out.decode(errors="surrogateescape").strip("\n")


class Object(NamedTuple):
    oid: str
    kind: str
    data: bytes


class Identity(NamedTuple):
    """Whom a commit names."""

    name: str
    email: str

    @classmethod
    def parse(cls, text: str) -> Identity:
        """``NAME`` or ``NAME <EMAIL>``."""
        match = re.fullmatch(r"\s*([^<>\n\0]*[^<>\s\0])\s*(?:<([^<>\s\0]*)>)?\s*", text)
        if match is None:
            hint = "run: git config --global user.name NAME"
            raise Terminal(f"{text!r} names nobody", where="git config user.name", hint=hint)
        return cls(match[1].strip(), match[2] or "")


class Change(NamedTuple):
    """A commit's parents, its author and committer, and when it was committed."""

    parents: tuple[str, ...]
    people: frozenset[Identity]
    committer: str
    at: datetime


class Swap(NamedTuple):
    """A ref from ``old`` to ``new``; empty means that the ref is not there. Equal values only verify."""

    ref: str
    old: str
    new: str


def commit_id(text: str) -> str:
    """``text`` if it is a full object id, else Terminal."""
    if _OID.fullmatch(text):
        return text
    raise Terminal(f"{text!r} is not a commit id", hint="give all of its hexadecimal digits")


def is_ref_name(text: str) -> bool:
    """Whether ``text`` can only be a branch or tag name: never an option, a range or a path."""
    return _BRANCH.fullmatch(text) is not None


def branch_name(text: str) -> str:
    if is_ref_name(text):
        return text
    raise Terminal(f"{text!r} is not a branch name trueup accepts", hint="use letters, digits and . _ / + # -")


def repository_path(text: str) -> str:
    """``text`` if it is a plain path inside a repository, else Terminal."""
    try:
        return _PATH.validate_python(text)
    except ValidationError:
        hint = "use letters, digits, and . _ / - without .. or a leading slash"
        raise Terminal(f"{text!r} is not a path inside the repository", hint=hint) from None


class GitCommand:
    """Runs Git on the repository at ``git_dir``, each command for ``timeout`` seconds at most."""

    def __init__(self, git_dir: Path, *, timeout: float = 600.0) -> None:
        self.git_dir = git_dir
        self._timeout = timeout

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        accept: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
        failure: type[TrueupError] = Terminal,
        hint: str = "",
        pass_fds: Sequence[int] = (),
        settings: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Answer:
        """Exit code and output; an exit code outside ``accept`` raises ``failure`` with Git's own last line.

        Git gets a session of its own: no prompt can reach the terminal, and what kills this process does not
        kill Git in the middle of a write. ``pass_fds`` stay open for as long as it runs. ``settings`` are Git's
        configuration for this run; ``secrets`` too, after them, by way of the environment: a process list
        shows only their names.
        """
        try:
            import git
        except ImportError as error:  # GitPython looks for the program when it is imported
            raise Terminal("Git was not found", hint="install Git 2.38 or newer") from error

        hidden = {f"TRUEUP_SETTING_{n}": value for n, value in enumerate((secrets or {}).values())}
        configured = [*_SETTINGS, *(f"{name}={value}" for name, value in (settings or {}).items())]
        options = [part for setting in configured for part in ("-c", setting)]
        options += [f"--config-env={name}={place}" for name, place in zip(secrets or {}, hidden, strict=True)]
        command = ["git", *options, f"--git-dir={self.git_dir}", *arguments]
        try:
            process = git.Git().execute(
                command,
                as_process=True,
                istream=subprocess.PIPE,
                env=_ENVIRONMENT | dict(env or {}) | hidden,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        except git.GitCommandNotFound as error:
            raise Terminal("Git was not found", hint="install Git 2.38 or newer") from error
        try:
            out, err = process.communicate(stdin, timeout=self._timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # on which Git removes its lock files
            process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise Retryable(f"git {arguments[0]} did not end in {self._timeout:g} seconds", hint=hint) from None
        if process.returncode in accept:
            return Answer(process.returncode, out)
        said = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
        what = said[-1] if said else f"exit code {process.returncode}"
        raise failure(what, where=f"git {arguments[0]}", hint=hint)

    def refs(self, *patterns: str) -> tuple[dict[str, str], str]:
        """Ref name -> object id below these prefixes, and the ref HEAD points at, empty if it is unborn."""
        answer = self.run("for-each-ref", "--format=%(HEAD)%(objectname) %(refname)", "--", *patterns)
        refs, head = {}, ""
        for line in answer.text.splitlines():
            oid, name = line[1:].split(" ", 1)
            refs[name] = oid
            head = name if line[0] == "*" else head
        return refs, head

    def objects(self, names: Iterable[str], *, contents: bool = True) -> list[Object | None]:
        """What these object names mean, in their order, None where there is nothing. One process however many.

        Names must come from allow-listed parts: ids, refs, ``COMMIT:PATH``.
        """
        asked = list(names)
        if not asked:
            return []
        how = "--batch" if contents else "--batch-check"
        out = self.run("cat-file", how, stdin="".join(f"{name}\n" for name in asked).encode()).out
        found: list[Object | None] = []
        at = 0
        for _ in asked:
            end = out.index(b"\n", at)
            header, at = out[at:end], end + 1
            if header.endswith((b" missing", b" ambiguous")):
                found.append(None)
                continue
            oid, kind, size = header.decode().split(" ")
            data = out[at : at + int(size)] if contents else b""
            at += int(size) + 1 if contents else 0
            found.append(Object(oid, kind, data))
        return found

    def contains(self, commit: str, ancestor: str) -> bool:
        """Whether ``ancestor`` is ``commit`` or one of its ancestors. False for an unknown id."""
        return self.run("merge-base", "--is-ancestor", ancestor, commit, accept=(0, 1, 128)).code == 0

    def swap(self, swaps: Iterable[Swap]) -> None:
        """All of these ref changes or, with :class:`LostRace`, none (git-update-ref's transaction)."""
        lines = []
        for ref, old, new in swaps:
            if old == new:
                lines.append(f"verify {ref} {old}")
            elif not old:
                lines.append(f"create {ref} {new}")
            else:
                lines.append(f"update {ref} {new} {old}" if new else f"delete {ref} {old}")
        hint = "if no Git process runs, remove the .lock file that Git names"
        self.run("update-ref", "--stdin", stdin="\n".join([*lines, ""]).encode(), failure=LostRace, hint=hint)

    def commits(self, revisions: str, *options: str) -> dict[str, Change]:
        """What git-rev-list shows for these lines of revisions, by id, newest first."""
        shown = "--format=%H%x00%P%x00%an%x00%ae%x00%cn%x00%ce%x00%ct"
        command = ("rev-list", "--no-commit-header", shown, *options, "--stdin")
        lines = self.run(*command, stdin=revisions.encode()).out.decode(errors="replace").split("\n")
        found = {}
        for oid, parents, author, author_email, name, email, at in (line.split("\0") for line in lines if line):
            people = frozenset({Identity(author, author_email), Identity(name, email)})
            found[oid] = Change(tuple(parents.split()), people, name, datetime.fromtimestamp(int(at), UTC))
        return found

    def commit(
        self, parent: str, files: Mapping[str, str | None], message: str, who: Identity, at: datetime
    ) -> str:
        """The id of a new commit on ``parent``, or of a first one: path -> text, None deletes.

        One git-fast-import that sets its ref back, so that only objects are left.
        """
        stream = [
            b"commit refs/trueup/new\nmark :1\n",
            f"committer {who.name} <{who.email}> {int(at.timestamp())} +0000\n".encode(),
            _data(message),
            f"from {commit_id(parent)}\n".encode() if parent else b"",
        ]
        for path, text in files.items():
            place = repository_path(path)
            stream += (
                [f"D {place}\n".encode()]
                if text is None
                else [f"M 100644 inline {place}\n".encode(), _data(text)]
            )
        stream.append(b"get-mark :1\nreset refs/trueup/new\n\ndone\n")
        return self.run("fast-import", "--quiet", "--done", stdin=b"".join(stream)).text

    def merged_tree(self, base: str, head: str, env: Mapping[str, str] | None = None) -> str:
        """The tree of a merge; empty for a conflict (exit code 1) and for unrelated histories (128)."""
        command = ("merge-tree", "--write-tree", "--no-messages", commit_id(base), commit_id(head))
        answer = self.run(*command, accept=(0, 1, 128), env=env, hint="install Git 2.38 or newer")
        return answer.text if answer.code == 0 else ""

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, who: Identity, at: datetime) -> str:
        date = f"{int(at.timestamp())} +0000"
        author = {"GIT_AUTHOR_NAME": who.name, "GIT_AUTHOR_EMAIL": who.email, "GIT_AUTHOR_DATE": date}
        committer = {name.replace("AUTHOR", "COMMITTER"): value for name, value in author.items()}
        options = [part for parent in parents for part in ("-p", commit_id(parent))]
        return self.run("commit-tree", *options, tree, stdin=message.encode(), env=author | committer).text


def _data(text: str) -> bytes:
    content = text.encode()
    return b"data %d\n%s\n" % (len(content), content)
