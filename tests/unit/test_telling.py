"""Who is told of what, when, and once: the plan's Tell and its mark, and what apply makes of one that fails."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.apply import apply
from reconciler.core.errors import Retryable
from reconciler.core.observed import told_tag
from reconciler.core.plan import Message, OpenPullRequest, Plan, PublishChecks, Tell
from reconciler.planning.plan import make_plan
from tests.doubles.world import World
from tests.laws.driving import converge, tick
from tests.laws.stories import STORIES
from tests.stories.build import HERE, Story


def planned(name: str, case: dict[str, Any] | None = None) -> tuple[Story, Plan]:
    story = Story(HERE / name, case)
    return story, make_plan(story.main, story.observed())


def tells(plan: Plan) -> list[tuple[str, str]]:
    return [(a.notifier, a.message.event) for a in plan.actions if isinstance(a, Tell)]


class Channel:
    """Keeps what it gets, or fails."""

    def __init__(self, works: bool = True) -> None:
        self.works = works
        self.got: list[tuple[Message, str]] = []

    def send(self, message: Message, *, key: str) -> None:
        if not self.works:
            raise Retryable("the channel does not answer")
        self.got.append((message, key))


# --- the plan ---------------------------------------------------------------------------------------------


def test_drift_of_a_quarter_pauses_and_notifies() -> None:
    """PSI 0.25: a draft with the label, then whom the gate names, each with a mark; the next tick nothing."""
    _, plan = planned("drift-notifies")
    opened, first, first_mark, second, second_mark = plan.actions
    assert isinstance(opened, OpenPullRequest)
    assert opened.draft
    assert "needs-review/drift" in opened.labels
    assert tells(plan) == [("default", "needs-review"), ("people", "needs-review")]
    assert {first.after, second.after} == {opened.key}
    assert (first_mark.after, second_mark.after) == (first.key, second.key)
    assert isinstance(second, Tell)
    assert "not 0.25 <= 0.2" in second.message.reason
    assert [gate.gate for gate in second.message.gates] == ["drift"]
    story, later = planned("drift-notified")
    assert later.actions == ()
    assert [hold.code for hold in later.holds] == ["awaiting-approval"]
    number = next(pull.number for pull in story.pulls)
    assert f"#{number} needs 1 approval" in later.holds[0].reason


def test_one_channel_that_was_told_is_not_told_again_for_the_other() -> None:
    story = Story(HERE / "drift-notified")
    story.case["pulls"][0]["told"] = ["default"]
    plan = planned("drift-notified", story.case)[1]
    assert tells(plan) == [("people", "needs-review")]
    told = next(action for action in plan.actions if isinstance(action, Tell))
    assert (told.after, told.message.pull_request) == ("", 8)
    assert told.message.link == "https://git.example/ml/models/pulls/8"


def test_nobody_is_told_of_a_pull_request_that_has_to_wait() -> None:
    story = Story(HERE / "drift-notifies")
    environment = story.main.environments["production"]
    none = environment.model_copy(
        update={"limits": environment.limits.model_copy(update={"open_pull_requests": 0})}
    )
    main = story.main.model_copy(update={"environments": {**story.main.environments, "production": none}})
    plan = make_plan(main, story.observed())
    assert plan.actions == ()
    assert "budget" in {hold.code for hold in plan.holds}


def test_a_blocked_version_is_told_of_once_and_measured_anew_is_no_news() -> None:
    world = STORIES["blocked"]()
    converge(world)
    assert [text.partition(";")[0] for text in world.notifier.messages] == [
        "staging/digits: version 2 of digits is not promoted to staging"
    ]
    tags = world.registry.sweep().models["digits"].versions[-1].tags
    assert told_tag("staging", "gate-failed", "default") in tags


def test_whom_the_environment_names_is_told_of_a_rollback() -> None:
    _, plan = planned("rollback-proposed")
    assert tells(plan) == [("default", "rollback")]
    _, outage = planned("outage")
    assert tells(outage) == [("default", "outage")]


# --- apply ------------------------------------------------------------------------------------------------


def carried_out(channels: dict[str, Channel]) -> tuple[World, Plan, dict[str, tuple[str, str]]]:
    """The plan of drift-notifies in a world whose forge opens pull requests; (result, detail) by key."""
    _, plan = planned("drift-notifies")
    world = World({})
    for _ in range(2):
        world.registry.register("digits", {}, run_id="train")
    writers = world.writers()._replace(notifiers=channels)
    plan = plan.model_copy(
        update={"actions": tuple(a.model_copy(update=_main(world, a)) for a in plan.actions)}
    )
    return world, plan, {o.key: (o.result, o.detail) for o in apply(plan, writers)}


def _main(world: World, action: object) -> dict[str, str]:
    return {"base": world.repository.head()} if isinstance(action, OpenPullRequest) else {}


def test_what_is_sent_has_the_number_of_the_pull_request_that_was_opened() -> None:
    channels = {"default": Channel(), "people": Channel()}
    _, plan, outcomes = carried_out(channels)
    for channel in channels.values():
        ((message, key),) = channel.got
        assert (message.pull_request, message.link) == (1, "https://git.example/ml/models/pulls/1")
        assert key in {action.key for action in plan.actions}
    assert outcomes[plan.actions[1].key] == ("done", "default"), outcomes


def test_a_channel_that_fails_fails_itself_alone() -> None:
    channels = {"default": Channel(works=False), "people": Channel()}
    _, plan, outcomes = carried_out(channels)
    results = [outcomes[action.key][0] for action in plan.actions]
    assert results[1:3] == ["failed", "skipped"]
    assert channels["people"].got
    assert outcomes[plan.actions[2].key][1] == f"because {plan.actions[1].key} failed"


def test_a_channel_that_is_not_connected_fails_itself_alone() -> None:
    _, plan, outcomes = carried_out({"people": Channel()})
    assert [outcomes[a.key][0] for a in plan.actions[1:4]] == ["failed", "skipped", "done"]


def test_nothing_is_said_of_a_pull_request_that_was_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise Retryable("the forge does not answer")

    monkeypatch.setattr("tests.doubles.forge.MemoryForge.open", refused)
    channels = {"default": Channel(), "people": Channel()}
    _, plan, outcomes = carried_out(channels)
    assert [outcomes[a.key][0] for a in plan.actions] == ["failed", *["skipped"] * 4]
    assert not any(channel.got for channel in channels.values())


def test_a_channel_that_works_again_is_told_by_the_next_tick() -> None:
    world = STORIES["blocked"]()
    broken = {"default": Channel(works=False)}
    seen = 0
    for _ in range(20):
        writers = world.writers()
        world.writers = lambda around=None, writers=writers: writers._replace(notifiers=broken)  # type: ignore[method-assign]
        ticked = tick(world)
        del world.writers
        seen += any(o.kind == "tell" and o.result == "failed" for o in ticked.outcomes)
        world.settle()
    assert seen > 1
    assert not world.notifier.messages
    tick(world)
    tick(world)
    assert len(world.notifier.messages) == 1


def test_publishing_checks_comes_first() -> None:
    """What the forge shows is written before people are sent there."""
    story = Story(HERE / "drift-notified")
    story.case["pulls"][0] |= {"told": [], "checks": []}
    plan = planned("drift-notified", story.case)[1]
    assert isinstance(plan.actions[0], PublishChecks)
    assert tells(plan) == [("default", "needs-review"), ("people", "needs-review")]
