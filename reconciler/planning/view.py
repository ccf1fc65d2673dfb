"""One subject's facts, read off the desired and the observed state; every planning module starts here.

Pure look-ups and derivations, no decisions: what is pinned, who is champion, what the cluster says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from reconciler.core.base import Instant, Subject
from reconciler.core.desired import DesiredState, Policy, blobs_digest
from reconciler.core.digests import digest_of
from reconciler.core.documents import Environment, Exceptions, Model, Release, VerifiedPin
from reconciler.core.observed import (
    Application,
    ClusterSweep,
    EngineSweep,
    ForgeSweep,
    Gap,
    Intent,
    ModelVersion,
    Observed,
    PinHistory,
    PullRequest,
    RegisteredModel,
    WorkflowRun,
    Workload,
    branch_of,
)


@dataclass(frozen=True)
class View:
    """What is known about everything, with the questions that planning asks of it."""

    desired: DesiredState
    observed: Observed

    @property
    def at(self) -> Instant:
        return self.observed.at

    # --- Git ----------------------------------------------------------------------------------------------

    def environment(self, subject: Subject) -> Environment:
        return self.desired.environments[subject.environment]

    def model(self, subject: Subject) -> Model:
        return self.desired.models[subject.model].model

    def environment_digest(self, subject: Subject) -> str:
        """Of its document, and of who is in the groups that it wants approvals of."""
        environment, groups = self.environment(subject), self.desired.platform.groups
        named = {need.group: sorted(groups.get(need.group, ())) for need in environment.promotion.approved_by}
        return digest_of("environment", document=environment, **({"groups": named} if named else {}))

    def release(self, subject: Subject) -> Release | None:
        return self.desired.releases.get(str(subject))

    @cached_property
    def _pins(self) -> dict[tuple[str, str], list[tuple[str, Release]]]:
        found: dict[tuple[str, str], list[tuple[str, Release]]] = {}
        for key, release in sorted(self.desired.releases.items()):
            found.setdefault((release.pin.registry, release.pin.name), []).append((key, release))
        return found

    def pins_of(self, registry: str, name: str) -> list[tuple[str, Release]]:
        """ENV/MODEL and its Release, of each that pins a version of this registered name."""
        return self._pins.get((registry, name), [])

    def exceptions(self, subject: Subject) -> Exceptions:
        return self.desired.exceptions.get(str(subject)) or Exceptions(kind="Exceptions")

    def policy(self, subject: Subject) -> Policy:
        return self.desired.policies[self.environment(subject).policy]

    def edited(self, subject: Subject, release: Release) -> bool:
        """Whether the committed manifests are others than those that were admitted with the pin."""
        return release.admission.rendered != blobs_digest(self.desired.rendered.get(str(subject), {}))

    # --- registry -----------------------------------------------------------------------------------------

    def registered(self, registry: str, name: str) -> RegisteredModel | Gap:
        """Everything under one registered name; empty where the name is not registered."""
        sweep = self.observed.swept.registries.get(registry)
        if sweep is None:
            return Gap(source=f"registry {registry}", error="was not swept")
        if isinstance(sweep, Gap):
            return sweep
        return sweep.models.get(name) or RegisteredModel()

    def version_of(self, release: Release) -> ModelVersion | None:
        """The registry's version that a release pins, if it is there and is what the pin says.

        An adopted version may carry no digest of ours; then the number is all there is to compare.
        """
        registered = self.registered(release.pin.registry, release.pin.name)
        if isinstance(registered, Gap):
            return None
        version = registered.version(release.pin.version)
        if version is None or not version.ready:
            return None
        adopted = release.admission.grounds == "adoption" and version.digest is None
        return version if adopted or version.digest == release.pin.digest else None

    def verified_at(self, environment: str, release: Release) -> Instant | None:
        """When this very release was verified there, by the mark on its version."""
        version = self.version_of(release)
        mark = version.verified(environment) if version else None
        return mark.at if mark and mark.release == release.digest else None

    def champion(self, subject: Subject) -> VerifiedPin | None:
        """champion(ENV): the verified pin on main; while it is not yet verified, the one before it."""
        release = self.release(subject)
        if release is None:
            return None
        at = self.verified_at(subject.environment, release)
        if at is None:
            before = release.champion
            vouched = before is not None and self._verified_once(subject.environment, release, before)
            return before if vouched else None
        return VerifiedPin(
            version=release.pin.version, digest=release.pin.digest, release=release.digest, at=at
        )

    def _verified_once(self, environment: str, release: Release, before: VerifiedPin) -> bool:
        """Whether the copy in the Release may be believed: a mark in the registry says that this model was
        verified there, and nothing rejected it since. A registry that did not answer contradicts nothing."""
        if release.rejects(before.digest, before.release):
            return False
        registered = self.registered(release.pin.registry, release.pin.name)
        return isinstance(registered, Gap) or any(
            version.verified(environment) is not None and version.digest in (before.digest, None)
            for version in registered.versions
        )

    # --- engine -------------------------------------------------------------------------------------------

    @cached_property
    def _runs(self) -> dict[tuple[str, str, str], list[WorkflowRun]]:
        found: dict[tuple[str, str, str], list[WorkflowRun]] = {}
        if isinstance(self.observed.swept.engine, EngineSweep):
            for run in self.observed.swept.engine.runs.values():
                labels = run.labels
                kind = labels.get("trueup.dev/measurement") or labels.get("trueup.dev/kind", "")
                key = (kind, labels.get("trueup.dev/model", ""), labels.get("trueup.dev/key", ""))
                found.setdefault(key, []).append(run)
        for runs in found.values():
            runs.sort(key=attempt_of)
        return found

    @cached_property
    def _by_model(self) -> dict[str, list[WorkflowRun]]:
        found: dict[str, list[WorkflowRun]] = {}
        for (_, model, _), runs in sorted(self._runs.items()):
            found.setdefault(model, []).extend(runs)
        return found

    def runs_about(self, model: str) -> list[WorkflowRun]:
        """Every run of one model, by kind, key and attempt."""
        return self._by_model.get(model, [])

    def runs(self, kind: str, model: str, key: str) -> list[WorkflowRun]:
        """The attempts at one key, first to last. ``kind`` is ``train`` or a measurement."""
        return self._runs.get((kind, model, key), [])

    # --- forge --------------------------------------------------------------------------------------------

    @cached_property
    def _by_branch(self) -> dict[str, PullRequest]:
        forge = self.observed.swept.forge
        if not isinstance(forge, ForgeSweep):
            return {}
        known = forge.open | self.observed.pulls
        return {known[n].branch: known[n] for n in sorted(forge.open, reverse=True) if known[n].state == "open"}

    def open_pull(self, intent: Intent, subject: Subject) -> PullRequest | None:
        """The open pull request of our branch for this intent; the oldest, should there be two."""
        return self._by_branch.get(branch_of(intent, subject))

    # --- cluster ------------------------------------------------------------------------------------------

    def workload(self, subject: Subject) -> Workload | Gap | None:
        """What runs of this subject; None if nothing does."""
        environment = self.desired.environments.get(subject.environment)
        clusters = self.observed.swept.clusters
        names = [environment.cluster] if environment else sorted(clusters)
        for name in names:
            sweep = clusters.get(name)
            if sweep is None:
                return Gap(source=f"cluster {name}", error="was not swept")
            if isinstance(sweep, Gap):
                return sweep
            if environment is not None and environment.namespace in sweep.gaps:
                return sweep.gaps[environment.namespace]
            if str(subject) in sweep.workloads:
                return sweep.workloads[str(subject)]
            if environment is None and sweep.gaps:  # it may be in any namespace
                return next(iter(sweep.gaps.values()))
        return None

    def application(self, subject: Subject) -> Application | None:
        """What Argo CD says of a subject that it applies, where that was read."""
        sweep = self.observed.swept.clusters.get(self.environment(subject).cluster)
        return sweep.applications.get(str(subject)) if isinstance(sweep, ClusterSweep) else None

    def drifted(self, subject: Subject, workload: Workload) -> tuple[str, ...]:
        """What is otherwise than trueup applied it; of what Argo CD applies, Argo CD sees and mends that."""
        return () if self.environment(subject).sync == "argocd" else workload.drifted

    # --- details ------------------------------------------------------------------------------------------

    def pin_history(self, subject: Subject) -> PinHistory | None:
        return self.observed.pins.get(str(subject))


def attempt_of(run: WorkflowRun) -> int:
    """The attempt's number in a run's labels; 0 where somebody else made them."""
    text = run.labels.get("trueup.dev/attempt", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


Change = Literal["version", "serving"]
