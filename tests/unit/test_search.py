"""A search in a Model: what the planner makes of it, and what a version says of the one it came from."""

from __future__ import annotations

import json

import pytest

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Compute
from reconciler.core.observed import TAG_SEARCH, ModelVersion
from reconciler.core.plan import OpenPullRequest, SubmitWorkflow
from reconciler.core.search import Dimension, Halving, Objective, Search
from reconciler.planning.limits import _gpu_hours
from reconciler.planning.plan import make_plan
from reconciler.planning.training import plan_training
from reconciler.planning.view import View
from tests.stories.build import HERE, Story, instant

TRAINING = Subject(model="digits")
SEARCH = Search(
    method="successive-halving",
    space={"rate": Dimension(low=0.001, high=0.1, log=True)},
    metric=Objective(name="loss", goal="min"),
    trials=12,
    parallelism=4,
    halving=Halving(resource="epochs", min=1, eta=3),
)
OUTCOME = {
    "method": "random",
    "trial": 7,
    "trials": 12,
    "metric": "auc",
    "value": 0.7123456,
    "hyperparameters": {},
}


def searching(state: DesiredState, search: Search = SEARCH, compute: Compute | None = None) -> DesiredState:
    source = state.models["digits"]
    changes = {"search": search, "hyperparameters": {"epochs": 9}, "compute": compute or Compute()}
    training = source.model.training.model_copy(update=changes)
    model = source.model.model_copy(update={"training": training})
    return state.model_copy(update={"models": {"digits": source.model_copy(update={"model": model})}})


def submitted(state: DesiredState, story: Story) -> SubmitWorkflow:
    (action,) = plan_training(View(state, story.observed()), TRAINING).actions
    assert isinstance(action, SubmitWorkflow)
    return action


def test_the_run_is_told_what_to_search_in_how_many_stages_and_how_much_at_once() -> None:
    story = Story(HERE / "first-training")
    action = submitted(searching(story.main), story)
    assert Search.model_validate_json(action.parameters["search"]) == SEARCH
    assert action.parameters["stages"] == "3"
    assert action.parallelism == 4
    few = submitted(searching(story.main, SEARCH.model_copy(update={"trials": 3})), story)
    assert few.parallelism == 3
    plain = submitted(story.main, story)
    assert plain.parallelism is None
    assert not {"search", "stages"} & plain.parameters.keys()


def test_gpus_are_counted_for_as_many_trials_as_run_at_once() -> None:
    story = Story(HERE / "first-training")
    state = searching(story.main, compute=Compute(device="cuda", gpus=2, hours=3))
    assert _gpu_hours(View(state, story.observed()), "digits") == 2 * 3 * 4


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (json.dumps(OUTCOME), "best of 12 trials (trial 7, auc 0.7123)"),
        (None, ""),
        ("", ""),
        ("[]", ""),
        ('{"trial": 1}', ""),
        (json.dumps({**OUTCOME, "value": None}), ""),
        (json.dumps({**OUTCOME, "trials": 1e999}), ""),
    ],
)
def test_a_version_says_of_which_trials_it_is_the_best(value: str | None, said: str) -> None:
    tags = {} if value is None else {TAG_SEARCH: value}
    assert ModelVersion(version="1", created=instant("2026-03-02T12:00:00Z"), tags=tags).search == said


def test_its_pull_request_says_it_too() -> None:
    story = Story(HERE / "promotion-opened")
    for one in story.case["versions"]["digits"].values():
        one["tags"] = {TAG_SEARCH: json.dumps(OUTCOME)}
    again = Story(HERE / "promotion-opened", story.case)
    (action,) = make_plan(again.main, again.observed()).actions
    assert isinstance(action, OpenPullRequest)
    assert action.summary.lineage["hyperparameters"] == "best of 12 trials (trial 7, auc 0.7123)"
