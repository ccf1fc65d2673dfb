"""A pin on main is what the cluster runs; a healthy one soaks, and is then verified, once."""

from __future__ import annotations

from reconciler.core.base import Instant, Subject, show_instant
from reconciler.core.desired import blobs_digest
from reconciler.core.documents import Release, rendered_folder
from reconciler.core.observed import Gap, VerifiedMark, Workload, verified_tag
from reconciler.core.plan import ApplyManifests, Verdict
from reconciler.planning.admission import admit_pin
from reconciler.planning.decision import NOTHING, Decision, act, wait
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.releases import mark_version
from reconciler.planning.renderers import blob_ids, render
from reconciler.planning.renderers.parts import object_name
from reconciler.planning.telling import tell_environment
from reconciler.planning.view import View


def not_to_be_applied(view: View, subject: Subject, release: Release) -> Decision | None:
    """Why nothing of this pin may be applied and no alias may follow it; None where it may."""
    registered = view.registered(release.pin.registry, release.pin.name)
    if isinstance(registered, Gap):
        return wait(unanswered(subject, registered))
    if view.version_of(release) is None:
        deleted = registered.pruned.get(release.pin.version)
        gone = (
            f"was deleted by {deleted.by}, {show_instant(deleted.at)}" if deleted else "is not in the registry"
        )
        return wait(
            hold(
                "pinned-version-missing",
                subject,
                f"version {release.pin.version} of {release.pin.name} with digest {release.pin.digest[7:19]} "
                f"{gone}; restore it, or `reconcile rollback {subject} --reason ...`",
            )
        )
    if view.verified_at(subject.environment, release) is None:
        history = view.pin_history(subject)
        verdict = admit_pin(history, view.observed, subject) if history else None
        if verdict is None:
            return wait(hold("gap", subject, "the commit that brought the pin could not be read"))
        silent = next((o for o in verdict.objections if o.code == "gap"), None)
        if silent is not None:
            return wait(hold("gap", subject, silent.what))
        if verdict.verdict == "block":
            return _unadmitted(view, subject, release, verdict)
    if view.edited(subject, release):
        edit = view.observed.edits.get(str(subject))
        since = f" since {edit.commit[:12]} of {show_instant(edit.at)}" if edit else ""
        return wait(
            hold(
                "rendered-edited",
                subject,
                f"the manifests under {rendered_folder(subject.environment, subject.model)} are not those of "
                f"the pin{since}; `reconcile render --check` shows which, a revert mends it",
            )
        )
    return None


def plan_serving(view: View, subject: Subject, release: Release, workload: Workload | Gap | None) -> Decision:
    """Apply what is not there, wait for health and soak, then verify. Failing workloads come elsewhere."""
    if release.serving == "none":
        return _soak(view, subject, release, None)
    if isinstance(workload, Gap):
        return wait(unanswered(subject, workload))
    drifted = view.drifted(subject, workload) if workload else ()
    heal = bool(drifted) and view.environment(subject).drift.cluster == "heal"
    if (why := _why_apply(release, workload, heal=heal)) is not None:
        if view.environment(subject).sync == "argocd":
            folder = rendered_folder(subject.environment, subject.model)
            said = _said_by_argocd(view, subject)
            return wait(
                hold("awaiting-sync", subject, f"{why}; Argo CD applies {folder}, and has not yet{said}")
            )
        return _apply(view, subject, release, why)
    assert workload is not None
    if workload.health == "Paused":
        return wait(
            hold(
                "paused",
                subject,
                f"the canary of version {release.pin.version} is paused since {show_instant(workload.since)}: "
                f"{workload.message or 'no reason given'}; a person goes on or gives up: kubectl argo rollouts "
                f"promote|abort {object_name(subject.model)} -n {workload.namespace}",
            )
        )
    if workload.health != "Healthy" or workload.serving != release.digest:
        said = f": {workload.message}" if workload.message else ""
        return wait(hold("progressing", subject, f"the cluster brings version {release.pin.version} up{said}"))
    return _soak(view, subject, release, workload.since)


