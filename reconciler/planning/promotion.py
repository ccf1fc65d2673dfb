"""A candidate that differs from the pin: measured, judged, proposed, merged; or the reason why not."""

from __future__ import annotations

from reconciler.core.base import Subject, show_instant
from reconciler.core.documents import Admission, Ordered, Release
from reconciler.core.evidence import EvidenceBundle
from reconciler.core.observed import Gap
from reconciler.core.plan import Hold
from reconciler.planning.admission import admit_subject
from reconciler.planning.candidates import Candidate, by_rule, candidate
from reconciler.planning.decision import NOTHING, Decision, wait
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.measuring import Measured, plan_measuring
from reconciler.planning.proposals import Wish, close_unwanted, keep_up, plan_proposal, refusal, with_release
from reconciler.planning.releases import with_digests
from reconciler.planning.telling import tell_of_gates
from reconciler.planning.view import View

MOST_LIBRARIES = 30
"""That a pull request lists."""


def plan_promotion(view: View, subject: Subject) -> Decision:
    """What to do about the candidate of one subject. Called when nothing else about it comes first."""
    wanted = candidate(view, subject)
    if isinstance(wanted, Hold):
        hidden = wanted.code in ("gap", "invalid-document")
        unwanted = Decision() if hidden else close_unwanted(view, subject, "promote", wanted.reason)
        return unwanted.and_then(wait(wanted))
    if wanted.change is None:
        return close_unwanted(view, subject, "promote", "the pin is what is wanted")
    outdated = _superseded(view, subject, wanted)
    if outdated.actions:
        return outdated
    order = _order(view, subject, wanted)
    if isinstance(order, Hold):
        return wait(order)
    asked = f", which {order.by} ordered," if order and view.open_pull("promote", subject) else ""
    ordered = [o for o in view.exceptions(subject).holds if o.counts(view.at)]
    if ordered:
        until = f" until {show_instant(ordered[0].until)}" if ordered[0].until else ""
        return wait(
            hold(
                "held",
                subject,
                f"version {wanted.pin.version}{asked} is held{until} by people: {ordered[0].reason}",
            )
        )
    workload = view.workload(subject)
    if isinstance(workload, Gap) and view.release(subject) is not None:
        return wait(unanswered(subject, workload))
    measured = plan_measuring(view, subject, wanted)
    if not measured.complete:
        return measured.decision
    wish = promotion_wish(view, subject, wanted, measured, order=order)
    if wish.verdict.verdict == "block":
        title = (
            f"version {wanted.pin.version} of {subject.model}{asked} is not promoted to {subject.environment}"
        )
        stopped = (
            keep_up(view, wish)
            if asked
            else close_unwanted(view, subject, "promote", f"no longer admissible: {wish.verdict.against()[0]}")
        )
        told = tell_of_gates(view, subject, wish.release, wish.verdict, title) if wish.release else NOTHING
        refused = refusal(subject, wish.verdict, f"version {wanted.pin.version}{asked} is not promoted")
        return measured.decision.and_then(stopped).and_then(told).and_then(wait(refused))
    return measured.decision.and_then(plan_proposal(view, wish))


def promotion_release(
    view: View, subject: Subject, wanted: Candidate, bundle: EvidenceBundle, order: Ordered | None = None
) -> Release:
    """The Release document that pins a candidate, with the digests of everything it was judged on."""
    pinned = view.release(subject)
    draft = Release(
        kind="Release",
        pin=wanted.pin,
        image=wanted.image,
        serving=wanted.serving,
        renderer=wanted.renderer,
        admission=Admission(grounds="promotion", judged_at=view.at, order=order),
        champion=view.champion(subject),
        rejected=pinned.rejected if pinned else (),
    )
    return with_digests(view, subject, draft, policy=view.policy(subject).digest, bundle=bundle)


