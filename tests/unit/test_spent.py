"""Superseded runs are stopped and recorded ones collected: only ours, and never on what is not known."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.observed import EngineSweep, Gap, Observed, Swept, WorkflowRun
from reconciler.core.plan import CollectWorkflows, SubmitWorkflow
from reconciler.core.problems import Problem
from reconciler.planning.in_motion import at_rest
from reconciler.planning.limits import TIDIED, limited
from reconciler.planning.spent import AT_ONCE, NONE, plan_spent, spent
from reconciler.planning.subjects import plan_subject
from reconciler.planning.view import View
from tests.stories.build import HERE, Story

STORY = Story(HERE / "runs-collected")
TRAINING = Subject(model="digits")
KEY = STORY.main.training_key("digits")


def view(state: DesiredState = STORY.main, **swept: Any) -> View:
    observed = STORY.observed()
    changed = Swept.model_validate({**dict(observed.swept), **swept})
    return View(state, observed.model_copy(update={"swept": changed}))


def run(key: str = "0" * 12, phase: Any = "Failed", attempt: int = 1, **changes: Any) -> WorkflowRun:
    labels = {
        "trueup.dev/kind": "train",
        "trueup.dev/model": "digits",
        "trueup.dev/key": key,
        "trueup.dev/attempt": str(attempt),
        "trueup.dev/environment": "staging",
    }
    name = f"train-digits-{key}-{attempt}"
    ended = STORY.at - timedelta(days=1)
    return WorkflowRun(name=name, phase=phase, labels=labels, finished=ended).model_copy(update=changes)


def engine(*runs: WorkflowRun) -> EngineSweep:
    return EngineSweep(runs={each.name: each for each in runs})


def test_what_is_superseded_and_what_is_recorded() -> None:
    found = spent(view(), TRAINING)
    assert [name.split("-")[0] for name in found.superseded] == ["measure"]
    assert found.recorded == ("train-digits-000000000000-1", f"train-digits-{KEY}-2")
    assert not at_rest(view(), TRAINING)


def test_without_such_runs_a_trained_model_is_at_rest() -> None:
    assert at_rest(view(engine=engine()), TRAINING)
    assert at_rest(view(engine=engine(run(str(KEY), "Failed"))), TRAINING)
    assert plan_spent(view(engine=engine()), TRAINING).actions == ()


@pytest.mark.parametrize(
    "unknown",
    [
        {"engine": Gap(source="engine", error="timed out")},
        {"registries": {"default": Gap(source="registry default", error="timed out")}},
    ],
    ids=["engine", "registry"],
)
def test_nothing_is_concluded_from_a_system_that_did_not_answer(unknown: dict[str, Any]) -> None:
    assert spent(view(**unknown), TRAINING) == NONE


@pytest.mark.parametrize(
    ("environment", "model"),
    [("", "digits"), ("staging", ""), ("production", ""), ("production", "digits"), ("", "")],
)
def test_nothing_is_concluded_while_a_document_that_could_ask_does_not_parse(
    environment: str, model: str
) -> None:
    problem = Problem(path="x.yaml", what="is not valid YAML", environment=environment, model=model)
    state = STORY.main.model_copy(update={"problems": (problem,)})
    assert spent(view(state), TRAINING) == NONE
    decision = plan_subject(view(state), TRAINING)
    assert not {action.kind for action in decision.actions} & {"stop-workflow", "collect-workflows"}


def test_an_environment_that_is_gone_from_main_but_named_says_nothing() -> None:
    left = {name: each for name, each in STORY.main.environments.items() if name != "production"}
    assert spent(view(STORY.main.model_copy(update={"environments": left})), TRAINING) == NONE


def test_a_model_that_main_does_not_have_may_be_another_repositorys() -> None:
    assert spent(view(), Subject(model="others")) == NONE


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "train-digits-by-hand"},
        {"labels": {"trueup.dev/model": "digits"}},
        {"labels": {**run().labels, "trueup.dev/attempt": "7"}},
    ],
)
def test_a_run_whose_labels_do_not_make_its_name_is_not_ours(changes: dict[str, Any]) -> None:
    assert spent(view(engine=engine(run(**changes))), TRAINING) == NONE


def test_a_running_attempt_at_mains_training_is_left_alone() -> None:
    assert spent(view(engine=engine(run(str(KEY), "Running"))), TRAINING) == NONE


def test_a_succeeded_training_without_a_version_is_kept_for_people_to_see() -> None:
    empty = STORY.observed().swept.registries["default"].model_copy(update={"models": {}})
    seen = view(engine=engine(run(str(KEY), "Succeeded")), registries={"default": empty})
    assert spent(seen, TRAINING) == NONE
    assert [hold.code for hold in plan_subject(seen, TRAINING).holds] == ["training-registered-nothing"]


def test_a_tick_collects_a_bounded_number() -> None:
    runs = [run(attempt=number) for number in range(1, 60)]
    (action,) = plan_spent(view(engine=engine(*runs)), TRAINING).actions
    assert isinstance(action, CollectWorkflows)
    assert len(action.names) == AT_ONCE
    subjects = [Subject(model=f"m{number}") for number in range(9)]
    decisions = {
        subject: plan_spent(view(engine=engine(*runs)), TRAINING)._replace(
            actions=(action.model_copy(update={"key": f"collect {subject}", "subject": subject}),)
        )
        for subject in subjects
    }
    left, _ = limited(view(), decisions)
    assert sum(len(d.actions) for d in left.values()) * AT_ONCE == TIDIED


def test_submissions_wait_where_a_minute_has_had_its_number() -> None:
    story = Story(HERE / "first-training")
    limits = story.main.environments["staging"].limits.model_copy(update={"submissions_per_minute": 1})
    staging = story.main.environments["staging"].model_copy(update={"limits": limits})
    state = story.main.model_copy(update={"environments": {**story.main.environments, "staging": staging}})

    def planned(seconds: int | None) -> list[str]:
        started = None if seconds is None else story.at - timedelta(seconds=seconds)
        other = run().labels | {"trueup.dev/model": "other"}
        before = run(phase="Failed" if started else "Pending", started=started, labels=other)
        swept = story.observed().swept.model_copy(update={"engine": engine(before)})
        seen = View(state, Observed(swept=swept, moving=(TRAINING,)))
        left, _ = limited(seen, {TRAINING: plan_subject(seen, TRAINING)})
        for action in left[TRAINING].actions:
            assert isinstance(action, SubmitWorkflow)
        return [*(a.kind for a in left[TRAINING].actions), *(h.reason for h in left[TRAINING].holds)]

    waits = (
        f"train-digits-{story.main.training_key('digits')}-1 waits: limits.submissionsPerMinute of staging is 1"
    )
    assert planned(59) == [waits]
    assert planned(None) == [waits]
    assert planned(60) == ["submit-workflow"]


@pytest.mark.parametrize(
    ("finished", "collected"),
    [
        (STORY.at - timedelta(days=1), True),
        (STORY.at - timedelta(hours=23), False),  # its logs may still be read
        (None, False),
    ],
)
def test_a_run_stays_for_a_day_for_its_logs(finished: Any, collected: bool) -> None:
    found = spent(view(engine=engine(run(finished=finished))), TRAINING)
    assert bool(found.recorded) is collected
