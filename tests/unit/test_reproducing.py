"""`reconcile reproduce`: what is trained once more, what is refused, and where the evidence is marked."""

from __future__ import annotations

import json

import pytest

from reconciler.apply import submit
from reconciler.core.errors import Terminal
from reconciler.core.observed import TAG_SEARCH
from reconciler.core.plan import SubmitWorkflow
from reconciler.loop import plan_once
from reconciler.planning.orders import reproduce
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
