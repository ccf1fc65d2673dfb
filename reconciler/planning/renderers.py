"""Release -> Kubernetes manifests, as texts: what is committed under environments/ENV/rendered/MODEL.

Called when a Release is proposed (its manifests go into the same pull request) and by ``render --check``. A
Release names its renderer, and a renderer never changes what it makes of a Release: a new look is a new entry
in :data:`RENDERERS`, and old Releases keep the old one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.core.canonical import dump_yaml
from reconciler.core.desired import blob_id
from reconciler.core.desired import blobs_digest as folder_digest
from reconciler.core.documents import Environment, Release, ServingSnapshot
from reconciler.core.observed import (
    ANNOTATION_RELEASE,
    ANNOTATION_RENDERED,
    LABEL_ENVIRONMENT,
    LABEL_MANAGED,
    LABEL_MODEL,
)

Renderer = Callable[[str, Environment, str, Release], dict[str, dict[str, Any]]]
"""(environment's name, environment, model's name, release) -> file name -> object."""

PORT = 8080
CONFIG_MAP = "trueup-serving"
"""In every namespace that serves: what the servers of that namespace have in common."""

_RENDERED_LINE = re.compile(rf"^ *{re.escape(ANNOTATION_RENDERED)}: .*\n", re.MULTILINE)


def render(
    environment_name: str, environment: Environment, model_name: str, release: Release
) -> dict[str, str]:
    """The manifests of a release: file name -> YAML. Empty for a model that does not serve (batch).

    Every object carries our labels, ``trueup.dev/release`` (the release's digest) and ``trueup.dev/rendered``
    (:func:`rendered_digest` of these files), so that a reader of the cluster sees both without the repository.
    """
    if release.serving == "none":
        return {}
    objects = RENDERERS[release.renderer](environment_name, environment, model_name, release)
    digest = rendered_digest({name: dump_yaml(item) for name, item in objects.items()})
    for item in objects.values():
        item["metadata"]["annotations"][ANNOTATION_RENDERED] = digest
    return {name: dump_yaml(item) for name, item in objects.items()}


def blob_ids(files: Mapping[str, str]) -> dict[str, str]:
    """File name -> Git blob id, as a commit lists the files that :func:`render` makes."""
    return {name: blob_id(text) for name, text in files.items()}


def rendered_digest(files: Mapping[str, str]) -> str:
    """What ``trueup.dev/rendered`` says: the folder's digest less the lines that say it; "" for no files."""
    if not files:
        return ""
    return folder_digest(blob_ids({name: _RENDERED_LINE.sub("", text) for name, text in files.items()}))


def object_name(model: str) -> str:
    """The model's name, made a DNS-1035 label where it starts with a digit: Services ask for a letter."""
    return model if model[0].isalpha() else f"model-{model}"


def _deployment_v1(
    environment_name: str, environment: Environment, model_name: str, release: Release
) -> dict[str, dict[str, Any]]:
    """A Deployment of the model-agnostic server and its Service, for the `restricted` Pod Security Standard.

    Kubernetes API: apps/v1 Deployment and v1 Service. No pod goes before its successor is ready.
    """
    serving = release.serving
    assert isinstance(serving, ServingSnapshot)
    selector = {LABEL_ENVIRONMENT: environment_name, LABEL_MODEL: model_name}
    labels = {"app.kubernetes.io/name": object_name(model_name), LABEL_MANAGED: "trueup", **selector}

    def metadata() -> dict[str, Any]:
        return {
            "name": object_name(model_name),
            "namespace": environment.namespace,
            "labels": labels,
            "annotations": {ANNOTATION_RELEASE: release.digest},
        }

    container = {
        "name": "server",
        "image": release.image,
        "command": ["reconcile-server"],
        "env": [
            {"name": "TRUEUP_MODEL_NAME", "value": release.pin.name},
            {"name": "TRUEUP_MODEL_VERSION", "value": release.pin.version},
            {"name": "TRUEUP_MODEL_DIGEST", "value": release.pin.digest},
            {"name": "TRUEUP_MODEL_URI", "value": f"models:/{release.pin.name}/{release.pin.version}"},
            {"name": "HOST", "value": "0.0.0.0"},  # noqa: S104 - inside a pod
            {"name": "PORT", "value": str(PORT)},
            {
                "name": "MLFLOW_TRACKING_URI",
                "valueFrom": {"configMapKeyRef": {"name": CONFIG_MAP, "key": "MLFLOW_TRACKING_URI"}},
            },
            {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"},
            {"name": "DO_NOT_TRACK", "value": "1"},
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # Loading a large model may take minutes: five of them before a start counts as failed.
        "startupProbe": _http_probe("/health", period=2, failures=150),
        "readinessProbe": _http_probe("/ready", period=2, failures=3),
        "livenessProbe": _http_probe("/health", period=10, failures=3),
        # No limit on CPU: throttling is latency, and the request already is a fair share.
        "resources": {
            "requests": {"cpu": serving.resources.cpu, "memory": serving.resources.memory},
            "limits": {"memory": serving.resources.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - where the model is fetched to
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(),
        "spec": {
            "replicas": serving.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        ANNOTATION_RELEASE: release.digest,
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }
    return {"deployment.yaml": deployment, "service.yaml": service}


def _http_probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


RENDERERS: dict[str, Renderer] = {"deployment/v1": _deployment_v1}
