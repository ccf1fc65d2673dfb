"""Back to the last verified release, by pull request, where the failure can be blamed on the release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.core.base import Subject, show_instant
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Admission, Rejected, Release
from reconciler.core.errors import Terminal
from reconciler.core.observed import Observed, Workload
from reconciler.core.plan import Hold, OpenPullRequest
from reconciler.planning.admission import admit_subject
from reconciler.planning.holds import hold
from reconciler.planning.proposals import Wish, open_request, with_release
from reconciler.planning.releases import with_digests
from reconciler.planning.view import View

FAILING = ("Degraded", "Aborted")
NO_TARGET = "no earlier release was verified here and still exists"


def blamed(view: View, subject: Subject, release: Release, workload: Workload) -> str | Hold:
    """Why the release is at fault; or the hold that says why it is not, or not yet.

    The sentence is recorded in `rejected`, and so holds nothing that changes while the failure lasts.
    """
    rollback, history = view.environment(subject).rollback, view.pin_history(subject)
    said = f": {workload.message}" if workload.message else ""
    since = show_instant(workload.since)
    if history is None:
        return hold(
            "gap", subject, f"{workload.health.lower()} since {since}; the commit of its pin was not read"
        )
    trigger = "aborted" if workload.health == "Aborted" else "unhealthy"
    if trigger not in rollback.on:
        return hold("not-attributable", subject, f"{trigger} since {since}{said}; rollback.on does not name it")
    end = history.at + rollback.window
    if workload.since > end:
        return hold(
            "not-attributable",
            subject,
            f"{trigger} since {since}{said}; the release of {show_instant(history.at)} is blamed only until "
            f"{show_instant(end)}: `reconcile rollback {subject} --reason ...` if it is at fault",
        )
    if trigger == "unhealthy" and view.at < workload.since + rollback.for_:
        due = show_instant(workload.since + rollback.for_)
        return hold("unhealthy", subject, f"unhealthy since {since}{said}; a rollback is due at {due}")
    if release.admission.grounds == "rollback":
        return hold(
            "rollback-of-rollback",
            subject,
            f"{trigger} since {since}{said}, and it is itself a rollback: promote another version, or "
            f"`reconcile rollback {subject} --reason ...`",
        )
    return f"{trigger} since {since}"


def rollback_wish(view: View, subject: Subject, reason: str, asked_by: str = "") -> Wish | Hold:
    """The pull request back to the last verified release that is not rejected and still exists."""
    release, history = view.release(subject), view.pin_history(subject)
    assert release is not None
    target = next(targets(view, subject, release, history.past), None) if history else None
    if target is None:
        return hold("no-rollback-target", subject, f"{reason}; {NO_TARGET}")
    environment = view.environment(subject)
    only_serving = target.pin.digest == release.pin.digest
    blame = Rejected(
        digest=release.digest if only_serving else release.pin.digest,
        version=release.pin.version,
        reason=reason,
        since=view.at,
    )
    draft = target.model_copy(
        update={
            "admission": Admission(grounds="rollback", judged_at=view.at, reason=reason),
            "champion": view.champion(subject),
            "rejected": (*release.rejected, blame),
        }
    )
    back = with_digests(view, subject, draft)
    verdict = admit_subject(
        view.desired, with_release(view.desired, subject, back, None), view.observed, subject
    )
    return Wish(
        subject=subject,
        intent="rollback",
        candidate=release.pin.digest if not only_serving else release.digest,
        release=back,
        bundle=None,
        verdict=verdict,
        title=f"Roll back {subject.model} in {subject.environment} to version {target.pin.version}",
        headline=f"version {target.pin.version} of {subject.model} again for {subject.environment}, instead of "
        f"version {release.pin.version} ({reason})",
        reason=f"version {release.pin.version} is taken back: {reason}",
        approvals=0 if verdict.verdict == "pass" else 1,
        merge=environment.rollback.merge,
        frozen=False,
        lineage={"back to": target.pin.digest, "rejected": blame.digest},
        asked_by=asked_by,
        notes=tuple(_notes(view, subject, asked_by)),
    )


def by_hand(
    desired: DesiredState, observed: Observed, subject: Subject, reason: str, person: str = "a person"
) -> OpenPullRequest:
    """The rollback that a person asks for. Raises Terminal where there is nothing to go back to."""
    view = View(desired, observed)
    problem = desired.hidden(subject)
    if problem is not None:
        raise Terminal(problem.what, where=problem.path, hint=problem.hint or "mend the document first")
    if view.release(subject) is None:
        raise Terminal("nothing is pinned here", where=str(subject), hint="see `reconcile status`")
    wish = rollback_wish(view, subject, reason, asked_by=person)
    if isinstance(wish, Hold):
        raise Terminal(NO_TARGET, where=str(subject), hint="promote another version instead")
    if wish.verdict.verdict == "block":
        raise Terminal("; ".join(wish.verdict.against()), where=str(subject), hint="see `reconcile explain`")
    return open_request(view, wish)


def _notes(view: View, subject: Subject, asked_by: str) -> Iterator[str]:
    if asked_by:
        yield f"Asked for by {asked_by}."
    workload = view.workload(subject)
    if isinstance(workload, Workload) and workload.health in FAILING and workload.message:
        yield f"{workload.health}, the cluster says: {workload.message}"


def targets(view: View, subject: Subject, release: Release, past: Sequence[Release]) -> Iterator[Release]:
    """Earlier releases that may serve again, newest first, as ``past`` are."""
    known = {release.champion.release} if release.champion else set()
    for earlier in past:
        if earlier.champion:
            known.add(earlier.champion.release)
    for earlier in past:
        verified = earlier.digest in known or view.verified_at(subject.environment, earlier) is not None
        usable = earlier.digest != release.digest and not release.rejects(earlier.pin.digest, earlier.digest)
        if verified and usable and view.version_of(earlier) is not None:
            yield earlier
