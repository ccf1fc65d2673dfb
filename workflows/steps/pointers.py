"""What DVC keeps in Git and in its remote about data: pointers, and the listings of folders.

Called by the step `data`. A pointer is a ``.dvc`` file of DVC 3 with one output, a file or a folder. A folder
has a listing, which is an object of the remote like any file: JSON, a list of ``{"md5", "relpath"}``. The
listing's md5, with ``.dir`` behind it, is the folder's
(https://dvc.org/doc/user-guide/project-structure/internal-files).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from reconciler.core.errors import Terminal

MAX_FILES = 100_000
"""Files of one folder. A folder with more is a mistake, or belongs into larger files."""


_WRITTEN_BY_DVC = re.compile(
    r"outs:\n- md5: (?P<md5>[0-9a-f]{32}(?:\.dir)?)\n  size: \d+\n(?:  nfiles: \d+\n)?"
    r"  hash: md5\n  path: (?P<name>[A-Za-z][-A-Za-z0-9_]*\.?[A-Za-z]*)\n"
)
"""A pointer that nobody has edited. It is read without a YAML parser, which takes a fifth of a cached step."""


class Pointer(NamedTuple):
    """What a ``.dvc`` file says: the md5, ending in ``.dir`` for a folder, and the name beside the pointer."""

    md5: str
    name: str


class Tracked(NamedTuple):
    """One file of a data set: its md5, and its path below the step's output."""

    md5: str
    path: str


def read_pointer(source: Path, path: str) -> Pointer:
    """Parse a ``.dvc`` file of DVC 3 that tracks one file or folder. Terminal for anything else."""
    try:
        text = (source / path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _no_pointer(path) from error
    plain = _WRITTEN_BY_DVC.fullmatch(text)
    return Pointer(plain["md5"], plain["name"]) if plain else _read_yaml(text, path)


def _read_yaml(text: str, path: str) -> Pointer:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document: Any = YAML(typ="safe").load(text)
        (entry,) = document["outs"]
        md5, name, algorithm = str(entry["md5"]), PurePosixPath(str(entry["path"])).name, entry.get("hash")
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise _no_pointer(path) from error
    if algorithm != "md5":
        raise Terminal(
            "was written by DVC 2, whose md5 is not that of the bytes",
            where=path,
            hint="run `dvc cache migrate --dvc-files` with DVC 3",
        )
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5) or not _is_relative(name):
        raise Terminal("names no md5 or no file", where=path, hint="write it with `dvc add`")
    return Pointer(md5, name)


def read_listing(listing: bytes, pointer: Pointer) -> list[Tracked]:
    """The files of a folder, by path, with the folder's name before each.

    The bytes are those that the pointer's md5 stands for, but whoever wrote them may be anyone: Terminal for a
    path that leads out of the folder or is there twice, a file that is a folder too, no file at all, and more
    than :data:`MAX_FILES`.
    """
    import json

    try:
        entries = [(str(entry["md5"]), str(entry["relpath"])) for entry in json.loads(listing)]
    except (ValueError, KeyError, TypeError) as error:
        raise _unlisted(pointer, "is not the listing of a folder") from error
    if not 0 < len(entries) <= MAX_FILES:
        raise _unlisted(pointer, f"has {len(entries)} files; a folder of data has 1 to {MAX_FILES}")
    paths = {path for _, path in entries}
    for md5, path in entries:
        if not re.fullmatch(r"[0-9a-f]{32}", md5):
            raise _unlisted(pointer, f"has no md5 for {path!r}")
        if not _is_relative(path):
            raise _unlisted(pointer, f"has the path {path!r}, which is not one below a folder")
        for folder in _folders(path):
            if folder in paths:
                raise _unlisted(pointer, f"has {folder!r} as a file and as a folder")
    if len(paths) < len(entries):
        raise _unlisted(pointer, "has a path twice")
    return sorted((Tracked(md5, f"{pointer.name}/{path}") for md5, path in entries), key=lambda file: file.path)


def _no_pointer(path: str) -> Terminal:
    return Terminal("is not a DVC pointer to one file or folder", where=path, hint="write it with `dvc add`")


def _is_relative(path: str) -> bool:
    """Whether this is a plain POSIX path that stays below where it begins."""
    parts = path.split("/")
    return not any(part in ("", ".", "..") for part in parts) and path.isprintable() and "\\" not in path


def _folders(path: str) -> Iterator[str]:
    for folder in PurePosixPath(path).parents:
        if folder.name:
            yield str(folder)


def _unlisted(pointer: Pointer, what: str) -> Terminal:
    return Terminal(
        f"its listing {pointer.md5} {what}", where=pointer.name, hint="write it again: `dvc add`, `dvc push`"
    )
