"""Whom trueup tells, and the lease, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.core.errors import Retryable
from reconciler.core.plan import Message
from reconciler.report.message import plain


class MemoryNotifier:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def send(self, message: Message, *, key: str) -> None:
        self.messages.append(plain(message))


class MemoryLease:
    """Freed when its holder leaves, however that is: a process that dies loses it too."""

    def __init__(self) -> None:
        self.held = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        if self.held:
            raise Retryable("another reconciler of this repository holds the lease")
        self.held = True
        try:
            yield
        finally:
            self.held = False
