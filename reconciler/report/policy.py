"""A policy in words: what each gate asks, of whom, and which file says so. For terminal and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.core.base import format_duration
from reconciler.core.desired import Policy
from reconciler.core.documents import Gate
from reconciler.report.layout import Block, Grid, cell

HEAD = ("GATE", "METRIC", "FROM", "FAILS", "MISSING", "NO CHAMPION", "FOR", "ASKS")


def blocks(policies: Mapping[str, Policy], name: str) -> list[Block]:
    """Every gate that the policy asks, its own and what it extends, in the order in which they are judged."""
    rows = tuple(
        (
            cell(gate.name, "strong"),
            cell(gate.metric),
            cell(origin(policies, name, gate)),
            cell(gate.on_fail),
            cell(gate.on_missing),
            cell(without_champion(gate)),
            cell(whom(gate)),
            cell(asks(gate)),
        )
        for gate in policies[name].gates
    )
    return [Grid(HEAD, rows)]


def records(policies: Mapping[str, Policy], name: str) -> list[dict[str, Any]]:
    """The same for programs: each gate as its file spells it, and the policy that says so."""
    return [
        {"from": origin(policies, name, gate), **gate.model_dump(mode="json", by_alias=True)}
        for gate in policies[name].gates
    ]


def origin(policies: Mapping[str, Policy], name: str, gate: Gate) -> str:
    """The name of the policy that states a gate as it is: this one, or one that it extends."""
    parent = policies[name].extends
    return origin(policies, parent, gate) if parent and gate in policies[parent].gates else name


def asks(gate: Gate) -> str:
    """As in ``>= 0.9, on 100 rows or more``."""
    said = [f"{gate.op} {gate.threshold:g}"] if gate.threshold is not None else []
    if gate.versus:
        drop, rise = gate.versus.max_drop, gate.versus.max_rise
        word, bound = ("drop", drop) if drop is not None else ("rise", rise)
        said.append(f"{word} against the {gate.versus.ref} of at most {bound:g}")
    if gate.slices:
        said.append(f"in the worst slice of {', '.join(gate.slices)}")
    if gate.min_samples > 1:
        said.append(f"on {gate.min_samples} rows or more")
    if gate.max_age:
        said.append(f"not older than {format_duration(gate.max_age)}")
    return ", ".join(said)


def whom(gate: Gate) -> str:
    """Of which candidates it is asked, as in ``classification with behaviour, new version, not the first``."""
    when = gate.when
    said = ", ".join(when.models or when.tasks) or "all"
    said += f" with {', '.join(when.declares)}" if when.declares else ""
    said += f", new {' or '.join(when.changes)}" if when.changes else ""
    return f"{said}, not the first" if when.champion else said


def without_champion(gate: Gate) -> str:
    """What it answers before the first release; empty where it compares with none, or is not asked then."""
    compares = gate.versus is not None and gate.versus.ref == "champion" and not gate.when.champion
    return gate.on_no_champion if compares else ""
