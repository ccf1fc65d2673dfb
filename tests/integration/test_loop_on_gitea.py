"""The whole loop with its pull requests on a real Gitea; registry, engine and cluster are in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.adapters.git_source import GitSource
from tests.contract.forge_worlds import GiteaWorld
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import converge, tick
from tests.laws.stories import APPROVED
from tests.servers.gitea import Gitea

pytestmark = pytest.mark.forge

ENVIRONMENTS = {
    **environment("staging"),
    **environment("production", promotes_from=("staging",), promotion=APPROVED),
}


class OnGitea(World):
    """A World whose Git repository and pull requests are Gitea's; its clock starts at Gitea's."""

    def __init__(self, folder: Path, server: Gitea, files: Mapping[str, str]) -> None:
        super().__init__({}, at=datetime.now(UTC))
        self.there = GiteaWorld(folder, server, dict(files))
        self.forge = self.there.forge(clock=self.clock)  # type: ignore[assignment]
        self.repository = GitSource(  # type: ignore[assignment]
            self.forge.remote, folder / "cache", credentials=self.forge.credentials
        )

    def _approve(self, number: int) -> bool:
        before = self.forge.get(number).approvals
        for person in self.approvers:
            self.there.person(person).approve(number)
        return self.forge.get(number).approvals != before


@pytest.fixture
def world(gitea: Gitea, tmp_path: Path) -> OnGitea:
    files = shipped() | ENVIRONMENTS | model("digits", "staging", "production")
    return OnGitea(tmp_path, gitea, files)


def test_from_training_to_production_through_a_branch_that_admission_protects(world: OnGitea) -> None:
    world.there.protect(enable_status_check=True, status_check_contexts=["trueup/admission"])
    ran = converge(world, limit=40)
    assert not ran.last.holds, ran.story
    assert not ran.last.gaps
    assert not world.forge.sweep().open
    merged = [world.forge.get(number) for number in sorted(world.forge.merged().values())]
    assert [pull.branch for pull in merged] == [
        "trueup/promote/staging/digits",
        "trueup/promote/production/digits",
    ]
    assert {pull.closed_by for pull in merged} == {"trueup"}
    assert sorted(approval.by for approval in merged[1].approvals) == ["Ada", "Grace"]
    for pull in merged:
        shown = {check.name: check.state for check in pull.checks or ()}
        assert shown["trueup/admission"] == "success"
        assert {"trueup/accuracy", "trueup/parity"} <= shown.keys()
    assert sorted(ran.done.values())[-1] == 1, "no action is done twice"
    world.there.transport.calls.clear()
    assert not tick(world).planned.plan.actions
    assert world.there.transport.calls == ["GET pulls"]


def test_a_pull_request_that_waits_is_read_and_never_edited(world: OnGitea) -> None:
    world.approvers = ()
    ran = converge(world, limit=40)
    assert [hold.code for hold in ran.last.holds] == ["awaiting-approval"], ran.story
    (number,) = world.forge.sweep().open
    before = world.forge.get(number)
    calls = world.there.transport.calls
    asked = []
    for _ in range(2):
        calls.clear()
        assert not tick(world).planned.plan.actions
        asked.append(list(calls))
    assert asked[0] == asked[1]
    assert {call.split()[0] for call in asked[0]} == {"GET"}
    assert asked[0].count("GET pulls") <= 3  # open ones, and the closed ones of its branch
    assert len(asked[0]) <= 8
    assert world.forge.get(number) == before
