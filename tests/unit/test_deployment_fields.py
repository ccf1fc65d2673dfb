"""The three tables of the embedded cluster hold at every level of a manifest: honoured, ignored, refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from reconciler.adapters.embedded.deployment_fields import HONOURED, IGNORED, REFUSED, Applied, read_manifests
from reconciler.core.errors import Terminal
from reconciler.core.observed import (
    ANNOTATION_RELEASE,
    ANNOTATION_RENDERED,
    LABEL_ENVIRONMENT,
    LABEL_MANAGED,
    LABEL_MODEL,
)

LABELS = {LABEL_MANAGED: "trueup", LABEL_ENVIRONMENT: "staging", LABEL_MODEL: "digits"}
METADATA = {
    "name": "digits",
    "namespace": "ml",
    "labels": LABELS,
    "annotations": {ANNOTATION_RELEASE: "r", ANNOTATION_RENDERED: "m"},
}
TIMES = {
    "initialDelaySeconds": 1,
    "periodSeconds": 1,
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 1,
}
REFERENCE = {"name": "settings", "key": "URI", "optional": True}
CONTAINER = {
    "name": "server",
    "command": ["serve"],
    "args": ["--quiet"],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"configMapKeyRef": REFERENCE}},
        {"name": "C", "valueFrom": {"secretKeyRef": REFERENCE}},
    ],
    "ports": [{"name": "http", "containerPort": 8080}],
    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    "startupProbe": {"httpGet": {"path": "/health", "port": "http"}, **TIMES},
    "readinessProbe": {"tcpSocket": {"port": 8080}, **TIMES},
    "livenessProbe": {"exec": {"command": ["true"]}, **TIMES},
}
MANIFESTS: dict[str, Any] = {
    "Deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": METADATA,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "strategy": {"type": "RollingUpdate"},
            "minReadySeconds": 1,
            "progressDeadlineSeconds": 60,
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {
                    "containers": [CONTAINER],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                    "terminationGracePeriodSeconds": 5,
                },
            },
        },
    },
    "Service": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": METADATA,
        "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": "http"}]},
    },
}
"""Every honoured field of every level, and no other."""

POD = "Deployment spec template spec"
PLACES = {
    "Deployment": ["Deployment"],
    "Service": ["Service"],
    "metadata": ["Deployment metadata", "Service metadata"],
    "Deployment.spec": ["Deployment spec"],
    "strategy": ["Deployment spec strategy"],
    "template": ["Deployment spec template"],
    "pod": [POD],
    "volume": [f"{POD} volumes 0"],
    "container": [f"{POD} containers 0"],
    "volumeMount": [f"{POD} containers 0 volumeMounts 0"],
    "env": [f"{POD} containers 0 env 0", f"{POD} containers 0 env 1"],
    "valueFrom": [f"{POD} containers 0 env {i} valueFrom" for i in (1, 2)],
    "reference": [f"{POD} containers 0 env 1 valueFrom configMapKeyRef"],
    "port": [f"{POD} containers 0 ports 0"],
    "probe": [f"{POD} containers 0 {name}Probe" for name in ("startup", "readiness", "liveness")],
    "httpGet": [f"{POD} containers 0 startupProbe httpGet"],
    "tcpSocket": [f"{POD} containers 0 readinessProbe tcpSocket"],
    "exec": [f"{POD} containers 0 livenessProbe exec"],
    "Service.spec": ["Service spec"],
    "Service.port": ["Service spec ports 0"],
}
"""Where :data:`MANIFESTS` has each level of the tables."""

VALUES = {"scheme": "HTTP"}
"""What an ignored field may say, where not anything will do."""


def at(manifests: dict[str, Any], place: str) -> dict[str, Any]:
    found: Any = manifests
    for part in place.split():
        found = found[int(part) if part.isdigit() else part]
    assert isinstance(found, dict)
    return found


def read(manifests: dict[str, Any]) -> Applied:
    files = {f"{kind.lower()}.yaml": json.dumps(value) for kind, value in manifests.items()}
    return read_manifests(files, "staging", "digits", "ml")


def read_with(level: str, field: str) -> Applied:
    manifests = copy.deepcopy(MANIFESTS)
    at(manifests, PLACES[level][0])[field] = VALUES.get(field, {})
    return read(manifests)


def with_recording() -> dict[str, Any]:
    """The manifests of a server that records, with the second Service under a name of its own."""
    manifests = copy.deepcopy(MANIFESTS)
    at(manifests, f"{POD} containers 0")["ports"].append({"name": "recorded", "containerPort": 8081})
    service = copy.deepcopy(MANIFESTS["Service"])
    service["metadata"]["name"] = "digits-recorded"
    service["spec"]["ports"] = [{"port": 8081, "targetPort": "recorded"}]
    return manifests | {"service-recorded": service}


def test_a_port_for_what_was_recorded_and_its_service() -> None:
    applied = read(with_recording())
    assert applied.pod["recorded"] is True
    assert applied.objects == ["Deployment/digits", "Service/digits", "Service/digits-recorded"]
    assert read(MANIFESTS).pod["recorded"] is False


def test_another_second_port_is_refused_and_so_is_a_service_of_no_port() -> None:
    manifests = with_recording()
    at(manifests, f"{POD} containers 0 ports 1")["name"] = "admin"
    with pytest.raises(Terminal, match="one port is mapped here") as refusal:
        read(manifests)
    assert refusal.value.where.endswith("ports")
    manifests = with_recording()
    at(manifests, "service-recorded spec ports 0")["targetPort"] = "admin"
    with pytest.raises(Terminal, match="is no port of the container"):
        read(manifests)
    manifests = with_recording()
    at(manifests, f"{POD} containers 0 startupProbe httpGet")["port"] = "recorded"
    with pytest.raises(Terminal, match="is not the container's port"):
        read(manifests)


def entries(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(level, field) for level, fields in table.items() for field in fields.split()]


def test_every_honoured_field_is_accepted_without_a_note() -> None:
    assert HONOURED.keys() == PLACES.keys()
    for level, places in PLACES.items():
        assert {field for place in places for field in at(MANIFESTS, place)} == set(HONOURED[level].split()), (
            level
        )
    assert read(MANIFESTS).notes == []


@pytest.mark.parametrize(("level", "field"), entries(IGNORED))
def test_every_ignored_field_is_noted(level: str, field: str) -> None:
    (note,) = read_with(level, field).notes
    assert note.endswith(f".{field}")


@pytest.mark.parametrize(("level", "field"), entries(REFUSED))
def test_every_refused_field_is_refused_by_name(level: str, field: str) -> None:
    with pytest.raises(Terminal, match="the embedded cluster cannot do that") as refusal:
        read_with(level, field)
    assert refusal.value.where.endswith(f".{field}")
    assert "Kubernetes" in refusal.value.hint


@pytest.mark.parametrize("level", HONOURED)
def test_an_unknown_field_is_refused_at_every_level(level: str) -> None:
    with pytest.raises(Terminal, match="does not know") as refusal:
        read_with(level, "novelty")
    assert refusal.value.where.endswith(".novelty")
