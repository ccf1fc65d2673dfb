"""Law 3: what could not be seen is not concluded from.

In every state of every story each source fails once, and the story then ends as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from reconciler.core.base import Subject
from reconciler.core.documents import release_path
from reconciler.core.errors import Retryable
from reconciler.core.observed import branch_of
from reconciler.core.plan import Action
from reconciler.core.references import environment_path, exceptions_path, model_path, policy_path
from reconciler.load import PLATFORM
from tests.doubles.calls import Around, Call
from tests.doubles.documents import edited
from tests.doubles.world import World
from tests.laws.driving import converge, said, state, tick
from tests.laws.stories import STORIES, retraining

PROPOSES = {"open-pull-request", "update-pull-request", "ready-pull-request", "merge-pull-request"}
PULLS = {*PROPOSES, "close-pull-request", "comment"}
REASONS_IN_GIT = ("without being admissible", "no longer names production in its environments")
ENVIRONMENTS = ("staging", "production")


class Source(NamedTuple):
    """What fails, and which actions may not come of it."""

    hides: Callable[[Call, World], bool]
    forbidden: Callable[[Action, World], bool]


def about(environment: str) -> Callable[[Action, World], bool]:
    return lambda action, world: action.subject == Subject(environment=environment, model="digits")


def sweep(port: str) -> Callable[[Call, World], bool]:
    return lambda call, world: (call.port, call.method) == (port, "sweep")


def needs_the_cluster(action: Action, world: World) -> bool:
    """Whatever is done to something that runs, or because of how it runs.

    A removal and the revert of a pin that was not admissible rest on Git alone.
    """
    if action.kind == "mark-version":
        return ".verified." in action.tag
    pinned = release_path(action.subject.environment, action.subject.model)
    if action.kind in PROPOSES and pinned in world.repository.files(world.repository.main):
        return not action.reason.endswith(REASONS_IN_GIT)
    return action.kind in ("apply-manifests", "prune-workload")


def needs_the_evidence(action: Action, world: World) -> bool:
    return action.kind in PROPOSES and action.subject.environment == "staging"


def reads_evidence(call: Call, world: World) -> bool:
    return call.method == "evidence" and "measure-evaluate" in call.arguments[0]


def heads(call: Call, world: World) -> bool:
    proposed = {pull.head for pull in world.forge.pulls.values() if pull.state == "open"}
    return call.port == "source" and call.method == "files" and call.arguments[0] in proposed


def history(environment: str) -> Callable[[Call, World], bool]:
    path = release_path(environment, "digits")
    return lambda call, world: call.method == "log" and call.arguments[0] == path


def closed(environment: str) -> Callable[[Call, World], bool]:
    branch = branch_of("promote", Subject(environment=environment, model="digits"))
    return lambda call, world: call.method == "closed" and call.arguments[0] == branch


SOURCES: dict[str, Source] = {
    "registry": Source(sweep("registry default"), lambda action, world: action.kind != "prune-workload"),
    "engine": Source(sweep("engine"), lambda action, world: action.kind.endswith(("-workflow", "-workflows"))),
    "forge": Source(sweep("forge"), lambda action, world: action.kind in PULLS),
    "cluster": Source(sweep("cluster local"), needs_the_cluster),
    "evidence of one mark": Source(reads_evidence, needs_the_evidence),
    "heads of proposals": Source(heads, lambda action, world: action.kind == "merge-pull-request"),
    **{f"history of {name}": Source(history(name), lambda action, world: False) for name in ENVIRONMENTS},
    **{f"closed of {name}": Source(closed(name), lambda action, world: False) for name in ENVIRONMENTS},
}


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, Any]]:
    """Each story's end."""
    ends = {}
    for name, story in STORIES.items():
        world = story()
        converge(world)
        ends[name] = state(world)
    return ends


def failing(source: Source, world: World, hit: list[Call]) -> Around:
    def around(call: Call, make: Callable[[], Any]) -> Any:
        if source.hides(call, world):
            hit.append(call)
            raise Retryable("timed out")
        return make()

    return around


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_fails_once(name: str, story: str, undisturbed: dict[str, dict[str, Any]]) -> None:
    world, source = STORIES[story](), SOURCES[name]

    def gap(world: World) -> None:
        hit: list[Call] = []
        before = world.copy()
        ticked = tick(world, reads=failing(source, world, hit))
        hidden = {Subject(environment=e, model="digits") for e in ENVIRONMENTS if name.endswith(f" of {e}")}
        for action in ticked.planned.plan.actions if hit else ():
            assert action.subject not in hidden, said(ticked)
            assert not source.forbidden(action, before), said(ticked)

    converge(world, before=gap)
    assert state(world) == undisturbed[story]


