"""Step `data`: the file or folder behind a DVC pointer, by md5, from the cache or from the DVC remote.

Git is not needed: the pointer and ``.dvc/config`` come with the checkout. What is in the cache is not fetched,
so of a folder that has changed only the files that are new are; then not even DVC is imported.
"""

from __future__ import annotations

import argparse
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.core.errors import Terminal
from workflows.steps.cache import Cache, counted, open_cache, place, size_text
from workflows.steps.pointers import Pointer, Tracked, read_listing, read_pointer

if TYPE_CHECKING:
    from workflows.steps.remote import Remote

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Files that are fetched at the same time."""

NEWS_EVERY = 10.0
"""Seconds between lines about a fetch that goes on."""


class Provided(NamedTuple):
    """What became of a data set: how many files and bytes it has, and how much of that was fetched."""

    files: int
    size: int
    fetched: int
    fetched_size: int

    def __str__(self) -> str:
        news = f"{self.fetched} fetched ({size_text(self.fetched_size)})" if self.fetched else "nothing fetched"
        whole = f"{counted(self.files)} ({size_text(self.size)})"
        return f"{whole}: {self.files - self.fetched} in the cache, {news}"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")
    parser.add_argument("--pointer", required=True, help="the .dvc file, relative to --source")
    expected = parser.add_mutually_exclusive_group(required=True)
    expected.add_argument("--md5", help="what the pointer must say")
    expected.add_argument(
        "--inputs", type=_json, help="inputs of a measurement (JSON) whose `data` the pointer must say"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file or folder goes to OUT/data/NAME")


def _json(text: str) -> Any:
    import json

    return json.loads(text)


def run(options: argparse.Namespace) -> None:
    pointer = read_pointer(options.source, options.pointer)
    expected = options.md5 or options.inputs.get("data")
    if pointer.md5 != expected:
        raise Terminal(
            f"names md5 {pointer.md5}, but the workflow was asked for {expected}",
            where=options.pointer,
            hint="the workflow's commit and its md5 do not belong together",
        )

    fill(options.source, pointer, options.out / "data")


def fetched(source: Path, path: str, md5: str, out: Path) -> Path:
    """``out``, filled with what the pointer at ``path`` stood for when it said ``md5``."""
    fill(source, Pointer(md5, read_pointer(source, path).name), out)
    return out


def fill(source: Path, pointer: Pointer, out: Path) -> None:
    """Fill ``out`` from this machine's cache and the repository's remote. Terminal where that fails."""
    with local_faults(out):
        provided = provide(pointer, out, cache=open_cache(), remote=remote_of(source))
    log.info("%s: %s, md5 %s", pointer.name, provided, pointer.md5)


def remote_of(source: Path) -> Callable[[], Remote]:
    """The repository's remote, connected to by the first call."""

    @functools.cache
    def remote() -> Remote:
        from workflows.steps.remote import connect

        return connect(source)

    return remote


@contextmanager
def local_faults(out: Path) -> Iterator[None]:
    """This machine's errors as ours."""
    try:
        yield
    except OSError as error:
        raise Terminal(
            error.strerror or str(error),
            where=str(error.filename or out),
            hint="TRUEUP_CACHE and --out name folders with room that this user may write",
        ) from error


def provide(pointer: Pointer, out: Path, *, cache: Cache, remote: Callable[[], Remote]) -> Provided:
    """Fill ``out`` with what the pointer stands for; ``remote`` is called if something is missing."""
    if out.exists():
        _remove_earlier_attempt(out)
    files, listed = _tracked(pointer, out, cache, remote)
    return _bring(pointer, files, listed, out, cache, remote)


class Side(NamedTuple):
    """A data set whose files are known and not here yet: :meth:`bring` has some of them fetched.

    Called by the step `changes`, which reads only the files that are not in both.
    """

    pointer: Pointer
    files: list[Tracked]
    cache: Cache
    remote: Callable[[], Remote]

    @classmethod
    def of(cls, source: Path, path: str, md5: str, out: Path) -> Side:
        """What the pointer at ``path`` stood for when it said ``md5``."""
        pointer, remote = Pointer(md5, read_pointer(source, path).name), remote_of(source)
        with local_faults(out):
            cache = open_cache()
            return cls(pointer, _tracked(pointer, out, cache, remote)[0], cache, remote)

    def bring(self, files: list[Tracked], out: Path) -> None:
        with local_faults(out):
            _bring(self.pointer, files, False, out, self.cache, self.remote)


def _bring(
    pointer: Pointer, files: list[Tracked], listed: bool, out: Path, cache: Cache, remote: Callable[[], Remote]
) -> Provided:
    paths: dict[str, list[str]] = {}
    for file in files:
        paths.setdefault(file.md5, []).append(file.path)
    once = [Tracked(md5, path[0]) for md5, path in paths.items()]

    sizes = {file.md5: cache.take(file, out / file.path) for file in once}
    missing = [file for file in once if sizes[file.md5] is None]
    fetched = _fetch(pointer.name, missing, out, cache, remote) if missing else {}
    sizes |= fetched
    for first, *others in paths.values():
        for path in others:
            place(out / first, out / path)
    if listed or fetched:
        cache.trim(using={pointer.md5, *paths})
    size = sum(sizes[file.md5] or 0 for file in files)
    return Provided(len(files), size, len(fetched), sum(fetched.values()))


def _remove_earlier_attempt(out: Path) -> None:
    import shutil

    shutil.rmtree(out)


def _tracked(
    pointer: Pointer, out: Path, cache: Cache, remote: Callable[[], Remote]
) -> tuple[list[Tracked], bool]:
    """The files that the pointer stands for, and whether their listing had to be fetched."""
    whole = Tracked(pointer.md5, pointer.name)
    if not pointer.md5.endswith(".dir"):
        return [whole], False
    fetched = cache.take(whole, out / whole.path) is None
    if fetched:
        _fetch(pointer.name, [whole], out, cache, remote)
    content = (out / whole.path).read_bytes()
    (out / whole.path).unlink()
    return read_listing(content, pointer), fetched


def _fetch(
    name: str, files: list[Tracked], out: Path, cache: Cache, remote: Callable[[], Remote]
) -> dict[str, int]:
    """Fetch these into the cache and ``out``; md5 -> size. If one fails, those that came whole stay cached."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    source = remote()
    sizes: dict[str, int] = {}
    with cache.arriving() as folder, _news(name, len(files), folder, sizes):

        def fetch(file: Tracked) -> None:
            fresh = folder / file.md5
            source.fetch(file, fresh)
            sizes[file.md5] = cache.add(fresh, file, out / file.path)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = [pool.submit(fetch, file) for file in files]
            try:
                for future in as_completed(running):
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)
    return sizes


@contextmanager
def _news(name: str, files: int, folder: Path, sizes: dict[str, int]) -> Iterator[None]:
    """Tell the log now and then how far a fetch is; every kind of remote writes its files as they come."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(NEWS_EVERY):
            done = list(sizes.values())
            underway = 0
            for path in folder.iterdir():
                with suppress(FileNotFoundError):  # it is an entry now
                    underway += path.stat().st_size
            log.info(
                "%s: fetching, %d of %s, %s so far",
                name,
                len(done),
                counted(files),
                size_text(sum(done) + underway),
            )

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
