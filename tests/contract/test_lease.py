"""The contract of a Lease: one holder at a time, freed by leaving, by an error and by death."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.adapters.embedded.lease import EmbeddedLease
from reconciler.adapters.terminal_notifier import TerminalNotifier
from reconciler.core.errors import Retryable
from reconciler.ports import Lease

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

HOLDER = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from reconciler.adapters.embedded.lease import EmbeddedLease
with EmbeddedLease(Path(sys.argv[1]), lambda: datetime.now(UTC)).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["embedded"])
def lease(tmp_path: Path) -> Callable[[], Lease]:
    """Makes leases of one repository."""
    return lambda: EmbeddedLease(tmp_path / "home", lambda: AT)


def test_a_second_holder_is_told_who_has_it(lease: Callable[[], Lease]) -> None:
    with lease().hold(), pytest.raises(Retryable, match=rf"process {os.getpid()} since 2026-03-01T12:00:00Z"):
        lease().hold().__enter__()


def test_it_is_free_after_leaving_and_after_an_error(lease: Callable[[], Lease]) -> None:
    with pytest.raises(ZeroDivisionError), lease().hold():
        _ = 1 / 0
    with lease().hold():
        pass
    with lease().hold():
        pass


def test_a_killed_holder_frees_it(lease: Callable[[], Lease], tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "home"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Retryable, match=f"process {holder.pid}"):
            lease().hold().__enter__()
    finally:
        holder.kill()
        holder.communicate()
    with lease().hold():
        pass


def test_the_terminal_notifier_passes_text_and_no_control_characters() -> None:
    said: list[str] = []
    TerminalNotifier(said.append).send("production/digits: rolled back\n\thint: \x1b[2Jlook\x07\r\n")
    assert said == ["production/digits: rolled back\n\thint: [2Jlook"]
