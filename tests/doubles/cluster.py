"""A cluster in memory: what is applied progresses until :meth:`MemoryCluster.turn` says what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler.core.errors import Terminal
from reconciler.core.observed import (
    ANNOTATION_RELEASE,
    ANNOTATION_RENDERED,
    LABEL_ENVIRONMENT,
    LABEL_MODEL,
    ClusterSweep,
    Health,
    Workload,
)
from reconciler.core.strict_yaml import read


class MemoryCluster:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.workloads: dict[str, Workload] = {}
        self.applied: dict[str, dict[str, str]] = {}

    def turn(self, subject: str, health: Health, message: str = "") -> None:
        """The health of one subject from now on. Healthy means that the applied release answers."""
        workload = self.workloads[subject]
        changes: dict[str, object] = {"health": health, "message": message}
        if health != workload.health:
            changes["since"] = self.clock()
        if health == "Healthy":
            changes |= {"serving": workload.release, "endpoint": f"http://{subject}"}
        self.workloads[subject] = workload.model_copy(update=changes)

    def drift(self, subject: str, *fields: str) -> None:
        self.workloads[subject] = self.workloads[subject].model_copy(update={"drifted": fields})

    def vanish(self, subject: str) -> None:
        """Somebody deleted the objects by hand."""
        self.workloads.pop(subject, None)
        self.applied.pop(subject, None)

    # --- the ports ----------------------------------------------------------------------------------------

    def sweep(self) -> ClusterSweep:
        return ClusterSweep(workloads=dict(self.workloads))

    def logs(self, environment: str, model: str) -> str:
        if f"{environment}/{model}" not in self.workloads:
            raise Terminal(f"nothing of {model} runs in {environment}")
        return ""

    def apply(self, *, environment: str, model: str, namespace: str, manifests: Mapping[str, str]) -> bool:
        subject = f"{environment}/{model}"
        before = self.workloads.get(subject)
        if before is not None and self.applied.get(subject) == dict(manifests) and not before.drifted:
            return False
        objects = [read(text.encode(), name).value for name, text in sorted(manifests.items())]
        deployment = next((item for item in objects if item["kind"] == "Deployment"), None)
        if deployment is None:
            raise Terminal("there is no Deployment among the manifests", where=subject)
        labels, annotations = deployment["metadata"]["labels"], deployment["metadata"]["annotations"]
        if (labels[LABEL_ENVIRONMENT], labels[LABEL_MODEL]) != (environment, model):
            raise Terminal("the manifests carry the labels of another subject", where=subject)
        self.applied[subject] = dict(manifests)
        self.workloads[subject] = Workload(
            environment=environment,
            model=model,
            namespace=namespace,
            release=annotations[ANNOTATION_RELEASE],
            rendered=annotations[ANNOTATION_RENDERED],
            health="Progressing",
            since=self.clock(),
            serving=before.serving if before else "",
            objects=tuple(f"{item['kind']}/{item['metadata']['name']}" for item in objects),
        )
        return True

    def prune(self, *, environment: str, model: str, namespace: str, objects: tuple[str, ...]) -> None:
        subject = f"{environment}/{model}"
        workload = self.workloads.get(subject)
        if workload is None:
            return
        left = tuple(name for name in workload.objects if name not in objects)
        if left:
            self.workloads[subject] = workload.model_copy(update={"objects": left})
        else:
            self.vanish(subject)
