"""What changed policies would have said of past candidates. Called by ``policy simulate`` and ``comment``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.core.simulation import Asked, Outcome, Replayed, Simulation, Turned
from reconciler.report import gates, markdown
from reconciler.report.inert import code, inert, visible
from reconciler.report.layout import Block, Grid, Span, Style, cell, line, sections
from reconciler.report.status import moment
from reconciler.report.text import count

WORDS: dict[Outcome, str] = {
    "blocked": "would have been blocked",
    "waits": "would have waited for a person",
    "let-through": "would have been let through",
    "not-measured": "cannot be told",
    "same": "the same",
}
STYLES: dict[Outcome, Style] = {
    "blocked": "bad",
    "waits": "warn",
    "let-through": "note",
    "not-measured": "dim",
    "same": "good",
}
HEAD = ("environment", "model", "version", "against", "judged", "was", "old", "new", "so", "because")


def blocks(told: Simulation) -> list[Block]:
    """What differs in the policies, every candidate of whom they say something else, and all counted."""
    changed = [item for item in told.candidates if item.outcome != "same"]
    table = Grid(
        tuple(name.upper() for name in HEAD),
        tuple(tuple(_cells(item, because)) for item in changed for because in [visible(_because(item))]),
    )
    return sections(
        [line(f"Past candidates by the policies of {told.old} (old) and of {told.new} (new).")],
        [line(Span(item.environment, "strong"), f": {_asked(item)}", indent=2, hang=4) for item in told.asked],
        [table] if changed else [],
        [line(Span(environment, "strong"), f": {said}") for environment, said in _counts(told)],
        [line(Span("left out", "warn"), f"  {visible(text)}", hang=4) for text in told.left_out],
    )


def as_markdown(told: Simulation) -> str:
    """The same for a pull request, headed by what it is, one newline at the end."""
    parts = [f"### Past candidates by the policies of {code(told.old)} (old) and of {code(told.new)} (new)"]
    parts.append("\n".join(f"- {code(item.environment)}: {inert(_asked(item))}" for item in told.asked))
    changed = [item for item in told.candidates if item.outcome != "same"]
    if changed:
        rows = [[inert(span.text) for span in _cells(item, _because(item))] for item in changed]
        parts.append(markdown.table(HEAD, rows))
    parts.append("\n".join(f"- {code(environment)}: {inert(said)}" for environment, said in _counts(told)))
    parts.append("\n".join(f"- left out: {inert(text)}" for text in told.left_out))
    return "\n\n".join(part for part in parts if part) + "\n"


def _asked(item: Asked) -> str:
    if not item.differs:
        return "asks the same, so nothing of it was judged again"
    policy = item.new if item.new == item.old else f"{item.new} instead of {item.old}"
    said = [
        f"{', '.join(names)} {how}"
        for how, names in (("added", item.added), ("removed", item.removed), ("changed", item.changed))
        if names
    ]
    return f"policy {policy}: {'; '.join(said)}"


def _cells(item: Replayed, because: str) -> Iterator[Span]:
    yield cell(item.subject.environment, "strong")
    yield cell(item.subject.model)
    yield cell(f"v{item.version}")
    yield cell(f"v{item.champion}" if item.champion else "no champion")
    yield cell(moment(item.judged_at))
    yield cell("released" if item.released else "not released")
    yield cell(item.old, gates.STYLES[item.old])
    yield cell(item.new, gates.STYLES[item.new])
    yield cell(WORDS[item.outcome], STYLES[item.outcome])
    yield cell(because)


def _because(item: Replayed) -> str:
    said = [_turn(turned) for turned in item.turned if not _lacks(turned, item)]
    said += [f"{metric} was not measured then" for metric in item.unmeasured]
    return "; ".join(said)


def _lacks(turned: Turned, item: Replayed) -> bool:
    return turned.new is not None and turned.new.metric in item.unmeasured


def _turn(turned: Turned) -> str:
    sides = [verdict.verdict if verdict else "not asked" for verdict in (turned.old, turned.new)]
    told = turned.new or turned.old
    return f"{turned.gate} {sides[0]} -> {sides[1]}" + (f" ({told.why})" if told and turned.new else "")


def _counts(told: Simulation) -> Iterator[tuple[str, str]]:
    """A sentence for each environment whose gates differ."""
    for item in told.asked:
        if item.differs:
            mine = [each for each in told.candidates if each.subject.environment == item.environment]
            yield item.environment, f"{count(len(mine), 'past candidate')}: {_tally(mine)}."


def _tally(mine: Iterable[Replayed]) -> str:
    outcomes = [item.outcome for item in mine]
    found = [f"{outcomes.count(each)} {words}" for each, words in WORDS.items() if each in outcomes]
    return ", ".join(found) or "nothing to judge"
