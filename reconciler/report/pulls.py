"""Pull requests for a terminal: all that are open, or one with its changes. Called by ``reconcile pr``."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.observed import PullRequest
from reconciler.report.inert import verbatim, visible
from reconciler.report.layout import Block, Grid, Line, Span, Style, cell, line
from reconciler.report.pull_request import FOLD
from reconciler.report.status import moment

_UNSAID = ("diff --git ", "index ", "new file mode ", "deleted file mode ")
"""Lines of Git's that say what the lines after them say again."""
_STATES: dict[str, Style] = {"open": "note", "merged": "good", "closed": "dim"}


def table(pulls: Iterable[PullRequest]) -> list[Block]:
    rows = tuple(
        (
            cell(f"#{pull.number}", "strong"),
            cell(visible(pull.author)),
            cell(moment(pull.opened)),
            cell(_approvals(pull)),
            cell("draft" if pull.draft else "yes" if pull.mergeable else "conflicts"),
            cell(visible(pull.title)),
        )
        for pull in pulls
    )
    if not rows:
        return [line("No pull request is open.")]
    return [Grid(("NUMBER", "AUTHOR", "OPENED", "APPROVED BY", "MERGEABLE", "TITLE"), rows)]


def _approvals(pull: PullRequest) -> str:
    """Those who approved the head as it is; approvals of an older head do not count."""
    return ", ".join(sorted({visible(a.by) for a in pull.approvals if a.head == pull.head}))


def head(pull: PullRequest) -> list[Block]:
    """Everything above the body."""
    state = Span("draft" if pull.draft and pull.state == "open" else pull.state, _STATES[pull.state])
    facts = [
        ("author", visible(pull.author) + ("" if pull.ours else " (not a pull request of trueup's)")),
        ("branch", f"{pull.branch} -> {pull.base}"),
        ("head", pull.head),
        ("opened", moment(pull.opened)),
        ("closed", f"{moment(pull.closed)} by {visible(pull.closed_by)}" if pull.closed else ""),
        ("approved", _approvals(pull) or "by nobody yet"),
    ]
    blocks: list[Block] = [line(Span(f"#{pull.number} {visible(pull.title)}", "strong"), "  ", state, hang=4)]
    return blocks + [line(f"{name:<10}{text}", indent=2, hang=10) for name, text in facts if text]


def comments(pull: PullRequest) -> list[Block]:
    """What was said below the body, oldest first."""
    return [line(Span("comment", "dim"), f"  {visible(text)}", hang=9) for text in pull.comments]


def body(pull: PullRequest) -> str:
    """The body without our marker, which is for the next tick, and without what is shown as the difference."""
    text = pull.body.rstrip()
    return text.rpartition("\n")[0].partition(FOLD)[0].rstrip() if pull.marker is not None else text


def difference(text: str) -> list[Line]:
    """A unified diff, coloured. Its lines are never folded, and control characters are not shown."""
    return [_diff_line(each) for each in text.splitlines() if not each.startswith(_UNSAID)]


def _diff_line(text: str) -> Line:
    kept = verbatim(text)
    style: Style = ""
    if kept.startswith(("---", "+++")):
        style = "strong"
    elif kept.startswith("+"):
        style = "good"
    elif kept.startswith("-"):
        style = "bad"
    elif kept.startswith("@@"):
        style = "note"
    return Line((Span(kept, style),), whole=True)
