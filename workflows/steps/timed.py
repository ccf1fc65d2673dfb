"""How long one model folder takes for the same records, in a process of its own that stays up.

The step `speed` keeps one :class:`Timed` for each version, so that their turns can alternate; the process is
``python -m workflows.steps.timed MODEL ROWS SIZE``. It reads one line a turn, ``START STOP`` (these of the
calls with SIZE records each, the first following the last) or ``all`` (one call with all records), and answers
with a JSON line. The first answer says that it is loaded.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from reconciler.core.errors import Terminal
from workflows.steps.predict import load

ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
"""Read by PyTorch, NumPy and what is built on them when they are imported. With more threads than cores that
are free, a time says more about the machine than about the model."""


MIB = 1024 * 1024


class Turn(NamedTuple):
    """What each call of a turn took, in milliseconds. ``peak``: bytes that the process has needed so far.

    ``busy`` is the processor time of all of the process's threads: what others do meanwhile is not in it, and
    neither is waiting.
    """

    elapsed: list[float]
    busy: list[float]
    peak: int


class Timed:
    """The process of one model folder. Terminal, with the last line that it wrote, where it ends too early."""

    def __init__(self, model: Path, rows: Path, size: int) -> None:
        self._model = model
        self._log = (model.parent / f"{model.name}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workflows.steps.timed", str(model), str(rows), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
            env={**os.environ, **ONE_THREAD},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def loaded(self) -> None:
        """Wait until it can take turns."""
        self._answer()

    def turn(self, said: str) -> Turn:
        """``START STOP`` or ``all``."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its last words are in what follows
            self._process.stdin.write(f"{said}\n")
        return Turn(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        ended = self._process.wait()
        self._log.seek(0)
        written = self._log.read()
        sys.stderr.write(written)
        said = written.strip().splitlines() or [f"the process ended with {ended}"]
        raise Terminal(f"does not predict: {said[-1]}", where=self._model.name)


def peak_memory(process: str = "self") -> int:
    """Bytes of memory that a process has had at most: VmHWM of proc(5), as :func:`resource.getrusage` counts a
    parent's too. Where there is no such file, as on macOS, what it has now."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    import psutil

    return int(psutil.Process(None if process == "self" else int(process)).memory_info().rss)


def main(model: str, rows: str, size: str) -> None:
    """The body of the process. What the model prints goes to stderr; the answers have stdout for themselves."""
    import pandas as pd

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answer, frame = load(Path(model)), pd.read_parquet(rows)
    calls = [frame[place : place + int(size)] for place in range(0, len(frame), int(size))]
    answers.write("{}\n")
    for line in sys.stdin:
        places = [] if line == "all\n" else range(*map(int, line.split()))
        elapsed, busy = [], []
        for given in [calls[place % len(calls)] for place in places] or [frame]:
            started, worked = time.perf_counter(), time.process_time()
            answer(given)
            busy.append(1000 * (time.process_time() - worked))
            elapsed.append(1000 * (time.perf_counter() - started))
        answers.write(json.dumps({"elapsed": elapsed, "busy": busy, "peak": peak_memory()}) + "\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}: {error}".splitlines()[0])
