"""Step `data`: the file or folder behind a DVC pointer, by md5, from the cache or from the DVC remote.

The cache is content-addressed (``TRUEUP_CACHE/data/md5/AB/CDEF...``) and trusts nobody: an entry is hashed
each time it is used, and fetched again if it is not what its name says. Git is not needed: the pointer and
``.dvc/config`` come with the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

from reconciler.core.errors import Retryable, Terminal
from workflows.steps.pointers import Pointer, Tracked, read_listing, read_pointer

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")
    parser.add_argument("--pointer", required=True, help="the .dvc file, relative to --source")
    expected = parser.add_mutually_exclusive_group(required=True)
    expected.add_argument("--md5", help="what the pointer must say")
    expected.add_argument(
        "--inputs", type=json.loads, help="inputs of a measurement (JSON) whose `data` the pointer must say"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file or folder goes to OUT/data/NAME")


def run(options: argparse.Namespace) -> None:
    pointer = read_pointer(options.source, options.pointer)
    expected = options.md5 or options.inputs.get("data")
    if pointer.md5 != expected:
        raise Terminal(
            f"names md5 {pointer.md5}, but the workflow was asked for {expected}",
            where=options.pointer,
            hint="the workflow's commit and its md5 do not belong together",
        )
    for file in tracked(pointer, source=options.source, cache=cache_folder()):
        cached = ensure_cached(file, source=options.source, cache=cache_folder())
        destination = options.out / "data" / file.path
        destination.parent.mkdir(parents=True, exist_ok=True)
        _link(cached, destination)


def tracked(pointer: Pointer, *, source: Path, cache: Path) -> list[Tracked]:
    """The files that the pointer stands for; of a folder, those of its listing."""
    whole = Tracked(pointer.md5, pointer.name)
    if not pointer.md5.endswith(".dir"):
        return [whole]
    return read_listing(ensure_cached(whole, source=source, cache=cache).read_bytes(), pointer)


def cache_folder() -> Path:
    """``$TRUEUP_CACHE/data``, else below the user's cache folder (XDG base directory specification)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TRUEUP_CACHE") or Path(home) / "trueup") / "data"


def ensure_cached(file: Tracked, *, source: Path, cache: Path) -> Path:
    """The cache's copy of the file, checked, fetched first if need be."""
    entry = cache / "md5" / file.md5[:2] / file.md5[2:]
    if entry.exists():
        if _md5(entry) == file.md5.removesuffix(".dir"):
            log.info("%s: in the cache, nothing fetched (md5 %s)", file.path, file.md5)
            return entry
        log.warning("%s: the cached copy is damaged, fetching it again (md5 %s)", file.path, file.md5)

    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / "fresh"
        _fetch(file, source, fresh)
        actual = _md5(fresh)
        if actual != file.md5.removesuffix(".dir"):
            raise Terminal(
                f"the DVC remote gave a file with md5 {actual} as {file.md5}",
                where=file.path,
                hint="repair the remote: `dvc push` from a good copy",
            )
        fresh.chmod(0o444)
        fresh.replace(entry)  # atomic: another step sees the old entry or the new one
    log.info("%s: fetched (md5 %s, %d bytes)", file.path, file.md5, entry.stat().st_size)
    return entry


def _fetch(file: Tracked, source: Path, destination: Path) -> None:
    from dvc.config import Config, NoRemoteError
    from dvc.exceptions import DvcException
    from dvc.fs import get_cloud_fs

    try:
        config = Config(dvc_dir=str(source / ".dvc"))
        name = config["core"].get("remote")
        if not name:
            raise NoRemoteError("core.remote is not set")
        kind, settings, root = get_cloud_fs(config, name=name)
        remote = kind(**settings)
    except DvcException as error:
        raise Terminal(
            str(error), where=".dvc/config", hint="run `dvc remote add --default NAME URL`"
        ) from error
    path = remote.join(root, "files", "md5", file.md5[:2], file.md5[2:])
    try:
        remote.get_file(path, str(destination))
    except FileNotFoundError as error:
        raise Terminal(
            f"DVC remote {name!r} does not have md5 {file.md5}", where=file.path, hint="run `dvc push`"
        ) from error
    except PermissionError as error:
        raise Terminal(f"DVC remote {name!r} refuses: {error}", where=file.path) from error
    except Exception as error:  # each kind of remote has its own exceptions; none has a common base
        raise Retryable(f"DVC remote {name!r} did not answer: {error}", where=file.path) from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _link(cached: Path, destination: Path) -> None:
    destination.unlink(missing_ok=True)
    try:
        destination.hardlink_to(cached)
    except OSError:  # another file system
        shutil.copyfile(cached, destination)
