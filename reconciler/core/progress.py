"""The line by which a running step says how far it is, and its parser.

Pure. Steps print such lines (workflows/steps/progress.py), people read them in logs as they are, and whoever
shows runs asks :func:`latest_progress` about the log of a task. A line is::

    progress: train: epoch 3/6, loss 0.1213, 14.2 s
    progress: trial 7: epoch 3/6, loss 0.1213, 14.2 s
"""

from __future__ import annotations

import re

from pydantic import Field

from reconciler.core.base import Frozen

_MARK = "progress: "
_LINE = re.compile(
    rf"^{_MARK}(?P<step>[a-z][-a-z0-9]*)(?: (?P<trial>\d{{1,9}}))?: "
    r"epoch (?P<epoch>\d{1,9})(?:/(?P<of>\d{1,9}))?"
    r"(?:, loss (?P<loss>[-+.0-9e]{1,24}|-?inf|nan))?, (?P<elapsed>\d{1,9}\.\d) s\r?$",
    re.ASCII | re.MULTILINE,
)


class Progress(Frozen):
    """How far one task is. ``elapsed``: seconds since this attempt began to learn."""

    step: str
    trial: int | None = Field(default=None, description="Number of the trial, in a search.")
    epoch: int
    of: int | None = None
    loss: float | None = None
    elapsed: float

    def __str__(self) -> str:
        trial = "" if self.trial is None else f" {self.trial}"
        of = "" if self.of is None else f"/{self.of}"
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        return f"{self.step}{trial}: epoch {self.epoch}{of}{loss}, {self.elapsed:.1f} s"

    @property
    def line(self) -> str:
        """The line that :func:`latest_progress` finds again, to the digits that it shows."""
        return f"{_MARK}{self}"


def latest_progress(log_text: str) -> Progress | None:
    """What the last such line of a task's log says; None where there is none. Other lines may be anything."""
    start = len(log_text)
    while (start := log_text.rfind(_MARK, 0, start)) >= 0:
        if start and log_text[start - 1] != "\n":
            continue
        if (match := _LINE.match(log_text, start)) is not None:
            try:
                return Progress.model_validate(match.groupdict())
            except ValueError:  # a loss that looks like a number and is none
                continue
    return None
