"""Pull requests of ours: what goes into one, and whether to open, rebuild, merge, close or leave it alone.

One pull request for a subject and intent, on the one branch that :func:`branch_of` names.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import unified_diff
from typing import NamedTuple

from reconciler.core.approvals import missing
from reconciler.core.base import Subject, show_instant
from reconciler.core.canonical import dump_document
from reconciler.core.desired import DesiredState
from reconciler.core.documents import (
    GroupApproval,
    Merge,
    Release,
    evidence_path,
    frozen_until,
    release_path,
    rendered_folder,
)
from reconciler.core.evidence import EvidenceBundle
from reconciler.core.observed import Gap, Intent, Marker, PullRequest, branch_of
from reconciler.core.plan import (
    ClosePullRequest,
    FileChange,
    Hold,
    MergePullRequest,
    OpenPullRequest,
    ReadyPullRequest,
    Summary,
    UpdatePullRequest,
    Verdict,
)
from reconciler.planning.admission import admit_subject
from reconciler.planning.authors import authors
from reconciler.planning.checks import plan_checks
from reconciler.planning.decision import NOTHING, Decision, act, wait
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.renderers import blob_ids, render
from reconciler.planning.telling import tell_environment, tell_of_gates
from reconciler.planning.view import View


class Wish(NamedTuple):
    """A pull request that should exist. ``release`` is None where the pin is to be removed.

    ``approvals`` are those that are needed before it merges, ``approved_by`` the groups that some of them must
    be of; ``merge`` says who merges it then, and ``frozen`` whether freeze windows hold it. ``ordered`` is the
    version that ``asked_by`` ordered.
    """

    subject: Subject
    intent: Intent
    candidate: str
    release: Release | None
    bundle: EvidenceBundle | None
    verdict: Verdict
    title: str
    headline: str
    reason: str
    approvals: int
    merge: Merge
    frozen: bool
    lineage: dict[str, str]
    asked_by: str = ""
    notes: tuple[str, ...] = ()
    approved_by: tuple[GroupApproval, ...] = ()
    ordered: str = ""


def with_release(
    base: DesiredState, subject: Subject, release: Release | None, bundle: EvidenceBundle | None
) -> DesiredState:
    """``base`` with the subject's release, evidence and manifests as a pull request would leave them."""
    key = str(subject)
    releases, bundles, rendered = dict(base.releases), dict(base.bundles), dict(base.rendered)
    for table in (releases, bundles, rendered):
        table.pop(key, None)
    if release is not None:
        releases[key] = release
        files = render(subject.environment, base.environments[subject.environment], subject.model, release)
        if files:
            rendered[key] = blob_ids(files)
    if bundle is not None:
        bundles[key] = bundle
    return base.model_copy(update={"releases": releases, "bundles": bundles, "rendered": rendered})


def files_of(
    base: DesiredState, subject: Subject, release: Release | None, bundle: EvidenceBundle | None
) -> tuple[FileChange, ...]:
    """Every file that the pull request writes or deletes, sorted by path."""
    key, folder = str(subject), rendered_folder(subject.environment, subject.model)
    files: dict[str, str | None] = {f"{folder}/{name}": None for name in base.rendered.get(key, {})}
    if key in base.bundles:
        files[evidence_path(subject.environment, subject.model)] = None
    files[release_path(subject.environment, subject.model)] = dump_document(release) if release else None
    if release is not None:
        environment = base.environments[subject.environment]
        for name, text in render(subject.environment, environment, subject.model, release).items():
            files[f"{folder}/{name}"] = text
    if bundle is not None:
        files[evidence_path(subject.environment, subject.model)] = bundle.to_text()
    return tuple(FileChange(path=path, content=content) for path, content in sorted(files.items()))


