"""What a training keeps over a restart of its pod, so that losing a node loses an epoch and not the training.

The step `train` gives model code a :class:`Checkpoint` if its ``train`` has a parameter of that name::

    if checkpoint.latest:                        # a folder that an earlier attempt saved completely
        state = torch.load(checkpoint.latest / "state.pt")
    ...
    checkpoint.save(lambda folder: torch.save(state, folder / "state.pt"))    # after every epoch

Where the pod is told to end (SIGTERM), ``save`` is where the training stops: after it has saved. The step then
exits with 75, and the engine's retry resumes. Code without checkpoints stops at once, and begins anew.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Interrupted(BaseException):
    """The process was told to end. The text says what was kept."""


class Checkpoint:
    """At most one complete save in ``folder``, which outlives a restart where the engine provides for it."""

    def __init__(self, folder: Path) -> None:
        self._new, self._latest, self._old = (folder / name for name in ("new", "latest", "old"))
        self._told = self._saves = False

    @property
    def latest(self) -> Path | None:
        """The folder of the last complete save, or None."""
        return next((folder for folder in (self._latest, self._old) if folder.is_dir()), None)

    def save(self, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a new folder, which then replaces the last save. At every instant one is complete.

        Raises :class:`Interrupted` where the process was told to end.
        """
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(parents=True)
        write(self._new)
        if self._latest.exists():
            shutil.rmtree(self._old, ignore_errors=True)
            self._latest.rename(self._old)
        self._new.rename(self._latest)
        shutil.rmtree(self._old, ignore_errors=True)
        if self._told:
            raise Interrupted("told to end; a checkpoint is kept, and the next attempt resumes from it")

    def clear(self) -> None:
        """Forget everything: the training is done, or would fail again from here."""
        for folder in (self._new, self._latest, self._old):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM ends what is inside: at once, or within :meth:`saving` at the next save."""

        def told(_number: int, _frame: FrameType | None) -> None:
            self._told = True
            if not self._saves:
                raise Interrupted("told to end; nothing was kept, and the next attempt begins anew")

        before = signal.signal(signal.SIGTERM, told)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Within, somebody calls :meth:`save`."""
        self._saves = True
        try:
            yield
        finally:
            self._saves = False
