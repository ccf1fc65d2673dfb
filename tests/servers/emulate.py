"""A GitHub-shaped server for tests: npm's `emulate`, installed once into a cache, and held to loopback.

tests/contract/test_forge_emulated.py calls it. It needs node 20 and npm. The version is in github/package.json.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent / "github"
PATIENCE = 30.0


class UnavailableError(Exception):
    """It cannot be installed on this machine; the message says what is missing."""


def install() -> Path:
    """The folder with its node_modules. Seconds the first time; who comes second waits for the first."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["emulate"]
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = os.environ.get("TRUEUP_TEST_CACHE") or Path(caches) / "trueup-tests"
    folder = Path(chosen).absolute() / f"emulate-{wanted}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            if not shutil.which("npm"):
                raise UnavailableError("node 20 and npm are needed for the GitHub emulator: https://nodejs.org")
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(HERE / name, folder / name)
            command = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise UnavailableError(f"npm ci failed: {done.stderr.strip()[-1000:]}")
            (folder / "installed").touch()
    return folder


@contextmanager
def running(folder: Path, seed: Mapping[str, Any]) -> Iterator[str]:
    """Its address while it runs. ``seed`` are its tokens, accounts, repositories and Apps."""
    program = install() / "node_modules/emulate/dist/index.js"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seed.json").write_text(json.dumps(seed))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["node", "--import", str(HERE / "loopback.mjs"), str(program), "start", "--service", "github"]
    command += ["--port", str(port), "--seed", str(folder / "seed.json")]
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _until_ready(process, url, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the emulator did not start: {log.read_text()[-1000:]}")
