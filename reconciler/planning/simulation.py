"""Judges a candidate of the past by two versions of the policies. Called by ``reconcile policy simulate``.

The numbers are those of then, and so are the champion, the model's promises, the waivers and the instant; only
the policy is another. A recipe or an input that a measurement got since does not matter: the judge is shown the
evidence under the keys that it asks for now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from reconciler.core.base import Instant, Subject
from reconciler.core.desired import DesiredState, Policy
from reconciler.core.documents import Pin, VerifiedPin
from reconciler.core.evidence import CATALOGUE, Evidence
from reconciler.core.plan import SEVERITY, Answer, GateVerdict, together
from reconciler.core.simulation import Asked, Outcome, Replayed, Turned
from reconciler.planning.judge import Case, case_of, judge


class Past(NamedTuple):
    """A candidate as it was judged at ``at``: ``state`` is main of then, ``released`` whether it was pinned."""

    subject: Subject
    pin: Pin
    image: str
    champion: VerifiedPin | None
    evidence: Mapping[str, Evidence]
    at: Instant
    state: DesiredState
    released: bool


def asked_of(environment: str, old: DesiredState, new: DesiredState) -> Asked | None:
    """How the gates of an environment differ; None where one side has no such environment or policy."""
    before, after = (policy_of(state, environment) for state in (old, new))
    if before is None or after is None:
        return None
    one, other = ({gate.name: gate for gate in policy.gates} for policy in (before, after))
    return Asked(
        environment=environment,
        old=before.name,
        new=after.name,
        added=tuple(name for name in other if name not in one),
        removed=tuple(name for name in one if name not in other),
        changed=tuple(name for name in other if name in one and one[name] != other[name]),
    )


def policy_of(state: DesiredState, environment: str) -> Policy | None:
    document = state.environments.get(environment)
    return state.policies.get(document.policy) if document else None


def replay(past: Past, old: Policy, new: Policy) -> Replayed:
    """What both policies say of one candidate."""
    case = _case(past)
    evidence = dict(_shown(past.evidence, case))
    exceptions = past.state.exceptions.get(str(past.subject))
    waivers = exceptions.waivers if exceptions else ()
    before = judge(old, evidence, case, past.at, waivers)
    after = judge(new, evidence, case, past.at, waivers)
    known = {gate.metric for gate in old.gates if case.asked_by(gate)}
    unmeasured = {v.metric for v in after if v.metric not in known and not _measured(v.metric, evidence)}
    judged = _together(verdict for verdict in after if verdict.metric not in unmeasured)
    return Replayed(
        subject=past.subject,
        version=past.pin.version,
        digest=past.pin.digest,
        champion=past.champion.version if past.champion else "",
        judged_at=past.at,
        released=past.released,
        old=_together(before),
        new=_together(after),
        outcome=_outcome(_together(before), judged, bool(unmeasured)),
        turned=_turned(before, after),
        unmeasured=tuple(sorted(unmeasured)),
    )


def _measured(metric: str, evidence: Mapping[str, Evidence]) -> bool:
    measurement, _, name = metric.partition(".")
    return measurement in evidence and name in evidence[measurement].metrics


def _outcome(old: Answer, new: Answer, unmeasured: bool) -> Outcome:
    if SEVERITY[new] < SEVERITY[old]:
        return "blocked" if new == "block" else "waits"
    if new == "block":
        return "same"  # whatever else was measured
    if unmeasured:
        return "not-measured"
    return "same" if old == new else "let-through"


def _together(verdicts: Iterable[GateVerdict]) -> Answer:
    return together(verdict.verdict for verdict in verdicts)


def _turned(before: Iterable[GateVerdict], after: Iterable[GateVerdict]) -> tuple[Turned, ...]:
    one, other = ({verdict.gate: verdict for verdict in verdicts} for verdicts in (before, after))
    pairs = [(name, one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])]
    return tuple(
        Turned(gate=name, old=old, new=new)
        for name, old, new in pairs
        if (old.verdict if old else "pass") != (new.verdict if new else "pass")
    )


def _case(past: Past) -> Case:
    """As it was asked then; the server and the requests it was measured on are those of its evidence."""
    case = case_of(past.state, past.subject, past.pin, past.image, past.champion)
    for document in past.evidence.values():
        server, traffic = document.inputs.get("server"), document.inputs.get("traffic")
        case = case._replace(server=server) if isinstance(server, str) else case
        case = case._replace(traffic=traffic) if isinstance(traffic, str) else case
    return case


def _shown(evidence: Mapping[str, Evidence], case: Case) -> Iterable[tuple[str, Evidence]]:
    for name, document in evidence.items():
        if name in CATALOGUE:
            now = {"key": case.key(name), "inputs": dict(case.inputs(name))}
            yield name, document.model_copy(update=now)
