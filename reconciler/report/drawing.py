"""One gate as a drawing: the value, its interval, what was asked and the champion on one axis.

:func:`drawing` does the arithmetic for the terminal (:func:`bar`) and for the pages, where the macro `gate` of
html/macros.html makes an SVG of it. A drawing stands beside its numbers and never in their place.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import NamedTuple

from reconciler.core.plan import GateVerdict

WIDTH = 33
"""Columns of a bar; odd, so that what is in the middle has one."""

MARGIN = 0.06
"""Of the axis, left free at both of its ends, so that no mark stands on the edge."""

AXIS, HEAVY, OPEN, CLOSE, ASKED, CHAMPION, VALUE, SEVERAL = "┈━┣┫┃◆●✱"
LEGEND = {
    VALUE: f"{VALUE} value",
    HEAVY: f"{OPEN}{HEAVY}{CLOSE} interval",
    ASKED: f"{ASKED} asked",
    CHAMPION: f"{CHAMPION} champion",
    SEVERAL: f"{SEVERAL} several in one place",
}
ASCII = str.maketrans(f"{AXIS}{HEAVY}{OPEN}{CLOSE}{ASKED}{CHAMPION}{VALUE}{SEVERAL}·…", ".=[]|C*#-~")
"""The same marks, one for one, for terminals that know no others."""


class Drawing(NamedTuple):
    """Marks as shares of the axis (0 its left end, 1 its right), and the axis' ends in the metric's units."""

    low: float
    high: float
    value: float
    interval: tuple[float, float] | None
    asked: tuple[float, ...]
    champion: float | None


def drawing(gate: GateVerdict) -> Drawing | None:
    """Nothing where nothing was measured.

    A paired interval is one of differences; it is drawn around the champion, where the value is too.
    """
    if gate.value is None or not isfinite(gate.value):
        return None
    champion = gate.champion if gate.champion is not None and isfinite(gate.champion) else None
    shift = (champion or 0.0) if gate.paired else 0.0
    ends = [] if gate.low is None or gate.high is None else [gate.low + shift, gate.high + shift]
    ends = ends if all(map(isfinite, ends)) else []
    asked = [bound.at for bound in gate.bounds if isfinite(bound.at)]
    low, high = _axis([gate.value, *ends, *asked, *([] if champion is None else [champion])])

    def place(value: float) -> float:
        return (value - low) / (high - low)

    return Drawing(
        low=low,
        high=high,
        value=place(gate.value),
        interval=(place(ends[0]), place(ends[1])) if ends else None,
        asked=tuple(place(at) for at in asked),
        champion=None if champion is None else place(champion),
    )


def _axis(values: Iterable[float]) -> tuple[float, float]:
    """From a little below the smallest to a little above the largest; of one value alone, around it."""
    kept = sorted(values)
    low, high = kept[0], kept[-1]
    wide = high - low
    if wide <= 1e-9 * max(abs(low), abs(high), 1e-300):
        wide = abs(low) or 1.0
    free = wide * MARGIN / (1 - 2 * MARGIN)
    return low - free, high + free


def bar(drawn: Drawing, width: int = WIDTH) -> str:
    """``┈┈┣━━●━━┃━◆┫┈┈``: ``width`` columns. Marks that meet on one column become a mark that says so."""

    def column(share: float) -> int:
        return min(width - 1, max(0, round(share * (width - 1))))

    cells = [AXIS] * width
    if drawn.interval is not None:
        first, last = (column(end) for end in drawn.interval)
        cells[first : last + 1] = [HEAVY] * (last + 1 - first)
        cells[first], cells[last] = OPEN, CLOSE
    marks = {(column(at), ASKED) for at in drawn.asked} | {(column(drawn.value), VALUE)}
    marks |= set() if drawn.champion is None else {(column(drawn.champion), CHAMPION)}
    for place, mark in marks:
        cells[place] = mark if [at for at, _ in marks].count(place) == 1 else SEVERAL
    return "".join(cells)
