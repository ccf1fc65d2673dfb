"""What a Deployment or a Rollout says about itself. Pure; the cluster adapter calls it with what it listed.

Sources: apps/v1 DeploymentStatus as `kubectl rollout status` reads it, and Argo Rollouts' RolloutStatus. A
phase counts only if the controller has seen the present generation and means the wanted pod template:

============================================  ===========================================================
a changed Rollout still says Healthy          ``observedGeneration`` (a string there) is compared first
Healthy may mean an earlier template          the ReplicaSet that serves must carry the wanted release
conditions lag behind the phase               a Rollout's phase, ``abort`` and pause decide, not conditions
an unready pod makes a Rollout Progressing    once it was rolled out, unavailable is Degraded here
a timed pause is Paused                       it ends by itself: Progressing, and the message says so
scaling up makes it unavailable at once       with an autoscaler, what counts is its minReplicas
============================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from reconciler.adapters.kubernetes.client import Object
from reconciler.adapters.kubernetes.fields import applied_at, instant
from reconciler.core.base import show_instant
from reconciler.core.observed import ANNOTATION_RELEASE, Application, Health

POD_HASH = "rollouts-pod-template-hash"
_UNSEEN = "its controller has not seen it yet"
_MESSAGE = 500
_FAILING = ("Failed", "Error", "Inconclusive")


class Condition(NamedTuple):
    """A workload's health since an instant of the cluster's own, and what it says about it."""

    health: Health
    since: datetime
    message: str = ""
    measurements: tuple[str, ...] = ()


def release_of(workload: Object) -> str:
    """The release in the annotations of a pod template, a ReplicaSet's too."""
    metadata = workload["spec"].get("template", {}).get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(ANNOTATION_RELEASE, ""))


def serving(workload: Object, sets: Sequence[Object]) -> str:
    """The release that answers requests: the stable one, or the older one while another takes over."""
    ready = [each for each in sets if each.get("status", {}).get("availableReplicas")]
    stable = workload.get("status", {}).get("stableRS")
    trusted = [each for each in ready if stable and each["metadata"]["labels"].get(POD_HASH) == stable]
    return release_of(min(trusted or ready, key=_revision)) if ready else ""


def condition(
    workload: Object, sets: Sequence[Object], runs: Sequence[Object], enough: int | None = None
) -> Condition:
    """Of a Deployment or Rollout, with the ReplicaSets and AnalysisRuns that it owns.

    ``enough``: how many available pods an autoscaler asks for at least; None where there is none.
    """
    if str(workload.get("status", {}).get("observedGeneration", "")) != str(workload["metadata"]["generation"]):
        return Condition("Progressing", applied_at(workload), _UNSEEN)
    if workload["kind"] == "Rollout":
        return _rollout(workload, sets, runs, enough)
    return _deployment(workload, sets, enough)


def application(item: Object) -> Application:
    """Of an Argo CD Application (argoproj.io/v1alpha1 ApplicationStatus)."""
    status = item.get("status", {})
    operation, health = status.get("operationState") or {}, status.get("health") or {}
    failed = operation.get("phase") in ("Failed", "Error")
    conditions = [str(each.get("message", "")) for each in status.get("conditions") or ()]
    said = [str(operation.get("message", "")) if failed else "", str(health.get("message", "")), *conditions]
    return Application(
        sync=(status.get("sync") or {}).get("status") or "Unknown",
        health=health.get("status") or "Unknown",
        message=next((" ".join(text.split())[:_MESSAGE] for text in said if text), ""),
    )


def _deployment(deployment: Object, sets: Sequence[Object], enough: int | None) -> Condition:
    conditions = _conditions(deployment)
    progressing, available = conditions.get("Progressing", {}), conditions.get("Available", {})
    if deployment["spec"].get("paused"):
        since = instant(progressing["lastUpdateTime"]) if progressing else applied_at(deployment)
        return Condition("Paused", since, "spec.paused is set")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return Condition(
            "Degraded", instant(progressing["lastTransitionTime"]), _said(conditions, "Progressing")
        )
    newest = max(sets, key=_revision, default=None)
    rolled_out = progressing.get("reason") == "NewReplicaSetAvailable" and available
    if not rolled_out or newest is None or release_of(newest) != release_of(deployment):
        status = deployment.get("status", {})
        counts = (
            f"{_count(status, 'updatedReplicas')} of {deployment['spec'].get('replicas', 1)} pods are updated"
        )
        said = f"{counts}, {_count(status, 'availableReplicas')} available"
        refused = _said(conditions, "ReplicaFailure") if "ReplicaFailure" in conditions else ""
        return Condition("Progressing", applied_at(deployment), f"{said}: {refused}" if refused else said)
    if _too_few(deployment, available, enough):
        return Condition("Degraded", instant(available["lastTransitionTime"]), _said(conditions, "Available"))
    # The reason is written once, when the rollout is complete.
    done = max(instant(progressing["lastUpdateTime"]), instant(available["lastTransitionTime"]))
    return Condition("Healthy", done)


