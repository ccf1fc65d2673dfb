"""A model whose training main describes has a version of that training key, or a run that makes one."""

from __future__ import annotations

from reconciler.core.base import Subject, show_instant
from reconciler.core.digests import canonical_json
from reconciler.core.documents import Training
from reconciler.core.observed import Gap, RegisteredModel
from reconciler.core.plan import Hold, SubmitWorkflow
from reconciler.planning.compute import RESTARTS, RESTARTS_ON_SPOT, pod_patch
from reconciler.planning.decision import NOTHING, Decision, act, wait
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.retraining import by_hand, cooling_down, due, over_budget
from reconciler.planning.runs import Tried, attempts, cancelled, run_name, submission, under_way
from reconciler.planning.view import View

_TRIGGERS = {"section": "code", "source": "code", "seed": "code", "recipe": "code", "data": "data"}
_WORDS = {
    "section": "the training section",
    "source": "the model's code",
    "seed": "the seed",
    "recipe": "the workflow template's recipe",
    "data": "the training data",
}


def trained(view: View, subject: Subject) -> bool:
    """Whether nothing is to be trained: external, nowhere to go, or a version of main's key is there."""
    key = view.desired.training_key(subject.model)
    if key is None or not view.desired.roots(subject.model):
        return True
    registered = registered_of(view, subject)
    return isinstance(registered, RegisteredModel) and any(
        v.training_key == key and v.digest is not None and v.ready for v in registered.versions
    )


def plan_training(view: View, subject: Subject) -> Decision:
    """Submit, try again, wait, or say why not. ``subject`` has no environment."""
    if trained(view, subject):
        return NOTHING
    registered = registered_of(view, subject)
    if isinstance(registered, Gap):
        return wait(unanswered(subject, registered))
    key = view.desired.training_key(subject.model)
    assert key is not None
    tried = attempts(view, "train", subject.model, key)
    if isinstance(tried, Gap):
        return wait(unanswered(subject, tried))
    last = tried.last
    if tried.state == "running" and last is not None:
        return wait(hold("training", subject, under_way(last)))
    if tried.state == "cancelled" and last is not None:
        return wait(cancelled(subject, last))
    if tried.state == "succeeded" and last is not None:
        return wait(
            hold(
                "training-registered-nothing",
                subject,
                f"{last.name} succeeded but no version carries its key {key}; see "
                f"`reconcile logs {last.name}`, and {by_hand(subject)}",
            )
        )
    if tried.state == "exhausted" and last is not None:
        said = f": {last.message}" if last.message else ""
        return wait(
            hold(
                "training-failed",
                subject,
                f"{last.name} {last.phase.lower()}{said}; see `reconcile logs {last.name}`, then change code, "
                "data or hyperparameters: a new key trains again; or try this one once more by "
                f"`reconcile retry {last.name}`",
            )
        )
    lost = [key for key in view.desired.releases if key.endswith(f"/{subject.model}")]
    if lost and not registered.versions:
        # What was trained before is gone, not absent: training it again is a person's decision.
        name = view.model(subject).registered_name
        said = f"{', '.join(sorted(lost))} pins a version, and the registry has none of {name}; restore it, or"
        return wait(hold("pinned-version-missing", subject, f"{said} remove the releases to begin anew"))
    began = last is not None and not last.superseded
    why, holds = (again(tried), []) if began else _why(view, subject, registered)
    holds += [each for each in (over_budget(view, subject),) if each is not None]
    if holds:
        return wait(*holds)
    step = submit_training(view, subject, key, tried.number, why)
    return wait(step) if isinstance(step, Hold) else act(step)


def registered_of(view: View, subject: Subject) -> RegisteredModel | Gap:
    """Everything in the registry that trainings of this model go to."""
    root = view.desired.environments[view.desired.roots(subject.model)[0]]
    return view.registered(root.registry, view.model(subject).registered_name)


