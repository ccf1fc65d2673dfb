"""A plan, and what became of it, for a terminal or a pipe. Called by the root command.

Symbols are Terraform's: ``+`` makes something, ``~`` changes it, ``-`` takes it away. ``=`` is a hold that ends
by itself, ``!`` one that waits for a person, ``?`` something that could not be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from reconciler.core.base import Subject, format_instant
from reconciler.core.digests import short
from reconciler.core.plan import Action, Hold, Outcome, Plan
from reconciler.core.problems import Problem
from reconciler.report import gates
from reconciler.report.actions import STYLES, SYMBOLS, target
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Line, Span, Style, line, sections

RESULTS: dict[str, Style] = {"done": "good", "already": "dim", "failed": "bad", "skipped": "warn"}


def plan(plan: Plan, outcomes: tuple[Outcome, ...] | None = None, remaining: int | None = None) -> list[Block]:
    """Grouped by subject; ``outcomes`` where the plan was carried out, in the order of its actions.

    ``remaining`` are the calls that the forge still allows, where it counts them.
    """
    became = {outcome.key: outcome for outcome in outcomes or ()}
    return sections(
        *(_subject(subject, plan, became) for subject in subjects(plan)),
        _gaps(plan),
        [block for problem in plan.problems for block in problem_blocks(problem)],
        _tripped(plan),
        [summary(plan, outcomes), *([] if remaining is None else [line(budget(remaining))])],
    )


def subjects(plan: Plan) -> list[Subject]:
    """Everyone an action or a hold is about: models first, then by environment."""
    found = {item.subject for item in (*plan.actions, *plan.holds)}
    return sorted(found, key=lambda subject: (subject.environment, subject.model))


def _subject(subject: Subject, plan: Plan, became: Mapping[str, Outcome]) -> list[Block]:
    blocks: list[Block] = [line(Span(str(subject), "strong"))]
    for action in plan.actions:
        if action.subject == subject:
            blocks += _action(action, became.get(action.key))
    for hold in plan.holds:
        if hold.subject == subject:
            blocks += _hold(hold)
    return blocks


def _action(action: Action, outcome: Outcome | None) -> list[Block]:
    symbol = SYMBOLS[action.kind]
    parts = [Span(f"{symbol} {action.kind}", STYLES[symbol]), Span(f"  {visible(target(action))}")]
    if outcome is not None:
        number = f" {outcome.detail.partition(' ')[0]}" if action.kind == "open-pull-request" else ""
        parts.append(Span(f"  {outcome.result}{number}", RESULTS[outcome.result]))
    blocks: list[Block] = [line(*parts, indent=2, hang=4)]
    if outcome is not None and outcome.result in ("failed", "skipped"):
        again = " (the next tick tries again)" if outcome.retryable else ""
        said = f"{visible(outcome.detail)}{again}"
        blocks.append(line(Span(said, RESULTS[outcome.result]), indent=6))
    else:
        blocks.append(line(Span(visible(action.reason), "dim"), indent=6))
    return blocks


def _hold(hold: Hold) -> list[Block]:
    symbol, style = ("!", "warn") if hold.person else ("=", "note")
    blocks: list[Block] = [
        line(Span(f"{symbol} hold", style), Span(f"  {hold.code}"), indent=2, hang=4),  # type: ignore[arg-type]
        line(Span(visible(hold.reason), "dim"), indent=6),
    ]
    if hold.verdict is not None:
        blocks += gates.table([gate for gate in hold.verdict.gates if gate.verdict != "pass"], indent=6)
    return blocks


def _gaps(plan: Plan) -> list[Block]:
    return [
        line(Span(f"? {gap.source}", "bad"), f": {visible(gap.error)}", indent=0, hang=4) for gap in plan.gaps
    ]


def problem_blocks(problem: Problem) -> list[Block]:
    """``file:line: error: what`` with its hint below, as linters say it."""
    place = f"{problem.path}:{problem.line}" if problem.line else problem.path
    kind = Span("error", "bad") if problem.severity == "error" else Span("warning", "warn")
    what = f": {visible(problem.what.rstrip('.'))}"
    blocks: list[Block] = [line(Span(visible(place), "strong"), ": ", kind, what, hang=4)]
    if problem.hint:
        blocks.append(line(Span("hint", "note"), f": {visible(problem.hint)}", indent=4, hang=6))
    return blocks


def _tripped(plan: Plan) -> list[Block]:
    return [line(Span("tripwire", "bad"), f": {visible(text)}", hang=4) for text in plan.tripped]


def headline(plan: Plan, outcomes: tuple[Outcome, ...] | None = None) -> tuple[str, str]:
    """What is or was done, and everything else counted."""
    rest = f"{count(len(plan.holds), 'hold')}, {count(len(plan.gaps), 'gap')}"
    if not plan.actions:
        return "No changes", f"{count(plan.subjects, 'subject')}, {rest}"
    if outcomes is None:
        return f"Plan: {count(len(plan.actions), 'action')}", rest
    return f"Applied: {tally(outcomes)}", rest


def summary(plan: Plan, outcomes: tuple[Outcome, ...] | None = None) -> Line:
    """The last line: everything counted, and the digest that ``--expect`` takes."""
    rest = f"{count(len(plan.holds), 'hold')}, {count(len(plan.gaps), 'gap')}"
    rest += f", {count(len(plan.problems), 'problem')}." if plan.problems else "."
    if not plan.actions:
        looked = count(plan.subjects, "subject")
        return line(Span("No changes.", "strong"), f" {looked} at {plan.revision[:7]}, {rest}")
    digest = f" digest {short(plan.digest)}"
    if outcomes is None:
        return line(Span("Plan:", "strong"), f" {count(len(plan.actions), 'action')}, {rest}{digest}")
    return line(Span("Applied:", "strong"), f" {tally(outcomes)}; {rest}{digest}")


def budget(remaining: int) -> str:
    return f"The forge allows {count(remaining, 'more call')} in its present window."


def tally(outcomes: Iterable[Outcome]) -> str:
    """``2 done, 1 failed``: results that occurred, in their usual order."""
    results = [outcome.result for outcome in outcomes]
    order = get_args(Outcome.model_fields["result"].annotation)
    return ", ".join(f"{results.count(result)} {result}" for result in order if result in results) or "nothing"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def moment(plan: Plan) -> Line:
    """The head of one report among many."""
    return line(Span(f"tick of {format_instant(plan.at.replace(microsecond=0))}", "dim"))
