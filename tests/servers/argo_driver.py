"""Plays Argo's controller in tests: Workflows of one namespace run as local processes, and say so as Argo does.

A real controller cannot be had from a package registry. What runs a Workflow's commands here is the embedded
engine; this file only turns each Workflow into one of its runs, and the run's status into a status in the
shapes in which a real controller (4.0.10) was seen to leave them (tests/contract/argo). It waits for no mutex,
makes no pods, and knows neither priority nor a time to live.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from reconciler.adapters.embedded.engine import EmbeddedEngine, Node, Status, read_status
from reconciler.adapters.kubernetes.argo_engine import WORKFLOW
from reconciler.adapters.kubernetes.client import KubernetesClient, Missing, Object
from reconciler.core.errors import Retryable
from tests.servers.cluster import Cluster

CRD = Path(__file__).with_name("workflow-crd.yaml")
PAUSE = 0.05
_OWN_WORDS = ("Step exceeded its deadline", "Stopped with strategy", "invalid spec: ")
"""What a controller says of a whole workflow. A failed DAG has no message."""


def install(cluster: Cluster) -> None:
    """The Workflow kind, once a cluster; it may be there already."""
    cluster.install(CRD)


class ArgoDriver:
    """A controller in a thread, from ``with`` to its end; every process it started ends with it.

    ``env`` is the whole environment of every task. ``checkout`` gives a commit's files, as a Git artifact does.
    """

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        *,
        home: Path,
        env: Mapping[str, str],
        checkout: Callable[[str, Path], None] | None = None,
        grace: float = 0.2,
    ) -> None:
        self._client, self._namespace, self._checkout = client, namespace, checkout
        self._engine = EmbeddedEngine(home=home, checkout=self._files, env=env, grace=grace)
        self._runs = home / "engine" / "runs"
        self._submitting: Object = {}
        self._known: dict[str, str] = {}  # name -> uid: a name may come again
        self._told: dict[str, Status] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._failure: Exception | None = None

    def __enter__(self) -> ArgoDriver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._engine.stop_all()
        if self._failure is not None and error is None:
            raise self._failure

    def _drive(self) -> None:
        while not self._over.wait(PAUSE):
            try:
                self._turn()
            except Retryable:  # as a controller does: it looks again
                continue
            except Exception as error:
                self._failure = error
                return

    def _turn(self) -> None:
        there = {each["metadata"]["name"]: each for each in self._client.list(WORKFLOW, self._namespace)}
        for name, workflow in there.items():
            if name not in self._known:
                self._known[name] = workflow["metadata"]["uid"]
                self._submit(workflow)
        for name, run in self._engine.sweep().runs.items():
            workflow = there.get(name)
            gone = workflow is None or workflow["metadata"]["uid"] != self._known[name]
            if workflow is None or gone or workflow["spec"].get("shutdown"):
                self._engine.stop(name, reason="the Workflow says so")
            if workflow is None or gone:
                if run.done:
                    self._engine.delete(name)
                    self._told.pop(name, None)
                    del self._known[name]
                continue
            status = read_status(self._runs / name)
            if status is not None and status != self._told.get(name):
                self._tell(workflow, status)
                self._told[name] = status

    def _submit(self, workflow: Object) -> None:
        annotations = workflow["metadata"]["annotations"]
        parameters = (workflow["spec"].get("arguments") or {}).get("parameters") or ()
        self._submitting = workflow
        self._engine.submit(
            name=workflow["metadata"]["name"],
            template=annotations["trueup.dev/template"],
            commit=annotations["trueup.dev/commit"],
            parameters={each["name"]: each["value"] for each in parameters if "value" in each},
            labels=workflow["metadata"]["labels"],
            deadline=workflow["spec"]["activeDeadlineSeconds"],
        )

    def _files(self, commit: str, destination: Path) -> None:
        """The commit's files, and in the template's place the spec that the Workflow carries."""
        workflow = self._submitting
        if self._checkout is not None:
            self._checkout(commit, destination)
        annotations = workflow["metadata"]["annotations"]
        name = annotations["trueup.dev/template"]
        doc = {
            "apiVersion": WORKFLOW.api_version,
            "kind": "WorkflowTemplate",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {key: value for key, value in workflow["spec"].items() if key != "shutdown"},
        }
        rendered = destination / "workflows" / "rendered"
        rendered.mkdir(parents=True, exist_ok=True)
        (rendered / f"{name}.yaml").write_text(json.dumps(doc))

    def _tell(self, workflow: Object, status: Status) -> None:
        told = status_of(workflow, status)
        labels = {"workflows.argoproj.io/phase": told["phase"]}
        if status.run.done:
            labels["workflows.argoproj.io/completed"] = "true"
        body = {"metadata": {"labels": labels}, "status": told}
        try:
            self._client.patch(WORKFLOW, self._namespace, workflow["metadata"]["name"], body)
        except Missing:
            return


def status_of(workflow: Object, status: Status) -> Object:
    """The status that Argo gives a Workflow whose commands ended so."""
    name, run = workflow["metadata"]["name"], status.run
    templates = {
        task["name"]: task["template"]
        for template in workflow["spec"].get("templates") or ()
        for task in (template.get("dag") or {}).get("tasks") or ()
    }
    bad = any(node.phase in ("Failed", "Error") for node in status.nodes.values())
    own = run.message.startswith(_OWN_WORDS)
    # That a skipped task was the one that mattered is trueup's own conclusion. Argo calls it a success.
    phase = "Succeeded" if run.phase == "Failed" and not bad and not own else run.phase
    told: dict[str, Any] = {
        "phase": phase,
        "startedAt": _time(run.started),
        "finishedAt": _time(run.finished),
        "progress": run.progress,
        "message": run.message if own else None,
        "conditions": [
            {"type": "PodRunning", "status": "False" if run.done else "True"},
            *([{"type": "Completed", "status": "True"}] if run.done else []),
        ],
        "outputs": _outputs(run.outputs),
        "nodes": None,
    }
    if status.nodes:
        nodes = [_node(name, title, node, status, templates) for title, node in status.nodes.items()]
        root = {"id": name, "name": name, "displayName": name, "type": "DAG", "templateName": "main"}
        root |= {key: told[key] for key in ("phase", "startedAt", "finishedAt", "message")}
        told["nodes"] = {node["id"]: node for node in (root, *nodes)}
    return told


def _node(name: str, title: str, node: Node, status: Status, templates: Mapping[str, str]) -> Object:
    attempts = [f"{title}({number})" for number in range(len(status.nodes)) if node.type == "Retry"]
    code = {} if node.exit_code is None else {"exitCode": str(node.exit_code)}
    return {
        "id": _id(name, title),
        "name": f"{name}.{title}",
        "displayName": title,
        "type": node.type,
        "phase": node.phase,
        "message": node.message or None,
        "templateName": templates.get(title.partition("(")[0], ""),
        "boundaryID": name,
        "startedAt": _time(node.started),
        "finishedAt": _time(node.finished),
        "outputs": {**code, **(_outputs(node.outputs) or {})} or None,
        "children": [_id(name, attempt) for attempt in attempts if attempt in status.nodes] or None,
    }


def _id(name: str, title: str) -> str:
    """``WORKFLOW-HASH`` with FNV-1a over the node's full name, as Argo keys its nodes."""
    number = 2166136261
    for byte in f"{name}.{title}".encode():
        number = (number ^ byte) * 16777619 % 2**32
    return f"{name}-{number}"


def _outputs(values: Mapping[str, str]) -> Object | None:
    return {"parameters": [{"name": key, "value": value} for key, value in values.items()]} if values else None


def _time(value: datetime | None) -> str | None:
    return value.isoformat().replace("+00:00", "Z") if value else None
