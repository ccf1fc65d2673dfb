"""Data by its md5, kept between the steps of one machine or volume. Called by the step `data`.

    ROOT/md5/AB/CDEF...       an entry: read-only, and its md5 is ABCDEF... (a folder's listing: ABCDEF....dir)
    ROOT/md5/AB/CDEF....xxh3  its side record, "XXH3 SIZE MD5" of the same bytes, written when md5 was verified
    ROOT/arriving/RANDOM/     what one process is fetching, and a file ``lock`` that it holds meanwhile
    ROOT/lock                 held while something is removed, or a folder of ``arriving`` is begun

Nothing here is believed. Whoever takes an entry links it first and then hashes what it has taken, so what the
step uses is what was verified, and no other process can take it away: removing an entry removes a name, and
the bytes stay for as long as a link to them does. XXH3 is ten times as fast as md5 and finds damage as surely;
where the side record is missing or does not agree, md5 decides, and the record is written again. Neither
withstands somebody who forges entries on purpose: who may write to the cache is trusted like the data.

An entry appears by rename, whole. No write is flushed to the disk: what a power cut leaves is found as damage.
Where all is cached a step is mostly the start of Python, so what it does not need is imported where it is used.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import xxhash

from reconciler.core.errors import Terminal
from workflows.steps.pointers import Tracked

log = logging.getLogger(__name__)

LIMIT = "20GB"
"""Unless ``TRUEUP_CACHE_LIMIT`` says otherwise."""

_UNITS = {"B": 1, "": 1} | {f"{unit}B": 10 ** (3 * power) for power, unit in enumerate("kMGT", 1)}
_RECORD = ".xxh3"
_BLOCK = 1 << 20


class Cache(NamedTuple):
    """A folder, how many bytes it may hold, and the clock (seconds since 1970) by which entries grow old."""

    root: Path
    limit: int
    now: Callable[[], float] = time.time

    def take(self, file: Tracked, destination: Path) -> int | None:
        """Put the file at ``destination``, verified, and give its size; None if it is to be fetched.

        That is so where there is no entry, and where there is one with other bytes, or unreadable ones, which
        is told in the log.
        """
        try:
            place(self._entry(file.md5), destination)
            size = self._verified(file.md5, destination)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # stale: removed by another machine, over NFS
                return None
            if error.errno != errno.EIO:
                raise
            size = None
        if size is None:
            destination.unlink(missing_ok=True)
            log.warning("%s: the cached copy is damaged, fetching it again (md5 %s)", file.path, file.md5)
            return None
        self._use(file.md5)
        return size

    def add(self, fresh: Path, file: Tracked, destination: Path) -> int:
        """Verify what was fetched to ``fresh``, put it at ``destination``, make it an entry; gives its size.

        ``fresh`` is in a folder of :meth:`arriving`, and gone afterwards. Terminal if its md5 is another one.
        """
        md5, fast, size = _hash(fresh)
        if md5 != _hex(file.md5):
            raise Terminal(
                f"the DVC remote gave a file with md5 {md5} as {file.md5}",
                where=file.path,
                hint="repair the remote: `dvc push` from a good copy",
            )
        fresh.chmod(0o444)
        place(fresh, destination)
        entry = self._entry(file.md5)
        entry.parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(entry)  # another process sees the old entry or the new one
        self._remember(file.md5, fast, size)
        self._use(file.md5)
        return size

    @contextmanager
    def arriving(self) -> Iterator[Path]:
        """A folder to fetch into. If this process is killed, a later :meth:`trim` removes it."""
        import shutil
        import tempfile

        (self.root / "arriving").mkdir(parents=True, exist_ok=True)
        with self._locked():
            folder = Path(tempfile.mkdtemp(dir=self.root / "arriving"))
            held = _lock(folder / "lock")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)

    def trim(self, using: Collection[str]) -> None:
        """Remove leftovers; and above the limit the longest unused entries, but none of ``using``."""
        with self._locked():
            self._clear_arriving()
            entries = self._entries()
            total = sum(size for _, _, size in entries)
            removed = 0
            for _, md5, size in sorted(entries):
                if total <= self.limit:
                    break
                if md5 not in using:
                    self._entry(md5).unlink(missing_ok=True)
                    self._side(md5).unlink(missing_ok=True)
                    total -= size
                    removed += 1
        full = f"{size_text(total)} of {size_text(self.limit)} (TRUEUP_CACHE_LIMIT)"
        if removed:
            log.info("cache: removed %s, the longest unused; now %s", counted(removed), full)
        if total > self.limit:
            log.warning("cache: the data of this step alone is more than the limit: %s", full)

    def _entry(self, md5: str) -> Path:
        return self.root / "md5" / md5[:2] / md5[2:]

    def _side(self, md5: str) -> Path:
        return self.root / "md5" / md5[:2] / f"{md5[2:]}{_RECORD}"

    def _verified(self, md5: str, path: Path) -> int | None:
        """The size of ``path`` if it has this md5: by the side record if that agrees, else by md5 itself."""
        known = self._recall(md5)
        if known:
            fast, size = _fast(path)
            if known == _record(md5, fast, size):
                return size
        actual, fast, size = _hash(path)
        if actual != _hex(md5):
            return None
        self._remember(md5, fast, size)
        return size

    def _recall(self, md5: str) -> bytes:
        """The side record as it stands; empty if there is none."""
        try:
            return self._side(md5).read_bytes()
        except OSError:
            return b""

    def _remember(self, md5: str, fast: str, size: int) -> None:
        with suppress(OSError):  # it only saves time; one that is half written is a damaged one
            self._side(md5).write_bytes(_record(md5, fast, size))

    def _use(self, md5: str) -> None:
        with suppress(OSError):  # removed meanwhile, or another user's
            os.utime(self._side(md5), (self.now(), self.now()))

    def _entries(self) -> list[tuple[float, str, int]]:
        """Last use, md5 and size of every entry. Side records that have lost theirs are removed."""
        found = []
        for folder in sorted((self.root / "md5").glob("??")):
            files = {file.name: file.stat() for file in os.scandir(folder)}
            for name, stat in files.items():
                if not name.endswith(_RECORD):
                    used = files.get(name + _RECORD, stat).st_mtime
                    found.append((used, folder.name + name, stat.st_size))
                elif name.removesuffix(_RECORD) not in files:
                    (folder / name).unlink(missing_ok=True)
        return found

    def _clear_arriving(self) -> None:
        """Remove the folders whose process is gone, and its lock with it."""
        import shutil

        for folder in (self.root / "arriving").iterdir():
            with suppress(BlockingIOError, FileNotFoundError):  # it is still fetching; it has just ended
                held = _lock(folder / "lock", wait=False)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        held = _lock(self.root / "lock")
        try:
            yield
        finally:
            os.close(held)


def open_cache() -> Cache:
    """What ``TRUEUP_CACHE`` and ``TRUEUP_CACHE_LIMIT`` ask for; Terminal if the limit is none.

    Without the former it is below the user's cache folder (XDG base directory specification).
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("TRUEUP_CACHE") or Path(home) / "trueup") / "data"
    limit = os.environ.get("TRUEUP_CACHE_LIMIT") or LIMIT
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([kMGT]?B|)", limit)
    if match is None:
        raise Terminal(
            f"{limit!r} is not a size", where="TRUEUP_CACHE_LIMIT", hint="write it as in 500MB, 20GB or 1.5TB"
        )
    return Cache(root, int(float(match[1]) * _UNITS[match[2]]))


