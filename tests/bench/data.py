"""How much sooner the step `data` is done when its data is in the cache."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from reconciler.core.digests import dvc_listing

TITLE = "The step `data`, the second time"
RUNS = 5
SIZES = {"50 MB": 50_000_000, "1 GB": 1_000_000_000}
FILES = {"one file": 1, "a folder of 20 files": 20}
_BLOCK = 1_000_000
METHOD = f"""\
`reconcile-step data` as a process of its own, from its start to its exit, in seconds. The first time the cache is empty. The
second time nothing is fetched: that is what the step's last line says, and what the server counts. Medians of {RUNS} pairs, after
one pair that is not counted; the ratio is the median of the pairs' ratios, with the smallest and the largest. The data are random
bytes, all of them in the memory of the operating system.

The DVC remote is an HTTP server on the loopback interface, or a plain folder on the same disk. No remote is quicker than that
folder: what the first time takes there is Python, DVC, one copy and md5. The second time of 50 MB is mostly the start of Python."""


def measure(sizes: dict[str, int] = SIZES, runs: int = RUNS) -> str:
    """The table. Needs three times the largest size on the disk."""
    rows = [
        "| data | remote | first | second | times as fast | fetched the second time |",
        "|---|---|---|---|---|---|",
    ]
    for size_name, size in sizes.items():
        for shape, files in FILES.items():
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                tracked = make(root / "remote", size, files)
                with served(root / "remote") as server:
                    for remote, url in {"HTTP": server.url, "folder": str(root / "remote")}.items():
                        pairs = [pair(root, tracked, url, server) for _ in range(runs + 1)][1:]
                        firsts, seconds, fetched = zip(*pairs, strict=True)
                        ratios = [first / second for first, second in zip(firsts, seconds, strict=True)]
                        row = (
                            f"{size_name}, {shape}",
                            remote,
                            f"{median(firsts):.2f}",
                            f"{median(seconds):.3f}",
                            f"**{median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})",
                            f"{max(fetched)} bytes",
                        )
                        rows.append(f"| {' | '.join(row)} |")
                        print(rows[-1], file=sys.stderr)
    return "\n".join(rows)


def make(remote: Path, size: int, files: int) -> str:
    """Fill a DVC remote with made data; gives the md5 that a pointer to it says."""
    dice = random.Random(20130101)

    def store(content: bytes, suffix: str = "") -> str:
        name = md5(content, usedforsecurity=False).hexdigest() + suffix
        path = remote / "files" / "md5" / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    def content(size: int) -> bytes:
        blocks = [dice.randbytes(_BLOCK) for _ in range(size // _BLOCK)]  # randbytes of a GB overflows
        return b"".join([*blocks, dice.randbytes(size % _BLOCK)])

    names = [store(content(size // files)) for _ in range(files)]
    if files == 1:
        return names[0]
    return store(dvc_listing({f"part-{number:02d}.csv": name for number, name in enumerate(names)}), ".dir")


class Server(ThreadingHTTPServer):
    """Serves a folder on the loopback interface and counts the bytes."""

    daemon_threads = True
    sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def copyfile(self, source: Any, outputfile: Any) -> None:
        size = os.fstat(source.fileno()).st_size
        outputfile.flush()
        done = 0
        while done < size:
            done += os.sendfile(self.connection.fileno(), source.fileno(), done, size - done)
        self.server.sent += size

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pair(root: Path, tracked: str, url: str, server: Server) -> tuple[float, float, int]:
    """Seconds of the step with an empty cache, seconds of it again, bytes that were fetched again."""
    source = root / "source"
    (source / ".dvc").mkdir(parents=True, exist_ok=True)
    (source / ".dvc/config").write_text(f"[core]\n    remote = r\n['remote \"r\"']\n    url = {url}\n")
    # As DVC writes it; the sizes are for people, and not read.
    counts = "  size: 1\n  nfiles: 1\n" if tracked.endswith(".dir") else "  size: 1\n"
    (source / "data.dvc").write_text(f"outs:\n- md5: {tracked}\n{counts}  hash: md5\n  path: data.csv\n")
    shutil.rmtree(root / "cache", ignore_errors=True)
    first, _ = step(root, tracked)
    before = server.sent
    second, said = step(root, tracked)
    if "nothing fetched" not in said:
        raise SystemExit(f"the second step fetched something: {said}")
    return first, second, server.sent - before


def step(root: Path, tracked: str) -> tuple[float, str]:
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = Path(sys.executable).with_name("reconcile-step")
    options = (f"--source={root / 'source'}", "--pointer=data.dvc", f"--md5={tracked}", f"--out={out}")
    environment = os.environ | {"TRUEUP_CACHE": str(root / "cache"), "TRUEUP_CACHE_LIMIT": "20GB"}
    begun = time.perf_counter()
    done = subprocess.run(
        [command, "data", *options], env=environment, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - begun, done.stderr
