"""What a person asks of runs by a command: `reconcile retrain`, `reproduce`, `retry` and `cancel`. Pure.

Each gives the one action that its command carries out under the lease, or raises Terminal and says why not. A
training that is ordered waits for no schedule, cooldown or budget. Otherwise it is the run that the planner
would submit, under the same name, so that two who order it at once order one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import REPRODUCIBLE, VerifiedPin
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import EngineSweep, Gap, Observed, WorkflowRun
from reconciler.core.plan import Hold, StopWorkflow, SubmitWorkflow
from reconciler.planning.candidates import Candidate, candidate
from reconciler.planning.judge import Case, case_of, measurements
from reconciler.planning.measuring import submit_measurement
from reconciler.planning.reproducing import MEASUREMENT as REPRODUCE
from reconciler.planning.reproducing import Reproducible, reproduced, reproducible, submit_reproduction
from reconciler.planning.runs import Tried, attempts, under_way
from reconciler.planning.training import again, registered_of, submit_training, trained
from reconciler.planning.view import View


def retrain(desired: DesiredState, observed: Observed, model: str, reason: str) -> SubmitWorkflow:
    """A training of main's key, now. Refused where a version of it is there, or a run on its way."""
    view, subject = View(desired, observed), Subject(model=model)
    key, tried = _training(view, subject)
    return _submitted(submit_training(view, subject, key, tried.number, reason))


def reproduce(
    desired: DesiredState, observed: Observed, model: str, version: str, reason: str
) -> SubmitWorkflow:
    """One more training of a version's key, to be compared with it; of the newest where none is named."""
    view, subject = View(desired, observed), Subject(model=model)
    _known(view, model)
    workflow = view.model(subject).training.workflow
    if workflow != REPRODUCIBLE:
        said = f"only {REPRODUCIBLE}'s trainings can be made once more"
        what = f"it is trained by {workflow or 'others'}, and {said}"
        raise Terminal(what, where=model)
    registered = registered_of(view, subject)
    if isinstance(registered, Gap):
        raise Retryable(f"the {registered.source} did not answer: {registered.error}", where=model)
    found = [each for each in reproducible(view, model) if version in ("", each.version.version)]
    if not found:
        what = f"version {version} is not of the training" if version else "no version is of the training"
        hint = "bring back its code, data, hyperparameters and seed by a commit, or wait for its training"
        raise Terminal(f"{what} that main describes", where=model, hint=hint)
    wanted, key = found[-1], found[-1].case.key(REPRODUCE)
    tried = _answered(attempts(view, REPRODUCE, model, key))
    if tried.state == "running" and tried.last is not None:
        raise Terminal(under_way(tried.last), where=model, hint=f"see `reconcile logs {tried.last.name}`")
    return _submitted(submit_reproduction(view, subject, wanted.version, wanted.case, tried.number, reason))


def retry(desired: DesiredState, observed: Observed, what: str, reason: str = "") -> SubmitWorkflow:
    """One attempt more at what failed or was cancelled: the run named ``what``, or the one of that model."""
    view = View(desired, observed)
    if what in desired.models:
        return _only_one(view, what).again(view, reason)
    run = _runs(view).get(what)
    if run is None:
        raise Terminal(f"neither a run nor a model is named {what!r}", hint="`reconcile status` names them")
    found = next((each for each in _tried(view, run.labels.get("trueup.dev/model", "")) if each.of(run)), None)
    if found is None:
        what_for = "main's training is another by now" if _trains(run) else "no candidate asks for it any more"
        raise Terminal(f"{what_for}, so nothing would come of it", where=what, hint="see `reconcile status`")
    return found.again(view, reason, run)


