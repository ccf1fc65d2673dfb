"""What the embedded cluster makes of Kubernetes manifests: three tables, and the reader that holds to them.

:mod:`reconciler.adapters.embedded.cluster` calls :func:`read_manifests` before it records anything. Levels and
defaults are those of the Kubernetes API: apps/v1 Deployment, v1 Service. Other kinds have a table of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from reconciler.adapters.embedded.replica import Check, PodSpec, ProbeSpec
from reconciler.core import strict_yaml
from reconciler.core.digests import digest_of
from reconciler.core.errors import Terminal
from reconciler.core.observed import (
    ANNOTATION_RELEASE,
    ANNOTATION_RENDERED,
    LABEL_ENVIRONMENT,
    LABEL_MANAGED,
    LABEL_MODEL,
)

# A field in none of the three tables is refused too, as unknown: nothing is dropped in silence.

HONOURED: dict[str, str] = {
    "Deployment": "apiVersion kind metadata spec",
    "Service": "apiVersion kind metadata spec",
    "metadata": "name namespace labels annotations",
    "Deployment.spec": "replicas selector template strategy minReadySeconds progressDeadlineSeconds",
    "strategy": "type",
    "template": "metadata spec",
    "pod": "containers volumes terminationGracePeriodSeconds",
    "volume": "name emptyDir",
    "container": "name command args env ports volumeMounts startupProbe readinessProbe livenessProbe",
    "volumeMount": "name mountPath",
    "env": "name value valueFrom",
    "valueFrom": "configMapKeyRef secretKeyRef",
    "reference": "name key optional",
    "port": "name containerPort",
    "probe": "httpGet tcpSocket exec initialDelaySeconds periodSeconds timeoutSeconds "
    "successThreshold failureThreshold",
    "httpGet": "path port",
    "tcpSocket": "port",
    "exec": "command",
    "Service.spec": "selector ports",
    "Service.port": "port targetPort",
}
"""By level of an object, the fields that do here what they do in Kubernetes."""

IGNORED: dict[str, str] = {
    "Deployment.spec": "revisionHistoryLimit",
    "strategy": "rollingUpdate",
    "pod": "affinity automountServiceAccountToken enableServiceLinks imagePullSecrets nodeSelector "
    "priorityClassName restartPolicy schedulerName securityContext serviceAccountName tolerations "
    "topologySpreadConstraints",
    "container": "image imagePullPolicy resources securityContext terminationMessagePath "
    "terminationMessagePolicy",
    "port": "protocol",
    "httpGet": "scheme",
    "Service.spec": "type clusterIP internalTrafficPolicy ipFamilyPolicy sessionAffinity",
    "Service.port": "name protocol appProtocol",
}
"""Where and how it would run. One process runs, of this machine's Python. The logs say what was ignored."""

REFUSED: dict[str, str] = {
    "Deployment.spec": "paused",
    "pod": "activeDeadlineSeconds dnsConfig dnsPolicy ephemeralContainers hostAliases hostIPC hostNetwork "
    "hostPID hostname initContainers runtimeClassName shareProcessNamespace subdomain",
    "volume": "configMap csi downwardAPI ephemeral hostPath nfs persistentVolumeClaim projected secret",
    "container": "envFrom lifecycle resizePolicy restartPolicy stdin tty volumeDevices workingDir",
    "volumeMount": "mountPropagation readOnly subPath subPathExpr",
    "valueFrom": "fieldRef fileKeyRef resourceFieldRef",
    "port": "hostIP hostPort",
    "probe": "grpc terminationGracePeriodSeconds",
    "httpGet": "host httpHeaders",
    "tcpSocket": "host",
    "Service.spec": "externalIPs externalName loadBalancerIP",
    "Service.port": "nodePort",
}
"""What would alter results if it were left out."""


KINDS_IGNORED = ("HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount")
"""How many, where and as whom it would run, and who could reach it: one process runs, as who started it."""

KINDS_REFUSED = {
    "Rollout": "the strategy rolling, or a Kubernetes cluster with Argo Rollouts",
    "AnalysisTemplate": "the strategy rolling, or a Kubernetes cluster with Argo Rollouts",
}
"""Kind -> what to use instead: a canary needs several pods, a share of the traffic and a Prometheus."""


class Applied(NamedTuple):
    """What a subject's manifests come to. ``values`` names the variables that the cluster must supply."""

    release: str
    rendered: str
    objects: list[str]
    notes: list[str]
    pod: PodSpec
    values: dict[str, bool]


