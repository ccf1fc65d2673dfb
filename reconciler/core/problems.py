"""What is wrong with a document: data for people to read, not an error. Made by load and by the lint."""

from __future__ import annotations

from typing import Literal

from reconciler.core.base import Frozen

NOBODY = "-"
"""In place of an environment: the problem hides no subject (others name those who depend on the document)."""


class Problem(Frozen):
    """One thing that is wrong with one document, for people to read.

    ``environment`` and ``model`` name the subjects that the problem hides: a document that does not
    parse hides them, and nobody else. Both empty means that it hides everything.
    """

    path: str
    line: int = 0
    what: str
    hint: str = ""
    environment: str = ""
    model: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        advice = f". hint: {self.hint}" if self.hint else ""
        return f"{place}: {self.what.rstrip('.')}{advice}"
