"""The stories whose every write and every state the laws are held to: Worlds that are not at rest yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from reconciler.core.canonical import dump_yaml
from reconciler.core.documents import release_path
from reconciler.core.strict_yaml import read
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import converge

APPROVED = {"merge": "auto", "approvals": 1, "soak": "10m", "onUnadmitted": "revert"}
ENVIRONMENTS = {
    **environment("staging"),
    **environment("production", promotes_from=("staging",), promotion=APPROVED),
}


def first_training() -> World:
    """A model that nothing was ever trained of, on its way to production."""
    return World(shipped() | ENVIRONMENTS | model("digits", "staging", "production"))


@cache
def _in_production() -> World:
    world = first_training()
    converge(world)
    return world


@cache
def _twice_in_production() -> World:
    world = retraining()
    converge(world)
    return world


def retraining() -> World:
    """Version 1 is everywhere, and main asks for another training."""
    world = _in_production().copy()
    world.commit(model("digits", "staging", "production", seed=1))
    return world


def rolling_back() -> World:
    """Version 2 is everywhere, and fails in production."""
    world = _twice_in_production().copy()
    world.broken.add(("production", "2"))
    world.settle()
    return world


def removing() -> World:
    """Version 1 is everywhere, and production is no longer wanted."""
    world = _in_production().copy()
    world.commit(model("digits", "staging"))
    return world


def reviewed() -> World:
    """Version 1 is on its way to production, where a gate leaves it to a person and says whom to tell."""
    files = shipped() | ENVIRONMENTS | model("digits", "staging", "production")
    path = "policies/production.yaml"
    policy = read(files[path].encode(), path).value
    gates = [
        gate | {"notify": ["default"]} if gate["name"] == "not-worse" else gate for gate in policy["gates"]
    ]
    return World(files | {path: dump_yaml(policy | {"gates": gates})})


def blocked() -> World:
    """Version 2 is worse than staging allows, and the gate says whom to tell."""
    world = _in_production().copy()
    path = "policies/staging.yaml"
    policy = read(world.repository.text(path).encode(), path).value
    gates = [gate | {"notify": ["default"]} for gate in policy["gates"]]
    world.commit(
        {path: dump_yaml(policy | {"gates": gates})} | model("digits", "staging", "production", seed=1)
    )
    world.accuracy["digits", "2"] = 0.5
    return world


def unadmitted() -> World:
    """Somebody pins version 2 in production by hand, while it is not even in staging's past any more."""
    world = _twice_in_production().copy()
    path = release_path("production", "digits")
    document = read(world.repository.text(path).encode(), path).value
    document["serving"]["replicas"] = 7
    world.commit({path: dump_yaml(document)}, subject="seven, quickly")
    return world


STORIES: dict[str, Callable[[], World]] = {
    "first training": first_training,
    "retraining": retraining,
    "rolling back": rolling_back,
    "removing": removing,
    "unadmitted": unadmitted,
    "reviewed": reviewed,
    "blocked": blocked,
}
