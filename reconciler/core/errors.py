"""Everything that can go wrong, as one small tree.

    TrueupError
    |-- Retryable      the same call may succeed later: a timeout, a 503, a lock held by another
    `-- Terminal       a person must change something first: bad input, a refused right, a wrong digest

A gate that blocks is neither: it is a :class:`reconciler.core.plan.Hold`. A source that failed to answer
becomes a :class:`reconciler.core.observed.Gap`, which carries the error's text into the plan, and what is wrong
with a document a :class:`reconciler.core.problems.Problem`. Steps start quickly because this imports nothing.
"""

from __future__ import annotations


class TrueupError(Exception):
    """What happened, where (file:line, object or call), and what to do about it.

    ``str()`` gives the one form in which people see an error::

        WHERE: WHAT. hint: WHAT TO DO
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f". hint: {self.hint}" if self.hint else ""
        return f"{place}{self.what.rstrip('.')}{advice}"


class Retryable(TrueupError):  # noqa: N818 - the word that decides what is done about it
    """The same call may succeed later; the next tick tries again."""


class Terminal(TrueupError):  # noqa: N818
    """Trying again changes nothing; a person must act first."""
