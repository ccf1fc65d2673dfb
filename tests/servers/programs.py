"""What servers for tests are made of: programs that are built once and kept, processes that end with the test.

gitea.py, cluster.py, mlflow.py and emulate.py call it. Programs are kept in ``TRUEUP_TEST_CACHE``, a folder for
each version; `make servers` builds what is missing of all of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from ssl import SSLContext
from typing import Any, TypeVar
from urllib.request import urlopen

PATIENCE = 90.0
"""Seconds for anything to happen on a busy machine."""
_TAIL = 2000
_Server = TypeVar("_Server")


class UnavailableError(Exception):
    """A server cannot be built or run on this machine; the message says what is missing."""


@contextmanager
def or_skipped(starting: AbstractContextManager[_Server]) -> Iterator[_Server]:
    """A server; the test is skipped where it cannot be had, which on CI is a failure."""
    import pytest

    with ExitStack() as stack:
        try:
            server = stack.enter_context(starting)
        except UnavailableError as unavailable:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(unavailable))
        yield server


# --- programs ---------------------------------------------------------------------------------------------


def cached(name: str) -> Path:
    """The folder of one program's version."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = os.environ.get("TRUEUP_TEST_CACHE") or Path(caches) / "trueup-tests"
    return Path(chosen).absolute() / name


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While what is missing in ``folder`` is made; who comes second waits and finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(command: Sequence[str], *, needs: str, **how: Any) -> str:
    """:func:`run` for what builds a program. UnavailableError where it fails, or is not there: ``needs``."""
    if not shutil.which(command[0]):
        raise UnavailableError(needs)
    try:
        return run(command, **how)
    except RuntimeError as failed:
        raise UnavailableError(str(failed)) from None


def run(command: Sequence[str], *, stdin: str = "", **how: Any) -> str:
    """What a command prints. RuntimeError with the end of it where the command fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, **how)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {f'{done.stdout}{done.stderr}'.strip()[-_TAIL:]}")
    return str(done.stdout)


# --- processes --------------------------------------------------------------------------------------------


class Process:
    """A server that was started, in the folder of its log, with everything that it starts."""

    def __init__(
        self, command: Sequence[str], log: Path, *, env: dict[str, str] | None = None, user: str | None = None
    ) -> None:
        self._name, self._log = Path(command[0]).name, log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=log.parent,
                env=env,
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def until(self, ready: Callable[[], Any]) -> None:
        """Wait for it. Where ``ready`` fails, it is not ready yet. RuntimeError with the end of its log."""
        deadline = time.monotonic() + PATIENCE
        while not _is_so(ready):
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = self._log.read_text()[-_TAIL:]
                raise RuntimeError(f"{self._name} {'ended' if ended else 'does not get ready'}: {said}")
            time.sleep(0.05)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it does nothing, without noticing."""
        self._send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._send(signal.SIGCONT)

    def stop(self) -> None:
        self._send(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._send(signal.SIGKILL)
            self._process.wait()

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def started(command: Sequence[str], log: Path, ready: Callable[[], Any], **how: Any) -> Iterator[Process]:
    """A :class:`Process` from when it is ready until the end of the block."""
    process = Process(command, log, **how)
    try:
        process.until(ready)
        yield process
    finally:
        process.stop()


def answers(url: str, context: SSLContext | None = None) -> bool:
    """Whether a server says yes there."""
    return _is_so(lambda: urlopen(url, context=context, timeout=5).close() is None)


def until(wanted: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Wait until something is so. RuntimeError if that takes longer than ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not wanted():
        if time.monotonic() > deadline:
            raise RuntimeError(f"did not happen within {patience} seconds")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def _is_so(wanted: Callable[[], Any]) -> bool:
    try:
        return bool(wanted())
    except (OSError, HTTPException, RuntimeError):
        return False
