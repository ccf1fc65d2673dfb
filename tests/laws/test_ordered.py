"""A version that a person orders: through every gate, to rest, and there until a younger one comes."""

from __future__ import annotations

from functools import cache

import pytest

from reconciler.apply import open_pull_request
from reconciler.core.base import Subject
from reconciler.core.errors import Terminal
from reconciler.core.plan import OpenPullRequest
from reconciler.loop import plan_once
from reconciler.planning import by_hand
from reconciler.planning.in_motion import Scope
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import JUMP, converge

STAGING, PRODUCTION = (Subject(environment=name, model="digits") for name in ("staging", "production"))


@cache
def trained_twice() -> World:
    """Version 2 serves in both environments; version 1 did before it."""
    approved = {"merge": "auto", "approvals": 1, "soak": "10m"}
    files = shipped() | environment("staging")
    files |= environment("production", promotes_from=("staging",), promotion=approved)
    world = World(files | model("digits", "staging", "production"))
    converge(world)
    world.commit(model("digits", "staging", "production", seed=1))
    converge(world)
    assert pins(world) == ("2", "2")
    return world


def pins(world: World) -> tuple[str, ...]:
    desired = plan_once(world.readers(), world.clock()).desired
    return tuple(desired.releases[str(subject)].pin.version for subject in (STAGING, PRODUCTION))


def order(world: World, subject: Subject, version: str) -> None:
    scope = Scope(environment=subject.environment, model=subject.model, closely=True)
    desired, observed, _ = plan_once(world.readers(), world.clock(), scope)
    wanted = by_hand.promote(desired, observed, subject, version, "the labels were wrong", "Ada")
    assert isinstance(wanted, OpenPullRequest)
    open_pull_request(wanted, world.forge)


@pytest.mark.parametrize(
    ("subject", "after"), [(STAGING, ("1", "1")), (PRODUCTION, ("2", "1"))], ids=["staging", "production"]
)
def test_it_is_measured_merged_and_stays_until_a_younger_one_comes(
    subject: Subject, after: tuple[str, ...]
) -> None:
    world = trained_twice().copy()
    order(world, subject, "1")
    ran = converge(world)
    assert pins(world) == after
    assert not ran.last.holds, "it is at rest"
    world.wait(JUMP)
    world.commit(model("digits", "staging", "production", seed=2))
    converge(world)
    assert pins(world) == ("3", "3")


def test_closing_its_pull_request_takes_it_back() -> None:
    world = trained_twice().copy()
    order(world, STAGING, "1")
    (number,) = world.forge.sweep().open
    world.forge.close_as_person(number, "no")
    ran = converge(world)
    assert not ran.last.holds
    assert pins(world) == ("2", "2")


def test_a_younger_one_that_comes_meanwhile_is_stood_against() -> None:
    world = trained_twice().copy()
    world.approvers = ()
    order(world, PRODUCTION, "1")
    world.wait(JUMP)
    world.commit(model("digits", "staging", "production", seed=2))
    converge(world)
    assert pins(world) == ("3", "2")
    world.approvers = ("Ada", "Grace")
    ran = converge(world)
    assert pins(world) == ("3", "1")
    assert not ran.last.holds


def test_a_rollback_ends_it() -> None:
    world = trained_twice().copy()
    order(world, STAGING, "1")
    world.broken.add(("staging", "1"))
    converge(world)
    assert pins(world)[0] == "2"
    with pytest.raises(Terminal, match="version 1 was rejected in staging"):
        order(world, STAGING, "1")


def test_what_is_measured_and_blocked_is_refused_at_once() -> None:
    world = trained_twice().copy()
    world.accuracy["digits", "3"] = 0.1
    world.commit(model("digits", "staging", "production", seed=2))
    ran = converge(world)
    assert "gate-failed" in {hold.code for hold in ran.last.holds}
    with pytest.raises(Terminal, match=r"0\.1") as refused:
        order(world, STAGING, "3")
    assert refused.value.hint == "see `reconcile explain digits staging`"
    assert not world.forge.sweep().open


def test_what_turns_out_to_be_blocked_stays_open() -> None:
    world = trained_twice().copy()
    world.accuracy["digits", "1"] = 0.1
    order(world, STAGING, "1")
    converge(world)
    assert len(world.forge.sweep().open) == 1
    assert pins(world) == ("2", "2")