def place(source: Path, destination: Path) -> None:
    """The same bytes at ``destination``: a hard link, or a copy where it is another file system."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.unlink(missing_ok=True)
    try:
        destination.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        import shutil

        shutil.copyfile(source, destination)


def size_text(size: int) -> str:
    """``153.8 kB``: bytes for people, in powers of a thousand."""
    for unit in "TGMk":
        if size >= _UNITS[f"{unit}B"]:
            return f"{size / _UNITS[f'{unit}B']:.1f} {unit}B"
    return f"{size} B"


def counted(files: int) -> str:
    return f"{files} file{'' if files == 1 else 's'}"


def _hex(md5: str) -> str:
    """The md5 of the bytes; DVC writes ``.dir`` behind that of a listing."""
    return md5.removesuffix(".dir")


def _record(md5: str, fast: str, size: int) -> bytes:
    return f"{fast} {size} {md5}\n".encode()


def _hash(path: Path) -> tuple[str, str, int]:
    """md5, XXH3 and size, of one reading."""
    import hashlib

    slow, fast = hashlib.md5(usedforsecurity=False), xxhash.xxh3_128()
    size = _feed(path, slow.update, fast.update)
    return slow.hexdigest(), fast.hexdigest(), size


def _fast(path: Path) -> tuple[str, int]:
    fast = xxhash.xxh3_128()
    size = _feed(path, fast.update)
    return fast.hexdigest(), size


def _feed(path: Path, *hashes: Callable[[memoryview], object]) -> int:
    block = memoryview(bytearray(_BLOCK))
    size = 0
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(block):
            size += read
            for update in hashes:
                update(block[:read])
    return size


def _lock(path: Path, *, wait: bool = True) -> int:
    """An open file that no other process has locked; closing it, or the end of the process, unlocks it.

    BlockingIOError if another has it and this is not to ``wait``.
    """
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(held)
        raise
    return held
