"""Turns evidence into verdicts. Pure and versioned: the same policy, evidence and instant give the same answer.

A gate passes only on a finite number, from enough samples, fresh enough, measured on exactly this candidate,
champion and data. Anything else is *missing* and answered by ``onMissing``, which cannot say pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Literal, NamedTuple

from reconciler.core.base import Instant, Subject, format_duration, format_instant
from reconciler.core.desired import DesiredState, ModelSource, Policy
from reconciler.core.digests import canonical_json, evidence_key
from reconciler.core.documents import Gate, Model, Pin, VerifiedPin, Versus, Waiver
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, Scores
from reconciler.core.plan import SEVERITY, Bound, GateVerdict
from reconciler.core.serving import ServingSnapshot
from reconciler.planning.view import Change

JUDGE = "1"
"""Version of this function. It is part of every inputs digest, so a changed judge asks for new approvals."""

MOST_NAMES = 5
"""Of what a count counted, in a sentence."""

NO_CHAMPION = "none"
NO_TRAFFIC = "none"


def _same(value: float, limit: float) -> bool:
    """Equal but for rounding: 0.93 - 0.95 is a little below -0.02, and is on that limit all the same."""
    return math.isclose(value, limit, rel_tol=1e-9, abs_tol=1e-12)


_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda value, limit: value < limit and not _same(value, limit),
    "<=": lambda value, limit: value <= limit or _same(value, limit),
    ">=": lambda value, limit: value >= limit or _same(value, limit),
    ">": lambda value, limit: value > limit and not _same(value, limit),
}
_at_least, _at_most = _OPERATORS[">="], _OPERATORS["<="]

Inputs = Mapping[str, str | tuple[str, ...]]


class Case(NamedTuple):
    """What is judged: the candidate of ``subject``, against whom, on which data.

    ``source`` is the model as main has it. ``champion`` is a digest or ``none``. ``traffic`` is the release
    that serves and records its requests in the environment, or ``none``.
    """

    subject: Subject
    source: ModelSource
    candidate: str
    champion: str
    server: str
    change: Change
    traffic: str

    @property
    def model(self) -> Model:
        return self.source.model

    @property
    def load(self) -> str:
        """How the server is asked, as JSON; ``none`` of a model that is not served."""
        serving = self.model.serving
        return "none" if serving == "none" else canonical_json(serving.load_in(self.subject.environment))

    def inputs(self, measurement: str) -> Inputs:
        """Exactly the inputs that the catalogue declares for this measurement."""
        evaluation, contract = self.model.data.evaluation, self.model.data.contract
        known: dict[str, str | tuple[str, ...]] = {
            "behaviour": self.source.behaviour,
            "allowed": self.model.files.allowed,
            "candidate": self.candidate,
            "champion": self.champion,
            "contract": self.source.contract_digest,
            "data": self.source.evaluation_md5,
            "environment": self.subject.environment,
            "keys": contract.keys if contract else (),
            "load": self.load,
            "protected": tuple(sorted(evaluation.protected)),
            "server": self.server,
            "slices": tuple(sorted(evaluation.slices)),
            "target": evaluation.target,
            "task": self.model.task,
            "traffic": self.traffic,
        }
        return {name: known[name] for name in CATALOGUE[measurement].inputs}

    def key(self, measurement: str) -> str:
        return evidence_key(measurement, CATALOGUE[measurement].recipe, self.inputs(measurement))

    def asked_by(self, gate: Gate) -> bool:
        """Whether a gate applies to this candidate at all."""
        when = gate.when
        return (
            when.meant(self.subject.model, self.model.task, self.source.declared)
            and (not when.changes or self.change in when.changes)
            and (not when.champion or self.champion != NO_CHAMPION)
        )

    def possible(self, measurement: str) -> bool:
        """Whether there is anything to measure: without recorded requests, some have nothing to ask."""
        return self.traffic != NO_TRAFFIC or "traffic" not in CATALOGUE[measurement].inputs


def case_of(
    desired: DesiredState,
    subject: Subject,
    pin: Pin,
    image: str,
    champion: VerifiedPin | None,
) -> Case:
    """What a pin is judged as: always by the model, data, champion and traffic of ``desired``.

    Only the champion's own model, served differently, is a change of serving alone: a model that is pinned and
    was never verified has yet to prove everything.
    """
    return Case(
        subject=subject,
        source=desired.models[subject.model],
        candidate=pin.digest,
        champion=champion.digest if champion else NO_CHAMPION,
        server=image,
        change="serving" if champion is not None and champion.digest == pin.digest else "version",
        traffic=_traffic(desired, subject, champion),
    )


def _traffic(desired: DesiredState, subject: Subject, champion: VerifiedPin | None) -> str:
    """The pinned release, where it is verified and records: what servers recorded ends with their release."""
    release = desired.releases.get(str(subject))
    serves = release is not None and champion is not None and release.digest == champion.release
    if release is None or not serves or not isinstance(release.serving, ServingSnapshot):
        return NO_TRAFFIC
    return release.digest if release.serving.record else NO_TRAFFIC


def measurements(policy: Policy, case: Case) -> tuple[str, ...]:
    """The measurements that the applicable gates need and that can be made, sorted."""
    needed = {gate.measurement for gate in policy.gates if case.asked_by(gate)}
    return tuple(sorted(filter(case.possible, needed)))


def max_age(policy: Policy, case: Case, measurement: str) -> timedelta | None:
    """The shortest maxAge of the gates that use this measurement."""
    ages = [
        gate.max_age
        for gate in policy.gates
        if gate.max_age is not None and gate.measurement == measurement and case.asked_by(gate)
    ]
    return min(ages, default=None)


def judge(
    policy: Policy,
    evidence: Mapping[str, Evidence],
    case: Case,
    at: Instant,
    waivers: tuple[Waiver, ...] = (),
) -> tuple[GateVerdict, ...]:
    """One verdict for each applicable gate, in the policy's order.

    ``evidence`` maps measurement to its document. Waivers count for their gate and candidate until they
    expire, and only where the gate did not pass by itself.
    """
    verdicts = []
    for gate in policy.gates:
        if not case.asked_by(gate):
            continue
        verdict = _ask(gate, evidence, case, at)
        waiver = next(
            (w for w in waivers if w.gate == gate.name and w.digest == case.candidate and w.counts(at)), None
        )
        if verdict.verdict != "pass" and waiver is not None:
            why = f"{verdict.why}; waived until {format_instant(waiver.expires)}: {waiver.reason}"
            verdict = verdict.model_copy(update={"verdict": "pass", "waived": waiver.reason, "why": why})
        verdicts.append(verdict)
    return tuple(verdicts)


class _Missing(Exception):  # noqa: N818 - control flow inside this file: no value that may be judged
    pass


def _ask(gate: Gate, evidence: Mapping[str, Evidence], case: Case, at: Instant) -> GateVerdict:
    asked = _asked(gate, case)
    if not case.possible(gate.measurement):
        first = case.champion == NO_CHAMPION
        how = gate.on_no_champion if first and gate.on_no_champion in ("review", "block") else gate.on_missing
        why = "no champion, and so no requests" if first else "the champion's release records no requests"
        return GateVerdict(gate=gate.name, metric=gate.metric, verdict=how, why=why, asked=asked)
    try:
        document = _usable(gate, evidence, case, at)
        answers = [_answer(gate, where, scores, case, asked) for where, scores in _scores(gate, document)]
    except _Missing as missing:
        return GateVerdict(
            gate=gate.name, metric=gate.metric, verdict=gate.on_missing, why=str(missing), asked=asked
        )
    return min(answers, key=lambda answer: (SEVERITY[answer.verdict], _margin(gate, answer), answer.slice))


def _usable(gate: Gate, evidence: Mapping[str, Evidence], case: Case, at: Instant) -> Evidence:
    measurement = gate.measurement
    document = evidence.get(measurement)
    if document is None:
        raise _Missing(f"there is no evidence of {measurement} for this candidate")
    expected = case.inputs(measurement)
    if document.measurement != measurement or document.key != case.key(measurement):
        raise _Missing(f"the evidence of {measurement} was measured under another key")
    for name, value in expected.items():
        if document.inputs.get(name) != value:
            raise _Missing(f"the evidence of {measurement} was measured on another {name}")
    if document.at > at:
        raise _Missing(f"the evidence of {measurement} is dated {format_instant(document.at)}, in the future")
    if gate.max_age is not None and at - document.at > gate.max_age:
        age = format_duration(gate.max_age)
        raise _Missing(f"the evidence of {measurement} is of {format_instant(document.at)}, older than {age}")
    return document


def _scores(gate: Gate, document: Evidence) -> Iterator[tuple[str, Scores]]:
    name = gate.metric.partition(".")[2]
    metric = document.metrics.get(name)
    if metric is None:
        raise _Missing(f"the evidence of {document.measurement} has no metric {name}")
    if not gate.slices:
        yield "", metric.overall
        return
    for column in gate.slices:
        values = metric.slices.get(column)
        if not values:
            whole = metric.overall.candidate
            because = f": {whole.note}" if whole.note and not whole.usable else ""
            raise _Missing(f"{name} was not measured by {column}{because}")
        for value, scores in sorted(values.items()):
            yield f"{column}={value}", scores


def _answer(gate: Gate, where: str, scores: Scores, case: Case, asked: str) -> GateVerdict:
    candidate = _number(scores.candidate, gate, f"the value{_of(where)}")
    champion = scores.champion if scores.champion and scores.champion.usable else None
    shown = scores.candidate
    said: list[str] = []
    against: list[str] = []
    noted: list[str] = []
    verdict: Literal["pass", "review", "block"] = "pass"

    def fail(how: Literal["review", "block"], why: str) -> None:
        nonlocal verdict
        verdict = "block" if "block" in (how, verdict) else "review"
        against.append(why)

    if gate.op is not None and gate.threshold is not None:
        text = f"{_show(candidate)} {gate.op} {_show(gate.threshold)}"
        if _OPERATORS[gate.op](candidate, gate.threshold):
            said.append(text)
        else:
            counted = scores.candidate.named(MOST_NAMES)
            fail(gate.on_fail, f"not {text}{f': {counted}' if counted else ''}")
    if gate.versus is not None and _ref(gate.versus, gate, case) == "baseline":
        _versus_baseline(gate, candidate, case, said, fail)
        if gate.versus.ref == "champion":
            noted.append("no champion, compared with the baseline instead")
    elif gate.versus is not None and case.champion == NO_CHAMPION:
        if gate.on_no_champion == "absolute":
            noted.append("no champion, judged by the threshold alone")
        elif gate.on_no_champion != "baseline":  # which is answered above
            fail(gate.on_no_champion, "no champion to compare with")
    elif gate.versus is not None:
        shown = _versus_champion(gate, where, scores, said, fail)
    # What speaks against it comes first; what it passed must not read as one complaint more.
    passed = [f"passed: {text}" for text in said] if against else said
    why = "; ".join([*against, *passed, *noted])
    why = f"{where}: {why}" if where else why
    return GateVerdict(
        gate=gate.name,
        metric=gate.metric,
        verdict=verdict,
        why=why,
        value=candidate,
        n=shown.n,
        low=shown.low,
        high=shown.high,
        champion=champion.value if champion else None,
        asked=asked,
        bounds=tuple(_bounds(gate, champion, case)),
        paired=shown is not scores.candidate,
        detectable=shown.detectable,
        slice=where,
    )


def _bounds(gate: Gate, champion: Estimate | None, case: Case) -> Iterator[Bound]:
    """What the gate asks, as values that a person can see beside the candidate's."""
    if gate.op is not None and gate.threshold is not None:
        yield Bound(at=gate.threshold, good="above" if gate.op in (">", ">=") else "below", of="threshold")
    if gate.versus is None:
        return
    ref, drop, rise = _ref(gate.versus, gate, case), gate.versus.max_drop, gate.versus.max_rise
    base = case.model.baselines.get(gate.metric.partition(".")[2])
    if ref == "champion":
        base = champion.value if champion else None
    if base is not None and drop is not None:
        yield Bound(at=base - drop, good="above", of=ref)
    elif base is not None and rise is not None:
        yield Bound(at=base + rise, good="below", of=ref)


