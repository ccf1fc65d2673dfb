"""What the reconciler needs of the outside, as small protocols; reads apart from writes.

An adapter decides nothing. It raises :class:`reconciler.core.errors.Retryable` or ``Terminal`` and no other
exception for what can be expected to go wrong. "Already there" is success and is returned, not raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from reconciler.core.base import Frozen
from reconciler.core.documents import Environment
from reconciler.core.finding import Finding
from reconciler.core.observed import (
    Check,
    ClusterSweep,
    EngineSweep,
    ForgeSweep,
    Marker,
    PullRequest,
    RegistryRun,
    RegistrySweep,
    WorkflowRun,
)
from reconciler.core.plan import FileChange, Message


class Blob(NamedTuple):
    """One file of a commit: Git mode (``100644``, ``120000`` for a symlink) and object id."""

    mode: str
    oid: str


class Commit(Frozen):
    """A commit on the default branch. ``at`` is the committer's date in UTC."""

    oid: str
    parent: str = ""
    at: datetime
    author: str = ""
    subject: str = ""


class Source(Protocol):
    """Git, read only. Nothing is read from a working tree."""

    def head(self) -> str:
        """Fetch, then the commit id of the default branch. Refuses shallow clones with a hint."""

    def resolve(self, revision: str) -> str:
        """The commit id of a branch, tag or abbreviated id. Terminal if there is none."""

    def files(self, commit: str) -> Mapping[str, Blob]:
        """Every file at ``commit`` by path. One Git call."""

    def tree(self, commit: str, path: str) -> str:
        """The id of the tree at ``path``, or an empty string."""

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        """The contents of these blobs. One Git call however many."""

    def log(self, path: str) -> tuple[Commit, ...]:
        """The commits along the default branch's first parents that changed ``path``, newest first."""

    def checkout(self, commit: str, destination: Path) -> None:
        """Write the files of ``commit`` to a new folder. Only commits of the default branch."""


class RegistryReader(Protocol):
    def sweep(self) -> RegistrySweep:
        """Names, aliases, versions and our tags: ceil(N/1000) + ceil(V/10000) calls."""

    def evidence(self, uri: str) -> bytes:
        """The bytes at an evidence URI. The caller checks them against the mark's sha256."""

    def runs(self, name: str) -> tuple[RegistryRun, ...]:
        """Our runs about one registered name that are not deleted: 1 + ceil(R/1000) calls."""


class Kept(Protocol):
    """Bytes by their SHA-256, from one process to the next. The caller checks what it gets."""

    def get(self, sha256: str) -> bytes | None: ...

    def put(self, sha256: str, content: bytes) -> None: ...


class RegistryWriter(Protocol):
    def set_tag(self, name: str, version: str, tag: str, value: str) -> None: ...

    def set_alias(self, name: str, alias: str, version: str) -> None: ...

    def delete_alias(self, name: str, alias: str) -> None: ...

    def log(self, name: str, tag: str, value: str) -> None:
        """A tag on the registered model itself, which outlives its versions."""

    def delete_version(self, name: str, version: str) -> None:
        """For ever, with the aliases that name it. Gone already is success."""

    def delete_run(self, run: str) -> None:
        """With all it holds, as far as the store deletes at once. Gone already is success."""


class EngineReader(Protocol):
    def sweep(self) -> EngineSweep:
        """Every run that carries our label, running or finished, in one paged call."""

    def run(self, name: str) -> WorkflowRun:
        """One run as it is now. Terminal if unknown."""

    def logs(self, name: str, *, latest: bool = False) -> Iterable[tuple[str, str]]:
        """(task, text) of what a run printed so far, in the order of its tasks. Terminal if unknown.

        ``latest``: of the tasks that go on now alone, the end of it: what is enough to see how far they are.
        """


class EngineWriter(Protocol):
    def submit(
        self,
        *,
        name: str,
        template: str,
        commit: str,
        parameters: Mapping[str, str],
        labels: Mapping[str, str],
        deadline: int,
        priority: int = 0,
        reason: str = "",
        asked_by: str = "",
        parallelism: int | None = None,
    ) -> bool:
        """Start a run that ends after ``deadline`` seconds at the latest. Never waits.

        No more than ``parallelism`` of its tasks run at once; None leaves that to the template and the engine.

        Of runs that have to wait for a place, those with a higher ``priority`` go first, where the engine can.
        ``reason``, and the person who asked for it where one did, are kept with the run.

        False if a run of this name is already there, which is success.
        """

    def stop(self, name: str, *, reason: str, by: str = "") -> None:
        """End a run; it becomes Failed. Finished or gone already is success.

        ``reason``, and the person who ended it where one did, are kept with the run, and before it ends: of
        two who end it, the first counts. A run that succeeded all the same was not stopped.
        """

    def delete(self, name: str) -> None:
        """Forget a finished run. Gone already is success; Terminal while it runs."""


