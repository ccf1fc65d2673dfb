"""How a training says how far it is. Model code gets it if its ``train`` has a parameter ``progress``::

    progress(epoch=3, of=6, loss=0.1213)

Called by :mod:`workflows.steps.train`; the lines are those of :mod:`reconciler.core.progress`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from reconciler.core.progress import Progress

log = logging.getLogger(__name__)

SECONDS = 1.0
"""Between two lines, so that a training of many short epochs does not flood its log."""


class Reporter:
    """``progress(epoch=..., of=..., loss=...)``: one line a call, and at most one in :data:`SECONDS`.

    The first epoch and the last (``epoch == of``) are always said.
    """

    def __init__(
        self, step: str, *, trial: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._step, self._trial, self._clock = step, trial, clock
        self._began = clock()
        self._said: float | None = None

    def __call__(self, *, epoch: int, of: int | None = None, loss: float | None = None) -> None:
        now = self._clock()
        if self._said is not None and now - self._said < SECONDS and epoch != of:
            return
        self._said = now
        said = Progress(
            step=self._step,
            trial=self._trial,
            epoch=int(epoch),
            of=None if of is None else int(of),
            loss=None if loss is None else float(loss),
            elapsed=now - self._began,
        )
        log.info("%s", said.line)
