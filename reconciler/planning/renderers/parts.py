"""What ``deployment/v1`` and ``rollout/v1`` have in common: the server's pod, and the objects around it.

Once a renderer is released, these bytes are its promise: a change here is a new version of both, with a copy of
what it changes. Levels and defaults are those of the Kubernetes API: v1, apps/v1, policy/v1, autoscaling/v2,
networking.k8s.io/v1. Pods are for the `restricted` Pod Security Standard.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from reconciler.core.documents import Release
from reconciler.core.observed import ANNOTATION_RELEASE, LABEL_ENVIRONMENT, LABEL_MANAGED, LABEL_MODEL
from reconciler.core.serving import MEASURES, READS_RECORDED, Record, ServingSnapshot

PORT = 8080
RECORDED = "recorded"
RECORDED_PORT = 8081
SHARED = "trueup-serving"
"""A ConfigMap in every namespace that serves: where the registry is. A Secret of that name may say who asks."""

Part = dict[str, Any]


class Served(NamedTuple):
    """One release in its environment: all that a renderer may look at."""

    environment: str
    namespace: str
    model: str
    release: Release
    serving: ServingSnapshot

    @property
    def name(self) -> str:
        return object_name(self.model)

    @property
    def selector(self) -> dict[str, str]:
        return {LABEL_ENVIRONMENT: self.environment, LABEL_MODEL: self.model}

    @property
    def labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": self.name, LABEL_MANAGED: "trueup", **self.selector}

    def object(self, api_version: str, kind: str, spec: Part | None = None, suffix: str = "") -> Part:
        """An object of this release; ``spec`` is left out of kinds that have none."""
        made = {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": f"{self.name}{suffix}",
                "namespace": self.namespace,
                "labels": self.labels,
                "annotations": {ANNOTATION_RELEASE: self.release.digest},
            },
        }
        return made if spec is None else made | {"spec": spec}


def object_name(model: str) -> str:
    """The model's name, made a DNS-1035 label where it starts with a digit: Services ask for a letter."""
    return model if model[0].isalpha() else f"model-{model}"


def workload_spec(served: Served, own: Part) -> Part:
    """What a Deployment and a Rollout say alike, with what is each one's own.

    An autoscaler, where there is one, owns ``replicas``.
    """
    return {
        **({} if served.serving.autoscaling else {"replicas": served.serving.replicas}),
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": served.selector},
        **own,
        "template": _template(served),
    }


def around(served: Served, *, api_version: str, kind: str) -> dict[str, Part]:
    """The objects beside the workload of that kind: file name -> object."""
    serving = served.serving
    scaled = serving.autoscaling
    objects = {
        "service.yaml": service(served),
        "serviceaccount.yaml": served.object("v1", "ServiceAccount") | {"automountServiceAccountToken": False},
        "networkpolicy.yaml": served.object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            {
                "podSelector": {"matchLabels": served.selector},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {"ports": [{"port": "http", "protocol": "TCP"}]},
                    *([_measuring_steps()] if serving.record else []),
                ],
            },
        ),
    }
    if serving.record:
        objects["service-recorded.yaml"] = _recorded_service(served)
    if serving.replicas > 1:
        objects["poddisruptionbudget.yaml"] = served.object(
            "policy/v1",
            "PodDisruptionBudget",
            {"maxUnavailable": 1, "selector": {"matchLabels": served.selector}},
        )
    if scaled:
        objects["horizontalpodautoscaler.yaml"] = served.object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            {
                "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": served.name},
                "minReplicas": scaled.min,
                "maxReplicas": scaled.max,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "averageUtilization": scaled.cpu},
                        },
                    }
                ],
            },
        )
    return objects


def service(served: Served, suffix: str = "", selected: bool = True) -> Part:
    """A Service of the server's port. ``selected``: of all pods; without, someone else says of which."""
    return served.object(
        "v1",
        "Service",
        {
            "type": "ClusterIP",
            **({"selector": served.selector} if selected else {}),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
        suffix,
    )


def _recorded_service(served: Served) -> Part:
    """Headless: its name stands for the address of every pod, and each has a recording of its own."""
    return served.object(
        "v1",
        "Service",
        {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": served.selector,
            "ports": [{"name": RECORDED, "port": RECORDED_PORT, "targetPort": RECORDED, "protocol": "TCP"}],
        },
        "-recorded",
    )


def _measuring_steps() -> Part:
    """Requests may hold personal data: only pods of that label, in a namespace of that label, read them."""
    return {
        "from": [
            {"namespaceSelector": {"matchLabels": MEASURES}, "podSelector": {"matchLabels": READS_RECORDED}}
        ],
        "ports": [{"port": RECORDED, "protocol": "TCP"}],
    }


def _template(served: Served) -> Part:
    return {
        "metadata": {
            "labels": served.labels,
            "annotations": {
                ANNOTATION_RELEASE: served.release.digest,
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(PORT),
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": {
            "serviceAccountName": served.name,
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
            "containers": [_server(served)],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def _server(served: Served) -> Part:
    """The model-agnostic server. ``resources`` is said in full: what is left out, controllers write back."""
    pin, resources, record = served.release.pin, served.serving.resources, served.serving.record
    return {
        "name": "server",
        "image": served.release.image,
        "command": ["reconcile-server"],
        "env": [
            {"name": "TRUEUP_MODEL_NAME", "value": pin.name},
            {"name": "TRUEUP_MODEL_VERSION", "value": pin.version},
            {"name": "TRUEUP_MODEL_DIGEST", "value": pin.digest},
            {"name": "TRUEUP_MODEL_URI", "value": f"models:/{pin.name}/{pin.version}"},
            {"name": "HOST", "value": "0.0.0.0"},  # noqa: S104 - inside a pod
            {"name": "PORT", "value": str(PORT)},
            {
                "name": "MLFLOW_TRACKING_URI",
                "valueFrom": {"configMapKeyRef": {"name": SHARED, "key": "MLFLOW_TRACKING_URI"}},
            },
            *(_credential(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD", "TOKEN")),
            {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"},
            {"name": "DO_NOT_TRACK", "value": "1"},
            *(_recording(served, record) if record else []),
        ],
        "ports": [
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            *([{"name": RECORDED, "containerPort": RECORDED_PORT, "protocol": "TCP"}] if record else []),
        ],
        # Loading a large model may take minutes: five of them before a start counts as failed.
        "startupProbe": _http_probe("/health", period=2, failures=150),
        "readinessProbe": _http_probe("/ready", period=2, failures=3),
        "livenessProbe": _http_probe("/health", period=10, failures=3),
        # No limit on CPU: throttling is latency, and the request already is a fair share.
        "resources": {
            "requests": {"cpu": resources.cpu, "memory": resources.memory},
            "limits": {"memory": resources.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - where the model is fetched to
    }


def _recording(served: Served, record: Record) -> list[Part]:
    return [
        {"name": "TRUEUP_RECORD_SAMPLE", "value": repr(record.sample)},
        {"name": "TRUEUP_RECORD_ROWS", "value": str(record.rows)},
        {"name": "TRUEUP_RELEASE", "value": served.release.digest},
        {"name": "RECORDED_PORT", "value": str(RECORDED_PORT)},
    ]


def _credential(name: str) -> Part:
    """Where the registry asks for none, there is no Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": SHARED, "key": name, "optional": True}}}


def _http_probe(path: str, *, period: int, failures: int) -> Part:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
