"""Step `behaviour`: how many cases of the model's own tests of behaviour the candidate passes.

The tests are ``behaviour.yaml`` beside the model (reconciler/core/behaviour.py) and ``behaviour/test_*.py``,
which pytest runs in a process of its own with the fixtures of behaviour_fixtures.py. Numbers, no judgement.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.core.behaviour import Behaviour, Direction, Minimum
from reconciler.core.errors import Terminal
from reconciler.core.evidence import Estimate, Metric, Scores
from reconciler.core.strict_yaml import read
from reconciler.core.validation import validate
from workflows.steps import measuring
from workflows.steps.bootstrap import wilson
from workflows.steps.cases import Cases, cases
from workflows.steps.predict import load
from workflows.steps.rows import read_rows, split_target

if TYPE_CHECKING:
    import pandas as pd

    from workflows.steps.cases import Test

    Predict = Callable[[pd.DataFrame], pd.DataFrame]

log = logging.getLogger(__name__)

MOST_EXAMPLES = 5
"""Of a test, that are kept of the cases that failed."""
LONGEST = 300


class Outcome(NamedTuple):
    """What became of one test. ``note`` says why nothing was measured, where ``cases`` is 0 or None passed."""

    name: str
    promised: float
    cases: int
    passed: int | None
    note: str = ""
    examples: tuple[dict[str, Any], ...] = ()

    @property
    def rate(self) -> float | None:
        return self.passed / self.cases if self.passed is not None and self.cases else None


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser)
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("behaviour", options.inputs, key=options.key)
    beside = options.source / "models" / options.model
    features, target = split_target(read_rows(options.data), str(inputs["target"]))
    tests = declared(beside / "behaviour.yaml")
    asked = [(test, cases(test, features, target)) for test in tests]
    with tempfile.TemporaryDirectory() as folder:
        model = measuring.fetched_candidate(inputs, options, Path(folder))
        outcomes = ask(lambda: load(model), asked)
        if any((beside / "behaviour").glob("test_*.py")):
            from workflows.steps.behaviour_fixtures import run_pytest

            outcomes += [
                Outcome(name, 1.0, len(found), sum(said is None for said in found), "", _examples(found))
                for name, found in run_pytest(beside / "behaviour", model, features, target).items()
            ]
    file = f"behaviour-{options.key}-failures.json"
    attached = {file: failures(outcomes)} if any(outcome.examples for outcome in outcomes) else {}
    metrics = measure(outcomes, f"examples are in evidence/{file} of the run" if attached else "")
    measuring.publish("behaviour", metrics, inputs, options, attached=attached)


def declared(path: Path) -> tuple[Test, ...]:
    """The tests of the document; none where there is no document. Terminal where it is not one."""
    if not path.is_file():
        return ()
    found = validate(Behaviour, read(path.read_bytes(), path.name))
    if isinstance(found, tuple):
        raise Terminal(found[0].what, where=f"{path.name}:{found[0].line}", hint=found[0].hint)
    return found.tests


# --- asking -----------------------------------------------------------------------------------------------


def ask(loading: Callable[[], Predict], asked: list[tuple[Test, Cases]]) -> list[Outcome]:
    """The outcomes of all tests, of one model loaded once and asked once about all their rows.

    Where it refuses some of them, each test is asked apart: what a model refuses is told of the test that asks.
    """
    import pandas as pd

    if not asked:
        return []
    try:
        predict = loading()
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise Terminal(f"does not load: {type(error).__name__}: {error}", where="the candidate") from error
    parts = [part for test, (before, after) in asked for part in _parts(test, before, after)]
    answers: list[pd.DataFrame | str]
    try:
        whole = _answer(predict, pd.concat(parts, ignore_index=True))
        ends = [0]
        for part in parts:
            ends.append(ends[-1] + len(part))
        answers = [whole.iloc[start:end] for start, end in pairwise(ends)]
    except Exception:
        answers = [_answer_or_why(predict, part) for part in parts]
    outcomes = []
    for test, found in asked:
        taken, answers = answers[: len(_parts(test, *found))], answers[len(_parts(test, *found)) :]
        outcomes.append(outcome(test, found, taken))
    return outcomes


def _parts(test: Test, before: pd.DataFrame, after: pd.DataFrame) -> list[pd.DataFrame]:
    """What the model has to answer for this test: a minimum is about the changed rows alone."""
    return [after] if isinstance(test, Minimum) else [before, after]


def _answer(predict: Predict, rows: pd.DataFrame) -> pd.DataFrame:
    answer = predict(rows)
    if len(answer) != len(rows):
        raise ValueError(f"gave {len(answer)} answers for {len(rows)} rows")
    return answer


def _answer_or_why(predict: Predict, rows: pd.DataFrame) -> pd.DataFrame | str:
    try:
        return _answer(predict, rows.reset_index(drop=True))
    except Exception as error:  # whatever model code raises: this test has no numbers, the others do
        traceback.print_exc(file=sys.stderr)
        return f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST]


def outcome(test: Test, found: Cases, answers: list[pd.DataFrame | str]) -> Outcome:
    """How many of the cases passed, and the first that did not."""
    import numpy as np

    n = len(found.after)
    nothing = Outcome(test.name, test.pass_rate, n, None)
    if not n:
        return nothing._replace(note="no row is a case of it: see its rows, and what its change changes")
    for answer in answers:
        if isinstance(answer, str):
            return nothing._replace(note=f"the model does not predict its rows: {answer}")
        if test.output not in answer.columns:
            has = ", ".join(map(str, answer.columns[:12]))
            return nothing._replace(note=f"the model answers {has}, and not {test.output}")
    values = [answer[test.output].to_numpy() for answer in answers if not isinstance(answer, str)]
    try:
        passed = np.asarray(_passed(test, *values), dtype=bool)
    except (TypeError, ValueError):
        return nothing._replace(note=f"{test.output} is no number, and the test compares it as one")
    shown = [
        {
            "row": int(found.after.index[place]),
            "changed": _differences(found, place),
            test.output: [_plain(value[place]) for value in values],
        }
        for place in np.flatnonzero(~passed)[:MOST_EXAMPLES]
    ]
    return nothing._replace(passed=int(passed.sum()), examples=tuple(shown))


def _passed(test: Test, *values: Any) -> Any:
    """Whether each case passed. What is not a number compares as False, and so never passes."""
    if isinstance(test, Minimum):
        (found,) = values
        if test.equals is not None:
            return found == test.equals
        low = -math.inf if test.from_ is None else test.from_
        high = math.inf if test.to is None else test.to
        return (found.astype(float) >= low) & (found.astype(float) <= high)
    before, after = values
    if isinstance(test, Direction):
        more = after.astype(float) - before.astype(float)
        return {
            "rises": more > test.tolerance,
            "falls": more < -test.tolerance,
            "not-rises": more <= test.tolerance,
            "not-falls": more >= -test.tolerance,
        }[test.expect]
    if before.dtype.kind in "iuf" and after.dtype.kind in "iuf":
        return abs(after.astype(float) - before.astype(float)) <= test.tolerance
    return before == after


def _differences(found: Cases, place: int) -> dict[str, list[Any]]:
    """Column -> value before and after, of the first columns that the change changed."""
    before, after = found.before.iloc[place], found.after.iloc[place]
    pairs = {str(name): [_plain(before[name]), _plain(after[name])] for name in after.index}
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return dict(list(different.items())[:MOST_EXAMPLES])


def _plain(value: Any) -> Any:
    """As JSON has it: numpy's scalars as Python's, null where there is none."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float) else str(value)[:LONGEST]


