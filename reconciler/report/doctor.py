"""What `reconcile doctor` found, for people: one line each, and below it what to do."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.finding import Finding, State
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Span, Style, line, sections
from reconciler.report.text import count

_STYLES: dict[State, Style] = {"ok": "good", "warn": "warn", "fail": "bad"}


def blocks(findings: Sequence[Finding]) -> list[Block]:
    """In the order in which things were looked at, then how many of each."""
    told: list[Block] = []
    for finding in findings:
        where = f" ({finding.where})" if finding.where else ""
        said = visible(f"{finding.check}: {finding.what}{where}")
        told.append(line(Span(f"{finding.state:<4}", _STYLES[finding.state]), f"  {said}", hang=6))
        if finding.hint:
            told.append(line(Span("hint", "note"), f": {visible(finding.hint)}", indent=6, hang=6))
    numbers = {state: sum(finding.state == state for finding in findings) for state in _STYLES}
    worst: State = "fail" if numbers["fail"] else "warn" if numbers["warn"] else "ok"
    summary = f"{numbers['ok']} ok, {count(numbers['warn'], 'warning')}, {count(numbers['fail'], 'failure')}."
    return sections(told, [line(Span(summary, _STYLES[worst]))])