def plan_proposal(view: View, wish: Wish) -> Decision:
    """Bring the pull request of one wish nearer: opened, rebuilt, or merged at the head that was judged."""
    subject = wish.subject
    forge = view.observed.swept.forge
    if isinstance(forge, Gap):
        return wait(unanswered(subject, forge))
    existing = view.open_pull(wish.intent, subject)
    if wish.verdict.verdict == "block":
        return wait(refusal(subject, wish.verdict, f"{wish.title}: not proposed"))
    if existing is None:
        return _open(view, wish)
    if not existing.ours:
        return wait(
            hold(
                "foreign-commits",
                subject,
                f"#{existing.number} ({existing.branch}) has commits that are not ours; merge or close it",
            )
        )
    marker = existing.marker
    if marker is None or marker.candidate != wish.candidate:
        return act(_close(existing, subject, f"superseded: {wish.headline}"))
    if marker.inputs != wish.verdict.inputs or not existing.mergeable:
        why = "what it was judged on has changed" if existing.mergeable else "main has moved under it"
        return act(update_request(view, wish, existing, why))
    return _merge(view, wish, existing)


def close_unwanted(view: View, subject: Subject, intent: Intent, why: str) -> Decision:
    """Close our open pull request of this intent, which nothing asks for any more."""
    existing = view.open_pull(intent, subject)
    if existing is None or not existing.ours:
        return Decision()
    return act(_close(existing, subject, why))


def keep_up(view: View, wish: Wish) -> Decision:
    """Let an open pull request that may not be merged now say what there is to say of it now."""
    existing = view.open_pull(wish.intent, wish.subject)
    if existing is None or not existing.ours or existing.marker is None:
        return Decision()
    if existing.marker.inputs == wish.verdict.inputs and existing.mergeable:
        return Decision()
    return act(update_request(view, wish, existing, "what it was judged on has changed"))


def open_request(view: View, wish: Wish) -> OpenPullRequest:
    """The action that opens the pull request of a wish."""
    branch = branch_of(wish.intent, wish.subject)
    return OpenPullRequest(
        key=f"open-pull-request {branch} {wish.verdict.inputs or wish.candidate}",
        subject=wish.subject,
        reason=wish.reason,
        branch=branch,
        base=view.desired.revision,
        title=wish.title,
        summary=_summary(view, wish),
        marker=_marker(wish),
        files=files_of(view.desired, wish.subject, wish.release, wish.bundle),
        draft=wish.verdict.verdict != "pass" and wish.intent == "promote",
        labels=_labels(wish),
        reviewers=view.environment(wish.subject).promotion.reviewers,
    )


def update_request(view: View, wish: Wish, existing: PullRequest, why: str) -> UpdatePullRequest:
    """The action that makes an open pull request of ours the one of a wish."""
    opened = open_request(view, wish)
    fields = {name: getattr(opened, name) for name in type(opened).model_fields if name != "kind"}
    fields["key"] = f"update-pull-request #{existing.number} {existing.head} {wish.verdict.inputs}"
    fields["reason"] = why
    return UpdatePullRequest(**fields, number=existing.number, head=existing.head)


# --- the parts --------------------------------------------------------------------------------------------


def _open(view: View, wish: Wish) -> Decision:
    branch = branch_of(wish.intent, wish.subject)
    past = view.observed.closed.get(branch)
    if past is None:
        return wait(hold("gap", wish.subject, f"the closed pull requests of {branch} were not read"))
    last = past[0] if past else None
    refused = last is not None and last.state == "closed" and not last.closed_by_us and last.marker is not None
    if refused and last is not None and last.marker is not None and last.marker.candidate == wish.candidate:
        return wait(
            hold(
                "closed-by-person",
                wish.subject,
                f"{last.closed_by or 'a person'} closed #{last.number} for this candidate; reopen it, or "
                "change what is wanted",
            )
        )
    opened = open_request(view, wish)
    return act(opened).and_then(_told(view, wish, wish.verdict, after=opened.key))


def _told(
    view: View, wish: Wish, verdict: Verdict, *, after: str = "", pull_request: int | None = None
) -> Decision:
    """Who is told that this pull request is open: it waits for a person, or takes back what failed."""
    pinned = view.release(wish.subject)
    if wish.intent == "promote" and wish.release is not None:
        return tell_of_gates(
            view, wish.subject, wish.release, verdict, wish.title, after=after, pull_request=pull_request
        )
    if wish.intent == "rollback" and pinned is not None:
        return tell_environment(
            view,
            wish.subject,
            pinned,
            "rollback",
            wish.title,
            wish.reason,
            after=after,
            pull_request=pull_request,
        )
    return NOTHING


