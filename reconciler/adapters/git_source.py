"""The repository's history, read from a bare mirror: the port ``Source`` for every kind of remote.

Nothing is ever read from a working tree, and no filter, hook or attribute of the repository is run.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from reconciler.adapters.git_command import commit_id, is_ref_name, repository_path
from reconciler.adapters.mirror import Credentials, Mirror
from reconciler.core.errors import Terminal
from reconciler.ports import Blob, Commit

_SUBMODULE, _SYMLINK, _EXECUTABLE, _TREE = "160000", "120000", "100755", "040000"
_CACHE_BYTES = 64 << 20


class _Listing(NamedTuple):
    """What one commit holds: path -> blob, and path -> id of the tree."""

    files: Mapping[str, Blob]
    trees: Mapping[str, str]


class GitSource:
    """``Source`` over a mirror of ``url`` in ``cache/mirrors``.

    The arguments are :class:`~reconciler.adapters.mirror.Mirror`'s. What no commit can change (its files, a
    blob) is kept in memory, within bounds.
    """

    def __init__(
        self, url: str, cache: Path, branch: str | None = None, credentials: Credentials | None = None
    ) -> None:
        self._mirror = Mirror(url, cache, branch, credentials)
        self._url, self._main = self._mirror.url, self._mirror.main
        self._listed = lru_cache(maxsize=16)(self._list)
        self._blobs: dict[str, bytes] = {}
        self._kept = 0

    def head(self) -> str:
        found = self._mirror.fetch().objects([f"{self._main}^{{commit}}"], contents=False)[0]
        if found is None:
            raise Terminal(f"there is no branch {self._main}", where=self._url, hint="push it, or name another")
        return found.oid

    def resolve(self, revision: str) -> str:
        names = [revision] if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", revision) else []
        if is_ref_name(revision):
            names += [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        if re.fullmatch(r"[0-9a-f]{4,64}", revision):
            names.append(revision)
        found = self._mirror.git().objects([f"{name}^{{commit}}" for name in names], contents=False)
        for thing in found:
            if thing is not None:
                return thing.oid
        hint = "name a branch, a tag or a commit id that was pushed"
        raise Terminal(f"{revision!r} is not in the repository", where=self._url, hint=hint)

    def files(self, commit: str) -> Mapping[str, Blob]:
        return self._listed(commit_id(commit)).files

    def tree(self, commit: str, path: str) -> str:
        return self._listed(commit_id(commit)).trees.get(repository_path(path) if path else "", "")

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        wanted = list(dict.fromkeys(commit_id(oid) for oid in oids))
        known = {oid: data for oid in wanted if (data := self._blobs.get(oid)) is not None}
        missing = [oid for oid in wanted if oid not in known]
        for oid, found in zip(missing, self._mirror.git().objects(missing), strict=True):
            if found is None or found.kind != "blob":
                raise Terminal(f"blob {oid} is not in the repository", where=self._url)
            known[oid] = found.data
            self._keep(oid, found.data)
        return known

    def log(self, path: str) -> tuple[Commit, ...]:
        shown = ("--no-commit-header", "--format=%H%x00%P%x00%ct%x00%an%x00%s")
        path = repository_path(path)
        answer = self._mirror.git().run("rev-list", "--first-parent", *shown, self._main, "--", path)
        return tuple(_commit(line) for line in answer.out.decode(errors="replace").split("\n") if line)

    def checkout(self, commit: str, destination: Path) -> None:
        """See the port. Exactly the committed bytes; submodules are left out, as in a plain clone.

        A symlink that leads out of the folder refuses it all. The folder appears complete or not at all.
        """
        if not self._mirror.git().contains(self._main, commit_id(commit)):
            hint = "merge it first: only commits of the default branch are run"
            raise Terminal(f"commit {commit} is not on the default branch", where=self._url, hint=hint)
        files = self.files(commit)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as scratch:
            folder = Path(scratch) / "files"
            folder.mkdir()
            try:
                self._write(files, folder)
                folder.rename(destination)
            except OSError as error:
                hint = "name a folder that is not there yet, on a disk with room"
                raise Terminal(error.strerror or str(error), where=str(destination), hint=hint) from error

    # --- files --------------------------------------------------------------------------------------------

    def _list(self, commit: str) -> _Listing:
        """One Git call. Paths that are not UTF-8 carry surrogates; submodules are no files."""
        out = self._mirror.git().run("ls-tree", "-r", "-t", "-z", "--full-tree", commit).out
        files, trees = {}, {}
        for entry in out.split(b"\0")[:-1]:
            about, path = entry.split(b"\t", 1)
            mode, _, oid = about.decode().split(" ")
            if mode == _TREE:
                trees[os.fsdecode(path)] = oid
            elif mode != _SUBMODULE:
                files[os.fsdecode(path)] = Blob(mode, oid)
        return _Listing(MappingProxyType(files), trees)

    def _write(self, files: Mapping[str, Blob], folder: Path) -> None:
        """Plain files first and links last, so that nothing is ever written through a link."""
        found = zip(files.items(), self._mirror.git().objects(blob.oid for blob in files.values()), strict=True)
        links = []
        for (path, blob), thing in found:
            if thing is None or {part.lower() for part in path.split("/")} & {"", ".", "..", ".git"}:
                raise Terminal(f"{path!r} cannot be written", where=self._url, hint="remove it from Git")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if blob.mode == _SYMLINK:
                links.append((target, os.fsdecode(thing.data)))
                continue
            target.write_bytes(thing.data)
            if blob.mode == _EXECUTABLE:
                target.chmod(0o755)
        for link, to in links:
            link.symlink_to(to)
        root = folder.resolve()
        for link, to in links:
            if Path(to).is_absolute() or not Path(os.path.realpath(link)).is_relative_to(root):
                what = f"the symlink {link.relative_to(folder)} leaves the repository"
                raise Terminal(what, where=self._url, hint="commit a file instead")

    def _keep(self, oid: str, data: bytes) -> None:
        if self._kept + len(data) > _CACHE_BYTES:
            self._blobs, self._kept = {}, 0
        if len(data) <= _CACHE_BYTES // 8:
            self._blobs[oid] = data
            self._kept += len(data)


def _commit(line: str) -> Commit:
    oid, parents, at, author, subject = line.split("\0", 4)
    return Commit(
        oid=oid,
        parent=parents.split(" ", 1)[0],
        at=datetime.fromtimestamp(int(at), UTC),
        author=author,
        subject=subject,
    )
