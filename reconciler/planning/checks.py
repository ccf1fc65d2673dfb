"""What a forge shows beside a pull request of ours: a check for each gate, and one for admission.

Called for the head that was judged, by :mod:`reconciler.planning.proposals`.
"""

from __future__ import annotations

from typing import Literal

from reconciler.core.base import Subject
from reconciler.core.digests import digest_of, short
from reconciler.core.observed import Check, PullRequest
from reconciler.core.plan import Hold, PublishChecks, Verdict
from reconciler.planning.decision import NOTHING, Decision, act

ADMISSION = "trueup/admission"
"""The one that a protected branch asks for."""

_LONGEST = 140


def plan_checks(pull: PullRequest, verdict: Verdict, subject: Subject, waiting: Hold | None) -> Decision:
    """Publish what the forge does not show yet; nothing where it shows no checks at all.

    Pending is what people or a window can still let pass: a gate that asks for review, and admission. So a
    branch that is protected by admission keeps out exactly what trueup would not merge.
    """
    if pull.checks is None:
        return NOTHING
    states: dict[str, Literal["success", "pending", "failure"]] = {
        "pass": "success",
        "review": "pending" if waiting else "success",
        "block": "failure",
    }
    wanted = [
        Check(name=f"trueup/{gate.gate}", state=states[gate.verdict], summary=_cut(gate.why))
        for gate in verdict.gates
    ]
    admitted = states["block" if verdict.verdict == "block" else "review"]
    said = waiting.reason if waiting else f"admitted on grounds of {verdict.grounds}"
    wanted.append(Check(name=ADMISSION, state=admitted, summary=_cut(said)))
    if all(check in pull.checks for check in wanted):
        return NOTHING
    digest = short(digest_of("checks", checks=wanted))
    return act(
        PublishChecks(
            key=f"publish-checks #{pull.number} {pull.head} {digest}",
            subject=subject,
            reason="the forge does not show yet what is said of it",
            number=pull.number,
            head=pull.head,
            checks=tuple(wanted),
        )
    )


def _cut(text: str) -> str:
    """As much as a forge shows beside a check."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
