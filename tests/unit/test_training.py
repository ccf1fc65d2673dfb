"""Training again what was trained before, but lost, is a person's decision."""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.observed import RegistrySweep
from reconciler.planning.training import plan_training
from reconciler.planning.view import View
from tests.stories.build import HERE, Story

TRAINING = Subject(model="digits")


def test_an_empty_registry_beside_a_pin_is_a_loss_and_trains_nothing() -> None:
    story = Story(HERE / "release-soaking")
    observed = story.observed()
    registries = dict.fromkeys(observed.swept.registries, RegistrySweep())
    swept = observed.swept.model_copy(update={"registries": registries})
    decision = plan_training(View(story.main, observed.model_copy(update={"swept": swept})), TRAINING)
    assert decision.actions == ()
    assert [hold.code for hold in decision.holds] == ["pinned-version-missing"]
    assert "staging/digits pins a version" in decision.holds[0].reason


def test_an_empty_registry_without_a_pin_is_a_beginning() -> None:
    story = Story(HERE / "first-training")
    decision = plan_training(View(story.main, story.observed()), TRAINING)
    assert [action.kind for action in decision.actions] == ["submit-workflow"]
