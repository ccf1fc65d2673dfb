"""One tick: what a dry run says is what is done, only what was reviewed is, and only what is in scope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reconciler.core.errors import Terminal
from reconciler.loop import EVERYTHING, Scope, Ticked, plan_once, run_once
from tests.doubles.calls import Call
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World

ENVIRONMENTS = {**environment("staging"), **environment("production", promotes_from=("staging",))}


@pytest.fixture
def world() -> World:
    """Two models that were never trained; one of them is for staging only."""
    return World(shipped() | ENVIRONMENTS | model("digits", "staging", "production") | model("spam", "staging"))


def ran(world: World, scope: Scope = EVERYTHING, expect: str | None = None) -> tuple[Ticked, list[Call]]:
    """A tick, and the writes that it made."""
    writes: list[Call] = []

    def write(call: Call, make: Callable[[], Any]) -> Any:
        writes.append(call)
        return make()

    return run_once(world.readers(), world.writers(write), world.clock, scope, expect), writes


def test_a_dry_run_says_what_the_tick_then_does(world: World) -> None:
    said = plan_once(world.readers(), world.clock()).plan
    ticked, writes = ran(world)
    assert ticked.planned.plan == said
    assert [outcome.key for outcome in ticked.outcomes] == [action.key for action in said.actions]
    assert [(call.port, call.method) for call in writes] == [("lease", "hold"), *[("engine", "submit")] * 2]


@pytest.mark.parametrize("spelled", [lambda d: d, lambda d: d[7:], lambda d: d[7:19], lambda d: d[:19]])
def test_the_plan_that_was_reviewed_is_carried_out(world: World, spelled: Callable[[str], str]) -> None:
    reviewed = plan_once(world.readers(), world.clock()).plan.digest
    assert len(ran(world, expect=spelled(reviewed))[0].outcomes) == 2


def test_another_plan_than_the_reviewed_one_is_not(world: World) -> None:
    reviewed = plan_once(world.readers(), world.clock()).plan.digest
    world.commit(model("spam", "staging", seed=1))
    with pytest.raises(Terminal, match=f"the plan's digest is .*, not {reviewed[7:19]}") as refusal:
        ran(world, expect=reviewed)
    assert "reconcile --dry-run" in refusal.value.hint
    assert world.engine.runs == {}


def test_nothing_left_to_do_is_another_plan_too(world: World) -> None:
    reviewed = plan_once(world.readers(), world.clock()).plan.digest
    ran(world)
    with pytest.raises(Terminal, match="the plan's digest is"):
        ran(world, expect=reviewed)


@pytest.mark.parametrize("short", ["", "abc", "sha256:", "sha256:0123456789a"])
def test_a_few_digits_are_no_digest(world: World, short: str) -> None:
    with pytest.raises(Terminal, match="is too short for a plan's digest"):
        ran(world, expect=short)
    assert world.engine.runs == {}


def test_what_others_did_while_the_lease_was_waited_for_is_not_done_again(world: World) -> None:
    class Awaited:
        """Another reconciler had it, and makes its whole tick before it lets go."""

        @contextmanager
        def hold(self) -> Iterator[None]:
            ran(world)
            yield

    writers = world.writers()._replace(lease=Awaited())
    ticked = run_once(world.readers(), writers, world.clock)
    assert ticked.outcomes == ()
    assert len(world.engine.runs) == 2


@pytest.mark.parametrize(
    ("scope", "trained"),
    [
        (Scope(), ["digits", "spam"]),
        (Scope(environment="staging"), ["digits", "spam"]),
        (Scope(environment="production"), ["digits"]),
        (Scope(model="spam"), ["spam"]),
        (Scope(environment="production", model="spam"), []),
        (Scope(environment="prodction"), []),
        (Scope(model="digit"), []),
    ],
    ids=str,
)
def test_only_what_is_in_scope_is_acted_on(world: World, scope: Scope, trained: list[str]) -> None:
    ran(world, scope)
    assert sorted(run.labels["trueup.dev/model"] for run in world.engine.runs.values()) == trained
