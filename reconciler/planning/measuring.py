"""Gets the evidence that a candidate's gates need: measured once per key, marked, then judged."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.base import Subject, format_duration
from reconciler.core.digests import canonical_json
from reconciler.core.documents import Pin, VerifiedPin
from reconciler.core.evidence import CATALOGUE, Evidence
from reconciler.core.observed import Gap, Mark, ModelVersion, RegisteredModel, evidence_tag
from reconciler.core.plan import Hold, SubmitWorkflow
from reconciler.planning.candidates import Candidate
from reconciler.planning.decision import NOTHING, Decision, act, wait
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.judge import Case, case_of, max_age, measurements
from reconciler.planning.releases import mark_version
from reconciler.planning.reproducing import MEASUREMENT, reproduced, scheduled, submit_reproduction
from reconciler.planning.runs import Tried, attempts, cancelled, submission, under_way
from reconciler.planning.view import View

DEADLINE = 3600
"""Seconds that one attempt at a measurement may take."""


class Measured(NamedTuple):
    """What is known of a candidate, and what is to be done to know more.

    ``complete`` says that nothing more is coming: every measurement is there or has failed for good.
    """

    evidence: dict[str, Evidence]
    sources: dict[str, str]
    complete: bool
    decision: Decision


def marks_wanted(view: View, subject: Subject, wanted: Candidate) -> dict[str, Mark]:
    """Measurement -> mark, for the evidence of this candidate that is there; what ``look`` must read."""
    assert wanted.change is not None
    champion = view.champion(subject)
    case = case_of(view.desired, subject, wanted.pin, wanted.image, champion)
    found = {}
    for measurement in measurements(view.policy(subject), case):
        mark = wanted.version.mark(measurement, case.key(measurement))
        if mark is not None:
            found[measurement] = mark
    return found


def plan_measuring(view: View, subject: Subject, wanted: Candidate) -> Measured:
    """Reads what there is, marks what has succeeded, submits what is missing or stale."""
    assert wanted.change is not None
    champion, policy = view.champion(subject), view.policy(subject)
    case = case_of(view.desired, subject, wanted.pin, wanted.image, champion)
    evidence: dict[str, Evidence] = {}
    sources: dict[str, str] = {}
    decision, complete = NOTHING, True
    for measurement in measurements(policy, case):
        key = case.key(measurement)
        mark = wanted.version.mark(measurement, key)
        tried = attempts(view, measurement, subject.model, key)
        fresh = _fresh_mark(subject, wanted.version, wanted.pin, measurement, key, tried)
        if fresh is not None:
            decision, complete = decision.and_then(fresh), False
            continue
        again, lost = "no evidence yet", False
        if mark is not None:
            gap = view.observed.evidence_gaps.get(str(mark))
            document = view.observed.evidence.get(str(mark))
            if document is None and (gap is None or gap.retryable):
                said = gap.error if gap else "it was not asked for"
                waiting = hold("gap", subject, f"evidence of {measurement} could not be read: {said}")
                decision, complete = decision.and_then(wait(waiting)), False
                continue
            age = max_age(policy, case, measurement)
            stale = document is not None and age is not None and view.at - document.at > age
            if document is not None and not stale:
                evidence[measurement], sources[measurement] = document, str(mark)
                continue
            again = (
                f"the evidence is older than {format_duration(age)}"
                if stale and age is not None
                else f"the evidence cannot be used: {gap.error if gap else ''}"
            )
            lost = document is None
        step, more = _measure(view, subject, wanted, champion, case, measurement, tried, again, mark, lost)
        decision, complete = decision.and_then(step), complete and not more
    return Measured(evidence, sources, complete, decision)


def plan_reproduced(view: View, subject: Subject) -> Decision:
    """The marks of reproductions, and the run that the schedule asks for. ``subject`` has no environment."""
    decision = NOTHING
    for version, pin, case in reproduced(view, subject.model):
        key = case.key(MEASUREMENT)
        tried = attempts(view, MEASUREMENT, subject.model, key)
        fresh = _fresh_mark(subject, version, pin, MEASUREMENT, key, tried)
        decision = decision if fresh is None else decision.and_then(fresh)
    return decision if decision != NOTHING else _plan_scheduled(view, subject)


def _plan_scheduled(view: View, subject: Subject) -> Decision:
    """What becomes of the version that the model's schedule wants trained once more; marked ones are done."""
    wanted = scheduled(view, subject.model)
    if wanted is None or wanted.version.marks(MEASUREMENT, key := wanted.case.key(MEASUREMENT)):
        return NOTHING
    tried = attempts(view, MEASUREMENT, subject.model, key)
    if isinstance(tried, Gap):
        return wait(unanswered(subject, tried))
    standing = _standing(subject, tried, unusable=tried.state == "succeeded")
    if standing is not None:
        return wait(standing)
    said = f"the model's schedule asks whether version {wanted.version.version} comes out again"
    why = said if tried.last is None else f"attempt {tried.number}: {said}"
    step = submit_reproduction(view, subject, wanted.version, wanted.case, tried.number, why)
    return wait(step) if isinstance(step, Hold) else act(step)


