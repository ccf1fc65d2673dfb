"""Holds and waivers on main: which have ended, and what a pull request does to them.

Each tick asks :func:`ended`, and ``reconcile admit``, by way of :mod:`.admission`, :func:`admit_exceptions`.
The orders that write them are in :mod:`.exception_orders`.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.core.base import Instant, Subject, show_instant
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Exceptions, Waiver
from reconciler.core.observed import Gap
from reconciler.core.plan import Hold, Objection, Verdict
from reconciler.planning.holds import hold
from reconciler.planning.view import View

EVALUATION_DATA = "evaluation-data"
"""No gate of a policy: the rule that evaluation data and training do not change in one pull request."""


def ends(end: Instant | None) -> str:
    """`` until INSTANT``; nothing where it has no end."""
    return f" until {show_instant(end)}" if end else ""


def ended(view: View, subject: Subject) -> tuple[Hold, ...]:
    """What still stands in Git although its time is over, with the command that renews or removes it."""
    exceptions = view.exceptions(subject)
    said = [
        f"the hold until {show_instant(one.until)} is over: {one.reason}; `reconcile unhold {subject} "
        f"--expired` takes it out, `reconcile hold {subject} --reason ...` orders another"
        for one in exceptions.holds
        if one.until is not None and one.until <= view.at
    ]
    said += [
        f"the waiver of {one.gate} for {one.digest[:19]} ended at {show_instant(one.expires)}: {one.reason}; "
        f"`reconcile waive {subject} {one.gate} --remove --expired` takes it out, "
        f"`reconcile waive {subject} {one.gate} --reason ... --expires ...` orders another"
        for one in exceptions.waivers
        if not one.counts(view.at)
    ]
    return tuple(hold("exception-ended", subject, text) for text in said)


def counting(view: View, subject: Subject) -> tuple[str, ...]:
    """The holds and waivers that count now, a sentence each; for people, who may ask before anything waits."""
    exceptions = view.exceptions(subject)
    said = [f"held{ends(one.until)}: {one.reason}" for one in exceptions.holds if one.counts(view.at)]
    said += [
        f"gate {one.gate} is waived for {_version(view, subject, one)}{ends(one.expires)}: {one.reason}"
        for one in exceptions.waivers
        if one.counts(view.at)
    ]
    return tuple(said)


# --- admission --------------------------------------------------------------------------------------------


def admit_exceptions(base: DesiredState, head: DesiredState, view: View) -> Iterator[Verdict]:
    """What a pull request does to holds and waivers: each that begins or ends early is for a person to decide.

    ``view`` is of the base: its policies say which gates there are. Whose approval is needed is the forge's
    rule for the branch; a waiver in a pull request lets nothing of the same pull request pass.
    """
    for key in sorted(base.exceptions.keys() | head.exceptions.keys()):
        subject = Subject.of(key)
        before, after = (state.exceptions.get(key) or Exceptions(kind="Exceptions") for state in (base, head))
        if before == after or head.hidden(subject) is not None:
            continue
        objections = [*_holds(before, after, view), *_waivers(before, after, view, subject)]
        yield Verdict(subject=subject, grounds="documents", objections=tuple(objections))


def _holds(before: Exceptions, after: Exceptions, view: View) -> Iterator[Objection]:
    for one in after.holds:
        if one not in before.holds:
            over = not one.counts(view.at)
            what = f"orders a hold{ends(one.until)}{', which is past' if over else ''}: {one.reason}"
            yield Objection(code="hold", what=what, verdict="block" if over else "review")
    for one in before.holds:
        if one not in after.holds and one.counts(view.at):
            yield Objection(
                code="hold", what=f"lifts the hold{ends(one.until)}: {one.reason}", verdict="review"
            )


def _waivers(before: Exceptions, after: Exceptions, view: View, subject: Subject) -> Iterator[Objection]:
    known = subject.environment in view.desired.environments and subject.model in view.desired.models
    gates = {gate.name for gate in view.policy(subject).gates} | {EVALUATION_DATA} if known else set()
    for one in after.waivers:
        if one in before.waivers:
            continue
        what = f"waives {one.gate} for {_version(view, subject, one)}{ends(one.expires)}: {one.reason}"
        if known and one.gate not in gates:
            what += f"; the policy {view.policy(subject).name} has no such gate"
        elif not one.counts(view.at):
            what += "; that is past"
        else:
            yield Objection(code="waiver", what=what, verdict="review")
            continue
        yield Objection(code="waiver", what=what)
    for one in before.waivers:
        if one not in after.waivers and one.counts(view.at):
            what = f"takes the waiver of {one.gate} for {_version(view, subject, one)} back: {one.reason}"
            yield Objection(code="waiver", what=what, verdict="review")


def _version(view: View, subject: Subject, waiver: Waiver) -> str:
    """The versions that have a waiver's digest, or the digest where none does."""
    if subject.environment not in view.desired.environments or subject.model not in view.desired.models:
        return waiver.digest[:19]
    registered = view.registered(view.environment(subject).registry, view.model(subject).registered_name)
    versions = () if isinstance(registered, Gap) else registered.versions
    numbers = [version.version for version in versions if version.digest == waiver.digest]
    return f"version {' and '.join(numbers)} ({waiver.digest[:19]})" if numbers else waiver.digest[:19]
