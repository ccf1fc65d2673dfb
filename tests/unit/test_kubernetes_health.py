"""What Deployments and Rollouts say about themselves, from statuses as a real cluster wrote them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.adapters.kubernetes.health import POD_HASH, condition, failing, serving
from reconciler.core.observed import ANNOTATION_RELEASE

APPLIED = "2026-03-01T12:00:00Z"
LATER = "2026-03-01T12:00:30Z"
STEPS = [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "5s"}}]


def template(release: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {ANNOTATION_RELEASE: release}}}


def workload(kind: str, status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Release ``two`` at generation 4, applied at noon, seen by its controller."""
    return {
        "kind": kind,
        "metadata": {
            "name": "m",
            "namespace": "ml",
            "generation": 4,
            "creationTimestamp": "2026-03-01T11:00:00Z",
            "annotations": {"rollout.argoproj.io/revision": "3"},
            "managedFields": [{"manager": "trueup", "operation": "Apply", "time": APPLIED}],
        },
        "spec": {"replicas": 10, "template": template("two"), **spec},
        "status": {"observedGeneration": "4" if kind == "Rollout" else 4} | status,
    }


def rollout(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return workload("Rollout", status, strategy={"canary": {"steps": STEPS}}, **spec)


def replicas(release: str, name: str, available: int, revision: int) -> dict[str, Any]:
    metadata = {
        "labels": {POD_HASH: name},
        "annotations": {"deployment.kubernetes.io/revision": str(revision)},
    }
    return {
        "metadata": metadata,
        "spec": {"template": template(release)},
        "status": {"availableReplicas": available},
    }


def conditions(**of: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "type": name,
            "status": status,
            "reason": reason,
            "message": f"{name} says so",
            "lastTransitionTime": LATER,
            "lastUpdateTime": LATER,
        }
        for name, (status, reason) in of.items()
    ]


OLD, NEW = replicas("one", "old", 9, 2), replicas("two", "new", 1, 3)
PAUSE = {"reason": "CanaryPauseStep", "startTime": LATER}
DONE = conditions(
    Healthy=("True", "RolloutHealthy"),
    Completed=("True", "RolloutCompleted"),
    Available=("True", "AvailableReason"),
    Progressing=("True", "NewReplicaSetAvailable"),
    Paused=("False", "RolloutPaused"),
)
ABORTED = "RolloutAborted: Rollout aborted update to revision 3"
LATE = 'ProgressDeadlineExceeded: ReplicaSet "m-new" has timed out progressing.'

ROLLOUTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # status, health, message, since
    "progressing": (
        {"phase": "Progressing", "message": "more replicas need to be updated", "currentStepIndex": 2}
        | {"currentPodHash": "new", "stableRS": "old"},
        "Progressing",
        "canary at 50 %, step 3 of 4: more replicas need to be updated",
        APPLIED,
    ),
    "paused without end": (
        {"phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 1, "pauseConditions": [PAUSE]}
        | {"currentPodHash": "new", "stableRS": "old", "controllerPause": True},
        "Paused",
        "canary at 10 %, step 2 of 4: CanaryPauseStep",
        LATER,
    ),
    "paused for a time": (
        {"phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 3, "pauseConditions": [PAUSE]}
        | {"currentPodHash": "new", "stableRS": "old", "controllerPause": True},
        "Progressing",
        "canary at 50 %, step 4 of 4: a pause of 5s since 2026-03-01T12:00:30Z",
        LATER,
    ),
    "healthy": (
        {
            "phase": "Healthy",
            "currentStepIndex": 4,
            "currentPodHash": "new",
            "stableRS": "new",
            "conditions": DONE,
        },
        "Healthy",
        "",
        LATER,
    ),
    "healthy of an earlier spec": (
        {"phase": "Healthy", "observedGeneration": "3", "currentPodHash": "old", "stableRS": "old"}
        | {"conditions": DONE},
        "Progressing",
        "its controller has not seen it yet",
        APPLIED,
    ),
    "healthy of another template": (
        {
            "phase": "Healthy",
            "currentStepIndex": 4,
            "currentPodHash": "old",
            "stableRS": "old",
            "conditions": DONE,
        },
        "Progressing",
        "the release is rolled out",
        APPLIED,
    ),
    "aborted by a person": (
        {"phase": "Degraded", "message": ABORTED, "abort": True, "abortedAt": LATER, "currentStepIndex": 0}
        | {"currentPodHash": "new", "stableRS": "old"},
        "Aborted",
        ABORTED,
        LATER,
    ),
    "late": (
        {
            "phase": "Degraded",
            "message": LATE,
            "currentStepIndex": 0,
            "currentPodHash": "new",
            "stableRS": "old",
        }
        | {"conditions": conditions(Progressing=("False", "ProgressDeadlineExceeded"))},
        "Degraded",
        LATE,
        LATER,
    ),
}


@pytest.mark.parametrize(("status", "health", "message", "since"), ROLLOUTS.values(), ids=ROLLOUTS)
def test_a_rollout(status: dict[str, Any], health: str, message: str, since: str) -> None:
    found = condition(rollout(status), [OLD, NEW], ())
    assert (found.health, found.message, found.measurements) == (health, message, ())
    assert found.since == datetime.fromisoformat(since)


def test_a_rollout_whose_spec_says_paused_waits_for_a_person() -> None:
    status = {"phase": "Paused", "currentStepIndex": 3, "currentPodHash": "new", "stableRS": "old"}
    found = condition(rollout(status, paused=True), [OLD, NEW], ())
    assert (found.health, found.message) == ("Paused", "canary at 50 %, step 4 of 4: spec.paused is set")


def run(revision: str, **result: Any) -> dict[str, Any]:
    metric = {"name": "error-rate", "successCondition": "result < 0.05"}
    metadata = {"labels": {POD_HASH: "new"}, "annotations": {"rollout.argoproj.io/revision": revision}}
    status = {"metricResults": [{"name": "error-rate"} | result]}
    return {"metadata": metadata, "spec": {"metrics": [metric]}, "status": status}


def test_an_abort_by_analysis_says_what_was_measured() -> None:
    measured = [
        {"phase": "Successful", "value": "0.01"},
        {"phase": "Failed", "value": "0.2", "finishedAt": LATER},
    ]
    status = {"phase": "Degraded", "message": ABORTED, "abort": True, "abortedAt": LATER}
    status |= {"currentPodHash": "new", "stableRS": "old", "currentStepIndex": 0}
    runs = [
        run("3", phase="Failed", measurements=measured),
        run("3", phase="Failed", dryRun=True),
        run("2", phase="Failed", measurements=measured),  # of an earlier try of the same template
    ]
    found = condition(rollout(status), [OLD, NEW], runs)
    said = "error-rate was 0.2 at 2026-03-01T12:00:30Z (failed); to pass it needs result < 0.05"
    assert found.measurements == (said,)
    assert found.message == f"{ABORTED}; {said}"


def test_a_measurement_that_could_not_be_taken_says_why() -> None:
    broken = run("3", phase="Error", measurements=[{"phase": "Error", "message": "connection refused"}])
    said = "error-rate: connection refused (error); to pass it needs result < 0.05"
    assert list(failing(broken)) == [said]
    assert list(failing(run("3", phase="Successful"))) == []


def test_the_stable_release_serves_and_the_older_one_until_it_is_gone() -> None:
    canary = rollout({"stableRS": "old"})
    assert serving(canary, [NEW, OLD]) == "one"
    assert serving(rollout({"stableRS": "new"}), [NEW, OLD]) == "two"
    assert serving(workload("Deployment", {}), [NEW, OLD]) == "one"
    assert serving(workload("Deployment", {}), [NEW, replicas("one", "old", 0, 2)]) == "two"
    assert serving(canary, []) == ""


COMPLETE = {
    "Available": ("True", "MinimumReplicasAvailable"),
    "Progressing": ("True", "NewReplicaSetAvailable"),
}
DEPLOYMENTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "not seen": (
        {"observedGeneration": 3, "conditions": conditions(**COMPLETE)},
        "Progressing",
        "not seen it yet",
    ),
    "rolling": (
        {"conditions": conditions(**COMPLETE | {"Progressing": ("True", "ReplicaSetUpdated")})}
        | {"updatedReplicas": 3, "availableReplicas": 9},
        "Progressing",
        "3 of 10 pods are updated, 9 available",
    ),
    "pods refused": (
        {
            "conditions": conditions(
                Progressing=("True", "ReplicaSetUpdated"), ReplicaFailure=("True", "Forbidden")
            )
        },
        "Progressing",
        "0 available: ReplicaFailure says so",
    ),
    "healthy": ({"conditions": conditions(**COMPLETE)}, "Healthy", ""),
    "late": (
        {"conditions": conditions(**COMPLETE | {"Progressing": ("False", "ProgressDeadlineExceeded")})},
        "Degraded",
        "Progressing says so",
    ),
    "unready": (
        {"conditions": conditions(**COMPLETE | {"Available": ("False", "MinimumReplicasUnavailable")})},
        "Degraded",
        "Available says so",
    ),
}


@pytest.mark.parametrize(("status", "health", "message"), DEPLOYMENTS.values(), ids=DEPLOYMENTS)
def test_a_deployment(status: dict[str, Any], health: str, message: str) -> None:
    found = condition(workload("Deployment", status), [OLD, NEW], ())
    assert found.health == health
    assert message in found.message
    assert found.since == datetime.fromisoformat(APPLIED if health == "Progressing" else LATER)


def test_a_deployment_without_its_replicaset_yet_is_not_healthy() -> None:
    status = {"conditions": conditions(**COMPLETE)}
    assert condition(workload("Deployment", status), [OLD], ()).health == "Progressing"
    paused = condition(workload("Deployment", status, paused=True), [OLD, NEW], ())
    assert (paused.health, paused.since) == ("Paused", datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC))
