"""What people are told: after what it speaks of was done, and once, by a mark on the version that follows it.

Called by whoever decides something that a person should know of. All of it is in the plan and in the pull
request as well, for who looks.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.core.base import Subject
from reconciler.core.documents import Release
from reconciler.core.observed import told_tag
from reconciler.core.plan import Event, Message, Tell, Verdict
from reconciler.planning.decision import NOTHING, Decision, act
from reconciler.planning.releases import mark_version
from reconciler.planning.view import View


def tell_once(
    view: View,
    release: Release,
    message: Message,
    *,
    to: Iterable[str],
    what: str = "",
    after: str = "",
) -> Decision:
    """Tell each notifier of ``to`` that was not told of ``what``, a digest: the release's unless it is said.

    The mark is on the version that ``release`` pins; where that is not to be seen, nobody is told.
    ``after`` is the key of the action without which there is nothing to tell.
    """
    version = view.version_of(release)
    if version is None:
        return NOTHING
    subject, decision = message.subject, NOTHING
    what = what or release.digest
    for name in dict.fromkeys(to):
        tag = told_tag(subject.environment, message.event, name)
        if version.tags.get(tag) == what:
            continue
        tell = Tell(
            key=f"tell {subject} {message.event} {what} {name}",
            subject=subject,
            reason=f"people are told once: {message.event}",
            after=after,
            notifier=name,
            message=message,
        )
        mark = mark_version(subject, release.pin, tag, what, "so that it is said once")
        decision = decision.and_then(act(tell, mark.model_copy(update={"after": tell.key})))
    return decision


def tell_environment(
    view: View,
    subject: Subject,
    release: Release,
    event: Event,
    title: str,
    reason: str,
    *,
    after: str = "",
    pull_request: int | None = None,
) -> Decision:
    """What concerns no gate: those are told whom the environment names."""
    message = Message(
        event=event,
        subject=subject,
        title=title,
        reason=reason,
        pull_request=pull_request,
        pages=_pages(view),
    )
    return tell_once(view, release, message, to=view.environment(subject).notify, after=after)


def tell_of_gates(
    view: View,
    subject: Subject,
    release: Release,
    verdict: Verdict,
    title: str,
    *,
    after: str = "",
    pull_request: int | None = None,
) -> Decision:
    """That gates of a candidate do not pass, for those whom these gates name.

    A blocked candidate is told of once. One that waits for a person again, because what it was judged on has
    changed, is told of again.
    """
    gates = tuple(gate for gate in verdict.gates if gate.verdict != "pass")
    failed = {gate.gate for gate in gates}
    to = [name for gate in view.policy(subject).gates if gate.name in failed for name in gate.notify]
    blocked = verdict.verdict == "block"
    message = Message(
        event="gate-failed" if blocked else "needs-review",
        subject=subject,
        title=title,
        reason="; ".join(verdict.against()),
        gates=gates,
        pull_request=pull_request,
        pages=_pages(view),
    )
    return tell_once(view, release, message, to=to, what="" if blocked else verdict.inputs, after=after)


def _pages(view: View) -> str:
    return view.desired.platform.forge.pages
