"""A plan as Markdown, for a comment or a job summary; and the one table writer of everything Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reconciler.core.base import Subject
from reconciler.core.digests import short
from reconciler.core.plan import GateVerdict, Outcome, Plan
from reconciler.report.actions import SYMBOLS, target
from reconciler.report.gates import by_severity, champion, interval, name, number, said
from reconciler.report.inert import code, inert
from reconciler.report.layout import columns
from reconciler.report.text import budget, headline, subjects

GATES = ("gate", "asked", "value", "interval", "n", "champion", "verdict")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GFM table whose columns also line up as text. Cells must be inert already."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(3, *(columns(row[i]) for row in cells)) for i in range(len(head))]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (text + " " * (width - columns(text)) for text, width in zip(row, widths, strict=True))
    return f"| {' | '.join(padded)} |"


_TABLE = re.compile(r"^(\|.*\|)\n\|[-:| ]+\|\n((?:\|.*\|(?:\n|\Z))+)", re.MULTILINE)


def without_tables(text: str) -> str:
    """Each row of a table as an item of a list, for a screen that is narrower than the table."""

    def items(found: re.Match[str]) -> str:
        (_, *names), *rows = (_cells(line) for line in (found[1], *found[2].splitlines()))
        listed = (
            "; ".join(f"{name} {cell}" for name, cell in zip(names, row[1:], strict=False) if cell != "-")
            for row in rows
        )
        return "".join(f"- **{row[0]}**: {rest}\n" for row, rest in zip(rows, listed, strict=True))

    return _TABLE.sub(items, text)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def gates(verdicts: Sequence[GateVerdict], limit: int = 150) -> str:
    """The gate table, those that do not pass first."""
    ordered = by_severity(verdicts)
    text = table(GATES, [_gate(gate, ordered) for gate in ordered[:limit]])
    more = len(ordered) - limit
    return f"{text}\n\nand {more} more; the evidence has them." if more > 0 else text


def _gate(gate: GateVerdict, among: Sequence[GateVerdict]) -> tuple[str, ...]:
    verdict = said(gate)
    return (
        code(name(gate), 60),
        code(gate.asked, 100),
        number(gate.value) or "-",
        interval(gate) or "-",
        str(gate.n or "-"),
        champion(gate, among) or "-",
        verdict if verdict == "pass" else f"**{verdict}**",
    )


def plan(plan: Plan, outcomes: tuple[Outcome, ...] | None = None, remaining: int | None = None) -> str:
    """Headed by what would happen (or did), one section a subject, one newline at the end."""
    became = {outcome.key: outcome for outcome in outcomes or ()}
    head, rest = headline(plan, outcomes)
    at = f"at {code(plan.revision[:7])}, digest {code(short(plan.digest))}"
    parts = [f"**{head}** · {rest} · {at}", *(_subject(subject, plan, became) for subject in subjects(plan))]
    if plan.gaps:
        parts.append("### Not seen\n\n" + "\n".join(f"- {code(g.source)}: {inert(g.error)}" for g in plan.gaps))
    if plan.problems:
        parts.append("### Documents with errors\n\n" + "\n".join(f"- {inert(str(p))}" for p in plan.problems))
    if plan.tripped:
        parts.append("### Tripwires\n\n" + "\n".join(f"- {inert(text)}" for text in plan.tripped))
    if remaining is not None:
        parts.append(budget(remaining))
    return "\n\n".join(parts) + "\n"


def _subject(subject: Subject, plan: Plan, became: dict[str, Outcome]) -> str:
    items: list[str] = []
    for action in plan.actions:
        if action.subject != subject:
            continue
        outcome = became.get(action.key)
        result = f" · **{outcome.result}** {inert(outcome.detail)}".rstrip() if outcome else ""
        what = code(f"{SYMBOLS[action.kind]} {action.kind}  {target(action)}")
        items.append(f"- {what}{result}<br>{inert(action.reason)}")
    for hold in plan.holds:
        if hold.subject != subject:
            continue
        who = " (waits for a person)" if hold.person else ""
        items.append(f"- hold {code(hold.code)}{who}<br>{inert(hold.reason)}")
        if hold.verdict is not None and hold.verdict.gates:
            rows = gates(hold.verdict.gates).replace("\n", "\n  ")
            items.append(f"\n  {rows}\n")
    return f"### {code(str(subject))}\n\n" + "\n".join(items).rstrip()
