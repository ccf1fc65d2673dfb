"""Puts the cases of a PolicyTest to the real judge. Called by ``reconcile policy test``.

A case is made into what the judge sees in a tick: a Model, a :class:`Case` and Evidence under that case's own
keys. So a test is about numbers and answers, and cannot go wrong by a digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState, ModelSource, Policy
from reconciler.core.documents import (
    Data,
    Declaration,
    EvaluationData,
    External,
    Facts,
    MeasurementNumbers,
    MetricNumbers,
    Model,
    Numbers,
    Pin,
    PolicyCase,
    PolicyTest,
    Training,
    VerifiedPin,
    Waiver,
)
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, Metric, Scores
from reconciler.core.plan import GateVerdict, together
from reconciler.core.platform import Platform
from reconciler.core.policy_tests import SEEN, Answered, Covered, Rehearsed, Seen
from reconciler.core.references import policy_test_path
from reconciler.planning.judge import NO_CHAMPION, NO_TRAFFIC, Case, case_of, judge

AT = datetime(2026, 1, 1, tzinfo=UTC)
AGE = timedelta(hours=1)
_CANDIDATE, _CHAMPION, _RELEASE = (f"sha256:{digit * 64}" for digit in "123")


def run_tests(tests: Mapping[str, PolicyTest], policies: Mapping[str, Policy]) -> Rehearsed:
    """Every case of every test, put to each policy that the test names, which must be among ``policies``."""
    answers = tuple(
        answer
        for name, test in sorted(tests.items())
        for policy in test.policies
        for index, case in enumerate(test.cases)
        for answer in _answers(policy_test_path(name), index, test, case, policies[policy])
    )
    return Rehearsed(
        cases=sum(len(test.cases) for test in tests.values()),
        answers=answers,
        coverage=tuple(_coverage((policies[name] for name in sorted(policies)), answers)),
    )


def _coverage(policies: Iterable[Policy], answers: tuple[Answered, ...]) -> Iterator[Covered]:
    """Only what was expected was seen: an answer that nobody asked about proves nothing."""
    seen: dict[tuple[str, str], set[Seen]] = {}
    for answer in answers:
        if answer.right and answer.seen:
            seen.setdefault((answer.policy, answer.gate), set()).add(answer.seen)
    for policy in policies:
        for gate in policy.gates:
            found = seen.get((policy.name, gate.name), set())
            yield Covered(
                policy=policy.name, gate=gate.name, seen=tuple(each for each in SEEN if each in found)
            )


def _answers(path: str, index: int, test: PolicyTest, case: PolicyCase, policy: Policy) -> Iterator[Answered]:
    judged = _case(test, case)
    evidence = dict(_evidence(test, case, judged)) if case.measured else {}
    waivers = tuple(
        Waiver(gate=gate, digest=_CANDIDATE, reason="of the test", expires=AT + timedelta(days=1))
        for gate in case.waived
    )
    said = {verdict.gate: verdict for verdict in judge(policy, evidence, judged, AT, waivers)}
    for gate in policy.gates:
        verdict = said.get(gate.name)
        asked_of_all = case.others if verdict or case.others == "not-asked" else None
        expected = case.expect.get(gate.name, asked_of_all)
        if expected is None:
            continue
        field = ("expect", gate.name) if gate.name in case.expect else ("others",)
        yield Answered(
            path=path,
            field=("cases", index, *field),
            policy=policy.name,
            case=case.name,
            gate=gate.name,
            expected=expected,
            got=verdict.verdict if verdict else "not-asked",
            why=verdict.why if verdict else "its `when` leaves this candidate out",
            seen=_seen(verdict, policy, judged) if verdict else None,
        )
    if case.verdict is not None:
        yield Answered(
            path=path,
            field=("cases", index, "verdict"),
            policy=policy.name,
            case=case.name,
            expected=case.verdict,
            got=together(v.verdict for v in said.values()),
            why="; ".join(f"{v.gate}: {v.why}" for v in said.values() if v.verdict != "pass")
            or "every gate passes",
        )


def _seen(verdict: GateVerdict, policy: Policy, case: Case) -> Seen | None:
    if verdict.waived:
        return None
    if verdict.verdict == "pass":
        return "pass"
    if not case.possible(verdict.measurement):
        return None
    if verdict.value is None:
        return "missing"
    gate = next(gate for gate in policy.gates if gate.name == verdict.gate)
    against = gate.versus is not None and gate.versus.ref == "champion"
    if against and case.champion == NO_CHAMPION and gate.on_no_champion in ("review", "block"):
        return None
    return "fail" if verdict.verdict == gate.on_fail else None


# --- what the judge sees ----------------------------------------------------------------------------------


class _Described(Model):
    """A model of which only that is known which gates ask."""

    declares: frozenset[Declaration] = frozenset()

    @property
    def declared(self) -> frozenset[Declaration]:
        return self.declares


def _case(test: PolicyTest, case: PolicyCase) -> Case:
    facts = _over(test.model, case.model)
    name = facts.name or "model"
    model = _Described(
        kind="Model",
        owner="the test",
        task=facts.task or "classification",
        registered_name=name,
        data=Data(evaluation=EvaluationData(pointer="data/evaluation.csv.dvc", target="target")),
        training=Training(external=External(alias="candidate")),
        baselines={name: at for name, at in (facts.baselines or {}).items() if at is not None},
        environments=(),
        declares=frozenset(facts.declares or ()),
    )
    desired = DesiredState(
        revision="",
        platform=Platform(kind="Platform"),
        models={name: ModelSource(model=model, evaluation_md5="0" * 32)},
    )
    champion = VerifiedPin(version="1", digest=_CHAMPION, release=_RELEASE, at=AT) if case.champion else None
    pin = Pin(registry="default", name=name, version="2", digest=_CANDIDATE)
    image = desired.platform.images.server
    judged = case_of(desired, Subject(environment="test", model=name), pin, image, champion)
    traffic = _RELEASE if case.champion and case.traffic else NO_TRAFFIC
    return judged._replace(change=case.change, traffic=traffic)


def _evidence(test: PolicyTest, case: PolicyCase, judged: Case) -> Iterator[tuple[str, Evidence]]:
    for name in sorted(test.evidence.keys() | case.evidence.keys()):
        given = case.evidence.get(name, MeasurementNumbers())
        if given is None:
            continue
        numbers = _over(test.evidence.get(name, MeasurementNumbers()), given)
        yield (
            name,
            Evidence(
                measurement=name,
                recipe=CATALOGUE[name].recipe,
                key=judged.key(name),
                inputs=dict(judged.inputs(name)),
                at=AT - (numbers.age if numbers.age is not None else AGE),
                metrics={
                    metric: _metric(found, numbers.n or 0, judged)
                    for metric, found in sorted(numbers.metrics.items())
                    if found is not None
                },
            ),
        )


def _metric(given: MetricNumbers, n: int, judged: Case) -> Metric:
    slices = {
        column: {value: _scores(numbers, n, judged) for value, numbers in sorted(by.items())}
        for column, by in sorted(given.slices.items())
    }
    return Metric(overall=_scores(given, n, judged), slices=slices)


def _scores(given: Numbers, n: int, judged: Case) -> Scores:
    """Before the first release there is no champion to score, whatever a test says for its other cases."""
    n = n if given.n is None else given.n
    there = judged.champion != NO_CHAMPION
    paired = given.difference if there else None
    return Scores(
        candidate=Estimate(value=given.value, n=n, low=given.low, high=given.high),
        champion=Estimate(value=given.champion, n=n) if there and given.champion is not None else None,
        difference=Estimate(value=paired.value, n=n, low=paired.low, high=paired.high) if paired else None,
    )


_Part = TypeVar("_Part", Facts, MeasurementNumbers)


def _over(below: _Part, above: _Part) -> _Part:
    """``below`` with the fields that ``above`` says, mapping by mapping."""
    dumped = [part.model_dump(mode="json", by_alias=True, exclude_unset=True) for part in (below, above)]
    return type(below).model_validate(_merged(*dumped))


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{name: _merged(below.get(name), value) for name, value in above.items()}}