def promotion_wish(
    view: View,
    subject: Subject,
    wanted: Candidate,
    measured: Measured,
    asked_by: str = "",
    order: Ordered | None = None,
) -> Wish:
    """The pull request that pins a candidate, judged. ``asked_by``: the person who asked, where one did.

    ``order``: a person ordered this version, now or when it was pinned.
    """
    champion = view.champion(subject)
    bundle = EvidenceBundle(
        candidate=wanted.pin.digest,
        champion=champion.digest if champion else None,
        evidence=measured.evidence,
        sources=measured.sources,
    )
    pinned = view.release(subject)
    new = order if wanted.change == "version" else None
    asked_by = new.by if new else asked_by or _asked_by(view, subject, wanted)
    release = promotion_release(view, subject, wanted, bundle, order)
    head = with_release(view.desired, subject, release, bundle)
    verdict = admit_subject(view.desired, head, view.observed, subject)
    promotion = view.environment(subject).promotion
    what = f"version {wanted.pin.version}" if wanted.change == "version" else "a changed serving section"
    instead = f" instead of version {pinned.pin.version}" if pinned and wanted.change == "version" else ""
    return Wish(
        subject=subject,
        intent="promote",
        candidate=wanted.pin.digest if wanted.change == "version" else wanted.release,
        release=release,
        bundle=bundle,
        verdict=verdict,
        title=f"Promote {subject.model} to {subject.environment}: {what}",
        headline=f"{what} of {subject.model} for {subject.environment}{instead}"
        + (f", ordered: {new.reason}" if new else ""),
        reason=f"{what} of {subject.model} is the candidate and its gates do not block it",
        approvals=max(promotion.approvals, 1 if verdict.verdict == "review" else 0),
        merge=promotion.merge,
        frozen=True,
        lineage=_lineage(wanted),
        asked_by=asked_by,
        approved_by=promotion.approved_by,
        ordered=wanted.pin.version if new else "",
        notes=(*_notes(asked_by, new), *_libraries(bundle)),
    )


def _notes(asked_by: str, order: Ordered | None) -> tuple[str, ...]:
    said = (f"Asked for by {asked_by}.",) if asked_by else ()
    if order is None:
        return said
    return (
        *said,
        "It stays until a version comes that is younger than the order, whatever was there before it.",
    )


def _libraries(bundle: EvidenceBundle) -> tuple[str, ...]:
    """Which libraries are not the champion's, where that was measured and some are not."""
    files = bundle.evidence.get("files")
    libraries = files.metrics.get("changed-libraries") if files else None
    changed = libraries.overall.candidate if libraries else None
    if changed is None or not changed.value:
        return ()
    return (f"Libraries that are not the champion's: {changed.named(MOST_LIBRARIES)}",)


def _order(view: View, subject: Subject, wanted: Candidate) -> Ordered | Hold | None:
    """The order that a candidate is proposed by: its pull request's, or the pin's if that stays.

    A version that came by rule since the order was judged is younger: the order is dated anew, so that whoever
    approves it approves that as well.
    """
    existing = view.open_pull("promote", subject)
    pinned = view.release(subject)
    if existing is None or existing.marker is None or not existing.marker.version:
        same = pinned is not None and pinned.pin.digest == wanted.pin.digest
        return pinned.admission.order if pinned and same else None
    proposal = view.observed.proposals.get(existing.number)
    proposed = proposal.state.releases.get(str(subject)) if proposal else None
    order = proposed.admission.order if proposed else None
    if order is None:
        return hold(
            "gap", subject, f"the head of #{existing.number} was not read, or no longer says who ordered it"
        )
    came = by_rule(view, subject)
    return order if isinstance(came, Hold) or came.at <= order.at else order.model_copy(update={"at": came.at})


def _asked_by(view: View, subject: Subject, wanted: Candidate) -> str:
    """Of the open pull request, so that it stays theirs when it is rebuilt."""
    existing = view.open_pull("promote", subject)
    same = existing and existing.marker and existing.marker.candidate == wanted.release
    return existing.marker.asked_by if same and existing and existing.marker else ""


def _lineage(wanted: Candidate) -> dict[str, str]:
    known = {
        "version": f"{wanted.pin.name}/{wanted.pin.version}",
        "digest": wanted.pin.digest,
        "training key": wanted.version.training_key or "",
        "training data (md5)": wanted.version.training_inputs.get("data", ""),
        "training code (Git tree)": wanted.version.training_inputs.get("source", ""),
        "hyperparameters": wanted.version.search,
        "run": wanted.version.run_id,
        "image": wanted.image,
    }
    return {name: value for name, value in known.items() if value}


def _superseded(view: View, subject: Subject, wanted: Candidate) -> Decision:
    """An open proposal of another candidate goes at once; waiting for this one's numbers could merge it."""
    existing = view.open_pull("promote", subject)
    identity = wanted.pin.digest if wanted.change == "version" else wanted.release
    if existing is None or existing.marker is None or existing.marker.candidate == identity:
        return Decision()
    return close_unwanted(
        view, subject, "promote", f"superseded: version {wanted.pin.version} is the candidate now"
    )
