"""A model whose training main describes has a version of that training key, or a run that makes one."""

from __future__ import annotations

from reconciler.core.base import Subject, show_instant
from reconciler.core.digests import canonical_json
from reconciler.core.observed import Gap, RegisteredModel
from reconciler.core.plan import Hold
from reconciler.planning.compute import RESTARTS, RESTARTS_ON_SPOT, pod_patch
from reconciler.planning.decision import NOTHING, Decision, act, wait
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.retraining import by_hand, cooling_down, due, over_budget
from reconciler.planning.runs import Tried, attempts, run_name, submission
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
    registered = _registered(view, subject)
    return isinstance(registered, RegisteredModel) and any(
        v.training_key == key and v.digest is not None and v.ready for v in registered.versions
    )


def plan_training(view: View, subject: Subject) -> Decision:
    """Submit, try again, wait, or say why not. ``subject`` has no environment."""
    if trained(view, subject):
        return NOTHING
    registered = _registered(view, subject)
    if isinstance(registered, Gap):
        return wait(unanswered(subject, registered))
    key = view.desired.training_key(subject.model)
    assert key is not None
    tried = attempts(view, "train", subject.model, key, view.desired.platform.engine.attempts.train)
    if isinstance(tried, Gap):
        return wait(unanswered(subject, tried))
    last = tried.last
    if tried.state == "running" and last is not None:
        done = f", {last.progress} tasks done" if last.progress else ""
        return wait(hold("training", subject, f"{last.name} is {last.phase.lower()}{done}"))
    if tried.state == "succeeded" and last is not None:
        return wait(
            hold(
                "training-registered-nothing",
                subject,
                f"{last.name} succeeded but no version carries its key {key}; see `reconcile logs {last.name}`",
            )
        )
    if tried.state == "exhausted" and last is not None:
        said = f": {last.message}" if last.message else ""
        return wait(
            hold(
                "training-failed",
                subject,
                f"{last.name} {last.phase.lower()}{said}; see `reconcile logs {last.name}`, then change code, "
                "data or hyperparameters: a new key trains again",
            )
        )
    lost = [key for key in view.desired.releases if key.endswith(f"/{subject.model}")]
    if lost and not registered.versions:
        # What was trained before is gone, not absent: training it again is a person's decision.
        name = view.model(subject).registered_name
        said = f"{', '.join(sorted(lost))} pins a version, and the registry has none of {name}; restore it, or"
        return wait(hold("pinned-version-missing", subject, f"{said} remove the releases to begin anew"))
    began = last is not None and not last.superseded
    why, holds = (_again(tried), []) if began else _why(view, subject, registered)
    holds += [each for each in (over_budget(view, subject),) if each is not None]
    return wait(*holds) if holds else submit_training(view, subject, key, tried.number, why)


def _registered(view: View, subject: Subject) -> RegisteredModel | Gap:
    root = view.desired.environments[view.desired.roots(subject.model)[0]]
    return view.registered(root.registry, view.model(subject).registered_name)


def _again(tried: Tried) -> str:
    assert tried.last is not None
    name, phase, said = tried.last.name, tried.last.phase.lower(), tried.last.message or "no message"
    return f"attempt {tried.number}, because {name} {phase}: {said}"


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


def submit_training(view: View, subject: Subject, key: str, number: int, why: str) -> Decision:
    """One attempt at main's training."""
    source = view.desired.models[subject.model]
    model, training = source.model, source.model.training
    assert training.workflow is not None
    assert model.data.train is not None
    step = submission(
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
            "hyperparameters": canonical_json(training.hyperparameters),
            "seed": str(training.seed),
            "device": training.compute.device,
            "pod": canonical_json(
                pod_patch(
                    view.desired.platform.engine,
                    training.compute,
                    run_name("train", subject.model, key, number),
                )
            ),
            "restarts": str(RESTARTS_ON_SPOT if training.compute.spot else RESTARTS),
            "train-pointer": f"models/{subject.model}/{model.data.train.pointer}",
            "train-md5": source.train_md5,
            "target": model.data.evaluation.target,
            "task": model.task,
        },
        deadline=training.compute.hours * 3600,
        reason=why,
    )
    return wait(step) if isinstance(step, Hold) else act(step)