def cancel(desired: DesiredState, observed: Observed, name: str, reason: str) -> StopWorkflow:
    """The end of a run. Refused where it has ended, or another person is ending it."""
    runs = _runs(View(desired, observed))
    run = runs.get(name)
    if run is None:
        going = ", ".join(each.name for each in runs.values() if not each.done)
        raise Terminal(f"no run is named {name!r}", hint=f"there is {going}" if going else "nothing is running")
    if run.done:
        by = f", cancelled by {run.stopped_by}: {run.stopped}" if run.stopped_by else ""
        raise Terminal(f"it has {run.phase.lower()} already{by}", where=name)
    if run.stopped:
        by = f" by {run.stopped_by}" if run.stopped_by else ""
        raise Terminal(f"it is being ended{by} already: {run.stopped}", where=name)
    subject = Subject(environment="", model=run.labels["trueup.dev/model"])
    return StopWorkflow(key=f"stop-workflow {name}", subject=subject, reason=reason, name=name)


# --- what can be tried again --------------------------------------------------------------------------------


class Training(NamedTuple):
    """main's training of a model, and how far its attempts are."""

    subject: Subject
    key: str
    tried: Tried

    def of(self, run: WorkflowRun) -> bool:
        return _trains(run) and run.labels.get("trueup.dev/key") == self.key

    def again(self, view: View, reason: str, run: WorkflowRun | None = None) -> SubmitWorkflow:
        _training(view, self.subject)
        _refuse(self.tried, run, f"reconcile retrain {self.subject.model} --reason ...")
        why = _with(reason, self.tried)
        return _submitted(submit_training(view, self.subject, self.key, self.tried.number, why))


class Measurement(NamedTuple):
    """One measurement of an environment's candidate, and how far its attempts are."""

    subject: Subject
    wanted: Candidate
    champion: VerifiedPin | None
    case: Case
    name: str
    tried: Tried

    def of(self, run: WorkflowRun) -> bool:
        labels = run.labels
        of = (labels.get("trueup.dev/measurement"), labels.get("trueup.dev/key"))
        return of == (self.name, self.case.key(self.name))

    def again(self, view: View, reason: str, run: WorkflowRun | None = None) -> SubmitWorkflow:
        mark = self.wanted.version.mark(self.name, self.case.key(self.name))
        usable = mark is not None and str(mark) not in view.observed.evidence_gaps
        if self.tried.state != "succeeded" or usable:
            _refuse(self.tried, run, "see `reconcile explain`")
        step = submit_measurement(
            *(view, self.subject, self.wanted, self.champion, self.case, self.name, self.tried.number),
            _with(reason, self.tried),
        )
        return _submitted(step)


class Reproduction(NamedTuple):
    """A version of main's training that was trained once more, and how far the attempts at that are."""

    subject: Subject
    wanted: Reproducible
    tried: Tried

    def of(self, run: WorkflowRun) -> bool:
        labels = run.labels
        of = (labels.get("trueup.dev/measurement"), labels.get("trueup.dev/key"))
        return of == (REPRODUCE, self.wanted.case.key(REPRODUCE))

    def again(self, view: View, reason: str, run: WorkflowRun | None = None) -> SubmitWorkflow:
        _refuse(self.tried, run, f"reconcile reproduce {self.subject.model} --reason ...")
        why = _with(reason, self.tried)
        version, _, case = self.wanted
        return _submitted(submit_reproduction(view, self.subject, version, case, self.tried.number, why))


Attempted = Training | Reproduction | Measurement


def _tried(view: View, model: str) -> Iterator[Attempted]:
    """Everything of a model that is asked for now and was tried."""
    desired = view.desired
    if model not in desired.models or desired.hidden(Subject(model=model)):
        return
    key = desired.training_key(model)
    if key is not None and desired.roots(model):
        tried = _answered(attempts(view, "train", model, key))
        if tried.last is not None:
            yield Training(Subject(model=model), key, tried)
    for environment in desired.models[model].model.environments:
        here = Subject(environment=environment, model=model)
        if environment not in desired.environments or desired.hidden(here):
            continue
        wanted, champion = candidate(view, here), view.champion(here)
        if isinstance(wanted, Hold) or wanted.change is None:
            continue
        case = case_of(desired, here, wanted.pin, wanted.image, champion)
        for name in measurements(view.policy(here), case):
            tried = _answered(attempts(view, name, model, case.key(name)))
            if tried.last is not None:
                yield Measurement(here, wanted, champion, case, name, tried)
    for version in reproduced(view, model):
        tried = _answered(attempts(view, REPRODUCE, model, version.case.key(REPRODUCE)))
        if tried.last is not None:
            yield Reproduction(Subject(model=model), version, tried)


