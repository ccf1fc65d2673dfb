"""What is wrong with the documents, as linters say it. Called by ``reconcile validate``."""

from __future__ import annotations

from reconciler.core.desired import DesiredState
from reconciler.report.layout import Block, Span, line, sections
from reconciler.report.text import count, problem_blocks


def blocks(state: DesiredState) -> list[Block]:
    """``file:line: what`` with its hint below, by file and line, then a count of what is right."""
    ordered = sorted(state.problems, key=lambda p: (p.path, p.line, p.what))
    return sections([block for problem in ordered for block in problem_blocks(problem)], [_summary(state)])


def _summary(state: DesiredState) -> Block:
    errors = sum(problem.severity == "error" for problem in state.problems)
    warnings = len(state.problems) - errors
    held = ", ".join(
        count(len(things), noun)
        for things, noun in (
            (state.environments, "environment"),
            (state.models, "model"),
            (state.releases, "release"),
        )
    )
    if not state.problems:
        return line(Span("Valid.", "good"), f" {held}, {_policies(len(state.policies))}.")
    said = Span(f"{count(errors, 'error')}, {count(warnings, 'warning')}.", "bad" if errors else "warn")
    return line(said, f" Valid are {held}, {_policies(len(state.policies))}.")


def _policies(number: int) -> str:
    return "1 policy" if number == 1 else f"{number} policies"
