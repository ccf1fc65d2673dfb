"""A version that is trained once more from its own key, to see whether the same model comes of it. Pure.

Ordered by `reconcile reproduce`, by the model's `training.reproduce`, or asked for by a gate on `reproduce.*`.
Only versions of the training that main describes: what others were trained by is not at main's commit any more.
The evidence is marked on the version like any other, whether or not a gate asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.core.base import Subject
from reconciler.core.digests import canonical_json
from reconciler.core.documents import REPRODUCIBLE, Pin
from reconciler.core.evidence import CATALOGUE
from reconciler.core.observed import ModelVersion, RegisteredModel
from reconciler.core.plan import Hold, SubmitWorkflow
from reconciler.planning.holds import hold
from reconciler.planning.judge import Case, case_of
from reconciler.planning.runs import run_name, submission
from reconciler.planning.training import registered_of, what_is_trained
from reconciler.planning.view import View

MEASUREMENT = "reproduce"
COMPARING = 3600
"""Seconds besides those of the training."""


class Reproducible(NamedTuple):
    """A version of main's training, and the case that makes the key of its reproduction."""

    version: ModelVersion
    pin: Pin
    case: Case


def reproducible(view: View, model: str) -> Iterator[Reproducible]:
    """Every version of main's training that is ready, oldest first; none where that cannot be said."""
    subject, desired = Subject(model=model), view.desired
    key, roots = desired.training_key(model), desired.roots(model)
    if key is None or not roots or view.model(subject).training.workflow != REPRODUCIBLE:
        return
    registered = registered_of(view, subject)
    if not isinstance(registered, RegisteredModel):
        return
    registry, name = desired.environments[roots[0]].registry, view.model(subject).registered_name
    for version in registered.versions:
        if version.training_key == key and version.digest is not None and version.ready:
            pin = Pin(registry=registry, name=name, version=version.version, digest=version.digest)
            here = Subject(environment=roots[0], model=model)
            yield Reproducible(version, pin, case_of(desired, here, pin, "", None))


def reproduced(view: View, model: str) -> Iterator[Reproducible]:
    """Of those, what may have a run; the sweep alone tells of most models that there is none."""
    runs = view.runs_about(model)
    if any(run.labels.get("trueup.dev/measurement") == MEASUREMENT for run in runs):
        yield from reproducible(view, model)


def scheduled(view: View, model: str) -> Reproducible | None:
    """The newest version, if an instant of the model's schedule has come since it was registered."""
    source = view.desired.models.get(model)
    schedule = source.model.training.reproduce if source else None
    if schedule is None:
        return None
    newest = next(reversed([*reproducible(view, model)]), None)
    come = newest is not None and schedule.after(newest.version.created) <= view.at
    return newest if come else None


def submit_reproduction(
    view: View, subject: Subject, version: ModelVersion, case: Case, number: int, reason: str
) -> SubmitWorkflow | Hold:
    """One attempt: main's training again, with what a search chose for this version."""
    model, key = view.model(subject), case.key(MEASUREMENT)
    main = view.desired.training_key(subject.model)
    if model.training.workflow != REPRODUCIBLE or version.training_key != main:
        said = f"version {version.version} is not of the training by {REPRODUCIBLE} that main describes"
        return hold("measurement-failed", subject, f"{MEASUREMENT}: {said}, so it cannot be trained once more")
    chosen = version.chosen
    return submission(
        view,
        subject,
        kind=MEASUREMENT,
        template=CATALOGUE[MEASUREMENT].template,
        key=key,
        number=number,
        parameters={
            "registered-name": model.registered_name,
            "key": key,
            "inputs": canonical_json(case.inputs(MEASUREMENT)),
            "candidate-version": version.version,
            "evaluation-pointer": f"models/{subject.model}/{model.data.evaluation.pointer}",
            "evaluation-md5": case.source.evaluation_md5,
            **what_is_trained(view, subject, run_name(MEASUREMENT, subject.model, key, number)),
            **({"hyperparameters": canonical_json(chosen)} if chosen else {}),
        },
        deadline=model.training.compute.hours * 3600 + COMPARING,
        reason=reason,
    )