def _ref(versus: Versus, gate: Gate, case: Case) -> Literal["champion", "baseline"]:
    """With what the candidate is compared: before the first release maybe with the baseline instead."""
    instead = case.champion == NO_CHAMPION and gate.on_no_champion == "baseline"
    return "baseline" if instead else versus.ref


_Fail = Callable[[Literal["review", "block"], str], None]


def _versus_champion(gate: Gate, where: str, scores: Scores, said: list[str], fail: _Fail) -> Estimate:
    """Non-inferiority on the paired difference: the unfavourable end of its interval decides."""
    assert gate.versus is not None
    if scores.champion is None or scores.difference is None:
        raise _Missing(f"the champion was not measured on the same rows{_of(where)}")
    _number(scores.champion, gate, f"the champion's value{_of(where)}")
    difference = scores.difference
    delta = _number(difference, gate, f"the difference to the champion{_of(where)}")
    if not difference.has_interval:
        raise _Missing(f"the difference to the champion has no interval{_of(where)}")
    assert difference.low is not None
    assert difference.high is not None
    text = (
        f"{_show(scores.candidate.value)} against the champion's {_show(scores.champion.value)}: difference "
        f"{_signed(delta)}, interval [{_signed(difference.low)}, {_signed(difference.high)}], n {difference.n}"
    )
    if difference.detectable is not None:
        text += f", enough to show a difference of {_show(difference.detectable)}"
    if gate.versus.max_drop is not None:
        good, limit = (
            _at_least(difference.low, -gate.versus.max_drop),
            f"drop of more than {_show(gate.versus.max_drop)}",
        )
    else:
        assert gate.versus.max_rise is not None
        good, limit = (
            _at_most(difference.high, gate.versus.max_rise),
            f"rise of more than {_show(gate.versus.max_rise)}",
        )
    if good:
        said.append(text)
    else:
        fail(gate.on_fail, f"{text}; a {limit} cannot be ruled out")
    return difference


