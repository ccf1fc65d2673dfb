"""Why one model is where it is in one environment: the pin, the candidate's gates, the holds, what is next.

Called by ``reconcile explain``. The verdict is the planner's own; nothing is judged here.
"""

from __future__ import annotations

from typing import Literal

from reconciler.core.base import Frozen, Instant
from reconciler.core.plan import Action, Hold, Verdict
from reconciler.report import gates, verdicts
from reconciler.report.actions import STYLES, SYMBOLS, target
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Span, Style, line, sections
from reconciler.report.status import Row, moment

About = Literal["candidate", "proposal", "pin"]


class Judged(Frozen):
    """A verdict and what it is about: the candidate, an open pull request's pin, or the pin on main."""

    about: About
    version: str = ""
    pull_request: int | None = None
    judged_at: Instant | None = None
    verdict: Verdict


class Explanation(Frozen):
    """Everything that the sentence "why is it not further?" rests on."""

    row: Row
    policy: str
    judged: tuple[Judged, ...] = ()
    holds: tuple[Hold, ...] = ()
    training: tuple[Hold, ...] = ()
    next: tuple[Action, ...] = ()


def blocks(told: Explanation) -> list[Block]:
    return sections(
        _headline(told),
        *(_judged(item) for item in told.judged),
        _holds("Holds", told.holds),
        _holds("Training", told.training),
        _next(told),
    )


def _headline(told: Explanation) -> list[Block]:
    row = told.row
    subject = Span(f"{row.environment}/{row.model}", "strong")
    if row.version is None:
        return [line(subject, " has no release.")]
    since = f" since {moment(row.since)}" if row.since else ""
    blocks: list[Block] = [line(subject, f" has version {row.version}, {row.state}{since}.")]
    facts = [("digest", row.digest), ("endpoint", row.endpoint), ("alias", _alias(row))]
    told_facts = (line(f"{name:<10}{text}", indent=2, hang=10) for name, text in facts if text)
    return blocks + [fact._replace(whole=True) for fact in told_facts]


def _alias(row: Row) -> str:
    if row.alias is None:
        return ""
    return f"{row.alias} -> {f'version {row.alias_version}' if row.alias_version else 'nothing'}"


def _judged(item: Judged) -> list[Block]:
    verdict = item.verdict
    what = {
        "candidate": f"Candidate: version {item.version}" if item.version else "Candidate",
        "proposal": f"Pull request #{item.pull_request}: version {item.version}",
        "pin": f"Pinned: version {item.version}, let in as a {verdict.grounds}",
    }[item.about]
    when = f" at {moment(item.judged_at)}" if item.judged_at else ""
    style: Style = gates.STYLES[verdict.verdict]
    blocks: list[Block] = [line(Span(what, "strong"), ", judged", when, ": ", Span(verdict.verdict, style))]
    return [*blocks, *verdicts.reasons(verdict)]


def _holds(title: str, holds: tuple[Hold, ...]) -> list[Block]:
    if not holds:
        return []
    blocks: list[Block] = [line(Span(title, "strong"))]
    for hold in holds:
        who = " (waits for a person)" if hold.person else ""
        blocks.append(line(Span(hold.code, "warn" if hold.person else "note"), who, indent=2))
        blocks.append(line(Span(visible(hold.reason), "dim"), indent=4))
    return blocks


def _next(told: Explanation) -> list[Block]:
    if told.next:
        blocks: list[Block] = [line(Span("Next", "strong"))]
        for action in told.next:
            symbol = SYMBOLS[action.kind]
            head = Span(f"{symbol} {action.kind}", STYLES[symbol])
            blocks.append(line(head, f"  {visible(target(action))}", indent=2, hang=4))
            blocks.append(line(Span(visible(action.reason), "dim"), indent=6))
        return blocks
    holds = (*told.holds, *told.training)
    if not holds:
        return [line(Span("Next", "strong"), ": nothing. It is where Git says it should be.")]
    person = next((hold for hold in holds if hold.person), None)
    if person is None:
        return [line(Span("Next", "strong"), ": nobody has to act; a later tick goes on.")]
    return [line(Span("Next", "strong"), f": a person has to act ({person.code}).")]
