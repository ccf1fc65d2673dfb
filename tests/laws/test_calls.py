"""A tick at rest costs the sweep and nothing else, however many models there are; and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.doubles.calls import Call
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import converge, tick

SWEEP = {
    ("registry default", "sweep"): 1,
    ("engine", "sweep"): 1,
    ("forge", "sweep"): 1,
    ("cluster local", "sweep"): 1,
}
PLENTY = {"submissions": 1000, "submissionsPerMinute": 1000, "openPullRequests": 1000}


@cache
def at_rest(models: int) -> World:
    files = shipped() | environment("staging", limits=PLENTY)
    for index in range(models):
        files |= model(f"model-{index}", "staging")
    world = World(files)
    ran = converge(world)
    assert not ran.last.holds
    assert len(world.cluster.workloads) == models
    return world


def counted(world: World) -> tuple[Counter[tuple[str, str]], list[Call]]:
    """The reads by port and method, and the writes, of one tick."""
    reads: Counter[tuple[str, str]] = Counter()
    writes: list[Call] = []

    def read(call: Call, make: Callable[[], Any]) -> Any:
        reads[call.port, call.method] += 1
        return make()

    def write(call: Call, make: Callable[[], Any]) -> Any:
        writes.append(call)
        return make()

    tick(world, reads=read, writes=write)
    return reads, writes


@pytest.mark.parametrize("models", [3, 30])
def test_an_empty_tick_is_one_sweep_and_no_write(models: int) -> None:
    reads, writes = counted(at_rest(models))
    asked = {call: times for call, times in reads.items() if call[0] != "source"}
    assert asked == SWEEP
    assert writes == []
    assert tick(at_rest(models)).planned.observed.moving == ()
    # Git is a mirror on this machine: what was parsed once is not read again, and a commit is listed once.
    git = {method: times for (port, method), times in reads.items() if port == "source"}
    assert git == {"head": 1, "files": 1, "tree": 2 * models}  # each model's code, and its tests of behaviour


def test_one_that_moves_is_looked_at_alone() -> None:
    world = at_rest(30).copy()
    world.cluster.turn("staging/model-7", "Degraded")
    assert [str(subject) for subject in tick(world.copy()).planned.observed.moving] == ["staging/model-7"]
    reads, _ = counted(world)
    assert {call: times for call, times in reads.items() if call in SWEEP} == SWEEP
    details = {call for call in reads if call[0] != "source"} - SWEEP.keys()
    assert details == {("forge", "closed")}
    assert (reads["forge", "closed"], reads["source", "log"]) == (1, 1)


def test_the_lease_is_taken_for_writes_only() -> None:
    world = at_rest(3).copy()
    world.lease.held = True
    _, writes = counted(world)
    assert writes == []
    world.lease.held = False
    world.cluster.vanish("staging/model-0")
    _, writes = counted(world)
    assert [(call.port, call.method) for call in writes] == [("lease", "hold"), ("cluster local", "apply")]