def again(tried: Tried) -> str:
    """Why there is another attempt."""
    assert tried.last is not None
    last = tried.last
    ended = f"was cancelled by {last.stopped_by}" if last.stopped_by else last.phase.lower()
    why = last.stopped if last.stopped_by else last.message or "no message"
    return f"attempt {tried.number}, because {last.name} {ended}: {why}"


def _why(view: View, subject: Subject, registered: RegisteredModel) -> tuple[str, list[Hold]]:
    """Why the key is new, and what it waits for: what environments ask for, the schedule, the cooldown."""
    before = next((v for v in reversed(registered.versions) if v.training_key and v.digest), None)
    if before is None:
        return "no version has been trained yet", []
    now, then = view.desired.training_inputs(subject.model), before.training_inputs
    changed = [name for name in _WORDS if now[name] != then.get(name)]
    words = " and ".join(_WORDS[name] for name in changed) or "the training"
    why = f"{words} changed since version {before.version}"
    asked = {
        trigger
        for root in view.desired.roots(subject.model)
        for trigger in view.desired.environments[root].retrain_on
    }
    cooling = cooling_down(view, subject, registered, why)
    holds = [cooling] if cooling else []
    if not changed or asked & {_TRIGGERS[name] for name in changed}:
        return why, holds
    instant = due(view, subject, registered) if "schedule" in asked else None
    if instant is None:
        named = f"names only {', '.join(sorted(asked))}" if asked else "is empty"
        without = ", and the model has no training.retrain.schedule" if "schedule" in asked else ""
        said = f"{why}, and retrainOn {named}{without}; {by_hand(subject)}"
        return why, [hold("retrain-not-asked", subject, said)]
    if view.at < instant:
        said = f"{why}; it is trained at {show_instant(instant)}; {by_hand(subject)}"
        return why, [hold("awaiting-schedule", subject, said), *holds]
    return f"{why}, and its schedule's {show_instant(instant)} has come", holds


def submit_training(view: View, subject: Subject, key: str, number: int, why: str) -> SubmitWorkflow | Hold:
    """One attempt at main's training."""
    model, training = view.model(subject), view.model(subject).training
    assert training.workflow is not None
    return submission(
        view,
        subject,
        kind="train",
        template=training.workflow,
        key=key,
        number=number,
        parameters={
            "registered-name": model.registered_name,
            "training-key": key,
            "training-inputs": canonical_json(view.desired.training_inputs(subject.model)),
            **what_is_trained(view, subject, run_name("train", subject.model, key, number)),
            **_contract(view, subject),
            **_search(training),
        },
        deadline=training.compute.hours * 3600,
        reason=why,
        parallelism=training.parallelism,
    )


def what_is_trained(view: View, subject: Subject, run: str) -> dict[str, str]:
    """Parameters of a workflow's step `train` for main's training; ``run`` is the workflow's name."""
    source = view.desired.models[subject.model]
    model, training = source.model, source.model.training
    assert model.data.train is not None
    return {
        "hyperparameters": canonical_json(training.hyperparameters),
        "seed": str(training.seed),
        "device": training.compute.device,
        "pod": canonical_json(pod_patch(view.desired.platform.engine, training.compute, run)),
        "restarts": str(RESTARTS_ON_SPOT if training.compute.spot else RESTARTS),
        "train-pointer": f"models/{subject.model}/{model.data.train.pointer}",
        "train-md5": source.train_md5,
        "target": model.data.evaluation.target,
        "task": model.task,
    }


def _contract(view: View, subject: Subject) -> dict[str, str]:
    """What a template has a default for that means: the rows are not asked about."""
    source = view.desired.models[subject.model]
    return {"contract": source.contract_digest} if source.model.data.contract else {}


def _search(training: Training) -> dict[str, str]:
    """What a template has defaults for that mean: nothing is searched."""
    if training.search is None:
        return {}
    stages = len(training.search.rungs(training.hyperparameters))
    return {"search": canonical_json(training.search), "stages": str(stages)}
