"""The repository's history, read from a bare mirror: the port ``Source`` for every kind of remote.

The mirror holds full history and every pull request's head. It is a cache: whoever deletes it loses time only.
Nothing is ever read from a working tree, and no filter, hook or attribute of the repository is run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from reconciler.adapters.git_command import GitCommand, branch_name, commit_id, is_ref_name, repository_path
from reconciler.core.errors import Retryable, Terminal
from reconciler.ports import Blob, Commit

_MIRRORED = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/pull/*/head:refs/pull/*/head")
_REMOTE = re.compile(r"(?:https?|ssh|file)://\S+|(?:[\w.-]+@)?\w[\w.-]*:(?:[\w.~]|/(?!/))\S*")
_PASSWORD = re.compile(r"[a-z]+://[^/@\s]*:[^/@\s]*@")
_SUBMODULE, _SYMLINK, _EXECUTABLE, _TREE = "160000", "120000", "100755", "040000"
_DETACHED = "refs/trueup/head"
_CACHE_BYTES = 64 << 20
_OFFLINE = "check the network, the address and the credentials that Git uses"


class _Listing(NamedTuple):
    """What one commit holds: path -> blob, and path -> id of the tree."""

    files: Mapping[str, Blob]
    trees: Mapping[str, str]


class GitSource:
    """``Source`` over a mirror of ``url`` in ``cache/mirrors``.

    ``url`` is HTTPS, SSH or a local path; ``branch`` the default branch, if not the one that the remote's HEAD
    names. A remote that cannot be reached raises Retryable; a shallow clone raises Terminal, because it cannot
    tell the history of a pin. What no commit can change (its files, a blob) is kept in memory, within bounds.
    """

    def __init__(self, url: str, cache: Path, branch: str | None = None) -> None:
        self._url, self._local = _remote(url)
        self._mirror = cache / "mirrors" / hashlib.sha256(self._url.encode()).hexdigest()[:16]
        self._git = GitCommand(self._mirror)
        self._main = f"refs/heads/{branch_name(branch)}" if branch else "HEAD"
        self._listed = lru_cache(maxsize=16)(self._list)
        self._blobs: dict[str, bytes] = {}
        self._kept = 0

    def head(self) -> str:
        with self._locked() as lock:
            self._fetch(lock)
        found = self._git.objects([f"{self._main}^{{commit}}"], contents=False)[0]
        if found is None:
            raise Terminal(f"there is no branch {self._main}", where=self._url, hint="push it, or name another")
        return found.oid

    def resolve(self, revision: str) -> str:
        names = [revision] if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", revision) else []
        if is_ref_name(revision):
            names += [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        if re.fullmatch(r"[0-9a-f]{4,64}", revision):
            names.append(revision)
        found = self._reader().objects([f"{name}^{{commit}}" for name in names], contents=False)
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
        for oid, found in zip(missing, self._reader().objects(missing), strict=True):
            if found is None or found.kind != "blob":
                raise Terminal(f"blob {oid} is not in the repository", where=self._url)
            known[oid] = found.data
            self._keep(oid, found.data)
        return known

    def log(self, path: str) -> tuple[Commit, ...]:
        shown = ("--no-commit-header", "--format=%H%x00%P%x00%ct%x00%an%x00%s")
        path = repository_path(path)
        answer = self._reader().run("rev-list", "--first-parent", *shown, self._main, "--", path)
        return tuple(_commit(line) for line in answer.out.decode(errors="replace").split("\n") if line)

    def checkout(self, commit: str, destination: Path) -> None:
        """See the port. Exactly the committed bytes; submodules are left out, as in a plain clone.

        A symlink that leads out of the folder refuses it all. The folder appears complete or not at all.
        """
        if not self._reader().contains(self._main, commit_id(commit)):
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

    # --- the mirror ---------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """One process at a time in this mirror. Git inherits the lock, so one that outlives us keeps it."""
        self._mirror.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._mirror.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    @property
    def _unfinished(self) -> Path:
        """Beside the mirror while it is made or fetched into; a process that was killed leaves it behind."""
        return self._mirror.with_suffix(".unfinished")

    def _fetch(self, lock: int) -> None:
        if self._local is not None:
            _refuse_shallow(self._local)
        if self._unfinished.exists():
            shutil.rmtree(self._mirror, ignore_errors=True)
        self._unfinished.touch()
        new = not self._mirror.exists()
        try:
            if new:
                self._git.run("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
            main, extra = self._default_branch(lock)
            how = ("--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
            self._ask(lock, "fetch", *how, "--end-of-options", self._url, *_MIRRORED, *extra)
            if (self._mirror / "shallow").exists():
                hint = "name one with full history"
                raise Terminal("the repository is a shallow clone", where=self._url, hint=hint)
            if main:
                self._git.run("symbolic-ref", "HEAD", main)
        except BaseException:
            if new:
                shutil.rmtree(self._mirror, ignore_errors=True)
            self._unfinished.unlink()
            raise
        self._unfinished.unlink()

    def _default_branch(self, lock: int) -> tuple[str, tuple[str, ...]]:
        """The ref that the mirror's HEAD is to name, if it matters, and what must be fetched for it.

        A clone that stands at a commit, as continuous integration checks it out, has that commit for a branch.
        """
        if self._main != "HEAD":
            return "", ()
        said = self._ask(lock, "ls-remote", "--symref", "--end-of-options", self._url, "HEAD")
        named = re.search(r"^ref: (refs/heads/\S+)\tHEAD$", said, re.MULTILINE)
        if named is not None:
            return named[1], ()
        if said:
            return _DETACHED, (f"+HEAD:{_DETACHED}",)
        hint = "push to it, or set its HEAD: git symbolic-ref HEAD refs/heads/BRANCH"
        raise Terminal("the remote's HEAD names no branch that is there", where=self._url, hint=hint)

    def _ask(self, lock: int, *arguments: str) -> str:
        return self._git.run(*arguments, failure=Retryable, hint=_OFFLINE, pass_fds=(lock,)).text

    def _reader(self) -> GitCommand:
        """The mirror's Git, once there is a whole mirror."""
        if not self._mirror.exists() or self._unfinished.exists():
            with self._locked() as lock:
                if not self._mirror.exists() or self._unfinished.exists():
                    self._fetch(lock)
        return self._git

    # --- files --------------------------------------------------------------------------------------------

    def _list(self, commit: str) -> _Listing:
        """One Git call. Paths that are not UTF-8 carry surrogates; submodules are no files."""
        out = self._reader().run("ls-tree", "-r", "-t", "-z", "--full-tree", commit).out
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
        found = zip(files.items(), self._git.objects(blob.oid for blob in files.values()), strict=True)
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


def _commit(line: str) -> Commit:
    oid, parents, at, author, subject = line.split("\0", 4)
    return Commit(
        oid=oid,
        parent=parents.split(" ", 1)[0],
        at=datetime.fromtimestamp(int(at), UTC),
        author=author,
        subject=subject,
    )