class ForgeReader(Protocol):
    def sweep(self) -> ForgeSweep:
        """Every open pull request, as far as O(1) list calls tell."""

    def closed(self, branch: str) -> tuple[PullRequest, ...]:
        """The closed and merged pull requests of one head branch, newest first."""

    def merged(self) -> Mapping[str, int]:
        """Merge commit id -> number, of every merged pull request."""

    def get(self, number: int) -> PullRequest:
        """One pull request, open or not, complete: approvals, checks, whose commits, mergeability.

        Terminal if there is none.
        """

    def difference(self, number: int) -> str:
        """What it changes, as a unified diff without evidence files. Terminal if there is none."""


class ForgeWriter(Protocol):
    """Our own pull requests. ``head`` is always a lock: another head raises Retryable and changes nothing."""

    def open(
        self,
        *,
        branch: str,
        base: str,
        title: str,
        body: str,
        files: tuple[FileChange, ...],
        draft: bool,
        labels: tuple[str, ...],
        reviewers: tuple[str, ...] = (),
    ) -> int:
        """Commit on ``base``, move ``branch`` there, open a pull request; or adopt the open one. Its number."""

    def update(
        self,
        number: int,
        *,
        head: str,
        base: str,
        title: str,
        body: str,
        files: tuple[FileChange, ...],
        draft: bool,
        labels: tuple[str, ...],
    ) -> None:
        """Rebuild the branch on ``base`` and replace title and body."""

    def merge(self, number: int, *, head: str, message: str) -> str:
        """A real merge commit of exactly ``head``; its id. Already merged at this head is success."""

    def ready(self, number: int, *, head: str) -> None:
        """Take the draft mark off; the head stays, and so do its approvals."""

    def publish(self, number: int, *, head: str, checks: tuple[Check, ...]) -> None:
        """Show these checks at ``head``; what else is shown there stays. Nothing where a forge shows none."""

    def close(self, number: int, *, reason: str) -> None:
        """Comment with the reason, close, and delete our branch. Closed already is success."""

    def comment(self, number: int, text: str) -> None: ...

    def keep_comment(self, number: int, text: str, *, mark: str) -> bool:
        """One comment of ours that ends with the line ``mark``: written, or changed to ``text`` above it.

        False, and nothing is written, where it says that already.
        """


class ForgePerson(Protocol):
    """What the person at the terminal does on the forge, as themselves."""

    def open_as_person(self, branch: str, title: str, body: str) -> int:
        """A pull request for a branch that was pushed already; its number."""

    def propose_as_person(
        self, *, branch: str, base: str, title: str, body: str, files: tuple[FileChange, ...]
    ) -> int:
        """Commit on ``base`` as them, move ``branch`` there, open a pull request; or adopt the open one.

        No checkout is touched. A branch of trueup's, or with commits of somebody else's, is refused.
        """

    def approve(self, number: int) -> str:
        """Approve the current head; the head's commit id."""

    def merge_as_person(self, number: int) -> str: ...

    def close_as_person(self, number: int, reason: str) -> None: ...


class ClusterReader(Protocol):
    def sweep(self) -> ClusterSweep:
        """Everything that carries our label, in every namespace the platform names."""

    def logs(self, environment: str, model: str) -> str: ...


class ClusterWriter(Protocol):
    def apply(self, *, environment: str, model: str, namespace: str, manifests: Mapping[str, str]) -> bool:
        """Server-side apply of one subject's objects; False if nothing changed. Never waits for health."""

    def prune(self, *, environment: str, model: str, namespace: str, objects: tuple[str, ...]) -> None:
        """Delete these KIND/NAME objects, each only if it carries our label for this subject."""


class Notifier(Protocol):
    def send(self, message: Message, *, key: str) -> None:
        """Once, to the people behind it. After a Retryable they may have it or not.

        The same message has the same ``key`` when it is sent again, so that a receiver can tell.
        """


class Lease(Protocol):
    def hold(self) -> AbstractContextManager[None]:
        """Keep other reconcilers of the same repository out. Retryable if another one has it."""


@runtime_checkable
class Diagnosed(Protocol):
    """An adapter that knows more of its system than a read tells, for `reconcile doctor`."""

    def diagnose(self, environments: Sequence[Environment], /) -> Iterator[Finding]:
        """What is missing there for these environments, rights above all. Reads only."""


class Readers(NamedTuple):
    """Everything a dry run needs: nothing here can write."""

    source: Source
    registries: Mapping[str, RegistryReader]
    engine: EngineReader
    forge: ForgeReader
    clusters: Mapping[str, ClusterReader]


class Writers(NamedTuple):
    registries: Mapping[str, RegistryWriter]
    engine: EngineWriter
    forge: ForgeWriter
    clusters: Mapping[str, ClusterWriter]
    notifiers: Mapping[str, Notifier]
    lease: Lease


__all__ = [
    "Blob",
    "ClusterReader",
    "ClusterWriter",
    "Commit",
    "Diagnosed",
    "EngineReader",
    "EngineWriter",
    "ForgePerson",
    "ForgeReader",
    "ForgeWriter",
    "Kept",
    "Lease",
    "Marker",
    "Notifier",
    "Readers",
    "RegistryReader",
    "RegistryWriter",
    "Source",
    "Writers",
]