def _fresh_mark(
    subject: Subject,
    version: ModelVersion,
    pin: Pin,
    measurement: str,
    key: str,
    tried: Tried | Gap,
) -> Decision | None:
    """The mark for a run of ours that succeeded with evidence that is not marked yet."""
    if isinstance(tried, Gap) or tried.state != "succeeded" or tried.last is None:
        return None
    outputs = tried.last.outputs
    found = Mark.parse(f"{outputs.get('evidence-uri', '')}@{outputs.get('evidence-sha256', '')}")
    known = version.marks(measurement, key)
    if found is None or found in known:
        return None
    why = f"{tried.last.name}, which trueup submitted, succeeded"
    tag = evidence_tag(measurement, key, len(known) + 1)
    return act(mark_version(subject, pin, tag, str(found), why))


def _measure(
    view: View,
    subject: Subject,
    wanted: Candidate,
    champion: VerifiedPin | None,
    case: Case,
    measurement: str,
    tried: Tried | Gap,
    why: str,
    mark: Mark | None,
    lost: bool,
) -> tuple[Decision, bool]:
    """Submit or wait; the flag says that more is coming. ``lost``: there is a mark, to nothing usable."""
    if isinstance(tried, Gap):
        return wait(unanswered(subject, tried)), True
    empty = tried.state == "succeeded" and mark is None
    spent = lost and tried.number > view.desired.platform.engine.attempts.measure
    standing = _standing(subject, tried, unusable=empty or spent)
    if standing is not None:
        return wait(standing), standing.code != "measurement-failed"
    if not wanted.version.ready:
        said = f"version {wanted.pin.version} waits for its files in the registry; then it is measured"
        return wait(hold("measuring", subject, said)), True
    number = tried.number
    reason = (
        f"version {wanted.pin.version} is the candidate, and {why}"
        if tried.last is None
        else f"attempt {number}: {why}"
    )
    step = submit_measurement(view, subject, wanted, champion, case, measurement, number, reason)
    if isinstance(step, Hold):
        return wait(step), step.code != "measurement-failed"
    return act(step), True


def _standing(subject: Subject, tried: Tried, *, unusable: bool) -> Hold | None:
    """The hold of attempts that go on or came to an end; None where there is to be another one.

    ``unusable``: the last one left nothing to judge by, and another would not either.
    """
    last = tried.last
    if last is None:
        return None
    if tried.state == "running":
        return hold("measuring", subject, under_way(last))
    if tried.state == "cancelled":
        return cancelled(subject, last)
    if tried.state != "exhausted" and not unusable:
        return None
    ended = "left no usable evidence" if unusable else f"{last.phase.lower()}: {last.message or 'no message'}"
    more = f"see `reconcile logs {last.name}`, and `reconcile retry {last.name}` tries once more"
    return hold("measurement-failed", subject, f"{last.name} {ended}; {more}")


def submit_measurement(
    view: View,
    subject: Subject,
    wanted: Candidate,
    champion: VerifiedPin | None,
    case: Case,
    measurement: str,
    number: int,
    reason: str,
) -> SubmitWorkflow | Hold:
    """One attempt at a measurement of a candidate; a Hold where there is nobody to ask."""
    if measurement == MEASUREMENT:
        return submit_reproduction(view, subject, wanted.version, case, number, reason)
    declared, pointer = CATALOGUE[measurement].inputs, view.model(subject).data.evaluation.pointer
    parameters = {
        "registered-name": wanted.pin.name,
        "key": case.key(measurement),
        "inputs": canonical_json(case.inputs(measurement)),
        "candidate-version": wanted.pin.version,
    }
    if "data" in declared:
        parameters["evaluation-pointer"] = f"models/{subject.model}/{pointer}"
    if "champion" in declared:
        parameters["champion-version"] = champion.version if champion else ""
    if "contract" in declared or "keys" in declared:
        parameters |= _trained_on(view, subject, wanted, champion, both="keys" in declared)
    if "traffic" in declared:
        workload = view.workload(subject)
        if isinstance(workload, Gap):
            return unanswered(subject, workload)
        if workload is None or not workload.recorded:
            said = f"{measurement}: nothing in {subject.environment} answers for the requests it recorded"
            return hold("measurement-failed", subject, said)
        parameters["recorded"] = workload.recorded
        if measurement == "drift":
            parameters["report"] = "yes" if view.model(subject).monitoring.report else "no"
    return submission(
        view,
        subject,
        kind=measurement,
        template=CATALOGUE[measurement].template,
        key=case.key(measurement),
        number=number,
        parameters=parameters,
        deadline=DEADLINE,
        reason=reason,
    )


def _trained_on(
    view: View, subject: Subject, wanted: Candidate, champion: VerifiedPin | None, *, both: bool
) -> dict[str, str]:
    """Where the training rows are, and the md5 of the candidate's: main's pointer may say another by now.

    Empty where the model is trained elsewhere, and where a version does not say. ``both``: the champion's too.
    """
    model = view.model(subject)
    known = model.training.workflow is not None and model.data.train is not None
    pointer = model.data.train.pointer if model.data.train is not None and known else ""
    parameters = {
        "train-pointer": f"models/{subject.model}/{pointer}" if known else "",
        "train-md5": wanted.version.training_inputs.get("data", "") if known else "",
    }
    if not both:
        return parameters
    registered = view.registered(wanted.pin.registry, wanted.pin.name)
    before = (
        registered.version(champion.version) if champion and isinstance(registered, RegisteredModel) else None
    )
    return {**parameters, "champion-md5": before.training_inputs.get("data", "") if before and known else ""}
