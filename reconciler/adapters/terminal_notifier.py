"""The port ``Notifier`` for a person who watches: every message goes to the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class TerminalNotifier:
    """``write`` gets each message without a final newline, and without control characters.

    A message may quote what others wrote (titles, log lines), which must not steer the reader's terminal.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, message: str) -> None:
        self._write(_CONTROL.sub("", message).rstrip())
