"""The judge: every branch as one line of a table, and law 6: nothing passes on what was not measured well."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.base import Subject
from reconciler.core.desired import ModelSource, Policy
from reconciler.core.documents import Gate, Model, Monitoring, Versus, Waiver, When
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, Metric, Scores, parse_evidence
from reconciler.core.plan import GateVerdict
from reconciler.planning.judge import NO_CHAMPION, NO_TRAFFIC, Case, judge, max_age, measurements

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CANDIDATE, CHAMPION, OTHER = (f"sha256:{digit * 64}" for digit in "219")
MODEL = Model.model_validate(
    {
        "apiVersion": "trueup.dev/v1",
        "kind": "Model",
        "owner": "team",
        "task": "classification",
        "registeredName": "digits",
        "data": {
            "train": {"pointer": "data/train.csv.dvc"},
            "evaluation": {"pointer": "data/evaluation.csv.dvc", "target": "label", "slices": ("ink",)},
        },
        "training": {"workflow": "train-v1"},
        "baselines": {"accuracy": 0.93},
        "monitoring": {"record": {}},
        "environments": ("production",),
    }
)
CASE = Case(
    subject=Subject(environment="production", model="digits"),
    source=ModelSource(model=MODEL, evaluation_md5="b" * 32),
    candidate=CANDIDATE,
    champion=CHAMPION,
    server="server@sha256:" + "0" * 64,
    change="version",
    traffic=f"sha256:{'4' * 64}",
)
FIRST = CASE._replace(champion=NO_CHAMPION)
SILENT = CASE._replace(
    source=CASE.source.model_copy(update={"model": MODEL.model_copy(update={"monitoring": Monitoring()})})
)


def promising(case: Case, baselines: dict[str, float]) -> Case:
    model = case.model.model_copy(update={"baselines": baselines})
    return case._replace(source=case.source.model_copy(update={"model": model}))


DRIFT = Gate(
    name="drift",
    metric="drift.psi-max",
    op="<=",
    threshold=0.2,
    slices=("feature",),
    min_samples=1000,
    when=When(declares=("monitoring.record",)),
    on_fail="review",
    on_missing="review",
)


def gate(**fields: Any) -> Gate:
    return Gate(**{"name": "accuracy", "metric": "evaluate.accuracy", "op": ">=", "threshold": 0.9, **fields})


def paired(**fields: Any) -> Gate:
    versus = fields.pop("versus", Versus(ref="champion", max_drop=0.02))
    return gate(**{"name": "not-worse", "op": None, "threshold": None, "versus": versus, **fields})


def scores(
    value: float | None = 0.95,
    n: int = 1000,
    champion: float | None = 0.95,
    interval: tuple[float | None, float | None] = (-0.01, 0.01),
    difference: float | None = 0.0,
) -> Scores:
    return Scores(
        candidate=Estimate(value=value, n=n, note="" if value is not None else "no rows"),
        champion=None if champion is None else Estimate(value=champion, n=n),
        difference=None
        if difference is None
        else Estimate(value=difference, n=n, low=interval[0], high=interval[1], confidence=0.95),
    )


def evidence(
    overall: Scores | None = None,
    slices: dict[str, dict[str, Scores]] | None = None,
    case: Case = CASE,
    name: str = "accuracy",
    **fields: Any,
) -> Evidence:
    given = {
        "measurement": "evaluate",
        "recipe": CATALOGUE["evaluate"].recipe,
        "key": case.key("evaluate"),
        "inputs": dict(case.inputs("evaluate")),
        "at": AT - timedelta(hours=1),
        "metrics": {name: Metric(overall=overall or scores(), slices=slices or {})},
    }
    return Evidence(**{**given, **fields})


def ask(one: Gate, document: Evidence | None, case: Case = CASE, *waivers: Waiver) -> GateVerdict:
    documents = {} if document is None else {"evaluate": document}
    (verdict,) = judge(Policy(name="p", gates=(one,)), documents, case, AT, waivers)
    return verdict


# --- the table --------------------------------------------------------------------------------------------

INK = {"ink": {"thick": scores(0.97), "thin": scores(0.91)}}
BASE_LIKE = Versus(ref="champion", max_drop=0.01)
DROP, RISE = Versus(ref="champion", max_drop=0.02), Versus(ref="champion", max_rise=0.02)
BASE_DROP, BASE_RISE = Versus(ref="baseline", max_drop=0.01), Versus(ref="baseline", max_rise=0.01)

TABLE: dict[str, tuple[Gate, Evidence | None, Case, str, str]] = {
    # thresholds
    ">= on the threshold": (gate(), evidence(scores(0.9)), CASE, "pass", "0.9 >= 0.9"),
    ">= below": (gate(), evidence(scores(0.89)), CASE, "block", "not 0.89 >= 0.9"),
    "> on the threshold": (gate(op=">"), evidence(scores(0.9)), CASE, "block", "not 0.9 > 0.9"),
    "> above": (gate(op=">"), evidence(scores(0.91)), CASE, "pass", "0.91 > 0.9"),
    "<= on the threshold": (gate(op="<="), evidence(scores(0.9)), CASE, "pass", "0.9 <= 0.9"),
    "<= above": (gate(op="<="), evidence(scores(0.91)), CASE, "block", "not 0.91 <= 0.9"),
    "< on the threshold but for rounding": (
        gate(op="<", threshold=0.3),
        evidence(scores(0.1 * 3 - 1e-16)),
        CASE,
        "block",
        "not 0.3 < 0.3",
    ),
    "<= on the threshold but for rounding": (
        gate(op="<=", threshold=0.3),
        evidence(scores(0.1 + 0.2)),
        CASE,
        "pass",
        "0.3 <= 0.3",
    ),
    "< on the threshold": (gate(op="<"), evidence(scores(0.9)), CASE, "block", "not 0.9 < 0.9"),
    "onFail: review": (gate(on_fail="review"), evidence(scores(0.1)), CASE, "review", "not 0.1 >= 0.9"),
    # against the champion
    "low end on the limit": (
        paired(),
        evidence(scores(interval=(-0.02, 0.01))),
        CASE,
        "pass",
        "interval [-0.0200, +0.0100], n 1000",
    ),
    "low end on the limit but for rounding": (
        paired(),
        evidence(scores(interval=(0.93 - 0.95, 0.01))),
        CASE,
        "pass",
        "interval [-0.0200, +0.0100], n 1000",
    ),
    "low end below": (
        paired(),
        evidence(scores(0.96, interval=(-0.0201, 0.04), difference=0.01)),
        CASE,
        "block",
        "a drop of more than 0.02 cannot be ruled out",
    ),
    "high end on the limit": (
        paired(versus=RISE),
        evidence(scores(interval=(0.0, 0.02))),
        CASE,
        "pass",
        "n 1000",
    ),
    "high end above": (
        paired(versus=RISE),
        evidence(scores(interval=(-0.5, 0.021))),
        CASE,
        "block",
        "cannot be ruled out",
    ),
    "both asked, threshold fails": (
        gate(versus=DROP, on_fail="review"),
        evidence(scores(0.5)),
        CASE,
        "review",
        "not 0.5 >= 0.9; passed: 0.5 against",
    ),
    "no champion: review": (
        paired(),
        evidence(scores(champion=None, difference=None), case=FIRST),
        FIRST,
        "review",
        "no champion to compare with",
    ),
    "no champion: block": (
        paired(on_no_champion="block"),
        evidence(case=FIRST),
        FIRST,
        "block",
        "no champion to compare with",
    ),
    "no champion: absolute": (
        gate(versus=DROP, on_no_champion="absolute"),
        evidence(case=FIRST),
        FIRST,
        "pass",
        "judged by the threshold alone",
    ),
    "no champion: absolute, and below": (
        gate(versus=DROP, on_no_champion="absolute"),
        evidence(scores(0.5), case=FIRST),
        FIRST,
        "block",
        "not 0.5 >= 0.9",
    ),
    "no champion: baseline": (
        paired(versus=BASE_LIKE, on_no_champion="baseline"),
        evidence(scores(0.92), case=FIRST),
        FIRST,
        "pass",
        "0.92 against the baseline 0.93; no champion, compared with the baseline instead",
    ),
    "no champion: baseline, and below": (
        paired(versus=BASE_LIKE, on_no_champion="baseline"),
        evidence(scores(0.91), case=FIRST),
        FIRST,
        "block",
        "0.91 against the baseline 0.93 is too far off; no champion, compared with the baseline instead",
    ),
    "no champion: baseline, and none declared": (
        paired(versus=BASE_LIKE, on_no_champion="baseline"),
        evidence(case=promising(FIRST, {})),
        promising(FIRST, {}),
        "block",
        "the model declares no baseline for accuracy",
    ),
    "no champion and below: the stricter counts": (
        gate(versus=DROP),
        evidence(scores(0.5), case=FIRST),
        FIRST,
        "block",
        "no champion to compare with",
    ),
    # against the baseline
    "baseline kept": (
        paired(versus=BASE_DROP),
        evidence(scores(0.92)),
        CASE,
        "pass",
        "0.92 against the baseline 0.93",
    ),
    "baseline missed": (paired(versus=BASE_DROP), evidence(scores(0.91)), CASE, "block", "too far off"),
    "baseline risen": (paired(versus=BASE_RISE), evidence(scores(0.95)), CASE, "block", "too far off"),
    "baseline not risen": (paired(versus=BASE_RISE), evidence(scores(0.94)), CASE, "pass", "baseline 0.93"),
    "no baseline": (
        paired(versus=BASE_DROP),
        evidence(),
        promising(CASE, {}),
        "block",
        "declares no baseline for accuracy",
    ),
    # slices
    "worst slice passes": (gate(slices=("ink",)), evidence(slices=INK), CASE, "pass", "ink=thin: 0.91 >= 0.9"),
    "worst slice fails": (
        gate(slices=("ink",), threshold=0.92),
        evidence(slices=INK),
        CASE,
        "block",
        "ink=thin: not 0.91 >= 0.92",
    ),
    "slice not measured": (
        gate(slices=("pen",)),
        evidence(slices=INK),
        CASE,
        "block",
        "was not measured by pen",
    ),
    "slice too small": (
        gate(slices=("ink",), min_samples=500),
        evidence(slices={"ink": {"thick": scores(), "thin": scores(n=499)}}),
        CASE,
        "block",
        "for ink=thin of evaluate.accuracy rests on 499 samples, fewer than 500",
    ),
    # what is missing
    "no evidence": (gate(), None, CASE, "block", "there is no evidence of evaluate"),
    "no evidence, onMissing: review": (gate(on_missing="review"), None, CASE, "review", "no evidence"),
    "no such metric": (gate(), evidence(name="f1"), CASE, "block", "has no metric accuracy"),
    "NaN": (gate(), evidence(scores(math.nan)), CASE, "block", "is not a finite number: measured nan"),
    "infinity": (gate(), evidence(scores(math.inf)), CASE, "block", "is not a finite number: measured inf"),
    "nothing measured": (gate(), evidence(scores(None)), CASE, "block", "is not a finite number: no rows"),
    "no samples": (gate(), evidence(scores(n=0)), CASE, "block", "is not a finite number"),
    "as many samples as asked": (gate(min_samples=1000), evidence(), CASE, "pass", "0.95 >= 0.9"),
    "one sample too few": (
        gate(min_samples=1001),
        evidence(),
        CASE,
        "block",
        "rests on 1000 samples, fewer than",
    ),
    "as old as allowed": (gate(max_age=timedelta(hours=1)), evidence(), CASE, "pass", "0.95 >= 0.9"),
    "a second too old": (
        gate(max_age=timedelta(minutes=60)),
        evidence(at=AT - timedelta(seconds=3601)),
        CASE,
        "block",
        "is of 2026-03-02T10:59:59Z, older than 1h",
    ),
    "from now": (gate(), evidence(at=AT), CASE, "pass", "0.95 >= 0.9"),
    "from the future": (gate(), evidence(at=AT + timedelta(seconds=1)), CASE, "block", "in the future"),
    "another key": (gate(), evidence(key="0" * 12), CASE, "block", "under another key"),
    "another measurement": (gate(), evidence(measurement="parity"), CASE, "block", "under another key"),
    "champion not measured": (paired(), evidence(scores(champion=None)), CASE, "block", "on the same rows"),
    "champion is NaN": (paired(), evidence(scores(champion=math.nan)), CASE, "block", "the champion's value"),
    "no difference": (paired(), evidence(scores(difference=None)), CASE, "block", "on the same rows"),
    "difference is NaN": (paired(), evidence(scores(difference=math.nan)), CASE, "block", "the difference to"),
    "no interval": (paired(), evidence(scores(interval=(None, None))), CASE, "block", "has no interval"),
    "interval of NaN": (paired(), evidence(scores(interval=(math.nan, 0.1))), CASE, "block", "has no interval"),
    "interval upside down": (paired(), evidence(scores(interval=(0.1, 0.0))), CASE, "block", "has no interval"),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    one, document, case, verdict, why = TABLE[name]
    said = ask(one, document, case)
    assert (said.verdict, why in said.why) == (verdict, True), said.why


@pytest.mark.parametrize("name", CATALOGUE["evaluate"].inputs)
def test_evidence_counts_only_for_exactly_these_inputs(name: str) -> None:
    inputs = {**CASE.inputs("evaluate"), name: OTHER}
    assert (
        ask(gate(), evidence(inputs=inputs)).why == f"the evidence of evaluate was measured on another {name}"
    )


def test_the_worst_slice_against_a_baseline_is_the_one_with_the_worst_value() -> None:
    def measured(value: float, low: float) -> Scores:
        return Scores(candidate=Estimate(value=value, n=1000, low=low, high=1.0, confidence=0.95))

    slices = {"ink": {"few": measured(0.94, 0.5), "many": measured(0.92, 0.91)}}
    drop = ask(gate(op=None, threshold=None, versus=BASE_DROP, slices=("ink",)), evidence(slices=slices))
    rise = ask(gate(op=None, threshold=None, versus=BASE_RISE, slices=("ink",)), evidence(slices=slices))
    assert (drop.slice, drop.verdict) == ("ink=many", "pass")
    assert (rise.slice, rise.verdict) == ("ink=few", "pass")


def test_a_count_that_fails_names_what_was_counted_and_no_page_of_it() -> None:
    names = tuple(f"file-{i}" for i in range(7))
    counted = Scores(candidate=Estimate(value=9, n=100, names=names))
    said = ask(gate(op="<=", threshold=0), evidence(counted))
    assert said.why == "not 9 <= 0: file-0, file-1, file-2, file-3, file-4 and 4 more"


def test_before_a_champion_the_bound_is_the_baselines() -> None:
    said = ask(paired(versus=BASE_LIKE, on_no_champion="baseline"), evidence(case=FIRST), FIRST)
    assert said.asked == "drop <= 0.01 against the baseline 0.93"
    (bound,) = said.bounds
    assert (round(bound.at, 9), bound.good, bound.of) == (0.92, "above", "baseline")


def test_a_verdict_carries_the_numbers_it_rests_on() -> None:
    said = ask(paired(), evidence(scores(0.96, champion=0.95, interval=(-0.004, 0.024), difference=0.01)))
    assert (said.value, said.champion, said.n, said.low, said.high) == (0.96, 0.95, 1000, -0.004, 0.024)
    assert said.asked == "drop <= 0.02 against the champion"
    assert said.detectable is None


def test_a_paired_verdict_says_what_its_sample_could_show() -> None:
    whole = scores()
    assert whole.difference is not None
    told = whole.difference.model_copy(update={"detectable": 0.004})
    document = evidence(whole.model_copy(update={"difference": told}))
    assert ask(paired(), document).detectable == 0.004
    assert ask(gate(), document).detectable is None


@pytest.mark.parametrize(
    ("when", "case", "asked"),
    [
        (When(), CASE, True),
        (When(tasks=("regression",)), CASE, False),
        (When(tasks=("classification",), changes=("version",)), CASE, True),
        (When(changes=("version",)), CASE._replace(change="serving"), False),
        (When(models=("digits", "other")), CASE, True),
        (When(models=("other",)), CASE, False),
        (When(models=("digits",), tasks=("regression",)), CASE, False),
        (When(declares=("monitoring.record", "serving")), CASE, True),
        (When(declares=("monitoring.record",)), SILENT, False),
        (When(champion=True), CASE, True),
        (When(champion=True), FIRST, False),
    ],
)
def test_a_gate_that_does_not_apply_is_not_asked(when: When, case: Case, asked: bool) -> None:
    policy = Policy(name="p", gates=(gate(when=when, max_age=timedelta(days=1)),))
    assert bool(judge(policy, {}, case, AT)) is asked
    assert measurements(policy, case) == (("evaluate",) if asked else ())
    assert max_age(policy, case, "evaluate") == (timedelta(days=1) if asked else None)


def test_the_shortest_age_counts_for_measuring_again() -> None:
    gates = (gate(max_age=timedelta(days=7)), paired(max_age=timedelta(days=1)), gate(name="any-age"))
    assert max_age(Policy(name="p", gates=gates), CASE, "evaluate") == timedelta(days=1)


# --- waivers ----------------------------------------------------------------------------------------------


def waiver(**fields: Any) -> Waiver:
    given = {"gate": "accuracy", "digest": CANDIDATE, "reason": "known", "expires": AT + timedelta(seconds=1)}
    return Waiver(**{**given, **fields})


def test_a_waiver_turns_a_failed_gate_and_says_so() -> None:
    said = ask(gate(), evidence(scores(0.5)), CASE, waiver())
    assert (said.verdict, said.waived) == ("pass", "known")
    assert said.why == "not 0.5 >= 0.9; waived until 2026-03-02T12:00:01Z: known"


def test_a_waiver_is_not_used_where_the_gate_passes() -> None:
    assert ask(gate(), evidence(), CASE, waiver()).waived == ""


@pytest.mark.parametrize("other", [{"gate": "parity"}, {"digest": OTHER}, {"expires": AT}])
def test_a_waiver_is_for_its_gate_and_candidate_until_it_expires(other: dict[str, Any]) -> None:
    assert ask(gate(), evidence(scores(0.5)), CASE, waiver(**other)).verdict == "block"


# --- law 6 ------------------------------------------------------------------------------------------------

finite = st.floats(-1, 1).filter(math.isfinite)


class Asked(NamedTuple):
    """A gate, a candidate that it is asked of, and evidence under exactly its key."""

    gate: Gate
    case: Case
    document: Evidence

    @property
    def paired(self) -> bool:
        versus = self.gate.versus
        return versus is not None and versus.ref == "champion" and self.case.champion != NO_CHAMPION

    def verdict(self, document: Evidence | None = None, at: datetime = AT) -> GateVerdict:
        found = document or self.document
        (said,) = judge(Policy(name="p", gates=(self.gate,)), {_kind(self.gate): found}, self.case, at)
        return said


def _kind(one: Gate) -> str:
    return one.metric.partition(".")[0]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """With and without a champion, recorded requests, a promise, and what a model declares."""
    case = draw(st.sampled_from([CASE, FIRST, SILENT, SILENT._replace(champion=NO_CHAMPION)]))
    case = case._replace(traffic=draw(st.sampled_from([case.traffic, NO_TRAFFIC])))
    case = case._replace(change=draw(st.sampled_from(["version", "serving"])))
    return promising(case, draw(st.sampled_from([{"accuracy": 0.0}, {}])))


@st.composite
def measured(draw: st.DrawFn) -> Scores:
    low, high = sorted([draw(finite), draw(finite)])
    n = draw(st.integers(1000, 2000))
    return scores(draw(finite), n, draw(finite), (low, high), draw(finite))


@st.composite
def asked_of_a_candidate(draw: st.DrawFn) -> Asked:
    """A gate of any shape, on any measurement, that is asked of the candidate it comes with.

    It asks so little that every value from -1 to 1 would do, so that only the spoiling can be the reason
    why it does not pass.
    """
    case, kind = draw(cases()), draw(st.sampled_from(sorted(CATALOGUE)))
    reference = draw(st.sampled_from(["champion", "baseline", None]))
    bound = {draw(st.sampled_from(["max_drop", "max_rise"])): draw(st.floats(2, 3))}
    absolute = reference is None or draw(st.booleans())
    op, threshold = draw(st.sampled_from([(">", -1.5), (">=", -1.0), ("<", 1.5), ("<=", 1.0)]))
    alone = ["baseline", "review", "block", *(["absolute"] if absolute else [])]
    declared = sorted(case.model.declared)
    one = Gate(
        name="any",
        metric=f"{kind}.accuracy",
        op=op if absolute else None,
        threshold=threshold if absolute else None,
        versus=Versus(ref=reference, **bound) if reference else None,
        min_samples=draw(st.integers(1, 1000)),
        max_age=draw(st.sampled_from([None, timedelta(hours=1), timedelta(days=30)])),
        slices=draw(st.sampled_from([(), ("ink",), ("ink", "pen")])),
        when=When(
            models=draw(st.sampled_from([(), ("digits",)])),
            tasks=draw(st.sampled_from([(), ("classification",)])),
            changes=draw(st.sampled_from([(), (case.change,)])),
            declares=tuple(draw(st.lists(st.sampled_from(declared), unique=True))),
            champion=draw(st.booleans()) and case.champion != NO_CHAMPION,
        ),
        on_fail=draw(st.sampled_from(["block", "review"])),
        on_missing=draw(st.sampled_from(["block", "review"])),
        on_no_champion=draw(st.sampled_from(alone)),
    )
    slices = {column: {value: draw(measured()) for value in ("a", "b")} for column in one.slices}
    document = Evidence(
        measurement=kind,
        recipe=CATALOGUE[kind].recipe,
        key=case.key(kind),
        inputs=dict(case.inputs(kind)),
        at=AT - timedelta(minutes=59),
        metrics={"accuracy": Metric(overall=draw(measured()), slices=slices)},
    )
    return Asked(one, case, document)


def _spoiled_at(asked: Asked, place: int, part: str, **to: Any) -> Evidence:
    """With one part of one of the scores that the gate looks at changed: of the whole, or of one slice."""
    metric = asked.document.metrics["accuracy"]

    def spoil(found: Scores) -> Scores:
        estimate = getattr(found, part)
        # Past the validation of Estimate, as no document could be.
        return found.model_copy(update={part: estimate.model_copy(update=to) if to else None})

    looked_at = [(column, value) for column in asked.gate.slices for value in metric.slices[column]]
    if not looked_at:
        metric = metric.model_copy(update={"overall": spoil(metric.overall)})
    else:
        column, value = looked_at[place % len(looked_at)]
        by = {**metric.slices[column], value: spoil(metric.slices[column][value])}
        metric = metric.model_copy(update={"slices": {**metric.slices, column: by}})
    return asked.document.model_copy(update={"metrics": {"accuracy": metric}})


VALUES: dict[str, dict[str, Any]] = {
    "NaN": {"value": math.nan},
    "infinity": {"value": math.inf},
    "minus infinity": {"value": -math.inf},
    "no value": {"value": None},
    "no samples": {"n": 0},
}
INTERVALS: dict[str, dict[str, Any]] = {
    "no interval": {"low": None, "high": None},
    "NaN below": {"low": math.nan},
    "NaN above": {"high": math.nan},
    "no end": {"low": -math.inf},
    "upside down": {"low": 0.5, "high": -0.5},
}
PLACES = st.integers(0, 3)


@given(asked_of_a_candidate(), PLACES, st.sampled_from(sorted(VALUES)))
def test_no_gate_passes_on_a_value_that_is_not_there(asked: Asked, place: int, how: str) -> None:
    assert asked.verdict(_spoiled_at(asked, place, "candidate", **VALUES[how])).verdict != "pass"


@given(asked_of_a_candidate(), PLACES, st.sampled_from(["candidate", "champion", "difference"]))
def test_no_gate_passes_on_too_few_samples(asked: Asked, place: int, part: str) -> None:
    few = _spoiled_at(asked, place, part, n=asked.gate.min_samples - 1)
    if part == "candidate" or asked.paired:
        assert asked.verdict(few).verdict != "pass"


@given(asked_of_a_candidate(), PLACES, st.data())
def test_no_gate_passes_against_a_champion_that_was_not_measured_well(
    asked: Asked, place: int, data: st.DataObject
) -> None:
    part = data.draw(st.sampled_from(["champion", "difference"]))
    ways = {"absent": {}, **VALUES, **(INTERVALS if part == "difference" else {})}
    how = data.draw(st.sampled_from(sorted(ways)))
    if asked.paired:
        assert asked.verdict(_spoiled_at(asked, place, part, **ways[how])).verdict != "pass"


@given(asked_of_a_candidate(), st.data())
def test_no_gate_passes_on_evidence_of_something_else(asked: Asked, data: st.DataObject) -> None:
    document, kind = asked.document, _kind(asked.gate)
    name = data.draw(st.sampled_from(CATALOGUE[kind].inputs))
    others: dict[str, dict[str, Any]] = {
        "key": {"key": "0" * 12},
        "measurement": {"measurement": "another"},
        f"input {name}": {"inputs": {**document.inputs, name: OTHER}},
        "an input less": {"inputs": {key: of for key, of in document.inputs.items() if key != name}},
        "metric": {"metrics": {"f1": document.metrics["accuracy"]}},
    }
    if asked.gate.slices:
        metric = document.metrics["accuracy"]
        less = {column: by for column, by in metric.slices.items() if column != asked.gate.slices[-1]}
        others["a slice less"] = {"metrics": {"accuracy": metric.model_copy(update={"slices": less})}}
    how = data.draw(st.sampled_from(sorted(others)))
    assert asked.verdict(document.model_copy(update=others[how])).verdict != "pass"


@given(asked_of_a_candidate(), st.integers(1, 10**9))
def test_no_gate_passes_on_evidence_that_is_too_old_or_of_the_future(asked: Asked, microseconds: int) -> None:
    later = timedelta(microseconds=microseconds)
    if asked.gate.max_age is not None:
        assert asked.verdict(at=asked.document.at + asked.gate.max_age + later).verdict != "pass"
    assert asked.verdict(at=asked.document.at - later).verdict != "pass"


@given(asked_of_a_candidate())
def test_no_gate_passes_without_evidence_or_a_promise_it_compares_with(asked: Asked) -> None:
    policy = Policy(name="p", gates=(asked.gate,))
    (said,) = judge(policy, {}, asked.case, AT)
    assert said.verdict != "pass"
    if asked.gate.versus is not None and asked.gate.versus.ref == "baseline":
        case = promising(asked.case, {})
        evidence = {_kind(asked.gate): asked.document}
        assert [verdict.verdict != "pass" for verdict in judge(policy, evidence, case, AT)] == [True]


def test_the_laws_are_about_evidence_that_could_pass() -> None:
    """Otherwise the laws above would hold of a judge that refuses everything."""
    shapes: set[tuple[bool, str, bool]] = set()

    @settings(max_examples=1500, database=None, derandomize=True, deadline=None)
    @given(asked_of_a_candidate())
    def look(asked: Asked) -> None:
        against = asked.gate.versus.ref if asked.gate.versus else ""
        if asked.verdict().verdict == "pass":
            shapes.add((bool(asked.gate.slices), against, asked.case.champion == NO_CHAMPION))

    look()
    assert shapes == set(product((False, True), ("", "baseline", "champion"), (False, True)))


BASELINE = promising(CASE, {"accuracy": 0.9})


@pytest.mark.parametrize(
    ("one", "case", "bounds", "paired_interval"),
    [
        (gate(), CASE, [(0.9, "above", "threshold")], False),
        (gate(op="<", threshold=2.0), CASE, [(2.0, "below", "threshold")], False),
        (paired(), CASE, [(0.93, "above", "champion")], True),
        (paired(versus=RISE), CASE, [(0.97, "below", "champion")], True),
        (gate(versus=DROP), CASE, [(0.9, "above", "threshold"), (0.93, "above", "champion")], True),
        (paired(), FIRST, [], False),
        (
            paired(versus=BASE_DROP),
            promising(CASE, {"accuracy": 0.9}),
            [(0.89, "above", "baseline")],
            False,
        ),
    ],
)
def test_what_is_asked_is_told_in_the_metric_s_units(
    one: Gate, case: Case, bounds: list[tuple[float, str, str]], paired_interval: bool
) -> None:
    champion = None if case is FIRST else 0.95
    document = evidence(scores(champion=champion, difference=None if champion is None else 0.0), case=case)
    said = ask(one, document, case)
    assert [(bound.at, bound.good, bound.of) for bound in said.bounds] == [
        (pytest.approx(at), good, of) for at, good, of in bounds
    ]
    assert said.paired is paired_interval


# --- drift ------------------------------------------------------------------------------------------------


def of_drift(psi: dict[str, float | None], n: int = 5000, note: str = "", case: Case = CASE) -> Evidence:
    whole = max((value for value in psi.values() if value is not None), default=None)
    slices = {name: Scores(candidate=Estimate(value=value, n=n)) for name, value in psi.items()}
    return Evidence(
        measurement="drift",
        recipe=CATALOGUE["drift"].recipe,
        key=case.key("drift"),
        inputs=dict(case.inputs("drift")),
        at=AT,
        metrics={
            "psi-max": Metric(
                overall=Scores(candidate=Estimate(value=whole, n=n, note=note)),
                slices={"feature": slices} if slices else {},
            )
        },
    )


def asked(document: Evidence | None, case: Case = CASE, **fields: Any) -> Any:
    found = {"drift": document} if document else {}
    policy = Policy(name="p", gates=(DRIFT.model_copy(update=fields),))
    (verdict,) = judge(policy, found, case, AT)
    return verdict


def test_the_feature_that_drifted_most_is_named_with_its_value_and_rows() -> None:
    verdict = asked(of_drift({"hour": 0.21, "temperature": 0.314, "carrier": 0.01}))
    assert (verdict.verdict, verdict.slice) == ("review", "feature=temperature")
    assert (verdict.value, verdict.n) == (0.314, 5000)
    assert verdict.why == "feature=temperature: not 0.314 <= 0.2"
    assert asked(of_drift({"hour": 0.2, "carrier": 0.01})).verdict == "pass"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "there is no evidence of drift"),
        (of_drift({"hour": 0.01}, n=999), "rests on 999 samples, fewer than 1000"),
        (of_drift({}, n=37, note="37 rows recorded"), "was not measured by feature: 37 rows recorded"),
        (of_drift({"hour": None}), "is not a finite number"),
    ],
)
def test_what_was_not_measured_never_passes(document: Evidence | None, said: str) -> None:
    for how in ("review", "block"):
        verdict = asked(document, on_missing=how)
        assert verdict.verdict == how
        assert said in verdict.why


def test_requests_of_another_release_or_environment_are_no_answer() -> None:
    elsewhere = Subject(environment="staging", model="digits")
    for case in (CASE._replace(traffic="sha256:" + "8" * 64), CASE._replace(subject=elsewhere)):
        assert asked(of_drift({"hour": 0.01}, case=case)).verdict == "review"


def test_where_nothing_is_recorded_nothing_is_measured_and_the_gate_says_why() -> None:
    policy = Policy(name="p", gates=(DRIFT,))
    silent = CASE._replace(traffic=NO_TRAFFIC)
    assert measurements(policy, CASE) == ("drift",)
    assert measurements(policy, silent) == ()
    verdict = asked(None, silent, on_missing="block")
    assert (verdict.verdict, verdict.why) == ("block", "the champion's release records no requests")
    first = silent._replace(champion=NO_CHAMPION)
    for how, wanted in (("review", "review"), ("block", "block"), ("absolute", "block")):
        verdict = asked(None, first, on_missing="block", on_no_champion=how)
        assert (verdict.verdict, verdict.why) == (wanted, "no champion, and so no requests")


def test_a_model_that_records_nothing_is_not_asked() -> None:
    quiet = SILENT._replace(traffic=NO_TRAFFIC)
    policy = Policy(name="p", gates=(DRIFT,))
    assert judge(policy, {}, quiet, AT) == ()
    assert measurements(policy, quiet) == ()


def test_evidence_without_a_value_survives_its_file() -> None:
    document = of_drift({"hour": None}, n=0, note="nothing recorded")
    assert parse_evidence(document.to_bytes(), where="evidence") == document