def _close(existing: PullRequest, subject: Subject, why: str) -> ClosePullRequest:
    return ClosePullRequest(
        key=f"close-pull-request #{existing.number}",
        subject=subject,
        reason=why,
        number=existing.number,
        branch=existing.branch,
        head=existing.head,
    )


def _merge(view: View, wish: Wish, existing: PullRequest) -> Decision:
    subject, number = wish.subject, existing.number
    proposal = view.observed.proposals.get(number)
    if proposal is None or proposal.head != existing.head:
        return wait(hold("gap", subject, f"the head of #{number} was not read"))
    verdict = admit_subject(view.desired, proposal.state, view.observed, subject)
    if verdict.verdict == "block":
        if not verdict.gates or any(o.verdict == "block" for o in verdict.objections):
            # Not what we would write now: rebuilt rather than argued about.
            return act(
                update_request(view, wish, existing, f"its head is not admissible: {verdict.against()[0]}")
            )
        refused = refusal(subject, verdict, f"#{number}")
        shown = plan_checks(existing, verdict, subject, refused)
        return shown.and_then(_told(view, wish, verdict, pull_request=number)).and_then(wait(refused))
    people = sorted({a.by for a in existing.approvals if a.head == existing.head and a.by != existing.author})
    waiting = _unapproved(view, wish, existing, verdict, people) or _frozen(view, wish, existing)
    shown = plan_checks(existing, verdict, subject, waiting)
    shown = shown.and_then(_told(view, wish, verdict, pull_request=number))
    if waiting is not None:
        return shown.and_then(wait(waiting))
    if existing.draft:
        ready = ReadyPullRequest(
            key=f"ready-pull-request #{number} {existing.head}",
            subject=subject,
            reason=f"approved by {', '.join(people)}" if people else "nothing speaks against it any more",
            number=number,
            head=existing.head,
        )
        return shown.and_then(act(ready))
    approved = f", approved by {', '.join(people)}" if people else ""
    if wish.merge == "manual":
        said = f"#{number} is admitted{approved}; a person merges it: `reconcile pr merge {number}`"
        return shown.and_then(wait(hold("awaiting-merge", subject, said, verdict)))
    merge = MergePullRequest(
        key=f"merge-pull-request #{number} {existing.head}",
        subject=subject,
        reason=f"admitted{approved}: {wish.headline}",
        number=number,
        branch=existing.branch,
        head=existing.head,
        title=wish.title,
    )
    return shown.and_then(act(merge))


def _unapproved(
    view: View, wish: Wish, existing: PullRequest, verdict: Verdict, people: list[str]
) -> Hold | None:
    """The hold while approvals are missing; ``people`` are those who approved this head."""
    groups, number = view.desired.platform.groups, existing.number
    absent = missing(wish.approved_by, groups, people)
    needed = max(wish.approvals - len(people), sum(absent.values()))
    made = _made_by(view, wish) if verdict.verdict == "review" else ()
    if needed <= 0 and not (made and set(people) <= set(made)):
        return None
    if needed <= 0:
        said = (
            f"#{number} is approved by {' and '.join(people)} alone, who made this version "
            f"({verdict.against()[0]}): another than {' and '.join(made)} decides that"
        )
        return hold("awaiting-approval", wish.subject, said, verdict)
    members = {person for need in wish.approved_by for person in groups[need.group]} - {
        *people,
        existing.author,
    }
    still = sum(absent.values())
    useful = [m for m in members if sum(missing(wish.approved_by, groups, [*people, m]).values()) < still]
    of = " and ".join(f"{count} of {name}" for name, count in absent.items())
    whose = f", {of} (by {_anyone(useful)})" if of else ""
    said = f", has that of {', '.join(people)}" if people else ""
    against = verdict.against()
    because = f" ({against[0]})" if against else ""
    return hold(
        "awaiting-approval",
        wish.subject,
        f"#{number} needs {needed} approval{'s' if needed > 1 else ''}{whose}{said}{because}: `reconcile pr "
        f"show {number}`, then `reconcile pr approve {number}`",
        verdict,
    )


def _made_by(view: View, wish: Wish) -> tuple[str, ...]:
    """Who made what is proposed, and so may not alone decide what a gate leaves to a person."""
    return authors(view, wish.subject, view.version_of(wish.release)) if wish.release else ()


