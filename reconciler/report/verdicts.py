"""Admission verdicts. Called by ``reconcile admit``, a required check, and by ``comment`` and ``explain``."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.plan import SEVERITY, Verdict
from reconciler.report import gates, json, markdown
from reconciler.report.inert import code, inert, visible
from reconciler.report.layout import Block, Line, Span, line, sections


def blocks(verdicts: Sequence[Verdict]) -> list[Block]:
    """One section a subject, then whether all of it may be merged."""
    return sections(*(_one(verdict) for verdict in verdicts), [summary(verdicts)])


def _one(verdict: Verdict) -> list[Block]:
    said = Span(verdict.verdict, gates.STYLES[verdict.verdict])
    head = line(Span(str(verdict.subject), "strong"), f" ({verdict.grounds}): ", said)
    return [head, *reasons(verdict)]


def reasons(verdict: Verdict, drawn: bool = False) -> list[Block]:
    """The gates, then the objections, a block before a review."""
    blocks = gates.blocks(verdict.gates, indent=2, drawn=drawn)
    for objection in sorted(verdict.objections, key=lambda o: SEVERITY[o.verdict]):
        mark = Span(objection.verdict, gates.STYLES[objection.verdict])
        blocks.append(line(mark, f"  {objection.code}: {visible(objection.what)}", indent=2, hang=4))
    return blocks


def summary(verdicts: Sequence[Verdict]) -> Line:
    if not verdicts:
        return line("Nothing to admit: no release, manifest or document that is judged changes.")
    said = [verdict.verdict for verdict in verdicts]
    if "block" in said:
        return line(Span("Not admissible", "bad"), f": {said.count('block')} of {len(said)} blocked.")
    if "review" in said:
        return line(Span("A person decides", "warn"), f": {said.count('review')} of {len(said)} for review.")
    return line(Span("Admissible.", "good"))


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The same, headed by the summary, one newline at the end."""
    parts = [f"**Admission** · {''.join(span.text for span in summary(verdicts).spans)}"]
    for verdict in verdicts:
        parts.append(f"### {code(str(verdict.subject))} ({verdict.grounds}): {verdict.verdict}")
        parts += [markdown.gates(verdict.gates)] if verdict.gates else []
        ordered = sorted(verdict.objections, key=lambda o: SEVERITY[o.verdict])
        said = [f"- **{o.verdict}** {code(o.code)}<br>{inert(o.what)}" for o in ordered]
        parts += ["\n".join(said)] if said else []
    return "\n\n".join(parts) + "\n"


def as_json(verdicts: Sequence[Verdict]) -> str:
    """Each verdict with its answer, which is a property of it and not a field."""
    return json.dump(
        [{"verdict": v.verdict, **v.model_dump(mode="json", by_alias=True)} for v in verdicts],
    )
