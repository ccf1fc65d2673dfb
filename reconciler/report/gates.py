"""Gate verdicts as rows: the one place that words a number, an interval and a missing champion."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.plan import GateVerdict, Outcome_
from reconciler.report.inert import visible
from reconciler.report.layout import Grid, Style, cell

HEAD = ("GATE", "ASKED", "VALUE", "INTERVAL", "N", "CHAMPION", "VERDICT", "WHY")
STYLES: dict[Outcome_, Style] = {"pass": "good", "review": "warn", "block": "bad"}
SEVERITY: dict[Outcome_, int] = {"block": 0, "review": 1, "pass": 2}


def number(value: float | None) -> str:
    """Four significant digits; nothing where nothing was measured."""
    return "" if value is None else f"{value:.4g}"


def interval(gate: GateVerdict) -> str:
    """``[low, high]``. Of the difference to the champion (signed) where that is what the gate looked at."""
    if gate.low is None or gate.high is None:
        return ""
    own = gate.value is not None and gate.low <= gate.value <= gate.high
    form = ".4g" if own or gate.champion is None else "+.4g"
    return f"[{gate.low:{form}}, {gate.high:{form}}]"


def name(gate: GateVerdict) -> str:
    return f"{gate.gate} ({gate.slice})" if gate.slice else gate.gate


def said(gate: GateVerdict) -> str:
    return f"{gate.verdict} (waived)" if gate.waived else gate.verdict


def champion(gate: GateVerdict, among: Sequence[GateVerdict]) -> str:
    """The champion's value; said plainly where something was measured and no champion beside it."""
    alone = gate.value is not None and all(other.champion is None for other in among)
    return "no champion" if alone else number(gate.champion)


def grid(gates: Sequence[GateVerdict], indent: int = 0) -> Grid:
    """Every gate, those that do not pass first."""
    ordered = sorted(gates, key=lambda gate: SEVERITY[gate.verdict])
    rows = tuple(
        (
            cell(visible(name(gate)), "strong"),
            cell(visible(gate.asked)),
            cell(number(gate.value)),
            cell(interval(gate)),
            cell(gate.n or ""),
            cell(champion(gate, gates)),
            cell(said(gate), STYLES[gate.verdict]),
            cell(visible(gate.why)),
        )
        for gate in ordered
    )
    return Grid(HEAD, rows, indent)
