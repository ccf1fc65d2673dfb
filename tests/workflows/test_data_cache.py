"""The cache of the step `data`: what is fetched, found damaged, and removed. Bytes and calls are counted."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path

import pytest
import xxhash

from reconciler.core.digests import dvc_listing
from reconciler.core.errors import Retryable, Terminal
from workflows.steps import cache as cache_module
from workflows.steps import data as data_module
from workflows.steps.cache import Cache, open_cache, size_text
from workflows.steps.data import AT_ONCE, Provided, provide
from workflows.steps.pointers import Pointer, Tracked

QUARTERS = {f"q{number:02d}.csv": f"a,b\n{number:02d},0\n".encode() * 1000 for number in range(12)}
EVERYTHING = 10**12


def name_of(content: bytes) -> str:
    return md5(content).hexdigest()


@dataclass
class Remote:
    """What a DVC remote has, and which md5 it was asked for."""

    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def fetch(self, file: Tracked, destination: Path) -> None:
        self.asked.append(file.md5)
        destination.write_bytes(self.objects[file.md5])

    def push(self, content: bytes, suffix: str = "") -> str:
        name = name_of(content) + suffix
        self.objects[name] = content
        return name

    def folder(self, files: dict[str, bytes]) -> Pointer:
        listing = dvc_listing({path: self.push(content) for path, content in files.items()})
        return Pointer(self.push(listing, ".dir"), "train")

    def asked_since(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


@dataclass
class World:
    """A remote and a cache; each use of data is a step with an output folder of its own."""

    root: Path
    remote: Remote = field(default_factory=Remote)
    limit: int = EVERYTHING
    at: float = 1000.0
    steps: int = 0

    @property
    def cache(self) -> Cache:
        return Cache(self.root / "cache", self.limit, lambda: self.at)

    def use(self, pointer: Pointer) -> Provided:
        self.steps += 1
        return provide(pointer, self.out, cache=self.cache, remote=lambda: self.remote)

    @property
    def out(self) -> Path:
        """Of the latest step."""
        return self.root / f"out{self.steps}"

    def entry(self, content: bytes) -> Path:
        name = name_of(content)
        return self.root / "cache/md5" / name[:2] / name[2:]

    def side(self, content: bytes) -> Path:
        return self.entry(content).with_name(f"{self.entry(content).name}.xxh3")

    def cached(self) -> set[str]:
        entries = (self.root / "cache/md5").rglob("*")
        return {path.parent.name + path.name for path in entries if path.is_file() and path.suffix != ".xxh3"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def slow_hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose md5 was computed."""
    hashed: list[str] = []
    hash_file = cache_module._hash

    def counting(path: Path) -> object:
        hashed.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(cache_module, "_hash", counting)
    return hashed


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# --- what is fetched --------------------------------------------------------------------------------------


def test_a_second_training_on_the_same_folder_fetches_nothing(world: World, slow_hashes: list[str]) -> None:
    pointer = world.remote.folder(QUARTERS)
    first = world.use(pointer)
    assert str(first) == "12 files (108.0 kB): 0 in the cache, 12 fetched (108.0 kB)"
    assert sorted(world.remote.asked_since()) == sorted(world.remote.objects)
    assert contents(world.out / "train") == QUARTERS
    slow_hashes.clear()
    second = world.use(pointer)
    assert str(second) == "12 files (108.0 kB): 12 in the cache, nothing fetched"
    assert world.remote.asked_since() == []
    assert slow_hashes == []
    assert contents(world.out) == {f"train/{path}": content for path, content in QUARTERS.items()}


def test_nothing_is_connected_where_nothing_is_fetched(world: World) -> None:
    pointer = world.remote.folder(QUARTERS)
    world.use(pointer)

    def connect() -> Remote:
        raise AssertionError("asked for the remote")

    assert provide(pointer, world.root / "again", cache=world.cache, remote=connect).fetched_size == 0


def test_of_a_changed_folder_the_delta_is_fetched(world: World) -> None:
    world.use(world.remote.folder(QUARTERS))
    world.remote.asked_since()
    changed = {path: content for path, content in QUARTERS.items() if path != "q00.csv"}
    changed["q12.csv"] = b"a,b\n12,0\n" * 900
    pointer = world.remote.folder(changed)
    assert str(world.use(pointer)) == "12 files (107.1 kB): 11 in the cache, 1 fetched (8.1 kB)"
    assert world.remote.asked_since() == [pointer.md5, name_of(changed["q12.csv"])]
    assert contents(world.out / "train") == changed


