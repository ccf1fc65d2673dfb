"""What a release claims, worked out again: made by planning/verification.py, shown by ``reconcile verify``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reconciler.core.base import Frozen, Instant, Subject
from reconciler.core.plan import GateVerdict

Standing = Literal["proven", "contradicted", "unknown"]


class Step(Frozen):
    """One thing that a release claims, and how it stands."""

    what: str
    standing: Standing
    said: str


class Proof(Frozen):
    """Everything that one release claims about how it was let in. ``gates`` are judged anew."""

    subject: Subject
    version: str
    digest: str
    grounds: Literal["promotion", "rollback", "adoption"]
    commit: str = Field(description="Of main, which brought this pin.")
    since: Instant
    judged_at: Instant
    offline: bool = Field(description="Whether Git alone was asked.")
    steps: tuple[Step, ...]
    gates: tuple[GateVerdict, ...] = ()

    @property
    def standing(self) -> Standing:
        """What was contradicted is so, whatever else could not be told."""
        said = {step.standing for step in self.steps}
        return "contradicted" if "contradicted" in said else "unknown" if "unknown" in said else "proven"
