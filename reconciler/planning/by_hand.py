"""Versions that people order: `reconcile promote`, and `reconcile adopt` for what ran before trueup came.

Each is a pull request of trueup's that is its person's, and that the following ticks go on with: a promotion is
measured, judged and merged like every other (:mod:`.promotion`), an adoption is merged by a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Admission, Ordered, Pin, Release
from reconciler.core.errors import Terminal
from reconciler.core.observed import Gap, Mark, ModelVersion, Observed, PullRequest
from reconciler.core.plan import Hold, OpenPullRequest, UpdatePullRequest
from reconciler.planning.admission import admit_subject
from reconciler.planning.candidates import by_rule, candidate
from reconciler.planning.decision import Decision, wait
from reconciler.planning.exceptions import ends
from reconciler.planning.holds import hold
from reconciler.planning.measuring import marks_wanted, plan_measuring
from reconciler.planning.promotion import promotion_wish
from reconciler.planning.proposals import Wish, open_request, plan_proposal, update_request, with_release
from reconciler.planning.releases import with_digests
from reconciler.planning.view import View


def marks_of(
    desired: DesiredState, observed: Observed, subject: Subject, number: str
) -> tuple[tuple[str, Mark], ...]:
    """(registry, mark) of the evidence there is of a version; Terminal as :func:`promote` is."""
    view = _view(desired, observed, subject)
    wanted = candidate(view, subject, ordered=_version(view, subject, number))
    if isinstance(wanted, Hold) or wanted.change is None:
        return ()
    return tuple((wanted.pin.registry, mark) for mark in marks_wanted(view, subject, wanted).values())


def promote(
    desired: DesiredState, observed: Observed, subject: Subject, number: str, reason: str, person: str
) -> OpenPullRequest | UpdatePullRequest | PullRequest:
    """The pull request that promotes exactly version ``number``, or by default the candidate.

    Ours that is open already becomes that, unless another person ordered another version by it; the same order
    finds it as it is. Terminal, with the reason, where no evidence could help.
    """
    view, where = _view(desired, observed, subject), str(subject)
    version = _version(view, subject, number)
    pinned, existing = view.release(subject), view.open_pull("promote", subject)
    if pinned is not None and pinned.pin.digest == version.digest:
        raise Terminal(
            f"version {version.version} is pinned already", where=where, hint="see `reconcile explain`"
        )
    if existing is not None and (not existing.ours or existing.marker is None):
        what = f"#{existing.number} ({existing.branch}) has commits that are not trueup's"
        raise Terminal(what, where=where, hint="merge or close it first")
    if existing is not None and existing.marker is not None and existing.marker.version:
        if existing.marker.version == version.version:
            return existing
        what = f"{existing.marker.asked_by} ordered version {existing.marker.version} by #{existing.number}"
        hint = f"one order at a time: reconcile pr close {existing.number}, or have it merged first"
        raise Terminal(what, where=where, hint=hint)
    wanted = candidate(view, subject, ordered=version)
    if isinstance(wanted, Hold):
        raise Terminal(wanted.reason, where=where, hint="order another version")
    measured = plan_measuring(view, subject, wanted)
    order = Ordered(by=person, reason=reason, at=view.at)
    wish = promotion_wish(view, subject, wanted, measured, order=order)
    against = [o.what for o in wish.verdict.objections if o.verdict == "block"]
    if against or (measured.complete and wish.verdict.verdict == "block"):
        hint = f"see `reconcile explain {subject.model} {subject.environment}`"
        raise Terminal("; ".join(against or wish.verdict.against()), where=where, hint=hint)
    if existing is not None:
        return update_request(view, wish, existing, f"{person} ordered version {version.version}: {reason}")
    return open_request(view, wish)


def in_the_way(desired: DesiredState, observed: Observed, subject: Subject) -> Iterator[str]:
    """What comes before an ordered promotion, a sentence each; it stays open meanwhile."""
    view = View(desired, observed)
    for one in view.exceptions(subject).holds:
        if one.counts(view.at):
            yield f"{subject} is held{ends(one.until)}: {one.reason}; it is not merged before"
    back = view.open_pull("rollback", subject)
    if back is not None:
        yield f"#{back.number} ({back.title}) is open; a rollback comes first, and this is judged anew after it"


def adopt(
    desired: DesiredState,
    observed: Observed,
    subject: Subject,
    number: str,
    reason: str,
    person: str,
    claimed: str = "",
) -> OpenPullRequest | PullRequest:
    """The pull request that pins what runs already. ``claimed``: its digest, where none is tagged."""
    view, where = _view(desired, observed, subject), str(subject)
    if view.release(subject) is not None:
        raise Terminal("trueup pins it already", where=where, hint="only what is not pinned yet is adopted")
    existing = view.open_pull("adopt", subject)
    version = _version(view, subject, number, claimed)
    if existing is not None:
        if existing.marker is not None and existing.marker.version == version.version:
            return existing
        hint = f"reconcile pr close {existing.number}"
        raise Terminal(f"#{existing.number} adopts another version", where=where, hint=hint)
    if claimed and not re.fullmatch(r"sha256:[0-9a-f]{64}", claimed):
        hint = "write sha256: and 64 lower-case hex digits"
        raise Terminal(f"{claimed!r} is no artifact digest", where=where, hint=hint)
    if claimed and version.digest not in (None, claimed):
        what = f"version {version.version} has the digest {version.digest}, and {claimed} is claimed"
        raise Terminal(what, where=where, hint="leave --digest out")
    wish = _adoption(view, subject, version.version, version.digest or claimed, reason, person)
    if wish.verdict.verdict == "block":
        raise Terminal("; ".join(wish.verdict.against()), where=where, hint="see `reconcile validate`")
    return open_request(view, wish)


def plan_adoption(view: View, subject: Subject) -> Decision | None:
    """What becomes of a person's open adoption: it is kept as it was asked for, and merged by a person."""
    existing = view.open_pull("adopt", subject)
    if existing is None or existing.marker is None:
        return None
    proposal = view.observed.proposals.get(existing.number)
    proposed = proposal.state.releases.get(str(subject)) if proposal else None
    if proposed is None:
        return wait(hold("gap", subject, f"the head of #{existing.number} was not read"))
    pin, reason = proposed.pin, proposed.admission.reason
    wish = _adoption(view, subject, pin.version, pin.digest, reason, existing.marker.asked_by)
    return plan_proposal(view, wish)


