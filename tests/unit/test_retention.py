"""What is archived, what keeps a version from it, and that nothing is concluded from what was not read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Retention
from reconciler.core.observed import TAG_ARCHIVED, Archived, Gap, RegistrySweep
from reconciler.core.plan import Hold, MarkVersion, Tell
from reconciler.core.problems import Problem
from reconciler.planning.candidates import candidate
from reconciler.planning.in_motion import at_rest
from reconciler.planning.retention import Standing, plan_retention, standings
from reconciler.planning.view import View
from tests.stories.build import HERE, Story
from tests.strategies import World, outlived_worlds

STORY = Story(HERE / "versions-archived")
TRAINING = Subject(model="digits")
RELEASES = "environments/production/releases/other.yaml"


def view(state: DesiredState = STORY.main, **swept: Any) -> View:
    observed = STORY.observed()
    return View(state, observed.model_copy(update={"swept": observed.swept.model_copy(update=swept)}))


def staging(retention: Retention | None) -> DesiredState:
    environment = STORY.main.environments["staging"].model_copy(update={"retention": retention})
    environments = {**STORY.main.environments, "staging": environment}
    return STORY.main.model_copy(update={"environments": environments})


def told(seen: View) -> dict[str, Standing]:
    found = standings(seen, "digits")
    assert not isinstance(found, str), found
    return {each.version.version: each for each in found}


def archived(seen: View) -> list[str]:
    return [a.version for a in plan_retention(seen, TRAINING).actions if isinstance(a, MarkVersion)]


def test_each_version_has_its_reasons() -> None:
    found = {number: [keep.why for keep in each.kept] for number, each in told(view()).items()}
    assert found["1"] == found["3"] == []
    assert found["2"][0] == "a rollback of staging/digits would go back to it"
    assert found["4"][:3] == [
        "pinned in staging/digits",
        "the candidate of staging",
        "the alias staging names it",
    ]
    assert found["5"] == ["staging keeps it until 2026-03-22T08:00:00Z (retention.for is 7d)"]


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (None, []),
        (Retention(versions=2), ["1", "3"]),
        (Retention(versions=4), ["1"]),
        (Retention(versions=4, for_=timedelta(days=30)), []),
        (Retention(for_=timedelta(days=1)), ["1", "3", "5"]),
    ],
)
def test_a_version_stays_for_as_long_as_either_rule_keeps_it(
    retention: Retention | None, expected: list[str]
) -> None:
    assert archived(view(staging(retention))) == expected


def test_what_is_archived_is_so_once_and_then_at_rest() -> None:
    seen = view()
    registry = seen.observed.swept.registries["default"]
    assert isinstance(registry, RegistrySweep)
    marks = {a.version: a.value for a in plan_retention(seen, TRAINING).actions if isinstance(a, MarkVersion)}
    versions = tuple(
        v.model_copy(update={"tags": {**v.tags, TAG_ARCHIVED: marks[v.version]}}) if v.version in marks else v
        for v in registry.models["digits"].versions
    )
    model = registry.models["digits"].model_copy(update={"versions": versions})
    later = view(registries={"default": RegistrySweep(models={"digits": model})})
    assert not at_rest(seen, TRAINING)
    assert plan_retention(later, TRAINING).actions == ()
    assert at_rest(later, TRAINING)
    assert [v.version for v in versions if v.archived] == ["1", "3"]


def test_what_is_used_again_is_told_and_marked_once_and_may_be_archived_anew() -> None:
    story = Story(HERE / "archived-in-use-again")
    tell, mark = plan_retention(View(story.main, story.observed()), TRAINING).actions
    assert isinstance(tell, Tell)
    assert isinstance(mark, MarkVersion)
    assert tell.message.reason.endswith("is in use again: #7 proposes it for staging")
    assert mark.after == tell.key
    said = Archived.parse(mark.value)
    assert said is not None
    assert (said.number, said.back) == (1, "#7 proposes it for staging")
    registry = story.observed().swept.registries["default"]
    assert isinstance(registry, RegistrySweep)
    first = registry.models["digits"].versions[0]
    back = first.model_copy(update={"tags": {**first.tags, TAG_ARCHIVED: mark.value}})
    assert (back.archived, back.archival) == (None, said)


@pytest.mark.parametrize(
    "hidden",
    [
        lambda: view(forge=Gap(source="forge", error="timed out")),
        lambda: view(registries={"default": Gap(source="registry default", error="timed out")}),
        lambda: view(_problem(path="models/digits/model.yaml", model="digits")),
        lambda: view(_problem(path="environments/staging/environment.yaml", environment="staging")),
        lambda: view(_problem(path=RELEASES, environment="production", model="other")),
    ],
)
def test_nothing_is_concluded_from_what_was_not_read(hidden: Callable[[], View]) -> None:
    assert isinstance(standings(hidden(), "digits"), str)
    assert plan_retention(hidden(), TRAINING).actions == ()


def _problem(**where: str) -> DesiredState:
    return STORY.main.model_copy(update={"problems": (Problem(what="does not parse", **where),)})


def test_what_others_registered_is_left_alone() -> None:
    registry = view().observed.swept.registries["default"]
    assert isinstance(registry, RegistrySweep)
    model = registry.models["digits"]
    foreign = tuple(
        v.model_copy(update={"tags": {n: t for n, t in v.tags.items() if n != "trueup.training-key"}})
        for v in model.versions
    )
    swept = RegistrySweep(models={"digits": model.model_copy(update={"versions": foreign})})
    assert archived(view(registries={"default": swept})) == []


@given(outlived_worlds(archived=False))
def test_what_is_pinned_or_may_be_next_or_again_is_never_archived(world: World) -> None:
    view = View(world.desired, world.observed)
    for model in world.desired.models:
        needed = _needed(view, model)
        for action in plan_retention(view, Subject(model=model)).actions:
            if not isinstance(action, MarkVersion):
                continue
            said = Archived.parse(action.value)
            assert said is not None
            if not said.back:
                assert action.version not in needed, needed


def _needed(view: View, model: str) -> set[str]:
    """Numbers of pins, of candidates, and of champions, before and now: what a rollback goes back to."""
    found: set[str] = set()
    for environment in view.desired.environments:
        subject = Subject(environment=environment, model=model)
        release = view.release(subject)
        if release is not None:
            found.add(release.pin.version)
            found |= {release.champion.version} if release.champion else set()
            champion = view.champion(subject)
            found |= {champion.version} if champion else set()
        if environment in view.model(subject).environments and not view.desired.hidden(subject):
            wanted = candidate(view, subject)
            found |= set() if isinstance(wanted, Hold) else {wanted.pin.version}
    return found