def test_one_file_under_another_name_is_the_same_file(world: World) -> None:
    content = QUARTERS["q00.csv"]
    world.use(Pointer(world.remote.push(content), "a.csv"))
    assert world.use(Pointer(name_of(content), "b.csv")).fetched == 0
    assert contents(world.out) == {"b.csv": content}


def test_equal_files_of_a_folder_are_fetched_once(world: World) -> None:
    files = {"a.csv": b"x\n1\n", "b/c.csv": b"x\n1\n"}
    pointer = world.remote.folder(files)
    assert world.use(pointer) == Provided(files=2, size=8, fetched=1, fetched_size=4)
    assert len(world.remote.asked) == 2
    assert contents(world.out / "train") == files


def test_what_an_earlier_attempt_left_is_gone(world: World) -> None:
    pointer = world.remote.folder(QUARTERS)
    world.use(pointer)
    (world.out / "train/other.csv").write_text("a,b\n9,9\n")
    provide(pointer, world.out, cache=world.cache, remote=lambda: world.remote)
    assert contents(world.out / "train") == QUARTERS


def test_files_are_fetched_at_once_but_not_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pointer = world.remote.folder({f"{number}.csv": b"%d" % number for number in range(2 * AT_ONCE)})
    together = threading.Barrier(AT_ONCE)
    threads: list[int | None] = []
    fetch = world.remote.fetch

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int | None = None) -> None:
            threads.append(max_workers)
            super().__init__(max_workers)

    def meeting(file: Tracked, destination: Path) -> None:
        if not file.md5.endswith(".dir"):
            together.wait(timeout=30)
        fetch(file, destination)

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor", Pool)
    monkeypatch.setattr(world.remote, "fetch", meeting)
    assert world.use(pointer).fetched == 2 * AT_ONCE
    assert set(threads) == {AT_ONCE}


def test_a_long_fetch_tells_how_far_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(data_module, "NEWS_EVERY", 0.001)
    told = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "5 B so far" in record.getMessage():
                told.set()

    def half(file: Tracked, destination: Path) -> None:
        destination.write_bytes(b"a,b\n1")
        assert told.wait(timeout=30)
        destination.write_bytes(world.remote.objects[file.md5])

    monkeypatch.setattr(world.remote, "fetch", half)
    listener = Listener()
    data_module.log.addHandler(listener)
    try:
        world.use(Pointer(world.remote.push(b"a,b\n1,2\n"), "rows.csv"))
    finally:
        data_module.log.removeHandler(listener)
    assert "rows.csv: fetching, 0 of 1 file, 5 B so far" in caplog.text


def test_where_one_file_fails_what_came_stays_and_the_rest_is_not_begun(world: World, monkeypatch) -> None:
    pointer = world.remote.folder(QUARTERS)
    names = [name_of(content) for content in QUARTERS.values()]
    failed, stopped = threading.Event(), threading.Event()
    fetch = world.remote.fetch

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            if failed.is_set():  # another pool fetched the listing before
                stopped.set()
            super().shutdown(wait=wait)

    def failing(file: Tracked, destination: Path) -> None:
        if file.md5 == names[7]:
            destination.write_bytes(b"half")
            failed.set()
            raise Retryable("did not answer", where=file.path)
        if file.md5 == names[8]:  # begun before the failure is seen
            assert stopped.wait(timeout=30)
        fetch(file, destination)

    with monkeypatch.context() as patch:
        patch.setattr("concurrent.futures.ThreadPoolExecutor", Pool)
        patch.setattr(data_module, "AT_ONCE", 1)
        patch.setattr(world.remote, "fetch", failing)
        with pytest.raises(Retryable, match="did not answer"):
            world.use(pointer)
    whole = world.cached() - {pointer.md5}
    assert whole - {names[8]} == set(names[:7])
    assert not set(names[9:]) & set(world.remote.asked)
    assert list((world.root / "cache/arriving").iterdir()) == []
    assert world.use(pointer).fetched == len(names) - len(whole)