def _examples(found: Iterable[str | None]) -> tuple[dict[str, Any], ...]:
    return tuple({"said": said[:LONGEST]} for said in found if said is not None)[:MOST_EXAMPLES]


# --- what is published ------------------------------------------------------------------------------------


def measure(outcomes: list[Outcome], where: str = "") -> dict[str, Metric]:
    """``pass-rate``: the share of cases that passed, of all tests together and by test. ``shortfall``: by how
    much that is less than the test promises, 0 where it is not; over all tests, the largest.

    ``where`` tells where failing examples are.
    """
    measured = [outcome for outcome in outcomes if outcome.rate is not None]
    n = sum(outcome.cases for outcome in measured)
    lost = [outcome for outcome in outcomes if outcome.rate is None]
    worst = sorted(measured, key=lambda each: (-_short(each), each.rate, each.name))
    failing = [f"{each.name} {each.passed} of {each.cases}" for each in worst if each.passed != each.cases]
    notes = [f"not all pass: {', '.join(failing[:3])}"] if failing else []
    notes += [where] if where else []
    notes += [f"{each.name}: {each.note}" for each in lost[:3]]
    note = "; ".join(notes)
    overall, largest = Estimate(value=None, n=n, note=note), Estimate(value=None, n=n, note=note)
    if measured and not lost:
        overall = wilson(sum(each.passed or 0 for each in measured), n, note)
        largest = _shortfall(worst[0]).model_copy(update={"n": n, "note": note})
    return {
        "pass-rate": Metric(overall=Scores(candidate=overall), slices=_by_test(outcomes, _rate)),
        "shortfall": Metric(overall=Scores(candidate=largest), slices=_by_test(outcomes, _shortfall)),
    }


def _by_test(outcomes: list[Outcome], estimate: Callable[[Outcome], Estimate]) -> dict[str, dict[str, Scores]]:
    return {"test": {each.name: Scores(candidate=estimate(each)) for each in outcomes}}


def _rate(outcome: Outcome) -> Estimate:
    if outcome.passed is None or not outcome.cases:
        return Estimate(value=None, n=outcome.cases, note=outcome.note)
    return wilson(outcome.passed, outcome.cases)


def _short(outcome: Outcome) -> float:
    return max(0.0, outcome.promised - (outcome.rate or 0.0))


def _shortfall(outcome: Outcome) -> Estimate:
    rate = _rate(outcome)
    if rate.value is None or rate.low is None or rate.high is None:
        return rate
    short = {end: max(0.0, outcome.promised - value) for end, value in (("low", rate.high), ("high", rate.low))}
    return rate.model_copy(
        update={**short, "value": _short(outcome), "note": f"{outcome.promised:.4g} was promised"}
    )


def failures(outcomes: list[Outcome]) -> bytes:
    """Test -> how many failed and the first of them, as JSON for people."""
    told = {
        each.name: {"failed": each.cases - (each.passed or 0), "cases": each.cases, "first": each.examples}
        for each in outcomes
        if each.examples
    }
    return (json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