def test_another_registry_that_fails_hides_the_champion_before() -> None:
    """Production has a registry of its own; what staging has verified is known to another one."""
    world = retraining()
    path = environment_path("production")
    world.registries = ("default", "second")
    platform = world.repository.text(PLATFORM).replace("registries:", "registries:\n  second: {}")
    production = edited(world.repository.text(path), registry="second")
    world.commit({PLATFORM: platform, path: production})
    converge(world)
    ticked = tick(world, reads=failing(SOURCES["registry"], world, []))
    assert ticked.planned.plan.gaps
    assert not ticked.planned.plan.actions, said(ticked)


# --- documents --------------------------------------------------------------------------------------------

BROKEN = "\nbroken: [\n"
EVERYTHING = {"digits", *(f"{environment}/digits" for environment in ENVIRONMENTS)}
DOCUMENTS: dict[str, set[str]] = {
    PLATFORM: EVERYTHING,
    model_path("digits"): EVERYTHING,
    environment_path("staging"): {"staging/digits"},
    environment_path("production"): {"production/digits"},
    policy_path("dev"): {"staging/digits", "production/digits"},
    policy_path("production"): {"production/digits"},
    release_path("staging", "digits"): {"staging/digits"},
    release_path("production", "digits"): {"production/digits"},
    exceptions_path("production", "digits"): {"production/digits"},
}
"""Each document, and the subjects about which nothing may be concluded while it is invalid."""


def promotes(action: Action) -> bool:
    return action.kind in PULLS and action.subject.environment == "production" and "Promote" in str(action)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_that_is_invalid_for_a_tick(path: str, story: str) -> None:
    world, undisturbed = STORIES[story](), STORIES[story]()
    converge(undisturbed)

    def invalid(world: World) -> None:
        files = world.repository.commits[world.repository.main].files
        before = files[path].decode() if path in files else None
        world.commit({path: (before or "") + BROKEN}, subject="a slip")
        ticked = tick(world)
        touched = {str(action.subject) for action in ticked.planned.plan.actions}
        assert not touched & DOCUMENTS[path], said(ticked)
        if "staging" in path:
            assert not any(promotes(action) for action in ticked.planned.plan.actions), said(ticked)
        world.commit({path: before}, subject="mended")

    converge(world, before=invalid)
    assert served(world) == served(undisturbed)


def served(world: World) -> dict[str, Any]:
    """What it comes to for people. Instants may be later: a pin that was hidden soaks again."""
    workloads = world.cluster.workloads.items()
    return {
        "aliases": {name: model.aliases for name, model in world.registry.models.items()},
        "workloads": {key: (w.release, w.health, w.serving) for key, w in workloads},
        "open": list(world.forge.sweep().open),
    }


@pytest.mark.parametrize("release", ["as it was", "broken too"])
def test_a_renamed_model_folder_takes_no_alias_of_a_release(release: str) -> None:
    """The new name registers under the old one, and the release is still there under the old name."""
    world = STORIES["removing"]()
    converge(world)
    aliases = dict(world.registry.models["digits"].aliases)
    pinned = release_path("staging", "digits")
    moved = {
        path.replace("models/digits/", "models/numbers/"): world.repository.text(path)
        for path in world.repository.files(world.repository.main)
        if path.startswith("models/digits/")
    }
    gone = {path.replace("models/numbers/", "models/digits/"): None for path in moved}
    broken = {pinned: world.repository.text(pinned) + BROKEN} if release == "broken too" else {}
    world.commit({**moved, **gone, **broken})
    ticked = tick(world)
    assert "remove-alias" not in [action.kind for action in ticked.planned.plan.actions], said(ticked)
    assert world.registry.models["digits"].aliases == aliases != {}


def test_what_waits_for_a_silent_cluster_does_not_call_a_verified_release_unverified() -> None:
    world = retraining()

    def silent(call: Call, make: Callable[[], Any]) -> Any:
        if call.port == "cluster local":
            raise Retryable("no answer")
        return make()

    for _ in range(4):
        plan = tick(world, reads=silent).planned.plan
        world.settle()
    (reason,) = {hold.reason for hold in plan.holds if hold.code == "release-in-flight"}
    assert reason == "version 2 is next; it waits until the present release is seen to serve"
