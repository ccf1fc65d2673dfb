"""Every directory here is a story: what it is about, what is given, and the plan that follows, to the byte."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.cli.explain import explanation
from reconciler.core.errors import TrueupError
from reconciler.loop import Planned
from reconciler.planning import orders
from reconciler.planning.admission import admit
from reconciler.planning.holds import HOLDS
from reconciler.planning.in_motion import Scope
from reconciler.planning.plan import make_plan
from reconciler.report import explain, markdown
from reconciler.report import json as json_report
from reconciler.report.layout import plain
from tests.stories.build import HERE, Story, subject_of

STORIES = sorted(path.parent.name for path in HERE.glob("*/case.yaml"))


def told(story: Story) -> dict[str, str]:
    """The golden files of a story: its plan, or for a pull request of a person what `admit` says.

    And what becomes of the `order` of a person; and what `reconcile explain` answers, for the subjects that
    `explain` in the case names.
    """
    if "head" in story.case:
        return {"verdicts.json": json_report.rows(admit(story.main, story.head(), story.registry_only()))}
    if "order" in story.case:
        return {"order.json": ordered(story, **story.case["order"])}
    plan = make_plan(story.main, story.observed())
    explained = {
        f"explain-{key.replace('/', '-')}.txt": said(story, key) for key in story.case.get("explain", ())
    }
    answers = {"orders.txt": story.answers()} if "orders" in story.case else {}
    return {"plan.json": json_report.plan(plan), "plan.md": markdown.plan(plan), **explained, **answers}


def ordered(story: Story, reason: str = "", **asked: str) -> str:
    """What a person's `reconcile retrain`, `retry` or `cancel` does: one action, or what it is refused with."""
    ((order, what),) = asked.items()
    try:
        done: object = getattr(orders, order)(story.main, story.observed(), what, reason).model_dump()
    except TrueupError as refused:
        done = {"refused": str(refused)}
    return json.dumps(done, indent=2) + "\n"


def said(story: Story, key: str) -> str:
    """What `reconcile explain MODEL ENV` prints for ENV/MODEL."""
    subject = subject_of(key)
    observed = story.observed(Scope(model=subject.model, closely=True))
    planned = Planned(story.main, observed, make_plan(story.main, observed))
    return plain(explain.blocks(explanation(planned, subject)))


@pytest.mark.parametrize("name", STORIES)
def test_a_story_ends_as_it_is_told(name: str, request: pytest.FixtureRequest) -> None:
    folder = HERE / name
    for file, text in told(Story(folder)).items():
        golden = folder / file
        if request.config.getoption("--update", default=False):
            golden.write_text(text)
        assert golden.is_file(), f"{golden.name} is not there; write it with --update"
        assert text == golden.read_text()


@pytest.mark.parametrize("name", STORIES)
def test_a_story_says_what_it_is_about(name: str) -> None:
    assert len((HERE / name / "story.md").read_text().split()) > 10


@pytest.mark.parametrize(
    "name", ["evidence-marked", "promotion-opened", "release-verified", "rollback-proposed", "removal-proposed"]
)
def test_a_plan_that_was_reviewed_keeps_its_digest_while_time_passes(name: str) -> None:
    story = Story(HERE / name)
    observed = story.observed()
    later = observed.swept.model_copy(update={"at": observed.at + timedelta(minutes=3)})
    plans = [make_plan(story.main, seen) for seen in (observed, observed.model_copy(update={"swept": later}))]
    assert plans[0].actions
    assert plans[0] != plans[1]
    assert plans[0].digest == plans[1].digest


def _plans() -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text())["plan"] for path in HERE.glob("*/plan.json")}


def test_every_hold_is_in_some_story() -> None:
    told_of = {hold["code"] for plan in _plans().values() for hold in plan["holds"]}  # type: ignore[attr-defined]
    assert told_of == HOLDS.keys()


def test_every_kind_of_action_is_in_some_story() -> None:
    from typing import get_args

    from reconciler.core.plan import Action

    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(Action)[0])}
    told_of = {action["kind"] for plan in _plans().values() for action in plan["actions"]}  # type: ignore[attr-defined]
    assert told_of == kinds


def _reasons(value: object) -> list[str]:
    """Every reason below a plan, and the sentences of its verdicts."""
    if isinstance(value, dict):
        own = [value[name] for name in ("reason", "why", "what", "title") if name in value]
        return [*own, *(text for item in value.values() for text in _reasons(item))]
    return [text for item in value for text in _reasons(item)] if isinstance(value, list) else []


_DURATION = re.compile(
    r"\b\d+(\.\d+)? ?(s|m|min|h|d|seconds?|minutes?|hours?|days?|weeks?)\b(?! ago)|\bago\b", re.IGNORECASE
)


@pytest.mark.parametrize("path", sorted(HERE.glob("*/plan.json")), ids=lambda path: path.parent.name)
def test_reasons_name_instants_and_never_durations(path: Path) -> None:
    told_of = _reasons(json.loads(path.read_text())["plan"])
    # How old evidence may be is the policy's own word; how old it is by now would change with every tick.
    said = [text.replace("older than 30d", "") for text in told_of]
    assert [text for text in said if _DURATION.search(text)] == []