def _versus_baseline(gate: Gate, candidate: float, case: Case, said: list[str], fail: _Fail) -> None:
    assert gate.versus is not None
    baseline = case.model.baselines.get(gate.metric.partition(".")[2])
    if baseline is None:
        raise _Missing(f"the model declares no baseline for {gate.metric.partition('.')[2]}")
    if gate.versus.max_drop is not None:
        good = _at_least(candidate, baseline - gate.versus.max_drop)
    else:
        assert gate.versus.max_rise is not None
        good = _at_most(candidate, baseline + gate.versus.max_rise)
    text = f"{_show(candidate)} against the baseline {_show(baseline)}"
    if good:
        said.append(text)
    else:
        fail(gate.on_fail, f"{text} is too far off")


def _number(estimate: Estimate, gate: Gate, what: str) -> float:
    if not estimate.usable or estimate.value is None:
        because = f": {estimate.note}" if estimate.note else ""
        raise _Missing(f"{what} of {gate.metric} is not a finite number{because}")
    if estimate.n < gate.min_samples:
        raise _Missing(f"{what} of {gate.metric} rests on {estimate.n} samples, fewer than {gate.min_samples}")
    return estimate.value


def _margin(gate: Gate, answer: GateVerdict) -> float:
    """Orders slices of the same verdict from worst to best."""
    if answer.value is None:
        return 0.0
    higher_is_better = gate.op in (">", ">=") if gate.versus is None else gate.versus.max_drop is not None
    worst = answer.value
    if answer.paired and answer.low is not None and answer.high is not None:
        worst = answer.low if higher_is_better else answer.high
    return worst if higher_is_better else -worst


def _asked(gate: Gate, case: Case) -> str:
    parts = []
    if gate.op is not None and gate.threshold is not None:
        parts.append(f"{gate.op} {_show(gate.threshold)}")
    if gate.versus is not None:
        drop, rise = gate.versus.max_drop, gate.versus.max_rise
        limit = f"drop <= {_show(drop)}" if drop is not None else f"rise <= {_show(rise)}"
        ref, baseline = _ref(gate.versus, gate, case), case.model.baselines.get(gate.metric.partition(".")[2])
        shown = f" {_show(baseline)}" if ref == "baseline" and baseline is not None else ""
        parts.append(f"{limit} against the {ref}{shown}")
    return " and ".join(parts)


def _of(where: str) -> str:
    return f" for {where}" if where else ""


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"
