"""What the tests of policies found: an answer for each gate of each case, and which answers were seen at all.

Made by :mod:`reconciler.planning.policy_tests`, shown by ``reconcile policy test``.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from reconciler.core.base import Frozen
from reconciler.core.documents import Expected
from reconciler.core.strict_yaml import Path

Seen = Literal["pass", "fail", "missing"]
"""What a gate finds: it is kept; it is not (``onFail`` answers); there is nothing to judge (``onMissing``)."""

SEEN: tuple[Seen, ...] = get_args(Seen)


class Answered(Frozen):
    """What one gate of ``policy`` said of one case; of all of them together where ``gate`` is empty.

    ``field`` is where the test says what it expects; ``line`` that line, once the file was looked at for it.
    ``seen`` is None where the gate is not asked, is waived, or answers for want of a champion.
    """

    path: str
    field: Path
    line: int = 0
    policy: str
    case: str
    gate: str = ""
    expected: Expected
    got: Expected
    why: str = ""
    seen: Seen | None = None

    @property
    def right(self) -> bool:
        return self.got == self.expected


class Covered(Frozen):
    """The answers that tests asked of one gate, and got."""

    policy: str
    gate: str
    seen: tuple[Seen, ...] = ()

    @property
    def unseen(self) -> tuple[Seen, ...]:
        return tuple(answer for answer in SEEN if answer not in self.seen)


class Rehearsed(Frozen):
    """All of it. ``share`` is how many of the answers that there could be were seen, from 0 to 1."""

    cases: int
    answers: tuple[Answered, ...] = ()
    coverage: tuple[Covered, ...] = Field(default=(), description="In the order of the policies' gates.")

    @property
    def wrong(self) -> tuple[Answered, ...]:
        return tuple(answer for answer in self.answers if not answer.right)

    @property
    def share(self) -> float:
        there = len(SEEN) * len(self.coverage)
        return sum(len(gate.seen) for gate in self.coverage) / there if there else 1.0
