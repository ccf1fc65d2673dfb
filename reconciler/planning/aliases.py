"""The registry's alias of an environment names its champion; what a removed release left behind goes."""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.documents import Release
from reconciler.core.observed import Gap, ModelVersion, alias_tag
from reconciler.core.plan import MoveAlias, PruneWorkload, RemoveAlias
from reconciler.planning.decision import NOTHING, Decision, act, wait
from reconciler.planning.holds import hold, unanswered
from reconciler.planning.releases import mark_version
from reconciler.planning.view import View


def plan_alias(view: View, subject: Subject) -> Decision:
    """Point the alias at the champion, whoever moved it away."""
    environment, model = view.environment(subject), view.model(subject)
    champion, release = view.champion(subject), view.release(subject)
    registered = view.registered(environment.registry, model.registered_name)
    if champion is None or release is None or isinstance(registered, Gap):
        return NOTHING
    # Under another name, or given again, the same number may be another model.
    version = registered.version(champion.version)
    untagged = version is not None and version.digest is None and version is view.version_of(release)
    if version is None or not (version.digest == champion.digest or untagged):
        return NOTHING
    current = registered.aliases.get(environment.alias, "")
    mark = _moved(view, subject, release, version)
    if current == champion.version:
        return mark
    was = f"it named version {current}" if current else "it named nothing"
    where = f"{environment.registry}/{model.registered_name}@{environment.alias}"
    if environment.drift.alias == "warn" and mark == NOTHING:
        return wait(
            hold(
                "drifted",
                subject,
                f"{where} should name version {champion.version}, and {was} (the registry does not tell since "
                f"when); put it back, or let trueup: drift.alias of {subject.environment}",
            )
        )
    move = MoveAlias(
        key=f"move-alias {where} {current}->{champion.version}",
        subject=subject,
        reason=f"version {champion.version} is the verified release of {subject.environment}, and {was}",
        registry=environment.registry,
        name=model.registered_name,
        alias=environment.alias,
        version=champion.version,
        current=current,
    )
    return act(move).and_then(mark)


def _moved(view: View, subject: Subject, release: Release, champion: ModelVersion) -> Decision:
    """The mark that the alias was moved for this champion, where it is to be moved once and then left alone."""
    if view.environment(subject).drift.alias == "heal":
        return NOTHING
    tag, vouched = alias_tag(subject.environment), view.champion(subject)
    assert vouched is not None
    if champion.tags.get(tag) == vouched.release:
        return NOTHING
    pin = release.pin.model_copy(update={"version": champion.version})
    why = "so that it is moved once, and later changes are told"
    return act(mark_version(subject, pin, tag, vouched.release, why))


def stray_alias(view: View, subject: Subject) -> str:
    """The version that the alias still names though nothing is pinned, if trueup verified it there once."""
    if subject.environment not in view.desired.environments or subject.model not in view.desired.models:
        return ""
    environment, model = view.environment(subject), view.model(subject)
    registered = view.registered(environment.registry, model.registered_name)
    if isinstance(registered, Gap):
        return ""
    if _pinned_by_another(view, subject, environment.registry, model.registered_name):
        return ""
    current = registered.aliases.get(environment.alias, "")
    version = registered.version(current) if current else None
    return current if version is not None and version.verified(subject.environment) is not None else ""


def _pinned_by_another(view: View, subject: Subject, registry: str, name: str) -> bool:
    """Whether the alias may be that of a release under another model's name, as where a folder was renamed.

    A release that does not parse may be that one.
    """
    if any(p.severity == "error" and p.environment == subject.environment for p in view.desired.problems):
        return True
    return any(
        key.partition("/")[0] == subject.environment
        and (release.pin.registry, release.pin.name) == (registry, name)
        for key, release in view.desired.releases.items()
    )


def plan_leftovers(view: View, subject: Subject) -> Decision:
    """Prune what carries our label, and remove our alias, where nothing is pinned any more."""
    decision = NOTHING
    workload = view.workload(subject)
    if isinstance(workload, Gap):
        return wait(unanswered(subject, workload))
    if workload is not None and subject.environment not in view.desired.environments:
        return wait(
            hold(
                "unknown-environment",
                subject,
                f"{', '.join(workload.objects)} in namespace {workload.namespace} carries our label; bring the "
                "environment back, or delete it by hand",
            )
        )
    if workload is not None and view.environment(subject).sync == "argocd":
        what = f"nothing is pinned here any more; Argo CD prunes {', '.join(workload.objects)}"
        decision = wait(hold("awaiting-sync", subject, what))
    elif workload is not None:
        decision = act(
            PruneWorkload(
                key=f"prune-workload {subject} {workload.release}",
                subject=subject,
                reason="nothing is pinned here any more",
                cluster=view.environment(subject).cluster,
                namespace=workload.namespace,
                environment=subject.environment,
                model=subject.model,
                objects=workload.objects,
            )
        )
    stray = stray_alias(view, subject)
    if stray:
        environment, model = view.environment(subject), view.model(subject)
        where = f"{environment.registry}/{model.registered_name}@{environment.alias}"
        decision = decision.and_then(
            act(
                RemoveAlias(
                    key=f"remove-alias {where} {stray}",
                    subject=subject,
                    reason="nothing is pinned here any more",
                    registry=environment.registry,
                    name=model.registered_name,
                    alias=environment.alias,
                    current=stray,
                )
            )
        )
    return decision
