"""Runs that nobody needs any more: what is superseded is stopped, and what is recorded is collected.

Asked for a model's training, which is the subject without an environment, about all of the model's runs.
Nothing is concluded while a system that would know better did not answer, or a document that could ask for a
run does not parse. Only runs that carry our labels and the name that goes with them are touched, and only of
models that main has: another repository's may be in the same engine. What is left of others goes by its time
to live.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.base import Subject
from reconciler.core.digests import digest_of, short
from reconciler.core.observed import Gap, WorkflowRun
from reconciler.core.plan import CollectWorkflows, Hold, StopWorkflow
from reconciler.planning.candidates import candidate
from reconciler.planning.decision import Decision
from reconciler.planning.judge import case_of, measurements
from reconciler.planning.reproducing import MEASUREMENT as REPRODUCE
from reconciler.planning.reproducing import reproduced
from reconciler.planning.runs import run_name
from reconciler.planning.training import trained
from reconciler.planning.view import View, attempt_of

AT_ONCE = 20
"""Runs of one model that one tick collects."""
UNKNOWN = ("gap", "invalid-document")
"""Holds of a candidate that say nothing about what is asked for."""


class Spent(NamedTuple):
    """Names of runs: to be stopped, and to be forgotten."""

    superseded: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()


NONE = Spent()


def spent(view: View, subject: Subject) -> Spent:
    """What can be stopped and collected of a model. ``subject`` has no environment."""
    runs = [run for run in view.runs_about(subject.model) if _ours(run) and not _kept(view, run)]
    if not runs or not _known(view, subject):
        return NONE
    asked = _measurements(view, subject.model)
    if asked is None:
        return NONE
    key = view.desired.training_key(subject.model)
    registered = key is not None and trained(view, subject)
    superseded, recorded = [], []
    for run in runs:
        of, measurement = run.labels["trueup.dev/key"], run.labels.get("trueup.dev/measurement")
        if measurement is None:
            wanted, told = of == key, registered and run.phase == "Succeeded"
        else:
            # Those of a candidate stay while it is one, marked or not: attempts are counted by them.
            wanted, told = (measurement, of) in asked, False
        if not run.done and not wanted:
            superseded.append(run.name)
        elif run.done and (told or not wanted):
            recorded.append(run.name)
    return Spent(tuple(superseded), tuple(recorded))


def plan_spent(view: View, subject: Subject) -> Decision:
    """Stop what is superseded, forget what is recorded."""
    found = spent(view, subject)
    stops = [
        StopWorkflow(
            key=f"stop-workflow {name}",
            subject=subject,
            reason="it is superseded: nothing asks for its result any more",
            name=name,
        )
        for name in found.superseded
    ]
    names = found.recorded[:AT_ONCE]
    collection = CollectWorkflows(
        key=f"collect-workflows {subject} {short(digest_of('runs', names=names))}",
        subject=subject,
        reason="their outcome is recorded, or nothing asks for it any more",
        names=names,
    )
    return Decision((*stops, *([collection] if names else ())))


def _kept(view: View, run: WorkflowRun) -> bool:
    """Whether a run that is done stays for its logs; it does where it is not said when it ended."""
    ended, keep = run.finished, view.desired.platform.engine.keep
    return run.done and (ended is None or view.at < ended + keep)


def _ours(run: WorkflowRun) -> bool:
    """Whether its labels make its name."""
    labels = run.labels
    kind = labels.get("trueup.dev/measurement") or labels.get("trueup.dev/kind", "")
    model, key = labels.get("trueup.dev/model", ""), labels.get("trueup.dev/key", "")
    return bool(kind and key) and run.name == run_name(kind, model, key, attempt_of(run))


def _known(view: View, subject: Subject) -> bool:
    """Whether everything that could ask for a run of this model parses and answered."""
    desired, model = view.desired, subject.model
    if model not in desired.models or desired.hidden(subject):
        return False
    if isinstance(view.observed.swept.engine, Gap):
        return False
    name = desired.models[model].model.registered_name
    for environment in desired.models[model].model.environments:
        here = Subject(environment=environment, model=model)
        if environment not in desired.environments or desired.hidden(here):
            return False
        if isinstance(view.registered(desired.environments[environment].registry, name), Gap):
            return False
    return True


def _measurements(view: View, model: str) -> set[tuple[str, str]] | None:
    """(measurement, key) that a candidate of some environment, or a person, asks for; None if nobody knows."""
    asked = {(REPRODUCE, each.case.key(REPRODUCE)) for each in reproduced(view, model)}
    for environment in view.desired.models[model].model.environments:
        here = Subject(environment=environment, model=model)
        wanted = candidate(view, here)
        if isinstance(wanted, Hold):
            if wanted.code in UNKNOWN:
                return None
        elif wanted.change is not None:
            case = case_of(view.desired, here, wanted.pin, wanted.image, view.champion(here))
            asked |= {(each, case.key(each)) for each in measurements(view.policy(here), case)}
    return asked
