"""Law 4: one subject's failure stops that subject only; and once it is over, that subject goes on as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.core.errors import Retryable, Terminal
from reconciler.loop import Ticked
from tests.doubles.calls import Call
from tests.doubles.documents import model, shipped
from tests.doubles.world import World
from tests.laws.driving import JUMP, converge, merge_as_asked, said, state, tick
from tests.laws.stories import ENVIRONMENTS

MODELS = ("alpha", "beta", "gamma")
UNLUCKY = "beta"
ERRORS = (Retryable("the server is busy"), Terminal("not allowed to"), ValueError("nobody expected this"))


def three(seed: int = 0) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in MODELS:
        files |= model(name, "staging", "production", seed=seed)
    return files


def first_training() -> World:
    return World(shipped() | ENVIRONMENTS | three())


def rolling_back() -> World:
    """Version 2 of each model fails in production."""
    world = first_training()
    converge(world)
    world.commit(three(seed=1))
    converge(world)
    world.broken.add(("production", "2"))
    world.settle()
    return world


def removing() -> World:
    world = first_training()
    converge(world)
    changes: dict[str, str] = {}
    for name in MODELS:
        changes |= model(name, "staging")
    world.commit(changes)
    return world


STORIES = {"first training": first_training, "rolling back": rolling_back, "removing": removing}


def is_about(call: Call, world: World, name: str) -> bool:
    """Whether a write concerns this model. Pull requests are known to the writer by number alone."""
    number = call.arguments[0] if call.port == "forge" and call.arguments else None
    return f"/{name}" in world.forge.get(number).branch if number else name in str(call)


class Unlucky:
    """Fails each write about :data:`UNLUCKY` as often as asked, and remembers which they were."""

    def __init__(self, world: World, error: Exception, times: int) -> None:
        self.world, self.error, self.times = world, error, times
        self.failed: dict[str, int] = {}

    def __call__(self, call: Call, make: Callable[[], Any]) -> Any:
        if call.port != "lease" and is_about(call, self.world, UNLUCKY):
            before = self.failed.get(str(call), 0)
            if before < self.times:
                self.failed[str(call)] = before + 1
                raise self.error
        return make()


def check(ticked: Ticked) -> None:
    """Of the unlucky: nothing after a failure. Of the others: everything."""
    stopped = set()
    for outcome in ticked.outcomes:
        if outcome.subject.model != UNLUCKY:
            assert outcome.result in ("done", "already"), said(ticked)
        elif outcome.subject in stopped:
            assert outcome.result == "skipped", said(ticked)
        elif outcome.result == "failed":
            stopped.add(outcome.subject)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("story", STORIES)
def test_every_write_of_one_fails_once(story: str, error: Exception) -> None:
    undisturbed, world = STORIES[story](), STORIES[story]()
    converge(undisturbed)
    writes = Unlucky(world, error, times=1)
    for _ in range(60):
        ticked = tick(world, writes=writes)
        check(ticked)
        merged = merge_as_asked(world, ticked.planned.plan)
        if not world.settle() and not merged and not ticked.planned.plan.actions:
            break
    converge(world, writes=writes)
    assert len(writes.failed) > 2
    assert served(world) == served(undisturbed)


@pytest.mark.parametrize("story", STORIES)
def test_one_that_always_fails_stays_alone(story: str) -> None:
    undisturbed, world = STORIES[story](), STORIES[story]()
    converge(undisturbed)
    start = served(world)
    writes = Unlucky(world, ERRORS[0], times=10**9)
    for _ in range(60):
        ticked = tick(world, writes=writes)
        check(ticked)
        world.settle()
        merge_as_asked(world, ticked.planned.plan)
        if not any(outcome.result == "done" for outcome in ticked.outcomes):
            world.wait(JUMP)
    for name, now in served(world).items():
        assert now == (start[name] if name == UNLUCKY else served(undisturbed)[name])


def served(world: World) -> dict[str, Any]:
    """What it comes to, by model."""
    whole = state(world)
    return {
        name: (
            whole["models"][name].aliases if name in whole["models"] else {},
            {
                key: (workload.release, workload.health)
                for key, workload in whole["workloads"].items()
                if key.endswith(f"/{name}")
            },
        )
        for name in MODELS
    }
