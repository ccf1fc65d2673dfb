"""Runs the loop over a World: tick, settle, and jump over soaks only when everything waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from reconciler.core.base import Subject, format_instant
from reconciler.core.plan import Plan
from reconciler.loop import Ticked, run_once
from tests.doubles.calls import Around
from tests.doubles.world import World

JUMP = timedelta(minutes=15)
"""Longer than every soak and every ``rollback.for`` of the laws' environments."""
WAITING = ("soaking", "unhealthy")
"""Holds that time alone ends."""
MANY = 200


class Ran(NamedTuple):
    """Until there was nothing left to do. ``ticks`` counts those with actions."""

    ticks: int
    done: Counter[str]
    last: Plan
    story: str


def tick(world: World, reads: Around | None = None, writes: Around | None = None) -> Ticked:
    return run_once(world.readers(reads), world.writers(writes), world.clock)


def converge(
    world: World,
    *,
    reads: Around | None = None,
    writes: Around | None = None,
    before: Callable[[World], None] = lambda world: None,
    limit: int = MANY,
) -> Ran:
    """Tick until a plan has no actions although everything has settled and no soak is left to wait for."""
    ticks, done, story = 0, Counter[str](), list[str]()
    for _ in range(limit):
        before(world)
        ticked = tick(world, reads, writes)
        plan = ticked.planned.plan
        ticks += bool(plan.actions)
        story.append(f"-- tick at {format_instant(plan.at)}\n{said(ticked)}")
        done.update(o.key for o in ticked.outcomes if o.result in ("done", "already"))
        if world.settle() or plan.actions or merge_as_asked(world, plan):
            continue
        if not any(hold.code in WAITING for hold in plan.holds):
            return Ran(ticks, done, plan, "\n".join(story))
        world.wait(JUMP)
    raise AssertionError("\n".join([*story[-5:], f"no rest within {limit} ticks"]))


def merge_as_asked(world: World, plan: Plan) -> bool:
    """A person merges what waits for nothing else; whether there was anything."""
    waiting = {hold.subject for hold in plan.holds if hold.code == "awaiting-merge"}
    numbers = [
        number
        for number, pull in world.forge.sweep().open.items()
        if pull.marker
        and pull.mergeable
        and Subject(environment=pull.marker.environment, model=pull.marker.model) in waiting
    ]
    for number in numbers:
        world.forge.merge_as_person(number)
    return bool(numbers)


def said(ticked: Ticked) -> str:
    """A tick in a few lines, for a failing test's message."""
    plan = ticked.planned.plan
    lines = [f"{o.result} {o.key} {o.detail}" for o in ticked.outcomes]
    lines += [f"{h.subject}: {h.code}: {h.reason}" for h in plan.holds]
    return "\n".join([*lines, *(str(gap) for gap in plan.gaps)])


def state(world: World) -> dict[str, Any]:
    """What a person would call the state of the world, without ids that only tell how it came about."""
    repository = world.repository
    return {
        "files": repository.commits[repository.main].files,
        "models": dict(world.registry.models),
        "runs": dict(world.engine.runs),
        "workloads": dict(world.cluster.workloads),
        "open": {pull.branch: pull.title for pull in world.forge.sweep().open.values()},
    }
