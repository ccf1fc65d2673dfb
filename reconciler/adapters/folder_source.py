"""A working tree as a Source: what ``reconcile validate`` and ``reconcile render`` read before a commit exists.

Object ids are Git's own (SHA-1 over the same bytes), so that every key made from a clean working tree equals
the key after its commit. Files that Git ignores are not there.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from reconciler.core.errors import Terminal
from reconciler.ports import Blob, Commit

_IGNORED = {".git", ".trueup", ".venv", "__pycache__"}


class FolderSource:
    """Reads ``root``, a Git checkout or a plain folder, as it was at the first read.

    Every ``commit`` argument means the folder as it is; by custom ``WORKTREE``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def head(self) -> str:
        return "WORKTREE"

    def resolve(self, revision: str) -> str:
        raise self._no_history(f"revision {revision}")

    def files(self, commit: str) -> Mapping[str, Blob]:  # noqa: ARG002 - there is only one state
        return self._blobs

    def tree(self, commit: str, path: str) -> str:  # noqa: ARG002
        prefix = f"{path.strip('/')}/" if path.strip("/") else ""
        below = {
            name.removeprefix(prefix): blob for name, blob in self._blobs.items() if name.startswith(prefix)
        }
        return tree_id(below) if below else ""

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        places = {blob.oid: name for name, blob in self._blobs.items()}
        try:
            return {oid: _content(self._root / places[oid]) for oid in oids}
        except KeyError as error:
            raise Terminal(f"no file has the id {error.args[0]}", where=str(self._root)) from None
        except OSError as error:
            raise Terminal(f"cannot be read: {error.strerror}", where=str(error.filename)) from error

    def log(self, path: str) -> tuple[Commit, ...]:
        raise self._no_history(f"the log of {path}")

    def checkout(self, commit: str, destination: Path) -> None:
        raise self._no_history(f"a checkout of {commit} to {destination}")

    def _no_history(self, what: str) -> Terminal:
        return Terminal(f"a folder has no {what}", where=str(self._root), hint="commit, and ask the repository")

    @cached_property
    def _blobs(self) -> dict[str, Blob]:
        blobs: dict[str, Blob] = {}
        for name in sorted(self._names()):
            path = self._root / name
            try:
                mode = _mode(path.lstat().st_mode)
                if mode:
                    blobs[name] = Blob(mode, _object_id("blob", _content(path)))
            except FileNotFoundError:
                continue  # listed by Git, deleted in the working tree
            except OSError as error:
                raise Terminal(f"cannot be read: {error.strerror}", where=str(path)) from error
        return blobs

    def _names(self) -> Iterable[str]:
        if not self._root.is_dir():
            raise Terminal("is not a folder", where=str(self._root))
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self._root,
            # Inside a Git hook these would name another index, or another repository.
            env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            capture_output=True,
            check=False,
        )
        in_git = listed.returncode == 0
        names = (
            {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name} if in_git else set(self._walk())
        )
        return {name for name in names if not _IGNORED.intersection(name.split("/"))}

    def _walk(self) -> Iterable[str]:
        for folder, folders, files in os.walk(self._root):
            here = Path(folder)
            linked = [name for name in folders if (here / name).is_symlink()]
            folders[:] = [name for name in folders if name not in _IGNORED and name not in linked]
            yield from ((here / name).relative_to(self._root).as_posix() for name in (*files, *linked))


def _mode(mode: int) -> str:
    """Git's mode of a file; empty for what Git does not keep, as folders and sockets."""
    if stat.S_ISLNK(mode):
        return "120000"
    if stat.S_ISREG(mode):
        return "100755" if mode & stat.S_IXUSR else "100644"
    return ""


def _content(path: Path) -> bytes:
    """What Git would store: the bytes of a file, or where a link points."""
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


def tree_id(files: Mapping[str, Blob]) -> str:
    """The id that Git gives to a tree with these files (path -> blob), folders made as needed.

    An entry is ``MODE NAME\\0`` and the raw id; entries are sorted as if folders ended with ``/``
    (git-scm.com/book, "Git Internals - Git Objects"; ``base_name_compare`` in Git's tree.c).
    """
    entries: dict[bytes, tuple[str, str]] = {}
    folders: dict[str, dict[str, Blob]] = {}
    for path, blob in files.items():
        name, _, rest = path.partition("/")
        if rest:
            folders.setdefault(name, {})[rest] = blob
        else:
            entries[os.fsencode(name)] = (blob.mode, blob.oid)
    for name, below in folders.items():
        entries[os.fsencode(name) + b"/"] = ("40000", tree_id(below))
    content = b"".join(
        f"{mode} ".encode() + key.removesuffix(b"/") + b"\0" + bytes.fromhex(oid)
        for key, (mode, oid) in sorted(entries.items())
    )
    return _object_id("tree", content)


def _object_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