def _only_one(view: View, model: str) -> Attempted:
    """What failed or was cancelled of a model. Terminal where that is nothing, or more than one run."""
    _known(view, model)
    failed = {
        each.tried.last.name: each
        for each in _tried(view, model)
        if each.tried.last and each.tried.state in ("exhausted", "cancelled", "again")
        if not (isinstance(each, Training) and trained(view, each.subject))
    }
    if not failed:
        raise Terminal("nothing of it has failed or was cancelled", where=model, hint="see `reconcile status`")
    if len(failed) > 1:
        raise Terminal(f"{' and '.join(failed)} have ended badly", where=model, hint="name one of them")
    return next(iter(failed.values()))


# --- what is refused ----------------------------------------------------------------------------------------


def _training(view: View, subject: Subject) -> tuple[str, Tried]:
    """The key that would be trained, and its attempts so far."""
    model = subject.model
    _known(view, model)
    key = view.desired.training_key(model)
    if key is None:
        alias = view.model(subject).training.external
        what = f"it is trained elsewhere, and requested by the alias {alias.alias if alias else ''}"
        raise Terminal(what, where=model, hint="set that alias in the registry")
    if not view.desired.roots(model):
        raise Terminal("no environment of it takes what is trained", where=model, hint="see `environments`")
    registered = registered_of(view, subject)
    if isinstance(registered, Gap):
        raise Retryable(f"the {registered.source} did not answer: {registered.error}", where=model)
    there = next((v for v in registered.versions if v.training_key == key and v.digest and v.ready), None)
    if there is not None:
        what = f"nothing has changed since version {there.version}, which has main's training key {key}"
        raise Terminal(what, where=model, hint="change code, data, hyperparameters or seed for another one")
    tried = _answered(attempts(view, "train", model, key))
    if tried.state == "running" and tried.last is not None:
        raise Terminal(under_way(tried.last), where=model, hint=f"see `reconcile logs {tried.last.name}`")
    return key, tried


def _refuse(tried: Tried, run: WorkflowRun | None, instead: str) -> None:
    """Terminal where the last attempt is not ``run``, goes on, or has succeeded."""
    last = tried.last
    assert last is not None
    if run is not None and run.name != last.name:
        raise Terminal(f"{last.name} came after it", where=run.name, hint=f"`reconcile retry {last.name}`")
    if tried.state == "running":
        raise Terminal(under_way(last), hint=f"see `reconcile logs {last.name}`")
    if tried.state == "succeeded":
        raise Terminal("it succeeded", where=last.name, hint=instead)


def _known(view: View, model: str) -> None:
    desired = view.desired
    if model not in desired.models:
        known = ", ".join(sorted(desired.models)) or "none"
        raise Terminal(f"main has no model {model!r}", hint=f"it has {known}; see `reconcile validate`")
    problem = desired.hidden(Subject(model=model))
    if problem is not None:
        raise Terminal(problem.what, where=problem.path, hint=problem.hint or "mend the document first")


def _runs(view: View) -> dict[str, WorkflowRun]:
    engine = view.observed.swept.engine
    if not isinstance(engine, EngineSweep):
        raise Retryable(f"the {engine.source} did not answer: {engine.error}")
    return engine.runs


def _answered(tried: Tried | Gap) -> Tried:
    if isinstance(tried, Gap):
        raise Retryable(f"the {tried.source} did not answer: {tried.error}")
    return tried


def _with(reason: str, tried: Tried) -> str:
    """Why there is another attempt: what the person says, and how the last one ended."""
    return f"{reason}; {again(tried)}" if reason else again(tried)


def _trains(run: WorkflowRun) -> bool:
    return run.labels.get("trueup.dev/kind") == "train"


def _submitted(step: SubmitWorkflow | Hold) -> SubmitWorkflow:
    if isinstance(step, Hold):
        raise Terminal(step.reason, where=str(step.subject), hint="`reconcile validate` says more")
    return step
