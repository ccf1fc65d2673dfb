"""Training again what was trained before, but lost, is a person's decision."""

from __future__ import annotations

from reconciler.core.base import Subject, show_instant
from reconciler.core.contract import Column, Contract
from reconciler.core.observed import Pruned, RegisteredModel, RegistrySweep
from reconciler.core.plan import SubmitWorkflow
from reconciler.planning.serving import not_to_be_applied
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


def test_of_a_pin_whose_version_is_gone_it_is_said_who_deleted_it() -> None:
    story = Story(HERE / "release-soaking")
    release = story.main.releases["staging/digits"]
    seen = story.observed()

    def said(registered: RegisteredModel) -> str:
        sweep = RegistrySweep(models={release.pin.name: registered})
        registries = dict.fromkeys(seen.swept.registries, sweep)
        swept = seen.swept.model_copy(update={"registries": registries})
        view = View(story.main, seen.model_copy(update={"swept": swept}))
        stopped = not_to_be_applied(view, Subject(environment="staging", model="digits"), release)
        assert stopped is not None
        assert [hold.code for hold in stopped.holds] == ["pinned-version-missing"]
        return stopped.holds[0].reason

    assert "is not in the registry; restore it, or `reconcile rollback " in said(RegisteredModel())
    deleted = Pruned(at=seen.at, by="Ada", listed="sha256:1")
    assert f"was deleted by Ada, {show_instant(seen.at)}; restore it" in said(
        RegisteredModel(pruned={release.pin.version: deleted})
    )
