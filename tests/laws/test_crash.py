"""Law 5: killed at any write and run again, trueup comes to the same end, and nothing was done twice.

The writes come from a recording of each story, so that a write which is added later is covered too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.core.errors import Retryable
from tests.doubles.calls import Around, Call
from tests.doubles.world import World
from tests.laws.driving import converge, state
from tests.laws.stories import STORIES


class Killed(BaseException):
    """The process ends here; no ``except Exception`` sees it."""


def before(make: Callable[[], Any]) -> Any:
    raise Killed


def after(make: Callable[[], Any]) -> Any:
    make()
    raise Killed


def refused(make: Callable[[], Any]) -> Any:
    raise Retryable("nobody answers")


def answer_lost(make: Callable[[], Any]) -> Any:
    make()
    raise Retryable("the connection was closed before an answer came")


WAYS = (before, after, refused, answer_lost)


class Writes:
    """The writes of a run; number ``at`` goes the given way. ``made`` are those that changed something."""

    def __init__(self, world: World, at: int = -1, way: Callable[[Callable[[], Any]], Any] = before) -> None:
        self.world, self.at, self.way = world, at, way
        self.count = 0
        self.made: Counter[str] = Counter()

    def __call__(self, call: Call, make: Callable[[], Any]) -> Any:
        if call.port == "lease":
            return make()
        self.count += 1

        def noted() -> Any:
            was = state(self.world)
            answer = make()
            if state(self.world) != was:
                self.made[str(call)] += 1
            return answer

        return self.way(noted) if self.count - 1 == self.at else noted()


def run(world: World, writes: Around) -> bool:
    """To the end, through at most one death; whether there was one."""
    try:
        converge(world, writes=writes)
    except Killed:
        world.settle()
        converge(world, writes=writes)
        return True
    return False


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_write_may_be_the_last(story: str, way: Callable[[Callable[[], Any]], Any]) -> None:
    undisturbed = STORIES[story]()
    wanted = Writes(undisturbed)
    run(undisturbed, wanted)
    told = Counter(undisturbed.notifier.messages)
    assert wanted.count > 2
    assert set(wanted.made.values()) == {1}
    for at in range(wanted.count):
        world = STORIES[story]()
        writes = Writes(world, at, way)
        assert run(world, writes) == (way in (before, after))
        assert writes.made == wanted.made, f"write {at}"
        assert state(world) == state(undisturbed), f"write {at}"
        said = Counter(world.notifier.messages)
        assert said.keys() == told.keys()
        assert (said - told).total() <= 1
