"""Why one model is where it is in one environment: the pin, the candidate's gates, the holds, what is next.

Called by ``reconcile explain``. The verdict is the planner's own; nothing is judged here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reconciler.core.base import Frozen, Instant
from reconciler.core.plan import Action, Hold, Verdict
from reconciler.report import gates, verdicts
from reconciler.report.actions import STYLES, SYMBOLS, target
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Span, Style, line, sections
from reconciler.report.status import Reason, Row, moment

About = Literal["candidate", "proposal", "pin"]


class Judged(Frozen):
    """A verdict and what it is about: the candidate, an open pull request's pin, or the pin on main."""

    about: About
    version: str = ""
    pull_request: int | None = None
    digest: str = ""
    judged_at: Instant | None = None
    verdict: Verdict


class Coming(Frozen):
    """A version that ``environment`` has and has not verified. ``why_not``: what is said of it there.

    It becomes the candidate of ``then`` when all of ``by`` have verified it.
    """

    environment: str
    version: str
    pinned: bool
    by: tuple[str, ...]
    then: str
    why_not: tuple[Reason, ...] = ()


class Explanation(Frozen):
    """Everything that the sentence "why is it not further?" rests on."""

    row: Row
    policy: str
    judged: tuple[Judged, ...] = ()
    holds: tuple[Hold, ...] = ()
    training: tuple[Hold, ...] = ()
    coming: tuple[Coming, ...] = ()
    next: tuple[Action, ...] = ()
    orders: tuple[str, ...] = Field(default=(), description="Holds and waivers of main that count now.")


def blocks(told: Explanation) -> list[Block]:
    return sections(
        _headline(told),
        _orders(told),
        *(_judged(item) for item in told.judged),
        _holds("Holds", told.holds),
        _waiver(told),
        _holds("Training", told.training),
        _coming(told),
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


def _orders(told: Explanation) -> list[Block]:
    """What people ordered, also while nothing waits because of it."""
    if not told.orders:
        return []
    return [line(Span("Orders that count", "strong")), *(line(visible(each), indent=2) for each in told.orders)]


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
    return [*blocks, *verdicts.reasons(verdict, drawn=True)]


def _holds(title: str, holds: tuple[Hold, ...]) -> list[Block]:
    if not holds:
        return []
    blocks: list[Block] = [line(Span(title, "strong"))]
    for hold in holds:
        who = " (waits for a person)" if hold.person else ""
        blocks.append(line(Span(hold.code, "warn" if hold.person else "note"), who, indent=2))
        blocks.append(line(Span(visible(hold.reason), "dim"), indent=4))
    return blocks


def _waiver(told: Explanation) -> list[Block]:
    """What a person can do about a gate that blocks, with the command for each."""
    if "gate-failed" not in {hold.code for hold in told.holds}:
        return []
    blocked = {
        gate.gate: gate
        for item in told.judged
        if item.about != "pin" and item.digest
        for gate in item.verdict.gates
        if gate.verdict == "block"
    }
    measured = any(gate.value is not None for gate in blocked.values())
    subject = f"{told.row.environment}/{told.row.model}"
    return [
        line(Span("What a person can do", "strong")),
        line(
            "Train a better one: a new version is measured and judged anew."
            if measured
            else "Mend the measurement that left no evidence: the version is judged when it is there.",
            indent=2,
        ),
        line("Or let this one pass, by a pull request that says why and until when:", indent=2),
        *(
            line(Span(f"reconcile waive {subject} {gate} --reason ... --expires 7d", "dim"), indent=4)
            for gate in blocked
        ),
    ]


def _coming(told: Explanation) -> list[Block]:
    if not told.coming:
        return []
    blocks: list[Block] = [line(Span("On its way", "strong"))]
    for item in told.coming:
        what = "is pinned in" if item.pinned else "is the candidate of"
        blocks.append(
            line(
                f"version {item.version} {what} {item.environment}; when {_verified(item.by)} it, it "
                f"becomes the candidate of {item.then}",
                indent=2,
            )
        )
        for reason in item.why_not:
            blocks.append(line(Span(f"{reason.symbol} {reason.code}", "note"), indent=4))
            blocks.append(line(Span(visible(reason.what), "dim"), indent=6))
    return blocks


def _verified(names: tuple[str, ...]) -> str:
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} verified"


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
    if not holds and told.coming:
        first = told.coming[0]
        return [
            line(Span("Next", "strong"), f": nothing here until {_verified(first.by)} version {first.version}.")
        ]
    if not holds:
        return [line(Span("Next", "strong"), ": nothing. It is where Git says it should be.")]
    person = next((hold for hold in holds if hold.person), None)
    if person is None:
        return [line(Span("Next", "strong"), ": nobody has to act; a later tick goes on.")]
    return [line(Span("Next", "strong"), f": a person has to act ({person.code}).")]
