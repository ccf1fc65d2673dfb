"""Git in memory: a commit is a mapping of paths to bytes, and main a chain of first parents.

Object ids are Git's own for blobs and trees, so that keys are what they would be in a real repository.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from reconciler.adapters.folder_source import tree_id
from reconciler.core.errors import Terminal
from reconciler.ports import Blob, Commit

Files = Mapping[str, bytes]
Changes = Mapping[str, str | None]
"""Path -> new content; None deletes the file."""


class Stored(NamedTuple):
    """A commit with its files, as contents and as blobs."""

    commit: Commit
    files: Files
    blobs: Mapping[str, Blob]


class MemoryRepository:
    """Commits by id, the contents of blobs, and where main is. Implements the Source port."""

    def __init__(self) -> None:
        self.commits: dict[str, Stored] = {}
        self.contents: dict[str, bytes] = {}
        self.main = ""

    # --- writing ------------------------------------------------------------------------------------------

    def commit(
        self,
        changes: Changes,
        *,
        at: datetime,
        author: str,
        subject: str,
        onto: str | None = None,
        merging: str = "",
    ) -> str:
        """A commit on ``onto``, or on main, which then moves; ``merging`` is its second parent."""
        parent = self.main if onto is None else onto
        before = self.commits[parent] if parent else None
        files = dict(before.files) if before else {}
        blobs = dict(before.blobs) if before else {}
        for path, text in changes.items():
            files.pop(path, None)
            blobs.pop(path, None)
            if text is not None:
                content = text.encode()
                oid = _oid(b"blob %d\0" % len(content) + content)
                files[path], blobs[path], self.contents[oid] = content, Blob("100644", oid), content
        listing = "".join(f"{path}\0{blobs[path].oid}\n" for path in sorted(blobs))
        oid = _oid(f"{listing}{parent} {merging}\n{author}\n{at.isoformat()}\n{subject}".encode())
        made = Commit(oid=oid, parent=parent, at=at, author=author, subject=subject)
        self.commits[oid] = Stored(made, files, blobs)
        if onto is None:
            self.main = oid
        return oid

    def changed(self, commit: str, since: str) -> dict[str, str | None]:
        """What turns the files of ``since`` into those of ``commit``."""
        old, new = self.commits[since].files, self.commits[commit].files
        paths = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        return {path: new[path].decode() if path in new else None for path in paths}

    def on_main(self, oid: str) -> bool:
        return any(commit.oid == oid for commit in self._main())

    def text(self, path: str, commit: str = "") -> str:
        return self.commits[commit or self.main].files[path].decode()

    # --- the port -----------------------------------------------------------------------------------------

    def head(self) -> str:
        return self.main

    def resolve(self, revision: str) -> str:
        if revision == "main":
            return self.main
        found = [oid for oid in self.commits if oid.startswith(revision)]
        if len(found) != 1:
            raise Terminal(f"{revision!r} is not in the repository")
        return found[0]

    def files(self, commit: str) -> Mapping[str, Blob]:
        return self._stored(commit).blobs

    def tree(self, commit: str, path: str) -> str:
        prefix = f"{path}/"
        below = {
            name.removeprefix(prefix): blob
            for name, blob in self._stored(commit).blobs.items()
            if name.startswith(prefix)
        }
        return tree_id(below) if below else ""

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        wanted = list(oids)
        for oid in wanted:
            if oid not in self.contents:
                raise Terminal(f"blob {oid} is not in the repository")
        return {oid: self.contents[oid] for oid in wanted}

    def log(self, path: str) -> tuple[Commit, ...]:
        def at(oid: str) -> dict[str, Blob]:
            blobs = self.commits[oid].blobs if oid else {}
            return {name: blob for name, blob in blobs.items() if name == path or name.startswith(f"{path}/")}

        return tuple(commit for commit in self._main() if at(commit.oid) != at(commit.parent))

    def checkout(self, commit: str, destination: Path) -> None:
        if not self.on_main(commit):
            raise Terminal(f"commit {commit} is not on the default branch")
        for path, content in self._stored(commit).files.items():
            (destination / path).parent.mkdir(parents=True, exist_ok=True)
            (destination / path).write_bytes(content)

    def _stored(self, commit: str) -> Stored:
        if commit not in self.commits:
            raise Terminal(f"commit {commit} is not in the repository")
        return self.commits[commit]

    def _main(self) -> Iterator[Commit]:
        oid = self.main
        while oid:
            commit = self.commits[oid].commit
            yield commit
            oid = commit.parent


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
