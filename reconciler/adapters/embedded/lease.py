"""The port ``Lease`` on one machine: a lock on a file of the state folder, freed by the kernel when we die."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from reconciler.core.base import format_instant
from reconciler.core.errors import Retryable


class EmbeddedLease:
    """``home/lease``. Its text (process id and instant) is for people; only the lock counts."""

    def __init__(self, home: Path, clock: Callable[[], datetime]) -> None:
        self._file = home / "lease"
        self._clock = clock

    @contextmanager
    def hold(self) -> Iterator[None]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Python's files are not inherited: a training that outlives us does not keep the lock.
        with self._file.open("a+", encoding="utf-8") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lease.seek(0)
                holder = lease.read(200).strip() or "another process"
                hint = "wait for it to end; the next tick tries again"
                raise Retryable(f"{holder} reconciles now", where=str(self._file), hint=hint) from None
            lease.truncate(0)
            lease.write(f"process {os.getpid()} since {format_instant(self._clock())}\n")
            lease.flush()
            yield
            lease.truncate(0)
