"""Workflow runs as attempts at a key: their names, labels and parameters, and when to try again."""

from __future__ import annotations

from typing import Literal, NamedTuple

from reconciler.core.base import Subject
from reconciler.core.digests import canonical_json
from reconciler.core.observed import LABEL_MANAGED, Gap, WorkflowRun
from reconciler.core.plan import Hold, SubmitWorkflow
from reconciler.planning.compute import data_pod_patch
from reconciler.planning.holds import hold
from reconciler.planning.view import View, attempt_of


class Tried(NamedTuple):
    """How far the attempts at one key are.

    ``state``: ``none`` or ``again`` (submit ``number``), ``running``, ``succeeded``, ``exhausted``, and
    ``cancelled`` where a person ended the last one.
    """

    state: Literal["none", "again", "running", "succeeded", "exhausted", "cancelled"]
    number: int
    last: WorkflowRun | None


def attempts(view: View, kind: str, model: str, key: str) -> Tried | Gap:
    """Where the attempts at a key stand. Failures count since the last success; a Gap hides everything.

    ``kind`` is ``train`` or a measurement; how many may fail, the Platform says for either.
    """
    engine, limits = view.observed.swept.engine, view.desired.platform.engine.attempts
    if isinstance(engine, Gap):
        return engine
    runs = view.runs(kind, model, key)
    if not runs:
        return Tried("none", 1, None)
    last = runs[-1]
    number = attempt_of(last) + 1
    if not last.done:
        return Tried("running", number, last)
    if last.phase == "Succeeded":
        return Tried("succeeded", number, last)
    if last.stopped_by:
        return Tried("cancelled", number, last)
    failures = 0
    for run in reversed(runs):
        if run.phase == "Succeeded":
            break
        failures += not run.superseded
    limit = limits.train if kind == "train" else limits.measure
    return Tried("again" if failures < limit else "exhausted", number, last)


def cancelled(subject: Subject, run: WorkflowRun) -> Hold:
    """The hold of what a person ended: the planner does not try again behind their back."""
    said = f"{run.name} was cancelled by {run.stopped_by}: {run.stopped}"
    return hold("cancelled", subject, f"{said}; `reconcile retry {run.name}` tries once more")


def under_way(run: WorkflowRun) -> str:
    """A run that goes on, in a clause: who asked for it, and who is ending it."""
    done = f", {run.progress} tasks done" if run.progress else ""
    asked = f", asked for by {run.asked_by}: {run.reason}" if run.asked_by else ""
    ending = f", and is being ended by {run.stopped_by}: {run.stopped}" if run.stopped_by else ""
    return f"{run.name} is {run.phase.lower()}{done}{asked}{ending}"


def run_name(kind: str, model: str, key: str, number: int) -> str:
    """The name of one attempt: at most 63 characters, because it becomes a label of its pods."""
    prefix = "train" if kind == "train" else f"measure-{kind}"
    return f"{prefix}-{model}-{key}-{number}"


def submission(
    view: View,
    subject: Subject,
    *,
    kind: str,
    template: str,
    key: str,
    number: int,
    parameters: dict[str, str],
    deadline: int,
    reason: str,
    parallelism: int | None = None,
) -> SubmitWorkflow | Hold:
    """One attempt as an action. ``kind`` is ``train`` or a measurement.

    The environment in the labels is the one whose budget it uses.
    """
    measuring = kind != "train"
    data_pod = data_pod_patch(view.desired.platform.engine)
    name = run_name(kind, subject.model, key, number)
    if template not in view.desired.templates:
        return hold(
            "invalid-document", subject, f"there is no WorkflowTemplate {template} in workflows/rendered"
        )
    roots = view.desired.roots(subject.model)
    labels = {
        LABEL_MANAGED: "trueup",
        "trueup.dev/kind": "measure" if measuring else "train",
        "trueup.dev/model": subject.model,
        "trueup.dev/key": key,
        "trueup.dev/attempt": str(number),
        "trueup.dev/environment": subject.environment or (roots[0] if roots else ""),
    }
    if measuring:
        labels["trueup.dev/measurement"] = kind
    return SubmitWorkflow(
        key=f"submit-workflow {name}",
        subject=subject,
        reason=reason,
        name=name,
        template=template,
        commit=view.desired.revision,
        parameters={
            "model": subject.model,
            "commit": view.desired.revision,
            "image": view.desired.platform.images.steps,
            **({"wake": wake.url} if (wake := view.desired.platform.engine.wake) else {}),
            **({"data-pod": canonical_json(data_pod)} if data_pod else {}),
            **parameters,
        },
        labels=labels,
        deadline=deadline,
        priority=view.model(subject).priority,
        parallelism=parallelism,
    )