def test_other_bytes_than_asked_for_are_no_entry(world: World) -> None:
    content = QUARTERS["q00.csv"]
    pointer = Pointer(world.remote.push(content), "a.csv")
    world.remote.objects[pointer.md5] = b"other bytes"
    with pytest.raises(Terminal, match="the DVC remote gave a file with md5"):
        world.use(pointer)
    assert world.cached() == set()
    assert contents(world.out) == {}


# --- damage -----------------------------------------------------------------------------------------------


def truncate(world: World, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(world: World, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(world: World, path: Path) -> None:
    path.write_bytes(b"")


def swap(world: World, path: Path) -> None:
    """Another entry, with its own side record, under this one's name."""
    other = QUARTERS["q01.csv"]
    shutil.copyfile(world.entry(other), path)
    shutil.copyfile(world.side(other), f"{path}.xxh3")


@pytest.mark.parametrize("damage", [truncate, flip, empty, swap])
@pytest.mark.parametrize("remembered", [True, False], ids=["with its side record", "without"])
def test_a_damaged_entry_is_fetched_again(damage, remembered: bool, world: World, caplog) -> None:
    pointer = world.remote.folder(QUARTERS)
    world.use(pointer)
    damaged = QUARTERS["q05.csv"]
    if not remembered:
        world.side(damaged).unlink()
    world.entry(damaged).chmod(0o644)
    damage(world, world.entry(damaged))
    world.remote.asked_since()
    assert world.use(pointer).fetched == 1
    assert world.remote.asked_since() == [name_of(damaged)]
    assert (
        f"train/q05.csv: the cached copy is damaged, fetching it again (md5 {name_of(damaged)})" in caplog.text
    )
    assert contents(world.out / "train") == QUARTERS
    assert world.entry(damaged).read_bytes() == damaged
    assert world.use(pointer).fetched == 0


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
def test_an_entry_that_the_disk_cannot_read_is_damaged(linked: bool, world: World, monkeypatch, caplog) -> None:
    content = QUARTERS["q05.csv"]
    pointer = Pointer(world.remote.push(content), "a.csv")
    world.use(pointer)

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        if linked:
            patch.setattr(cache_module, "_fast", unreadable)
        else:
            patch.setattr(Path, "hardlink_to", elsewhere_is_no_link)
            patch.setattr(shutil, "copyfile", unreadable)
        assert world.cache.take(Tracked(pointer.md5, "a.csv"), world.root / "a.csv") is None
    assert "a.csv: the cached copy is damaged" in caplog.text
    assert not (world.root / "a.csv").exists()


def test_a_damaged_listing_is_fetched_again(world: World) -> None:
    pointer = world.remote.folder(QUARTERS)
    world.use(pointer)
    listing = world.root / "cache/md5" / pointer.md5[:2] / pointer.md5[2:]
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes().replace(b"q05", b"q99"))
    world.remote.asked_since()
    assert world.use(pointer).fetched == 0
    assert world.remote.asked_since() == [pointer.md5]
    assert contents(world.out / "train") == QUARTERS


def of_other_content(world: World, side: Path) -> None:
    """Says that it is this entry's, with the hash of other bytes."""
    _, size, name = side.read_text().split()
    side.write_text(f"{xxhash.xxh3_128(b'other bytes').hexdigest()} {size} {name}\n")


def of_another_entry(world: World, side: Path) -> None:
    shutil.copyfile(world.side(QUARTERS["q01.csv"]), side)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _, side: side.unlink(),
        lambda _, side: side.write_bytes(b""),
        lambda _, side: side.write_bytes(b"\x80nonsense"),
        lambda _, side: side.write_bytes(side.read_bytes()[1:]),
        lambda _, side: truncate(world, side),
        of_other_content,
        of_another_entry,
    ],
    ids=["missing", "empty", "nonsense", "first byte lost", "truncated", "other bytes", "another's"],
)
def test_without_a_side_record_that_agrees_md5_decides(damage, world: World, slow_hashes: list[str]) -> None:
    pointer = world.remote.folder(QUARTERS)
    world.use(pointer)
    side = world.side(QUARTERS["q05.csv"])
    before = side.read_text()
    damage(world, side)
    slow_hashes.clear()
    assert world.use(pointer).fetched == 0
    assert slow_hashes == ["q05.csv"]
    assert side.read_text() == before
    assert world.use(pointer).fetched == 0
    assert slow_hashes == ["q05.csv"]