def _rollout(rollout: Object, sets: Sequence[Object], runs: Sequence[Object], enough: int | None) -> Condition:
    status, conditions = rollout["status"], _conditions(rollout)
    phase, said = status.get("phase", ""), str(status.get("message", ""))
    present = status.get("currentPodHash", "")
    found = tuple(
        sentence
        for run in runs
        if run["metadata"].get("labels", {}).get(POD_HASH) == present and _revision(run) == _revision(rollout)
        for sentence in failing(run)
    )
    if status.get("abort"):
        since = instant(status["abortedAt"]) if status.get("abortedAt") else _last(conditions, "Progressing")
        return Condition("Aborted", since, "; ".join((said, *found)), found)
    if phase == "Degraded":
        why = "InvalidSpec" if "InvalidSpec" in conditions else "Progressing"
        return Condition("Degraded", _last(conditions, why, rollout), said, found)
    if phase == "Paused":
        return _paused(rollout, found)
    here = next((each for each in sets if each["metadata"]["labels"].get(POD_HASH) == present), None)
    if present == status.get("stableRS") and here is not None and release_of(here) == release_of(rollout):
        completed = conditions.get("Completed", {}).get("status") == "True"
        if completed and _too_few(rollout, conditions.get("Available", {}), enough):
            return Condition("Degraded", _last(conditions, "Available"), _said(conditions, "Available"))
        if phase == "Healthy" or (completed and enough is not None):
            return Condition("Healthy", _last(conditions, ("Healthy", "Completed", "Available"), rollout))
    return Condition(
        "Progressing", applied_at(rollout), f"{_step(rollout)}{said or 'the release is rolled out'}"
    )


def _paused(rollout: Object, found: tuple[str, ...]) -> Condition:
    status = rollout["status"]
    pauses = status.get("pauseConditions") or ()
    since = max((instant(pause["startTime"]) for pause in pauses), default=applied_at(rollout))
    reasons = {pause["reason"] for pause in pauses}
    step = _present_step(rollout).get("pause") or {}
    if (
        reasons == {"CanaryPauseStep"}
        and step.get("duration") is not None
        and not rollout["spec"].get("paused")
    ):
        said = f"{_step(rollout)}a pause of {step['duration']} since {show_instant(since)}"
        return Condition("Progressing", since, said)
    why = ", ".join(sorted(reasons)) or "spec.paused is set"
    return Condition("Paused", since, "; ".join((f"{_step(rollout)}{why}", *found)), found)


def _present_step(rollout: Object) -> Object:
    steps = rollout["spec"].get("strategy", {}).get("canary", {}).get("steps") or []
    index = rollout["status"].get("currentStepIndex", len(steps))
    return steps[index] if index < len(steps) else {}


def _step(rollout: Object) -> str:
    """Where a canary is: ``canary at 10 %, step 2 of 4: ``; empty behind its last step."""
    steps = rollout["spec"].get("strategy", {}).get("canary", {}).get("steps") or []
    index = rollout["status"].get("currentStepIndex", len(steps))
    if index >= len(steps):
        return ""
    weight = next((s["setWeight"] for s in reversed(steps[: index + 1]) if "setWeight" in s), 0)
    return f"canary at {weight} %, step {index + 1} of {len(steps)}: "


def failing(run: Object) -> Iterator[str]:
    """A sentence for each metric of an AnalysisRun that did not pass: its value, and what it was to be."""
    metrics = {metric["name"]: metric for metric in run["spec"].get("metrics") or ()}
    for result in run.get("status", {}).get("metricResults") or ():
        phase = result.get("phase", "")
        if phase not in _FAILING or result.get("dryRun"):
            continue
        bad = [m for m in result.get("measurements") or () if m.get("phase") == phase]
        metric = metrics.get(result["name"], {})
        terms = (("successCondition", "to pass it needs"), ("failureCondition", "it fails at"))
        wanted = "; ".join(f"{text} {metric[field]}" for field, text in terms if metric.get(field))
        last = bad[-1] if bad else {}
        value, why = last.get("value"), last.get("message") or result.get("message")
        said = f"{result['name']} was {value}" if value else f"{result['name']}: {why or 'no measurement'}"
        at = f" at {last['finishedAt']}" if value and last.get("finishedAt") else ""
        yield f"{said}{at} ({phase.lower()})" + (f"; {wanted}" if wanted else "")


def _too_few(workload: Object, available: Object, enough: int | None) -> bool:
    """Whether fewer pods are available than must be, by the workload's own terms or its autoscaler's."""
    short = available.get("status") == "False"
    return short and (enough is None or _count(workload["status"], "availableReplicas") < enough)


def _conditions(workload: Object) -> dict[str, Object]:
    return {each["type"]: each for each in workload.get("status", {}).get("conditions") or ()}


def _said(conditions: dict[str, Object], name: str) -> str:
    return str(conditions[name].get("message", ""))


def _last(
    conditions: dict[str, Object], names: str | tuple[str, ...], workload: Object | None = None
) -> datetime:
    """When the last of these conditions became what it is."""
    times = [
        instant(conditions[name]["lastTransitionTime"])
        for name in ((names,) if isinstance(names, str) else names)
        if name in conditions
    ]
    assert times or workload is not None
    return max(times) if times else applied_at(workload or {})


def _revision(workload: Object) -> int:
    """The deployment.kubernetes.io/revision or rollout.argoproj.io/revision of a workload, set or run."""
    annotations = workload["metadata"].get("annotations") or {}
    for name in ("rollout.argoproj.io/revision", "deployment.kubernetes.io/revision"):
        if str(annotations.get(name, "")).isdecimal():
            return int(annotations[name])
    return 0


def _count(status: Any, field: str) -> int:
    return int(status.get(field) or 0)
