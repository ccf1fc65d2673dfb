"""make_plan: the desired and the observed state become actions, holds and gaps. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.core.desired import DesiredState
from reconciler.core.observed import ClusterSweep, Gap, Observed
from reconciler.core.plan import Plan
from reconciler.planning.limits import limited
from reconciler.planning.subjects import plan_subject
from reconciler.planning.view import View


def make_plan(desired: DesiredState, observed: Observed) -> Plan:
    """The plan of one tick, sorted by subject: the same input gives the same plan, byte for byte."""
    view = View(desired, observed)
    moving = sorted(observed.moving, key=lambda subject: (subject.environment, subject.model))
    decisions, tripped = limited(view, {subject: plan_subject(view, subject) for subject in moving})
    return Plan(
        revision=desired.revision,
        at=observed.at,
        actions=tuple(action for decision in decisions.values() for action in decision.actions),
        holds=tuple(hold for decision in decisions.values() for hold in decision.holds),
        gaps=tuple(_gaps(observed)),
        problems=tuple(p for p in desired.problems if p.severity == "error"),
        tripped=tripped,
        subjects=len(desired.subjects),
    )


def _gaps(observed: Observed) -> Iterator[Gap]:
    swept = observed.swept
    for sweep in [*swept.registries.values(), swept.engine, swept.forge, *swept.clusters.values()]:
        if isinstance(sweep, Gap):
            yield sweep
        elif isinstance(sweep, ClusterSweep):
            yield from sweep.gaps.values()
    for _, gap in sorted(observed.gaps.items()):
        yield gap
