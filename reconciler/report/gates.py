"""Gate verdicts as rows: the one place that words a number, an interval and a missing champion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from reconciler.core.plan import SEVERITY, Answer, GateVerdict
from reconciler.report.drawing import LEGEND, bar, drawing
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Grid, Line, Span, Style, cell, line

HEAD = ("GATE", "ASKED", "VALUE", "CHAMPION", "INTERVAL", "N", "VERDICT")
STYLES: dict[Answer, Style] = {"pass": "good", "review": "warn", "block": "bad"}
MANY = 8
"""More gates than these are drawn by measurement."""


def number(value: float | None) -> str:
    """Four significant digits; nothing where nothing was measured."""
    return "" if value is None else f"{value:.4g}"


def interval(gate: GateVerdict) -> str:
    """``[low, high]``. Of the difference to the champion (signed) where that is what the gate looked at."""
    if gate.low is None or gate.high is None:
        return ""
    form = "+.4g" if gate.paired else ".4g"
    return f"[{gate.low:{form}}, {gate.high:{form}}]"


def name(gate: GateVerdict) -> str:
    return f"{gate.gate} ({gate.slice})" if gate.slice else gate.gate


def said(gate: GateVerdict) -> str:
    return f"{gate.verdict} (waived)" if gate.waived else gate.verdict


def by_severity(among: Sequence[GateVerdict]) -> list[GateVerdict]:
    """Those that do not pass first."""
    return sorted(among, key=lambda gate: SEVERITY[gate.verdict])


def champion(gate: GateVerdict, among: Sequence[GateVerdict]) -> str:
    """The champion's value; said plainly where something was measured and no champion beside it."""
    alone = gate.value is not None and all(other.champion is None for other in among)
    return "no champion" if alone else number(gate.champion)


def blocks(gates: Sequence[GateVerdict], indent: int = 0, drawn: bool = False) -> list[Block]:
    """Every gate as a row, those that do not pass first; ``drawn``, if asked for; and why those do not pass."""
    said_below = [
        line(
            Span(said(gate), STYLES[gate.verdict]), f"  {gate.gate}: {visible(gate.why)}", indent=indent, hang=4
        )
        for gate in by_severity(gates)
        if gate.verdict != "pass" or gate.waived
    ]
    return [*table(gates, indent, drawn), *said_below]


def table(gates: Sequence[GateVerdict], indent: int = 0, drawn: bool = False) -> list[Block]:
    """The rows alone. Many that are drawn are shown by measurement, the one with the worst answer first."""
    if not gates:
        return []
    groups = _by_measurement(gates) if drawn and len(gates) > MANY else [by_severity(gates)]
    ordered = [gate for group in groups for gate in group]
    bars = _bars(ordered) if drawn else [()] * len(ordered)
    shows = drawn and any(gate.detectable is not None for gate in gates)
    rows = tuple((*_row(gate, gates, shows), *bar) for gate, bar in zip(ordered, bars, strict=True))
    narrow: list[Block] = []
    left = zip(ordered, bars, strict=True)
    for group in groups:
        narrow += [_heading(group, indent)] if len(groups) > 1 else []
        deeper = indent + 2 if len(groups) > 1 else indent
        for gate, cells in islice(left, len(group)):
            narrow += _folded(gate, gates, shows, cells, deeper)
    head = (*HEAD[:-1], *(["CAN SHOW"] if shows else []), HEAD[-1], *(["DRAWN"] if drawn else []))
    if len(groups) > 1:
        head = ("MEASURED", *head)
        rows = tuple((first, *row) for first, row in zip(_firsts(groups), rows, strict=True))
    grid = Grid(head, rows, indent, tuple(narrow))
    shown = "".join(span.text for bar in bars for span in bar)
    legend = [text for mark, text in LEGEND.items() if mark in shown]
    return [grid, line(Span("   ".join(legend), "dim"), indent=indent)] if legend else [grid]


def _by_measurement(gates: Sequence[GateVerdict]) -> list[list[GateVerdict]]:
    groups: dict[str, list[GateVerdict]] = {}
    for gate in by_severity(gates):
        groups.setdefault(gate.measurement, []).append(gate)
    return list(groups.values())


def _firsts(groups: Sequence[Sequence[GateVerdict]]) -> Iterator[Span]:
    """The measurement's name beside the first gate of each group, and nothing beside the others."""
    for group in groups:
        yield cell(group[0].measurement, "note")
        yield from (Span("") for _ in group[1:])


def _heading(group: Sequence[GateVerdict], indent: int) -> Line:
    answers = [gate.verdict for gate in group]
    said = ", ".join(f"{answers.count(each)} {each}" for each in SEVERITY if each in answers)
    return line(Span(group[0].measurement, "note"), f": {said}", indent=indent)


def _bars(gates: Sequence[GateVerdict]) -> list[tuple[Span, ...]]:
    """A cell for each gate: its axis between two numbers, all axes below each other."""
    drawings = [drawing(gate) for gate in gates]
    wide = max((len(number(each.low)) for each in drawings if each), default=0)
    texts = [f"{number(each.low):>{wide}} {bar(each)} {number(each.high)}" if each else "" for each in drawings]
    return [(cell(text, STYLES[gate.verdict]),) for gate, text in zip(gates, texts, strict=True)]


def _row(gate: GateVerdict, among: Sequence[GateVerdict], shows: bool = False) -> tuple[Span, ...]:
    return (
        cell(visible(name(gate)), "strong"),
        cell(visible(gate.asked)),
        cell(number(gate.value)),
        cell(champion(gate, among)),
        cell(interval(gate)),
        cell(gate.n or ""),
        *([cell(number(gate.detectable))] if shows else []),
        cell(said(gate), STYLES[gate.verdict]),
    )


def _folded(
    gate: GateVerdict, among: Sequence[GateVerdict], shows: bool, drawn: tuple[Span, ...], indent: int
) -> tuple[Line, ...]:
    """The same on two lines, and its drawing on a third, for a narrow terminal."""
    title, asked, value, against, between, samples, verdict = _row(gate, among)
    numbers = f"{value.text} against {against.text}, {between.text}, n {samples.text}"
    numbers = numbers.replace(" against no", ", no").replace(" against -", "").replace(", -", "")
    if shows and gate.detectable is not None:
        numbers += f", can show {number(gate.detectable)}"
    return (
        line(verdict, "  ", title, f"  {asked.text}", indent=indent, hang=4),
        line(numbers, indent=indent + 4, hang=2),
        *(Line((bar,), indent=indent + 4, whole=True) for bar in drawn if bar.text != "-"),
    )
