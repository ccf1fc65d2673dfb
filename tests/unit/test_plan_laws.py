"""Law 1: the same inputs give the same plan, byte for byte, which survives JSON and has a stable digest."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.desired import DesiredState
from reconciler.core.plan import Plan
from reconciler.planning.holds import HOLDS
from reconciler.planning.plan import make_plan
from reconciler.report import json as json_report
from reconciler.report import markdown
from tests.strategies import World, worlds


@given(worlds())
def test_the_same_inputs_give_the_same_bytes(world: World) -> None:
    desired = DesiredState.model_validate_json(world.desired.model_dump_json())
    shuffled = world.observed.model_copy(update={"moving": world.observed.moving[::-1]})
    first, second = make_plan(world.desired, world.observed), make_plan(desired, shuffled)
    assert json_report.plan(first) == json_report.plan(second)
    assert markdown.plan(first) == markdown.plan(second)


@given(worlds())
def test_a_plan_survives_json(world: World) -> None:
    plan = make_plan(world.desired, world.observed)
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.digest == plan.digest


@given(worlds())
def test_every_action_has_one_key_and_every_hold_a_known_code(world: World) -> None:
    plan = make_plan(world.desired, world.observed)
    keys = [action.key for action in plan.actions]
    assert sorted(set(keys)) == sorted(keys)
    assert {hold.code for hold in plan.holds} <= HOLDS.keys()
    assert all(hold.reason.strip() for hold in plan.holds)


@given(worlds(), st.sampled_from([1, 59, 3600]))
def test_the_digest_ignores_reasons_holds_and_the_time(world: World, seconds: int) -> None:
    plan = make_plan(world.desired, world.observed)
    reworded = tuple(action.model_copy(update={"reason": "otherwise"}) for action in plan.actions)
    other = plan.model_copy(
        update={"actions": reworded, "holds": (), "at": plan.at + timedelta(seconds=seconds), "gaps": ()}
    )
    assert other.digest == plan.digest
    if plan.actions:
        assert plan.model_copy(update={"actions": plan.actions[1:]}).digest != plan.digest


@given(worlds())
def test_a_second_later_the_same_actions_have_the_same_digest(world: World) -> None:
    """So that a plan which was reviewed can be expected, as in ``--expect DIGEST``."""
    plan = make_plan(world.desired, world.observed)
    swept = world.observed.swept.model_copy(update={"at": plan.at + timedelta(seconds=1)})
    later = make_plan(world.desired, world.observed.model_copy(update={"swept": swept}))
    if [action.key for action in later.actions] == [action.key for action in plan.actions]:
        assert later.digest == plan.digest
