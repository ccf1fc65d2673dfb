"""Law 2: with systems settled between ticks, every desired state comes to rest, and nothing is done twice.

The clock stands still while anything is left to do, and jumps over soaks only when everything waits for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import given, note
from hypothesis import strategies as st

from reconciler.core.documents import release_path
from reconciler.core.references import environment_path, model_path
from reconciler.load import load
from tests.doubles.documents import edited, environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import converge, state, tick

TICKS_FOR_A_STAGE = 9
"""Measure, measure again, mark, open, make ready, merge, apply, verify; the alias, as the next stage begins."""
TICKS_BEFORE = 1
"""Train."""

ENVIRONMENTS = ("dev", "staging", "production")
MODELS = ("alpha", "beta", "gamma")


class Setting(NamedTuple):
    """What a World starts from. ``stages`` is the number of environments on the longest way."""

    files: dict[str, str]
    stages: int
    accuracy: dict[tuple[str, str], float]
    failing: dict[str, int]
    external: tuple[str, ...]

    def world(self) -> World:
        world = World(shipped() | self.files)
        world.accuracy.update(self.accuracy)
        world.failing.update(self.failing)
        for name in self.external:
            request(world, name)
        return world


def request(world: World, name: str) -> None:
    """Somebody else trains a version and asks for it by the alias."""
    known = world.registry.models.get(name)
    digest = f"sha256:{len(known.versions) if known else 0:064x}"
    number = world.registry.register(name, {"trueup.digest": digest})
    world.registry.set_alias(name, "requested", number)


@st.composite
def settings_(draw: st.DrawFn) -> Setting:
    files: dict[str, str] = {}
    depth: dict[str, int] = {}
    # One for all: environments side by side that soak for different times take turns at a clock that jumps.
    soak = draw(st.sampled_from(["0s", "10m"]))
    for index in range(draw(st.integers(1, 3))):
        before = list(depth)
        sources = tuple(draw(st.sets(st.sampled_from(before), max_size=2))) if before else ()
        sources = tuple(sorted(sources))
        approvals = draw(st.integers(0, 2))
        changes: dict[str, Any] = {
            "policy": draw(st.sampled_from(["dev", "staging", "production"])),
            "promotion": {
                "merge": draw(st.sampled_from(["auto", "manual"])),
                "approvals": approvals,
                "soak": soak,
                "onUnadmitted": draw(st.sampled_from(["hold", "revert"])),
            },
            "rollback": {
                "for": "1m",
                "window": "24h",
                "merge": draw(st.sampled_from(["auto", "manual"])),
            },
        }
        if sources:
            changes["promotesFrom"] = {draw(st.sampled_from(["anyOf", "allOf"])): list(sources)}
        name = ENVIRONMENTS[index]
        files |= environment(name, **changes)
        depth[name] = 1 + max((depth[source] for source in sources), default=0)
    accuracy: dict[tuple[str, str], float] = {}
    failing: dict[str, int] = {}
    external = []
    for name in MODELS[: draw(st.integers(1, 3))]:
        wanted = sorted(draw(st.sets(st.sampled_from(sorted(depth)), min_size=1)))
        changes = {"serving": draw(st.sampled_from(["none", {"replicas": 2}]))}
        if draw(st.sampled_from([False, False, True])):
            changes["training"] = {"external": {"alias": "requested"}}
            external.append(name)
        files |= model(name, *wanted, **changes)
        for number in ("1", "2", "3"):
            accuracy[name, number] = draw(st.sampled_from([0.95, 0.95, 0.96, 0.86, 0.5]))
        prefix = draw(st.sampled_from(["", "", f"measure-evaluate-{name}", f"train-{name}"]))
        if prefix:
            failing[prefix] = 1
    return Setting(files, max(depth.values()), accuracy, failing, tuple(external))


def comes_to_rest(world: World, stages: int) -> None:
    ran = converge(world)
    twice = {key: times for key, times in ran.done.items() if times > 1}
    assert not twice, ran.story
    assert ran.ticks <= TICKS_BEFORE + stages * TICKS_FOR_A_STAGE, ran.story
    still = state(world)
    assert not tick(world).outcomes
    assert state(world) == still


@given(settings_())
def test_every_desired_state_comes_to_rest(setting: Setting) -> None:
    comes_to_rest(setting.world(), setting.stages)


# --- and after whatever people and machines do to it ------------------------------------------------------


def edit(world: World, path: str, **changes: Any) -> None:
    world.commit({path: edited(world.repository.text(path), **changes)})


def models_of(world: World) -> list[str]:
    return sorted(load(world.repository, world.repository.main).models)


def pins_of(world: World) -> list[tuple[str, str]]:
    pinned = sorted(load(world.repository, world.repository.main).releases)
    return [(key.split("/")[0], key.split("/")[1]) for key in pinned]


def move_an_alias(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(models_of(world)))
    known = world.registry.models.get(name)
    if known and known.versions:
        alias = draw.draw(st.sampled_from(ENVIRONMENTS))
        version = draw.draw(st.sampled_from(known.versions)).version
        world.registry.set_alias(name, alias, version)


def remove_an_alias(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(models_of(world)))
    world.registry.delete_alias(name, draw.draw(st.sampled_from(ENVIRONMENTS)))


def retrain(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(models_of(world)))
    training = load(world.repository, world.repository.main).models[name].model.training
    if training.workflow:
        edit(world, model_path(name), training={"workflow": "train-v1", "seed": training.seed + 1})
    else:
        request(world, name)


def revert_the_training(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(models_of(world)))
    training = load(world.repository, world.repository.main).models[name].model.training
    if training.workflow:
        edit(world, model_path(name), training={"workflow": "train-v1", "seed": 0})
    else:
        world.registry.set_alias(name, "requested", "1")


def edit_serving(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(models_of(world)))
    serving = draw.draw(st.sampled_from(["none", {"replicas": 3}, {"replicas": 4}]))
    edit(world, model_path(name), serving=serving)


def delete_a_workload(world: World, draw: st.DataObject) -> None:
    if world.cluster.workloads:
        world.cluster.vanish(draw.draw(st.sampled_from(sorted(world.cluster.workloads))))


def change_a_workload(world: World, draw: st.DataObject) -> None:
    if world.cluster.workloads:
        world.cluster.drift(draw.draw(st.sampled_from(sorted(world.cluster.workloads))), "spec.replicas")


def break_a_version(world: World, draw: st.DataObject) -> None:
    environment_, version = draw.draw(st.sampled_from(ENVIRONMENTS)), draw.draw(st.sampled_from("123"))
    world.broken.add((environment_, version))


def close_what_is_proposed(world: World, draw: st.DataObject) -> None:
    """A person turns down the first pull request of a new version."""
    retrain(world, draw)
    for _ in range(6):
        tick(world)
        if world.forge.sweep().open:
            break
        world.settle()
    turned_down = world.forge.sweep().open
    for number in turned_down:
        world.forge.close_as_person(number, "not now")
    converge(world)
    asked = [
        (p.branch, p.marker) for n in world.forge.pulls if (p := world.forge.get(n)).number not in turned_down
    ]
    assert not [pull for pull in turned_down.values() if (pull.branch, pull.marker) in asked]


def merge_as_a_person(world: World, draw: st.DataObject) -> None:
    """A person merges what is not ready, on the forge."""
    retrain(world, draw)
    for _ in range(6):
        tick(world)
        for number, pull in world.forge.sweep().open.items():
            if not pull.draft and pull.mergeable:
                world.forge.merge_as_person(number)
                return
        world.settle()


def drop_an_environment(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(models_of(world)))
    wanted = load(world.repository, world.repository.main).models[name].model.environments
    edit(world, model_path(name), environments=list(wanted[:-1]))


def revert_a_pin(world: World, draw: st.DataObject) -> None:
    """A person takes back the commit that brought a pin, on main and without asking."""
    pinned = pins_of(world)
    if not pinned:
        return
    path = release_path(*draw.draw(st.sampled_from(pinned)))
    commit = world.repository.log(path)[0]
    world.commit(world.repository.changed(commit.parent, commit.oid), subject=f"Revert {commit.oid}")


def tighten_a_policy(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(sorted(load(world.repository, world.repository.main).environments)))
    edit(world, environment_path(name), policy="production")


def change_the_evaluation(world: World, draw: st.DataObject) -> None:
    name = draw.draw(st.sampled_from(models_of(world)))
    path = f"models/{name}/data/evaluation.csv.dvc"
    world.commit({path: model(f"{name}-more")[f"models/{name}-more/data/evaluation.csv.dvc"]})


PERTURBATIONS: tuple[Callable[[World, st.DataObject], None], ...] = (
    move_an_alias,
    remove_an_alias,
    retrain,
    revert_the_training,
    edit_serving,
    delete_a_workload,
    change_a_workload,
    break_a_version,
    close_what_is_proposed,
    merge_as_a_person,
    drop_an_environment,
    revert_a_pin,
    tighten_a_policy,
    change_the_evaluation,
)


@given(settings_(), st.lists(st.sampled_from(PERTURBATIONS), min_size=1, max_size=4), st.data())
def test_it_comes_to_rest_again_after_whatever_is_done_to_it(
    setting: Setting, perturbations: list[Callable[[World, st.DataObject], None]], data: st.DataObject
) -> None:
    world = setting.world()
    converge(world)
    for perturb in perturbations:
        note(perturb.__name__)
        perturb(world, data)
        comes_to_rest(world, setting.stages)
