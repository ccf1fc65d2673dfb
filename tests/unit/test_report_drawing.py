"""A gate's drawing: everything on one axis, in proportion, and nothing drawn that was not measured."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.plan import Bound, GateVerdict
from reconciler.report.drawing import AXIS, CHAMPION, CLOSE, OPEN, SEVERAL, VALUE, WIDTH, bar, drawing


def gate(value: float | None, **more: object) -> GateVerdict:
    return GateVerdict.model_validate(
        {"gate": "g", "metric": "evaluate.x", "verdict": "pass", "why": "", "value": value, **more}
    )


def bound(at: float) -> Bound:
    return Bound(at=at, good="above", of="threshold")


@pytest.mark.parametrize(
    ("one", "drawn"),
    [
        (gate(0.5), "┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈●┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈"),
        (gate(0.0), "┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈●┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈"),
        (gate(5.0, low=0.0, high=10.0), "┈┈┣━━━━━━━━━━━━━●━━━━━━━━━━━━━┫┈┈"),
        (gate(10.0, bounds=[bound(0.0)]), "┈┈┃┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈●┈┈"),
        (gate(0.0, champion=10.0), "┈┈●┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈◆┈┈"),
        (gate(5.0, champion=5.0, low=0.0, high=10.0), "┈┈┣━━━━━━━━━━━━━✱━━━━━━━━━━━━━┫┈┈"),
        (
            gate(5.0, champion=7.5, low=-7.5, high=2.5, paired=True, bounds=[bound(2.5)]),
            "┈┈┣━━━━━━┃━━━━━━●━━━━━━◆━━━━━━┫┈┈",
        ),
        (gate(10.0, champion=0.0, bounds=[bound(10.0)]), "┈┈◆┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈✱┈┈"),
        (gate(5.0, low=-inf, high=nan), "┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈●┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈"),
    ],
)
def test_marks_stand_in_proportion(one: GateVerdict, drawn: str) -> None:
    made = drawing(one)
    assert made is not None
    assert bar(made) == drawn


@pytest.mark.parametrize("value", [None, nan, inf])
def test_what_was_not_measured_is_not_drawn(value: float | None) -> None:
    assert drawing(gate(value, bounds=[bound(1.0)])) is None


NUMBERS = st.floats(-1e12, 1e12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.booleans())
def test_any_numbers_make_a_bar_of_one_width_with_every_mark_on_it(
    value: float, one: float, two: float, champion: float, asked: float, paired: bool
) -> None:
    low, high = min(one, two), max(one, two)
    made = drawing(gate(value, low=low, high=high, champion=champion, bounds=[bound(asked)], paired=paired))
    assert made is not None
    shares = [made.value, made.champion, *made.asked, *(made.interval or ())]
    assert all(share is not None and 0 <= share <= 1 for share in shares)
    drawn = bar(made)
    assert len(drawn) == WIDTH
    assert drawn[0] == drawn[-1] == AXIS
    assert {VALUE, SEVERAL} & set(drawn)
    assert {CHAMPION, SEVERAL} & set(drawn)
    assert drawn.count(OPEN) <= 1
    assert drawn.count(CLOSE) <= 1
