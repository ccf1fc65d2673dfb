"""Training again what was trained before, but lost, is a person's decision."""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.contract import Column, Contract
from reconciler.core.observed import RegistrySweep
from reconciler.core.plan import SubmitWorkflow
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


def test_rows_that_have_a_contract_are_asked_before_the_training() -> None:
    story = Story(HERE / "first-training")
    source = story.main.models["digits"]

    def given(contract: Contract | None) -> str | None:
        data = source.model.data.model_copy(update={"contract": contract})
        model = source.model.model_copy(update={"data": data})
        models = {**story.main.models, "digits": source.model_copy(update={"model": model})}
        desired = story.main.model_copy(update={"models": models})
        (action,) = plan_training(View(desired, story.observed()), TRAINING).actions
        assert isinstance(action, SubmitWorkflow)
        return action.parameters.get("contract")

    contract = Contract(columns={"id": Column(type="text")})
    assert given(None) is None
    found = given(contract)
    assert found
    assert found != given(Contract(columns={"id": Column(type="text", unique=True)}))
