"""One tick, on one screen. docs/lifecycle.md tells the same in words.

Git is read, everything is looked over, the subjects that are not at rest are looked at closely, a plan is made,
and each of its actions is one write. Then it stops; the next tick looks again. The way back from a write to the
desired state is a merged pull request, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from reconciler.apply import apply
from reconciler.core.desired import DesiredState
from reconciler.core.errors import Terminal
from reconciler.core.observed import Observed
from reconciler.core.plan import Outcome, Plan
from reconciler.load import load
from reconciler.look import look
from reconciler.planning.in_motion import EVERYTHING, Scope, in_motion
from reconciler.planning.plan import make_plan
from reconciler.ports import Readers, Writers
from reconciler.sweep import sweep

__all__ = ["EVERYTHING", "Planned", "Scope", "Ticked", "plan_once", "run_once"]


class Planned(NamedTuple):
    """What Git wanted, what was seen, and what follows."""

    desired: DesiredState
    observed: Observed
    plan: Plan


class Ticked(NamedTuple):
    """A plan that was carried out, and what became of each action."""

    planned: Planned
    outcomes: tuple[Outcome, ...]


def plan_once(readers: Readers, at: datetime, scope: Scope = EVERYTHING, revision: str = "") -> Planned:
    """Everything but the writes: what ``--dry-run`` does. ``revision`` is main's head unless given."""
    desired = load(readers.source, revision or readers.source.head())
    swept = sweep(readers, at)
    moving = in_motion(desired, swept, scope)
    observed = look(desired, swept, moving, readers, scope.closely)
    return Planned(desired, observed, make_plan(desired, observed))


def run_once(
    readers: Readers,
    writers: Writers,
    clock: Callable[[], datetime],
    scope: Scope = EVERYTHING,
    expect: str | None = None,
) -> Ticked:
    """One tick. An empty plan costs no lease; another is made again under it, because others may have acted.

    ``expect`` is the digest (or its beginning) of the plan that was reviewed; Terminal if it is another by now.
    """
    planned = plan_once(readers, clock(), scope)
    if not planned.plan.actions:
        _check(planned.plan, expect)
        return Ticked(planned, ())
    with writers.lease.hold():
        planned = plan_once(readers, clock(), scope)
        _check(planned.plan, expect)
        return Ticked(planned, apply(planned.plan, writers))


def _check(plan: Plan, expect: str | None) -> None:
    if expect is not None:
        check_digest("plan", plan.digest, expect, "`reconcile --dry-run`")


def check_digest(what: str, is_now: str, expect: str, again: str) -> None:
    """Terminal where ``expect`` is not the beginning of the digest; ``again``: how it is reviewed again."""
    digest, wanted = is_now.removeprefix("sha256:"), expect.removeprefix("sha256:")
    if len(wanted) < 12:
        raise Terminal(
            f"{expect!r} is too short for a {what}'s digest", hint="give at least its first 12 digits"
        )
    if not digest.startswith(wanted):
        raise Terminal(
            f"the {what}'s digest is {digest[:12]}, not {wanted[:12]}",
            hint=f"something changed since it was reviewed; review it again with {again}",
        )