def _said_by_argocd(view: View, subject: Subject) -> str:
    application = view.application(subject)
    if application is None:
        return ""
    message = f": {application.message}" if application.message else ""
    return f"; it says {application.sync} and {application.health}{message}"


def drift_warning(view: View, subject: Subject, release: Release, workload: Workload | Gap | None) -> Decision:
    """What somebody changed in the cluster, where the environment wants that told and not put back."""
    if not isinstance(workload, Workload) or workload.release != release.digest:
        return NOTHING
    if not view.drifted(subject, workload):
        return NOTHING
    if view.environment(subject).drift.cluster == "heal":
        return NOTHING
    said = f"{_drifted(workload)}; put it back, or let trueup: drift.cluster of {subject.environment}"
    return wait(hold("drifted", subject, said))


def _drifted(workload: Workload) -> str:
    since = f" since {show_instant(workload.drifted_since)}" if workload.drifted_since else ""
    return f"differs from what was applied{since}: {', '.join(workload.drifted[:3])}"


def _why_apply(release: Release, workload: Workload | None, *, heal: bool) -> str | None:
    if workload is None:
        return f"nothing of version {release.pin.version} runs yet"
    if workload.release != release.digest:
        return f"version {release.pin.version} is pinned, and something else is applied"
    if heal:
        return _drifted(workload)
    if workload.health == "Missing":
        return f"it is gone: {workload.message or 'no objects'}"
    return None


def _apply(view: View, subject: Subject, release: Release, why: str) -> Decision:
    """Exactly what the pin's merge committed, or nothing: nobody has reviewed anything else."""
    environment = view.environment(subject)
    manifests = render(subject.environment, environment, subject.model, release)
    if blobs_digest(blob_ids(manifests)) != release.admission.rendered:
        return wait(
            hold(
                "rendered-edited",
                subject,
                f"{why}, but environment.yaml of {subject.environment} asks for other manifests by now than "
                "were committed with the pin; put it back, or promote another version",
            )
        )
    return act(
        ApplyManifests(
            key=f"apply-manifests {subject} {release.digest}",
            subject=subject,
            reason=why,
            cluster=environment.cluster,
            namespace=environment.namespace,
            release=release.digest,
            manifests=manifests,
        )
    )


def _soak(view: View, subject: Subject, release: Release, healthy_since: Instant | None) -> Decision:
    if view.verified_at(subject.environment, release) is not None:
        return Decision()
    history = view.pin_history(subject)
    if history is None:
        return wait(hold("gap", subject, "the commit that brought the pin could not be read"))
    start = max(history.at, healthy_since) if healthy_since else history.at
    due = start + view.environment(subject).promotion.soak
    if view.at < due:
        return wait(
            hold(
                "soaking",
                subject,
                f"version {release.pin.version} is healthy; it is verified at {show_instant(due)}",
            )
        )
    # The end of the soak, not the tick that saw it: the same wish has the same key in every tick.
    mark = VerifiedMark(release=release.digest, at=due)
    why = f"healthy without a break since {show_instant(start)}, longer than its soak"
    return act(mark_version(subject, release.pin, verified_tag(subject.environment), str(mark), why))


def _unadmitted(view: View, subject: Subject, release: Release, verdict: Verdict) -> Decision:
    reasons = "; ".join(verdict.against()[:3])
    history = view.pin_history(subject)
    commit = history.commit[:12] if history else ""
    sentence = f"the pin of {commit} was not admissible: {reasons}; nothing of it is applied. Revert {commit}"
    title = (
        f"version {release.pin.version} of {subject.model} is pinned in {subject.environment} and not applied"
    )
    return tell_environment(view, subject, release, "unadmitted", title, sentence).and_then(
        wait(hold("unadmitted", subject, sentence, verdict))
    )
