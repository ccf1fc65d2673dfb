"""Tests of behaviour: the rows they ask about, how these are changed, and what counts as passed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from reconciler.core.behaviour import Behaviour
from reconciler.core.errors import Terminal
from workflows.steps import behaviour
from workflows.steps.behaviour import ask, failures, measure
from workflows.steps.bootstrap import wilson
from workflows.steps.cases import cases

FEATURES = pd.DataFrame(
    {
        "minute": [10, 20, 30, 40],
        "rain": [0.0, 0.5, None, 1.0],
        "carrier": ["UA", "AA", "B6", "UA"],
    }
)
TARGET = pd.Series([0, 1, 0, 1], name="late")


def declared(**said: Any) -> Any:
    """One test, as the document has it."""
    made = {"name": "one", "rows": {"sample": 10}, **said}
    return Behaviour.model_validate_json(json.dumps({"kind": "Behaviour", "tests": [made]})).tests[0]


def invariance(change: dict[str, Any], **said: Any) -> Any:
    return declared(type="invariance", change=[change], **said)


def model(rows: pd.DataFrame) -> pd.DataFrame:
    """Late in proportion to the minute; refuses a carrier of which it never heard."""
    if not rows["carrier"].isin(["UA", "AA", "B6"]).all():
        raise ValueError("unknown carrier")
    late = rows["minute"] / 100
    return pd.DataFrame({"prediction": (late > 0.25).astype(int), "probability_1": late})


def asked(*tests: Any) -> list[behaviour.Outcome]:
    return ask(lambda: model, [(test, cases(test, FEATURES, TARGET)) for test in tests])


# --- rows and changes -------------------------------------------------------------------------------------


def after(change: dict[str, Any], **said: Any) -> pd.DataFrame:
    return cases(invariance(change, **said), FEATURES, TARGET).after


def test_each_change_does_what_it_says_and_whole_numbers_stay_whole() -> None:
    assert after({"columns": ["minute"], "add": 5})["minute"].tolist() == [15, 25, 35, 45]
    assert after({"columns": ["minute"], "scale": 1.25, "atMost": 40})["minute"].tolist() == [12, 25, 38]
    assert after({"columns": ["carrier"], "set": "B6"})["carrier"].tolist() == ["B6"] * 3
    assert after({"columns": ["rain"], "missing": True})["rain"].isna().tolist() == [True] * 3
    noisy = after({"columns": ["minute"], "noise": 2})["minute"]
    assert noisy.dtype == FEATURES["minute"].dtype
    assert (noisy - FEATURES["minute"][noisy.index]).abs().max() <= 2
    swapped = after({"columns": ["carrier"], "swap": ["UA", "AA"]})["carrier"]
    assert swapped.to_dict() == {0: "AA", 1: "UA", 3: "AA"}


def test_a_row_that_the_change_leaves_as_it_is_is_no_case() -> None:
    """It would pass whatever the model is."""
    found = cases(invariance({"columns": ["rain"], "add": 1, "atMost": 1}), FEATURES, TARGET)
    assert found.before.index.tolist() == found.after.index.tolist() == [0, 1]


def test_the_same_seed_draws_and_adds_the_same() -> None:
    change = {"columns": ["rain"], "noise": 0.1}
    rows = {"sample": 2, "seed": 3}
    one, same = after(change, rows=rows, seed=1), after(change, rows=rows, seed=1)
    assert one.equals(same)
    assert not one.equals(after(change, rows=rows, seed=2))


def test_rows_are_chosen_by_their_values_also_of_the_target() -> None:
    change = {"columns": ["minute"], "add": 1}
    assert after(change, rows={"sample": 10, "where": {"late": [1]}}).index.tolist() == [1, 3]
    chosen = {"sample": 10, "where": {"late": [1], "carrier": ["UA", "B6"]}}
    assert after(change, rows=chosen).index.tolist() == [3]


def test_literal_rows_are_filled_and_in_the_types_of_the_data() -> None:
    rows = {"literal": [{"minute": 7, "carrier": None}, {"carrier": "AA"}], "fill": 0}
    found = cases(declared(type="minimum", rows=rows, equals=1), FEATURES, TARGET).after
    assert found["minute"].tolist() == [7, 0]
    assert found["minute"].dtype == FEATURES["minute"].dtype
    assert found["rain"].dtype == np.float64
    assert found["carrier"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (invariance({"columns": ["snow"], "add": 1}), "no column snow"),
        (invariance({"columns": ["snow_*"], "add": 1}), r"no column snow_\*"),
        (invariance({"columns": ["carrier"], "add": 1}), "holds .* and no numbers"),
        (invariance({"columns": ["rain"], "add": 1}, rows={"sample": 1, "where": {"a": [1]}}), "no column a"),
        (declared(type="minimum", rows={"literal": [{"a": 1}]}, equals=1), "no column a"),
    ],
)
def test_a_column_that_the_data_do_not_have_is_an_error_with_the_tests_name(test: Any, said: str) -> None:
    with pytest.raises(Terminal, match=said) as error:
        cases(test, FEATURES, TARGET)
    assert error.value.where is not None
    assert error.value.where.startswith("behaviour: one")


# --- what passes ------------------------------------------------------------------------------------------

MORE = {"columns": ["minute"], "add": 10}
PASSED = [
    # test, of how many cases, how many pass
    (invariance(MORE), 4, 3),  # 20 -> 30 makes it late
    (invariance(MORE, output="probability_1", tolerance=0.11), 4, 4),
    (invariance(MORE, output="probability_1", tolerance=0.09), 4, 0),
    (declared(type="direction", change=[MORE], output="probability_1", expect="rises"), 4, 4),
    (declared(type="direction", change=[MORE], output="probability_1", expect="rises", tolerance=0.2), 4, 0),
    (declared(type="direction", change=[MORE], output="probability_1", expect="falls"), 4, 0),
    (declared(type="direction", change=[MORE], output="probability_1", expect="not-falls"), 4, 4),
    (declared(type="direction", change=[MORE], output="probability_1", expect="not-rises"), 4, 0),
    (declared(type="minimum", equals=1), 4, 2),
    (declared(type="minimum", change=[MORE], equals=1), 4, 3),
    (declared(type="minimum", output="probability_1", **{"from": 0.2, "to": 0.3}), 4, 2),
]


@pytest.mark.parametrize(("test", "n", "passed"), PASSED)
def test_how_many_cases_pass(test: Any, n: int, passed: int) -> None:
    (found,) = asked(test)
    assert (found.cases, found.passed) == (n, passed)
    assert len(found.examples) == n - passed


def test_an_answer_that_is_no_number_never_passes() -> None:
    nothing = lambda rows: pd.DataFrame({"prediction": [np.nan] * len(rows)})  # noqa: E731
    for test in (
        invariance(MORE),
        declared(type="direction", change=[MORE], output="prediction", expect="not-falls"),
        declared(type="direction", change=[MORE], output="prediction", expect="not-rises"),
        declared(type="minimum", to=5),
    ):
        (found,) = ask(lambda: nothing, [(test, cases(test, FEATURES, TARGET))])
        assert found.passed == 0


def test_all_tests_are_asked_at_once_and_what_a_model_refuses_is_told_of_its_test() -> None:
    calls = []

    def counting(rows: pd.DataFrame) -> pd.DataFrame:
        calls.append(len(rows))
        return model(rows)

    fine = [invariance(MORE), invariance(MORE)]
    ask(lambda: counting, [(test, cases(test, FEATURES, TARGET)) for test in fine])
    assert calls == [16]
    refused = invariance({"columns": ["carrier"], "set": "ZZ"}).model_copy(update={"name": "other"})
    one, other = asked(invariance(MORE), refused)
    assert (one.passed, other.passed) == (3, None)
    assert other.note == "the model does not predict its rows: ValueError: unknown carrier"
    metrics = measure([one, other])
    for metric in metrics.values():
        assert metric.overall.candidate.value is None  # a part that is not known is no whole
        assert metric.slices["test"]["other"].candidate.value is None
        assert "unknown carrier" in metric.slices["test"]["other"].candidate.note
    assert metrics["pass-rate"].slices["test"]["one"].candidate.value == 0.75


def test_without_a_case_there_is_no_number() -> None:
    (found,) = asked(invariance(MORE, rows={"sample": 5, "where": {"carrier": ["none"]}}))
    metric = measure([found])["shortfall"].slices["test"]["one"].candidate
    assert (metric.value, metric.n) == (None, 0)
    assert metric.note.startswith("no row is a case of it")


def test_an_answer_without_the_column_is_no_number() -> None:
    (found,) = asked(invariance(MORE, output="probability_7"))
    assert found.note == "the model answers prediction, probability_1, and not probability_7"


# --- the numbers ------------------------------------------------------------------------------------------


def test_a_test_is_held_to_the_share_that_it_promises() -> None:
    lax, strict = (invariance(MORE, passRate=rate) for rate in (0.75, 0.9))
    strict = strict.model_copy(update={"name": "two"})
    metrics = measure(asked(lax, strict), "examples are there")
    short = metrics["shortfall"]
    assert short.slices["test"]["one"].candidate.value == 0
    assert short.slices["test"]["two"].candidate.value == pytest.approx(0.15)
    assert short.overall.candidate.value == pytest.approx(0.15)
    assert metrics["pass-rate"].overall.candidate.value == 0.75
    note = metrics["pass-rate"].overall.candidate.note
    assert note == "not all pass: two 3 of 4, one 3 of 4; examples are there"


@pytest.mark.parametrize(("passed", "n"), [(0, 5), (3, 4), (95, 100), (300, 300)])
def test_the_interval_of_a_share_is_wilsons(passed: int, n: int) -> None:
    found = wilson(passed, n)
    expected = binomtest(passed, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_examples_of_failures_show_what_was_changed_and_answered() -> None:
    told = json.loads(failures(asked(invariance(MORE))))
    first = {"row": 1, "changed": {"minute": [20, 30]}, "prediction": [0, 1]}
    assert told == {"one": {"failed": 1, "cases": 4, "first": [first]}}


# --- the document -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({"type": "invariance", "change": []}, "changes nothing"),
        ({"type": "invariance", "change": [{"columns": ["a"]}]}, "exactly one of set, missing, add"),
        ({"type": "invariance", "change": [{"columns": ["a"], "add": 1, "set": 2}]}, "exactly one of"),
        (
            {"type": "invariance", "change": [{"columns": ["a"], "set": 1, "atMost": 2}]},
            "has atLeast or",
        ),
        ({"type": "invariance", "change": [{"columns": ["a"], "swap": ["x"]}]}, "at least two values"),
        ({"type": "minimum"}, "either equals, or from or to"),
        ({"type": "minimum", "equals": 1, "to": 2}, "either equals, or from or to"),
        ({"type": "minimum", "equals": 1, "rows": {}}, "exactly one of sample and literal"),
        ({"type": "minimum", "equals": 1, "rows": {"sample": 5, "fill": 0}}, "fill, which is for literal rows"),
        ({"type": "minimum", "equals": 1, "rows": {"literal": [{"a": 1}], "seed": 1}}, "are of a sample"),
        ({"type": "directional"}, "does not match any of the expected tags"),
    ],
)
def test_a_test_that_says_too_little_or_too_much_is_refused(test: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declared(**test)


def test_a_name_is_given_once() -> None:
    one = {"name": "one", "type": "minimum", "rows": {"sample": 1}, "equals": 1}
    with pytest.raises(ValueError, match="names a test twice: one"):
        Behaviour.model_validate_json(json.dumps({"kind": "Behaviour", "tests": [one, one]}))