def read_manifests(manifests: Mapping[str, str], environment: str, model: str, namespace: str) -> Applied:
    """Check one subject's manifests against the tables above and reduce them to what is run.

    Terminal for anything that is refused, unknown, missing or of the wrong type, with the field's path.
    """
    files = {name: strict_yaml.read(text, name).value for name, text in manifests.items()}
    wanted = {LABEL_MANAGED: "trueup", LABEL_ENVIRONMENT: environment, LABEL_MODEL: model}
    kinds: dict[str, list[_Node]] = {}
    objects: list[str] = []
    notes: list[str] = []
    for name, value in files.items():
        kind = str(value.get("kind")) if isinstance(value, dict) else "none"
        if kind in KINDS_REFUSED:
            hint = f"use {KINDS_REFUSED[kind]}"
            raise Terminal(f"the embedded cluster cannot do a {kind}", where=name, hint=hint)
        if kind not in ("Deployment", "Service", *KINDS_IGNORED) or (kind in kinds and kind != "Service"):
            raise Terminal(
                f"an object of kind {kind}: one Deployment and its Services are known here", where=name
            )
        node = _Node(value, name, kind, notes)
        kinds.setdefault(kind, []).append(node)
        if kind in KINDS_IGNORED:
            notes.append(kind)
        metadata = node.child("metadata", "metadata")
        if metadata.get("namespace", str) != namespace:
            raise Terminal(f"is not {namespace}", where=f"{metadata.where}.namespace")
        labels = metadata.get("labels", dict, {})
        if not wanted.items() <= labels.items():
            raise Terminal(f"are not those of {environment}/{model}", where=f"{metadata.where}.labels")
        objects.append(f"{kind}/{metadata.get('name', str)}")
    if "Deployment" not in kinds:
        raise Terminal("there is no Deployment among the manifests", where=f"{environment}/{model}")
    (found,) = kinds["Deployment"]
    deployment = found.child("spec", "Deployment.spec")
    annotations = found.child("metadata", "metadata").get("annotations", dict, {})
    release = annotations.get(ANNOTATION_RELEASE, "")
    pod, values, ports = _pod(deployment, release, notes)
    for service in kinds.get("Service", ()):
        _check_service(service.child("spec", "Service.spec"), deployment, ports)
    return Applied(release, annotations.get(ANNOTATION_RENDERED, ""), objects, sorted(set(notes)), pod, values)