def _adoption(view: View, subject: Subject, number: str, digest: str, reason: str, person: str) -> Wish:
    environment, model = view.environment(subject), view.model(subject)
    pin = Pin(registry=environment.registry, name=model.registered_name, version=number, digest=digest)
    draft = Release(
        kind="Release",
        pin=pin,
        image=view.desired.platform.images.server,
        serving=model.serving_in(subject.environment, environment.runtime),
        renderer=environment.runtime.renderer,
        admission=Admission(grounds="adoption", judged_at=view.at, reason=reason),
    )
    release = with_digests(view, subject, draft)
    head = with_release(view.desired, subject, release, None)
    return Wish(
        subject=subject,
        intent="adopt",
        candidate=digest,
        release=release,
        bundle=None,
        verdict=admit_subject(view.desired, head, view.observed, subject),
        title=f"Adopt {subject.model} in {subject.environment}: version {number}",
        headline=f"version {number} of {subject.model} as it runs in {subject.environment}: {reason}",
        reason=f"{person} asks trueup to take over version {number}: {reason}",
        approvals=max(environment.promotion.approvals, 1),
        approved_by=environment.promotion.approved_by,
        merge="manual",
        frozen=True,
        lineage={"digest": digest},
        asked_by=person,
        ordered=number,
        notes=(f"Asked for by {person}.",),
    )


def _view(desired: DesiredState, observed: Observed, subject: Subject) -> View:
    """Terminal where the subject is not known, or something about it could not be seen."""
    view, where = View(desired, observed), str(subject)
    problem = desired.hidden(subject)
    if problem is not None:
        raise Terminal(problem.what, where=problem.path, hint=problem.hint or "mend the document first")
    if subject.environment not in desired.environments or subject.model not in desired.models:
        raise Terminal("main has no such environment or model", where=where, hint="see `reconcile status`")
    if subject.environment not in view.model(subject).environments:
        hint = f"add {subject.environment} to its environments first"
        raise Terminal(f"{subject.model} is not wanted in {subject.environment}", where=where, hint=hint)
    gaps = [
        observed.gaps.get(where),
        observed.swept.forge,
        view.registered(view.environment(subject).registry, ""),
    ]
    for gap in gaps:
        if isinstance(gap, Gap):
            raise Terminal(f"the {gap.source} did not answer: {gap.error}", where=where, hint="try again")
    return view


def _version(view: View, subject: Subject, number: str, claimed: str = "") -> ModelVersion:
    """The version of this number, or the candidate's; with an identity, or one that is claimed."""
    where, name = str(subject), view.model(subject).registered_name
    registered = view.registered(view.environment(subject).registry, name)
    assert not isinstance(registered, Gap)
    if not number:
        came = by_rule(view, subject)
        if isinstance(came, Hold):
            raise Terminal(came.reason, where=where, hint="name a version: --version N")
        return came.version
    version = registered.version(number)
    if version is None or not version.ready:
        there = ", ".join(v.version for v in registered.versions[-10:] if v.ready) or "none"
        raise Terminal(
            f"version {number} of {name} is not in the registry", where=where, hint=f"there is {there}"
        )
    if version.digest is None and not claimed:
        what = f"version {number} carries no trueup.digest tag, so its identity is not known"
        hint = f"`reconcile-step identify --registered-name {name} --version {number}` tags it"
        raise Terminal(what, where=where, hint=hint)
    return version
