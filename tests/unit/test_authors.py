"""Whose a version and a waiver are, from the forge's pull requests to what may merge: the loop, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from reconciler.core.base import format_instant
from reconciler.core.canonical import dump_yaml
from reconciler.core.errors import Retryable
from reconciler.core.plan import FileChange, Plan
from reconciler.core.references import exceptions_path
from reconciler.loop import plan_once
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import converge

PLATFORM = "environments/platform.yaml"
GITEA = {
    "apiVersion": "trueup.dev/v1",
    "kind": "Platform",
    "forge": {
        "type": "gitea",
        "url": "https://git.example",
        "repository": "ml/models",
        "token": {"env": "TRUEUP_FORGE_TOKEN"},
    },
}
PROMOTION = {"merge": "auto", "approvals": 1, "soak": "10m"}
FILES = {
    **shipped(),
    PLATFORM: dump_yaml(GITEA),
    **environment("staging"),
    **environment("production", promotes_from=("staging",), promotion=PROMOTION),
}


def brought(world: World, files: Mapping[str, str], *, by: str, merged_by: str, approved_by: str = "") -> None:
    """A pull request of a person, merged."""
    changes = tuple(FileChange(path=path, content=text) for path, text in sorted(files.items()))
    number = world.forge.open(
        branch=f"{by}/{len(world.forge.pulls)}",
        base=world.repository.head(),
        title="a change",
        body="",
        files=changes,
        draft=False,
        labels=(),
    )
    world.forge.pulls[number] = world.forge.pulls[number].model_copy(update={"author": by, "ours": False})
    if approved_by:
        world.forge.person = approved_by
        world.forge.approve(number)
    world.forge.person = merged_by
    world.forge.merge_as_person(number)
    world.wait(timedelta(minutes=1))


def made_by_ann(changes: Mapping[str, str] | None = None) -> World:
    """What Ann's pull request made, merged by Bob, waits in production, where no champion is."""
    world = World({**FILES, **(changes or {})})
    brought(world, model("digits", "staging", "production"), by="ann", merged_by="bob")
    return world


def promoted(world: World) -> bool:
    return "environments/production/releases/digits.yaml" in world.repository.files(world.repository.main)


def planned(world: World) -> Plan:
    return plan_once(world.readers(), world.clock()).plan


@pytest.mark.parametrize(
    ("approvers", "merges"), [(("ann",), False), (("bob",), True), (("ann", "bob"), True), (("Ada",), True)]
)
def test_a_review_is_by_another_than_who_made_the_version(approvers: tuple[str, ...], merges: bool) -> None:
    world = made_by_ann()
    world.approvers = approvers
    ran = converge(world)
    assert promoted(world) == merges
    if not merges:
        (hold,) = [hold for hold in ran.last.holds if hold.code == "awaiting-approval"]
        assert "is approved by ann alone, who made this version" in hold.reason


def test_a_team_of_one_says_so() -> None:
    alone = PROMOTION | {"authorsMayReview": True}
    world = made_by_ann(environment("production", promotes_from=("staging",), promotion=alone))
    world.approvers = ("ann",)
    converge(world)
    assert promoted(world)


def test_the_embedded_forge_does_not_know_who_people_are() -> None:
    world = made_by_ann({PLATFORM: shipped()[PLATFORM]})
    world.approvers = ("ann",)
    converge(world)
    assert promoted(world)


def test_who_trained_and_not_who_changed_something_since() -> None:
    """Bob changes the owner after the training: the version stays Ann's."""
    world = made_by_ann()
    brought(world, model("digits", "staging", "production", owner="b-team"), by="bob", merged_by="bob")
    world.approvers = ("ann",)
    converge(world)
    assert not promoted(world)
    world.approvers = ("bob",)
    converge(world)
    assert promoted(world)


WAIVERS = [
    ({"by": "ann", "merged_by": "ann"}, False),
    ({"by": "ann", "merged_by": "bob"}, True),
    ({"by": "bob", "merged_by": "ann"}, True),
    ({"by": "ann", "merged_by": "ann", "approved_by": "bob"}, True),
    ({"by": "ann", "merged_by": "ann", "approved_by": "ann"}, False),
]


@pytest.mark.parametrize(("people", "counts"), WAIVERS)
def test_a_waiver_is_of_another_than_who_made_the_version(people: dict[str, str], counts: bool) -> None:
    world = made_by_ann()
    world.accuracy["digits", "1"] = 0.89  # enough for staging, and below what production asks of accuracy
    world.approvers = ("Ada",)
    converge(world)
    assert not promoted(world)
    (version,) = world.registry.sweep().models["digits"].versions
    end = format_instant(world.clock() + timedelta(days=7))
    waivers = [
        {"gate": gate, "digest": version.digest, "reason": "the new labels are harder", "expires": end}
        for gate in ("accuracy",)
    ]
    document = {"apiVersion": "trueup.dev/v1", "kind": "Exceptions", "waivers": waivers}
    brought(world, {exceptions_path("production", "digits"): dump_yaml(document)}, **people)
    ran = converge(world)
    assert promoted(world) == counts
    if not counts:
        (hold,) = [hold for hold in ran.last.holds if hold.code == "gate-failed"]
        assert "its waiver does not count: it is of ann alone, who made this version" in hold.reason


def test_a_list_that_cannot_be_read_lets_nothing_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is known not to be the author: a Gap, and no merge."""

    def silent(_: object) -> dict[str, int]:
        raise Retryable("the forge does not answer")

    world = made_by_ann()
    world.approvers = ("bob",)
    monkeypatch.setattr("tests.doubles.forge.MemoryForge.merged", silent)
    converge(world)
    assert not promoted(world)
    assert "gap" in {hold.code for hold in planned(world).holds}


def test_a_commit_without_a_pull_request_is_its_authors() -> None:
    world = World(FILES)
    world.commit(model("digits", "staging", "production"), author="ann")
    world.approvers = ("ann",)
    converge(world)
    assert not promoted(world)
