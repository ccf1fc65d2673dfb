"""Past candidates, judged by two versions of the policies: made by planning/simulation.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reconciler.core.base import Frozen, Instant, Subject
from reconciler.core.plan import Answer, GateVerdict

Outcome = Literal["blocked", "waits", "let-through", "same", "not-measured"]
"""What the changed policies would have done otherwise; ``not-measured``: that cannot be told by what was."""


class Asked(Frozen):
    """What one environment asks, before and after: names of policies, and of the gates that differ."""

    environment: str
    old: str
    new: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class Turned(Frozen):
    """A gate that answers otherwise; no verdict on the side that does not ask it."""

    gate: str
    old: GateVerdict | None = None
    new: GateVerdict | None = None


class Replayed(Frozen):
    """One candidate of the past. ``unmeasured``: metrics that only the changed policy asks, and it lacks."""

    subject: Subject
    version: str
    digest: str
    champion: str = Field(default="", description="Version that it was compared with.")
    judged_at: Instant
    released: bool = Field(description="Whether main has pinned it.")
    old: Answer
    new: Answer
    outcome: Outcome
    turned: tuple[Turned, ...] = ()
    unmeasured: tuple[str, ...] = ()


class Simulation(Frozen):
    """All of it, newest first for each subject. ``left_out`` says what was not looked at, in sentences."""

    old: str
    new: str
    asked: tuple[Asked, ...]
    candidates: tuple[Replayed, ...] = ()
    left_out: tuple[str, ...] = ()
