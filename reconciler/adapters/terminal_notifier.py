"""The port ``Notifier`` for a person who watches: every message is a line on the terminal, or in the log."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.core.plan import Message


class TerminalNotifier:
    """``write`` gets what ``render`` makes of each message: one line that steers nobody's terminal."""

    def __init__(self, write: Callable[[str], None], render: Callable[[Message], str]) -> None:
        self._write, self._render = write, render

    def send(self, message: Message, *, key: str) -> None:  # noqa: ARG002 - a person sees
        self._write(self._render(message))
