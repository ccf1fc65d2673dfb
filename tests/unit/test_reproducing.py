"""`reconcile reproduce`: what is trained once more, what is refused, and where the evidence is marked."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from reconciler.apply import submit
from reconciler.core.errors import Terminal
from reconciler.core.observed import TAG_SEARCH
from reconciler.core.plan import SubmitWorkflow
from reconciler.loop import plan_once
from reconciler.planning.orders import reproduce, retry
from tests.doubles.documents import model
from tests.doubles.world import World
from tests.laws.driving import tick
from tests.laws.stories import first_training


@pytest.fixture
def world() -> World:
    """digits is trained, and serves."""
    told = first_training()
    for _ in range(12):
        tick(told)
        told.settle()
    return told


def ordered(world: World, version: str = "") -> SubmitWorkflow:
    desired, observed, _ = plan_once(world.readers(), world.clock())
    return reproduce(desired, observed, "digits", version, "to be sure")


def test_a_version_is_trained_as_it_was(world: World) -> None:
    action = ordered(world)
    (version,) = world.registry.models["digits"].versions
    trained = next(run for run in world.engine.runs.values() if run.labels["trueup.dev/kind"] == "train")
    same = ("hyperparameters", "seed", "device", "train-pointer", "train-md5", "target", "task")
    assert {name: action.parameters[name] for name in same} == {name: trained.parameters[name] for name in same}
    assert action.parameters["candidate-version"] == version.version
    assert json.loads(action.parameters["inputs"])["candidate"] == version.digest
    assert action.name == f"measure-reproduce-digits-{action.labels['trueup.dev/key']}-1"


def test_another_version_than_main_describes_is_refused(world: World) -> None:
    with pytest.raises(Terminal, match="version 7 is not of the training that main describes"):
        ordered(world, "7")


def test_what_a_search_chose_is_trained(world: World) -> None:
    (version,) = world.registry.models["digits"].versions
    found = {"trial": 3, "trials": 4, "metric": "accuracy", "value": 0.9, "hyperparameters": {"epochs": 9}}
    world.registry.set_tag("digits", version.version, TAG_SEARCH, json.dumps(found))
    assert json.loads(ordered(world).parameters["hyperparameters"]) == {"epochs": 9}


def test_its_evidence_is_marked_once_though_no_gate_asks_for_it(world: World) -> None:
    action = ordered(world)
    tag = f"trueup.evidence.reproduce.{action.labels['trueup.dev/key']}"
    assert submit(action, world.writers().engine, "Ada")
    assert tick(world).outcomes == ()  # what goes on is neither stopped nor collected
    with pytest.raises(Terminal, match=f"{action.name} is .*asked for by Ada: to be sure"):
        ordered(world)
    world.settle()
    (outcome,) = tick(world).outcomes
    assert outcome.detail == tag
    (version,) = world.registry.models["digits"].versions
    assert version.tags[tag].startswith(f"memory:/{action.name}")
    assert tick(world).outcomes == ()
    assert ordered(world).name == f"{action.name[:-1]}2"


# --- training.reproduce -----------------------------------------------------------------------------------


@pytest.fixture
def weekly(world: World) -> World:
    """The same, at rest, and on Sundays at two what was registered since is trained once more."""
    training = {"workflow": "train-v1", "seed": 0, "reproduce": {"cron": "0 2 * * sun"}}
    world.commit(model("digits", "staging", "production", training=training))
    for _ in range(48):
        tick(world)
        world.settle()
        world.wait(timedelta(hours=1))
    assert not plan_once(world.readers(), world.clock()).plan.actions
    assert world.clock().strftime("%a") == "Wed"
    return world


def reproductions(world: World) -> list[str]:
    return [name for name in world.engine.runs if name.startswith("measure-reproduce-")]


def holds(world: World) -> list[tuple[str, str]]:
    return [(hold.code, hold.reason) for hold in plan_once(world.readers(), world.clock()).plan.holds]


def test_a_version_is_trained_once_more_when_the_schedule_says_so_and_only_once(
    weekly: World,
) -> None:
    weekly.wait(timedelta(days=3))
    assert tick(weekly).outcomes == ()
    weekly.wait(timedelta(days=2))
    ticked = tick(weekly)
    (action,) = ticked.planned.plan.actions
    assert action.reason == "the model's schedule asks whether version 1 comes out again"
    assert reproductions(weekly) == [action.key.removeprefix("submit-workflow ")]
    ((code, said),) = holds(weekly)
    assert (code, said.partition(" ")[0]) == ("measuring", reproductions(weekly)[0])
    weekly.settle()
    (outcome,) = tick(weekly).outcomes
    assert outcome.detail.startswith("trueup.evidence.reproduce.")
    weekly.wait(timedelta(days=30))
    assert tick(weekly).outcomes == ()
    assert len(reproductions(weekly)) == 1


def test_its_attempts_are_limited(weekly: World) -> None:
    weekly.wait(timedelta(days=7))
    weekly.failing["measure-reproduce-"] = 9
    for _ in range(4):
        tick(weekly)
        weekly.settle()
    assert len(reproductions(weekly)) == 2
    ((code, said),) = holds(weekly)
    assert code == "measurement-failed"
    assert "`reconcile retry measure-reproduce-digits-" in said
    assert tick(weekly).outcomes == ()
    desired, observed, _ = plan_once(weekly.readers(), weekly.clock())
    first, last = sorted(reproductions(weekly))
    for what in (last, "digits"):  # what the hold says to do is done
        assert retry(desired, observed, what, "again").name == f"{last[:-1]}3"
    with pytest.raises(Terminal, match=f"{last} came after it"):
        retry(desired, observed, first, "again")


def test_a_version_of_another_training_waits_for_nothing(weekly: World) -> None:
    weekly.wait(timedelta(days=7))
    training = {"workflow": "train-v1", "seed": 1, "reproduce": {"cron": "0 2 * * sun"}}
    weekly.commit(model("digits", "staging", "production", training=training))
    (action,) = tick(weekly).planned.plan.actions
    assert action.key.startswith("submit-workflow train-digits-")
