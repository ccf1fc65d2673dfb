"""Evidence that was read once, by its SHA-256, in ``TRUEUP_CACHE/evidence``: deleting it loses time only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class EvidenceFolder:
    """``Kept`` as files. What cannot be written is read again the next time, and nobody is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, sha256: str) -> bytes | None:
        try:
            return self._path(sha256).read_bytes()
        except OSError:
            return None

    def put(self, sha256: str, content: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".")
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(self._path(sha256))
        except OSError:
            return

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256.removeprefix("sha256:")
