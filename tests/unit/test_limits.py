"""Two environments that want the same: one asks, and the other waits only for what takes time."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.core.base import Subject
from reconciler.core.documents import Pin
from reconciler.core.plan import Action, SubmitWorkflow
from reconciler.planning.decision import act
from reconciler.planning.limits import limited
from reconciler.planning.releases import mark_version
from reconciler.planning.view import View
from tests.stories.build import HERE, Story

HERE_AND_THERE = (Subject(environment="here", model="digits"), Subject(environment="there", model="digits"))
PIN = Pin(registry="default", name="digits", version="1", digest=f"sha256:{'1' * 64}")
STORY = Story(HERE, {"at": "2026-03-02T12:00:00Z"})


def both(make: Callable[[Subject], Action]) -> tuple[list[str], list[str]]:
    """Kinds of action and codes of hold that are left where both want the same."""
    decisions, _ = limited(View(STORY.main, STORY.observed()), {s: act(make(s)) for s in HERE_AND_THERE})
    left = [decisions[subject] for subject in HERE_AND_THERE]
    return [a.kind for d in left for a in d.actions], [h.code for d in left for h in d.holds]


def test_a_measurement_is_submitted_once_and_the_other_waits_for_it() -> None:
    def submit(subject: Subject) -> SubmitWorkflow:
        return SubmitWorkflow(
            key="submit-workflow measure-evaluate-digits-1",
            subject=subject,
            reason="r",
            name="measure-evaluate-digits-1",
            template="measure-evaluate-v1",
            commit="a" * 40,
            parameters={},
            labels={"trueup.dev/environment": "here", "trueup.dev/kind": "measure"},
            deadline=60,
        )

    assert both(submit) == (["submit-workflow"], ["measuring"])


def test_a_mark_is_made_once_and_nobody_waits_for_it() -> None:
    assert both(lambda subject: mark_version(subject, PIN, "trueup.evidence.x", "y", "r")) == (
        ["mark-version"],
        [],
    )