def _anyone(people: Iterable[str]) -> str:
    """``ann, bob or carol``; no more of them than a sentence holds."""
    names = sorted({*people})
    if len(names) > 5:
        return f"{', '.join(names[:5])} or {len(names) - 5} more"
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "nobody yet"


def _frozen(view: View, wish: Wish, existing: PullRequest) -> Hold | None:
    """The hold while a freeze window is open; rollbacks merge all the same."""
    windows = view.environment(wish.subject).promotion.freeze if wish.frozen else ()
    end = frozen_until(windows, view.at)
    if end is None:
        return None
    reasons = "; ".join(dict.fromkeys(window.reason for window in windows if window.active(view.at)))
    said = f"#{existing.number} waits for the end of a freeze window, {show_instant(end)}: {reasons}"
    return hold("frozen", wish.subject, said)


def refusal(subject: Subject, verdict: Verdict, what: str) -> Hold:
    """The hold for a blocked verdict: a gate's numbers, or the first objection."""
    gates = [gate for gate in verdict.gates if gate.verdict == "block"]
    code = "gate-failed" if gates else "not-admissible"
    reasons = "; ".join(verdict.against()[:3]) or "it is blocked"
    explain = f"`reconcile explain {subject.model} {subject.environment}`"
    measured = any(gate.value is not None for gate in gates)
    then = f"train a better one, or waive the gate: {explain} says how" if measured else f"see {explain}"
    return hold(code, subject, f"{what}: {reasons}; {then}", verdict)


def _marker(wish: Wish) -> Marker:
    return Marker(
        intent=wish.intent,
        environment=wish.subject.environment,
        model=wish.subject.model,
        candidate=wish.candidate,
        inputs=wish.verdict.inputs,
        asked_by=wish.asked_by,
        version=wish.ordered,
    )


def _labels(wish: Wish) -> tuple[str, ...]:
    review = {f"needs-review/{gate.gate}" for gate in wish.verdict.gates if gate.verdict == "review"}
    return ("trueup", f"trueup/{wish.intent}", *sorted(review))


def _summary(view: View, wish: Wish) -> Summary:
    pinned = view.release(wish.subject)
    notes = [*wish.notes]
    if wish.release is not None and pinned is not None and wish.release.serving != pinned.serving:
        notes.append("The serving section changes; the rendered manifests show how.")
    return Summary(
        headline=wish.headline,
        intent=wish.intent,
        environment=wish.subject.environment,
        model=wish.subject.model,
        from_version=pinned.pin.version if pinned else "",
        to_version=wish.release.pin.version if wish.release else "",
        verdict=wish.verdict,
        merges=_merges(view, wish),
        notes=tuple(notes),
        lineage=wish.lineage,
        difference=_difference(view, wish, pinned),
    )


def _difference(view: View, wish: Wish, pinned: Release | None) -> str:
    """What changes in the cluster, from the manifests of the pin to those of the wish, as a unified diff."""
    environment, model = wish.subject.environment, wish.subject.model
    before, after = (
        render(environment, view.environment(wish.subject), model, release) if release else {}
        for release in (pinned, wish.release)
    )
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, "").splitlines(), after.get(name, "").splitlines()
        lines += unified_diff(old, new, name if old else "/dev/null", name if new else "/dev/null", lineterm="")
    return "\n".join(lines)


def _merges(view: View, wish: Wish) -> str:
    windows = len(view.environment(wish.subject).promotion.freeze) if wish.frozen else 0
    unless = ", outside freeze windows" if windows else ""
    needed = max(wish.approvals, sum(need.count for need in wish.approved_by))
    people = "a person approves it" if needed == 1 else f"{needed} people approve it"
    groups = view.desired.platform.groups
    of = [f"{need.count} of {need.group} ({_anyone(groups[need.group])})" for need in wish.approved_by]
    people += f", {' and '.join(of)}" if of else ""
    if wish.merge == "manual":
        return f"A person merges it{f', when {people}' if needed else ''}{unless}."
    when = f"when {people}" if needed else "by itself"
    return f"trueup merges it {when}{unless}."