class _Node:
    """One mapping of a manifest, its fields checked against the tables when it is reached."""

    def __init__(self, value: Any, where: str, level: str, notes: list[str]) -> None:
        if not isinstance(value, dict):
            raise Terminal("is not a mapping", where=where)
        self.value: dict[str, Any] = value
        self.where = where
        self._notes = notes
        for field in value if level not in KINDS_IGNORED else ():
            path = f"{where}.{field}"
            if field in HONOURED[level].split():
                continue
            if field in IGNORED.get(level, "").split():
                notes.append(path.partition(".yaml.")[2] or path)
            elif field in REFUSED.get(level, "").split():
                raise Terminal(
                    "the embedded cluster cannot do that", where=path, hint="use a Kubernetes cluster for it"
                )
            else:
                raise Terminal("is a field that the embedded cluster does not know", where=path)

    def get(self, field: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The field's value, of that type; Terminal if it is another, or absent without a default."""
        value = self.value.get(field, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Terminal("is missing or of the wrong type", where=f"{self.where}.{field}")
        return value

    def child(self, field: str, level: str) -> _Node:
        return _Node(self.value.get(field), f"{self.where}.{field}", level, self._notes)

    def children(self, field: str, level: str) -> list[_Node]:
        items = enumerate(self.get(field, list, []))
        return [_Node(item, f"{self.where}.{field}[{i}]", level, self._notes) for i, item in items]

    def words(self, field: str) -> list[str]:
        value = self.get(field, list, [])
        if not all(isinstance(word, str) for word in value):
            raise Terminal("is not a list of texts", where=f"{self.where}.{field}")
        return list(value)


def _pod(deployment: _Node, release: str, notes: list[str]) -> tuple[PodSpec, dict[str, bool], set[Any]]:
    """(what is run, variables whose values are looked up -> optional, names and numbers of its ports)."""
    if deployment.get("replicas", int, 1) < 1:
        raise Terminal("one process always runs here", where=f"{deployment.where}.replicas")
    if deployment.get("replicas", int, 1) > 1:
        notes.append("spec.replicas beyond the first")
    if "strategy" in deployment.value:
        strategy = deployment.child("strategy", "strategy")
        if strategy.get("type", str, "RollingUpdate") != "RollingUpdate":
            raise Terminal("only RollingUpdate is done here", where=f"{strategy.where}.type")
    template = deployment.child("template", "template")
    selector = deployment.get("selector", dict).get("matchLabels", {})
    if (
        not selector
        or not selector.items() <= template.child("metadata", "metadata").get("labels", dict, {}).items()
    ):
        raise Terminal("does not select the pods of the template", where=f"{deployment.where}.selector")
    pod = template.child("spec", "pod")
    volumes = {volume.get("name", str) for volume in pod.children("volumes", "volume")}
    containers = pod.children("containers", "container")
    if len(containers) != 1:
        raise Terminal("one container is run here, not several", where=f"{pod.where}.containers")
    container = containers[0]
    for mount in container.children("volumeMounts", "volumeMount"):
        if mount.get("name", str) not in volumes or mount.get("mountPath", str) != "/tmp":  # noqa: S108
            raise Terminal("only an emptyDir at /tmp is given here (as TMPDIR)", where=mount.where)
    command = [*container.words("command"), *container.words("args")]
    if any("$(" in word for word in command):
        raise Terminal("$(NAME) is not replaced here", where=f"{container.where}.command")
    if not container.value.get("command"):
        raise Terminal(
            "is missing",
            where=f"{container.where}.command",
            hint="an image is not run here, so its entry point is not known",
        )
    ports = container.children("ports", "port")
    if not ports or [port.get("name", str, "") for port in ports[1:]] not in ([], ["recorded"]):
        what = "one port is mapped here, to the variable PORT, and one named recorded, to RECORDED_PORT"
        raise Terminal(what, where=f"{container.where}.ports")
    named = [{port.get("containerPort", int), port.get("name", str, "")} - {""} for port in ports]
    names = named[0]
    env, values = _environment(container)
    probes = {
        name: _probe(container.child(f"{name}Probe", "probe"), names)
        for name in ("startup", "readiness", "liveness")
        if f"{name}Probe" in container.value
    }
    spec: PodSpec = {
        "template": digest_of("pod", template=template.value),
        "release": release,
        "command": command,
        "recorded": len(ports) > 1,
        "env": env,
        "probes": probes,
        "grace": pod.get("terminationGracePeriodSeconds", int, 30),
        "min_ready": deployment.get("minReadySeconds", int, 0),
        "deadline": deployment.get("progressDeadlineSeconds", int, 600),
    }
    return spec, values, set().union(*named)


def _environment(container: _Node) -> tuple[dict[str, str | None], dict[str, bool]]:
    env: dict[str, str | None] = {}
    values: dict[str, bool] = {}
    for item in container.children("env", "env"):
        name = item.get("name", str)
        if "valueFrom" not in item.value:
            value = item.get("value", str, "")
            if "$(" in value:
                raise Terminal("$(NAME) is not replaced here", where=f"{item.where}.value")
            env[name] = value
            continue
        source = item.child("valueFrom", "valueFrom")
        if len(source.value) != 1:
            raise Terminal("names not exactly one source", where=source.where)
        reference = source.child(next(iter(source.value)), "reference")
        values[name] = reference.get("optional", bool, False)
        env[name] = None
    return env, values


def _probe(node: _Node, ports: set[Any]) -> ProbeSpec:
    checks = [name for name in get_args(Check) if name in node.value]
    if len(checks) != 1:
        raise Terminal("names not exactly one check", where=node.where)
    check = node.child(checks[0], checks[0])
    if checks[0] != "exec" and check.get("port", (str, int)) not in ports:
        raise Terminal("is not the container's port", where=f"{check.where}.port")
    if check.value.get("scheme", "HTTP") != "HTTP":
        raise Terminal("only HTTP is asked here", where=f"{check.where}.scheme")

    def number(field: str, default: int, least: int) -> int:
        value = node.get(field, int, default)
        if value < least:
            raise Terminal(f"is less than {least}", where=f"{node.where}.{field}")
        return int(value)

    return {
        "check": checks[0],
        "path": check.get("path", str, "/"),
        "command": check.words("command"),
        "delay": number("initialDelaySeconds", 0, 0),
        "period": number("periodSeconds", 10, 1),
        "timeout": number("timeoutSeconds", 1, 1),
        "successes": number("successThreshold", 1, 1),
        "failures": number("failureThreshold", 3, 1),
    }


def _check_service(service: _Node, deployment: _Node, ports: set[Any]) -> None:
    labels = deployment.value["template"]["metadata"]["labels"]
    selector = service.get("selector", dict)
    if not selector or not selector.items() <= labels.items():
        raise Terminal("does not select the Deployment's pods", where=f"{service.where}.selector")
    for port in service.children("ports", "Service.port"):
        if port.value.get("targetPort", port.value.get("port")) not in ports:
            raise Terminal("is no port of the container", where=f"{port.where}.targetPort")