def test_an_entry_that_was_made_without_side_records_is_used(world: World, slow_hashes: list[str]) -> None:
    content = QUARTERS["q00.csv"]
    world.entry(content).parent.mkdir(parents=True)
    world.entry(content).write_bytes(content)
    assert world.use(Pointer(name_of(content), "a.csv")).fetched == 0
    assert slow_hashes == ["a.csv"]


def elsewhere_is_no_link(self: Path, target: Path) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_on_another_file_system_the_copy_is_what_is_verified(world: World, monkeypatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", elsewhere_is_no_link)
    pointer = world.remote.folder(QUARTERS)
    world.use(pointer)
    assert world.use(pointer).fetched == 0
    assert contents(world.out / "train") == QUARTERS
    damaged = QUARTERS["q05.csv"]
    world.entry(damaged).chmod(0o644)
    flip(world, world.entry(damaged))
    assert world.use(pointer).fetched == 1
    assert contents(world.out / "train") == QUARTERS


def test_a_step_that_writes_into_its_input_damages_the_entry_and_is_found_out(world: World) -> None:
    content = QUARTERS["q00.csv"]
    pointer = Pointer(world.remote.push(content), "a.csv")
    world.use(pointer)
    assert (world.out / "a.csv").stat().st_mode & 0o222 == 0
    (world.out / "a.csv").chmod(0o644)
    (world.out / "a.csv").write_bytes(b"mine")
    assert world.use(pointer).fetched == 1
    assert contents(world.out) == {"a.csv": content}


# --- the limit --------------------------------------------------------------------------------------------


def three(world: World) -> list[Pointer]:
    return [Pointer(world.remote.push(name.encode() * 10), f"{name}.csv") for name in "abc"]


def test_the_longest_unused_goes_first(world: World, caplog) -> None:
    caplog.set_level("INFO")
    a, b, c = three(world)
    world.limit = 20
    for at, pointer in ((1, a), (2, b), (3, a)):
        world.at = at
        world.use(pointer)
    assert world.cached() == {a.md5, b.md5}
    world.at = 4
    world.use(c)
    assert world.cached() == {a.md5, c.md5}
    assert "cache: removed 1 file, the longest unused; now 20 B of 20 B (TRUEUP_CACHE_LIMIT)" in caplog.text
    assert len(list((world.root / "cache/md5").rglob("*.xxh3"))) == 2


def test_an_order_by_the_clock_holds_whatever_was_fetched_first(world: World) -> None:
    a, b, c = three(world)
    for at, pointer in ((30, a), (10, b), (20, c)):
        world.at = at
        world.use(pointer)
    for limit, left in ((20, {a, c}), (10, {a})):
        Cache(world.root / "cache", limit).trim(using=())
        assert world.cached() == {pointer.md5 for pointer in left}


def test_what_the_step_uses_stays_whatever_the_limit(world: World, caplog) -> None:
    (a, *_), pointer = three(world), world.remote.folder(QUARTERS)
    world.use(a)
    world.limit = 10
    world.at += 1
    world.use(pointer)
    assert world.cached() == {pointer.md5, *map(name_of, QUARTERS.values())}
    assert "cache: the data of this step alone is more than the limit" in caplog.text
    assert world.use(pointer).fetched == 0


def test_what_another_step_has_linked_outlives_its_entry(world: World) -> None:
    a, b, _ = three(world)
    world.limit = 10
    world.use(a)
    linked = world.out / "a.csv"
    world.use(b)
    assert world.cached() == {b.md5}
    assert linked.read_bytes() == b"a" * 10


def test_a_side_record_that_has_lost_its_entry_goes(world: World) -> None:
    a, b, _ = three(world)
    world.use(a)
    world.entry(b"a" * 10).unlink()
    world.use(b)
    assert not world.side(b"a" * 10).exists()
    assert world.side(b"b" * 10).exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 20_000_000_000),
        ("0", 0),
        ("1500", 1500),
        ("12B", 12),
        ("3kB", 3000),
        ("500MB", 500_000_000),
        ("1.5 TB", 1_500_000_000_000),
    ],
)
def test_the_limit_is_read(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_CACHE_LIMIT", text)
    assert open_cache().limit == size


@pytest.mark.parametrize("text", ["much", "-1GB", "20 gigabytes", "1e9", "20GiB", "."])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEUP_CACHE_LIMIT", text)
    with pytest.raises(Terminal, match="is not a size") as refusal:
        open_cache()
    assert str(refusal.value).startswith("TRUEUP_CACHE_LIMIT: ")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (153_824, "153.8 kB"), (2 * 10**10, "20.0 GB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_cache_that_cannot_be_written_says_so(step, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.dvc").write_text(f"outs:\n- md5: {name_of(b'a')}\n  hash: md5\n  path: a.csv\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = x\n['remote \"x\"']\n    url = /nowhere\n")
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "file"))
    assert step("data", source=tmp_path, pointer="a.dvc", md5=name_of(b"a"), out=tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert f"data: {tmp_path}/file" in said
    assert "Not a directory. hint: TRUEUP_CACHE" in said


# --- other processes --------------------------------------------------------------------------------------

PROCESS = """
import os, signal, sys
from pathlib import Path
from workflows.steps import data
from workflows.steps.cache import Cache
from workflows.steps.pointers import Pointer

root, md5, number, limit, times, die_at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])

class Folder:
    calls = 0

    def fetch(self, file, destination):
        content = (root / "remote" / file.md5).read_bytes()
        self.calls += 1
        if self.calls == die_at:
            destination.write_bytes(content[:len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        destination.write_bytes(content)

folder = Folder()
if die_at:
    data.AT_ONCE = 1
for again in range(times):
    out = root / f"process{number}-{again}"
    print(data.provide(Pointer(md5, "train"), out, cache=Cache(root / "cache", limit), remote=lambda: folder))
"""
"""Uses one folder some times from a remote that is a folder, and dies in a fetch if it is told to."""


@pytest.fixture
def elsewhere(world: World) -> Iterator[list[subprocess.Popen[str]]]:
    (world.root / "remote").mkdir()
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(world: World, pointer: Pointer, number: int, *, limit: int, times: int, die_at: int = 0):
    for name, content in world.remote.objects.items():
        (world.root / "remote" / name).write_bytes(content)
    settings = map(str, (world.root, pointer.md5, number, limit, times, die_at))
    command = [sys.executable, "-c", PROCESS, *settings]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_that_is_killed_while_it_fetches_leaves_no_entry(world: World, elsewhere) -> None:
    pointer = world.remote.folder(QUARTERS)
    process = start(
        world, pointer, 1, limit=EVERYTHING, times=1, die_at=5
    )  # the listing, three files, half a one
    elsewhere.append(process)
    assert process.wait(timeout=60) == -signal.SIGKILL
    whole = {name_of(QUARTERS[f"q{number:02d}.csv"]) for number in range(3)}
    assert world.cached() == {pointer.md5, *whole}
    (left,) = (world.root / "cache/arriving").iterdir()
    half = QUARTERS["q03.csv"]
    assert (left / name_of(half)).stat().st_size == len(half) // 2

    assert str(world.use(pointer)) == "12 files (108.0 kB): 3 in the cache, 9 fetched (81.0 kB)"
    assert set(world.remote.asked) == {name_of(content) for content in QUARTERS.values()} - whole
    assert contents(world.out / "train") == QUARTERS
    assert list((world.root / "cache/arriving").iterdir()) == []


def test_what_another_is_fetching_is_no_leftover(world: World) -> None:
    with world.cache.arriving() as folder:
        (folder / "half").write_bytes(b"a,b")
        world.use(three(world)[0])
        assert (folder / "half").read_bytes() == b"a,b"
    assert not folder.exists()


@pytest.mark.parametrize("limit", [EVERYTHING, 1], ids=["with room", "without"])
def test_processes_share_a_cache(limit: int, world: World, elsewhere) -> None:
    """Two on one folder and one on another; without room each removes what the others have just used."""
    other = {path: content + b"7,7\n" for path, content in QUARTERS.items()}
    uses = [(world.remote.folder(QUARTERS), QUARTERS)] * 2 + [(world.remote.folder(other), other)]
    for number, (pointer, _) in enumerate(uses):
        elsewhere.append(start(world, pointer, number, limit=limit, times=5))
    for number, (process, (_, files)) in enumerate(zip(elsewhere, uses, strict=True)):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        for again in range(5):
            assert contents(world.root / f"process{number}-{again}/train") == files
    assert list((world.root / "cache/arriving").iterdir()) == []
    if limit == EVERYTHING:
        assert world.cached() == world.remote.objects.keys()
