"""A bounded sample of the rows that were answered, for measuring steps to ask for: ``GET /recorded``.

:mod:`workflows.server.main` makes one where the model asks for it (``monitoring.record``). It is kept in memory
alone and ends with the process: requests may hold personal data. The oldest rows make room for new ones.
docs/monitoring.md tells what is recorded, for how long, and who may read it.

The answer is JSON lines. The first says whose they are: ``{"recording": {model, version, digest, release, id,
since, sample, answered, dropped}}``. Then comes, oldest first, a line a row: ``{"at", "row", "prediction"}``.
"""

from __future__ import annotations

import json
import logging
import queue
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MOST_BYTES = 32 * 1024 * 1024
"""Of all lines together, however many rows the model asks for."""
LONGEST_LINE = 64 * 1024
MOST_WAITING = 8 * 1024 * 1024
"""Bytes of requests whose rows wait to be written; what comes meanwhile is not recorded."""
_BLOCK = 256 * 1024


class Drawn(NamedTuple):
    """Rows of one request as they came, their positions in it, and about how many bytes they hold."""

    rows: pd.DataFrame
    positions: list[int]
    size: int


class Recording:
    """``sample``: the share of rows that is drawn; ``rows``: how many are kept at most.

    :meth:`draw` and :meth:`keep` are called for every request. They do not wait, and raise nothing: a row that
    cannot be recorded is dropped. Rows become lines in a thread of their own.
    """

    def __init__(self, about: Mapping[str, str], *, sample: float, rows: int) -> None:
        self._about = {**about, "id": secrets.token_hex(8), "since": _now(), "sample": sample}
        self._sample = sample
        self._rows = rows
        self._random = np.random.default_rng()
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._bytes = self._waiting = self._answered = self._dropped = 0
        self._queue: queue.SimpleQueue[tuple[Drawn, pd.DataFrame]] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def draw(self, rows: pd.DataFrame, size: int) -> Drawn | None:
        """A sample of a request of ``size`` bytes, before the model sees it: model code may change its rows."""
        try:
            with self._lock:
                drawn = np.flatnonzero(self._random.random(len(rows)) < self._sample)[-self._rows :]
            if not len(drawn):
                return None
            return Drawn(rows.iloc[drawn].copy(), drawn.tolist(), size * len(drawn) // len(rows))
        except Exception:
            log.exception("a request was not recorded")
            return None

    def keep(self, drawn: Drawn | None, answered: int, predictions: pd.DataFrame) -> None:
        """A request of ``answered`` rows got these predictions."""
        with self._lock:
            self._answered += answered
            if drawn is None:
                return
            if self._waiting + drawn.size > MOST_WAITING:
                self._dropped += len(drawn.positions)
                return
            self._waiting += drawn.size
        self._queue.put((drawn, predictions))

    def read(self) -> Iterator[bytes]:
        """What is recorded now, in blocks of whole lines."""
        with self._lock:
            said = {**self._about, "answered": self._answered, "dropped": self._dropped}
            lines = list(self._lines)
        block = json.dumps({"recording": said}).encode() + b"\n"
        for line in lines:
            block += line
            if len(block) >= _BLOCK:
                yield block
                block = b""
        yield block

    def _write(self) -> None:
        while True:
            drawn, predictions = self._queue.get()
            lines: list[bytes] = []
            try:
                lines = [line for line in _lines(drawn, predictions) if len(line) <= LONGEST_LINE]
            except Exception:  # a row that is no JSON, or a model that answers with fewer rows
                log.exception("%d rows were not recorded", len(drawn.positions))
            with self._lock:
                self._waiting -= drawn.size
                self._dropped += len(drawn.positions) - len(lines)
                for line in lines:
                    self._lines.append(line)
                    self._bytes += len(line)
                while len(self._lines) > self._rows or self._bytes > MOST_BYTES:
                    self._bytes -= len(self._lines.popleft())


def create_recorded_app(recording: Recording) -> FastAPI:
    """The one endpoint, for a port of its own, so that the network can say who reaches it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/recorded")
    def recorded() -> StreamingResponse:
        return StreamingResponse(recording.read(), media_type="application/x-ndjson")

    return app


def _lines(drawn: Drawn, predictions: pd.DataFrame) -> Iterator[bytes]:
    at = _now()
    rows, answers = _records(drawn.rows), _records(predictions.iloc[drawn.positions])
    for row, prediction in zip(rows, answers, strict=True):
        line = {"at": at, "row": row, "prediction": prediction}
        yield json.dumps(line, allow_nan=False, default=_plain, separators=(",", ":")).encode() + b"\n"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One object a row, null where a value is missing; every number with all its digits."""
    found: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return found


def _plain(value: Any) -> Any:
    """numpy's scalars as Python's, instants as ISO 8601."""
    return value.isoformat() if hasattr(value, "isoformat") else value.item()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
