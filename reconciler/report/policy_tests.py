"""What the tests of policies found, for a terminal. Called by ``reconcile policy test``."""

from __future__ import annotations

from reconciler.core.policy_tests import SEEN, Answered, Covered, Rehearsed
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Grid, Line, Span, cell, line, sections
from reconciler.report.text import count


def blocks(done: Rehearsed, *, unseen: bool = True) -> list[Block]:
    """What is wrong, as linters say it; what was seen of each policy's gates; and all of it counted.

    ``unseen``: name what was not seen, too; of a single file that is most.
    """
    return sections(
        [block for answer in done.wrong for block in _wrong(answer)],
        _coverage(done.coverage, unseen=unseen),
        [_summary(done)],
    )


def _wrong(answer: Answered) -> list[Block]:
    whom = f"gate {answer.gate}" if answer.gate else "all gates together"
    said = f": {answer.policy}, {visible(answer.case)!r}: {whom}: expected {answer.expected}, got {answer.got}"
    return [
        line(
            Span(f"{answer.path}:{answer.line}", "strong"), ": ", Span("wrong", "bad"), said, indent=0, hang=4
        ),
        line(Span(visible(answer.why), "dim"), indent=4, hang=2),
    ]


def _coverage(coverage: tuple[Covered, ...], *, unseen: bool) -> list[Block]:
    if not coverage:
        return []
    rows = []
    for policy in dict.fromkeys(gate.policy for gate in coverage):
        gates = [gate for gate in coverage if gate.policy == policy]
        seen = [sum(answer in gate.seen for gate in gates) for answer in SEEN]
        cells = [cell(f"{number}/{len(gates)}", "good" if number == len(gates) else "warn") for number in seen]
        rows.append((cell(policy, "strong"), *cells))
    return [
        Grid(
            ("POLICY", *(f"SEEN TO {answer.upper()}" for answer in ("pass", "fail", "be missing"))), tuple(rows)
        ),
        *(
            line(
                Span("not seen", "warn"),
                f"  {gate.policy}: gate {gate.gate}: {', '.join(gate.unseen)}",
                hang=4,
            )
            for gate in coverage
            if gate.unseen and unseen
        ),
    ]


def _summary(done: Rehearsed) -> Line:
    put = f"{count(len(done.answers), 'answer')} to {count(done.cases, 'case')}"
    put += f", {done.share:.0%} of the gates' answers seen"
    if done.wrong:
        return line(Span(f"{len(done.wrong)} wrong", "bad"), f": of {put}.")
    return line(Span("All as expected", "good"), f": {put}.")
