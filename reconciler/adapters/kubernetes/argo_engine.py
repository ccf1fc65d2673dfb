"""Argo Workflows, asked through the Kubernetes API: submit, list, stop, delete, logs.

Made by :mod:`reconciler.bootstrap`. A Workflow carries the spec of its template as it is at the commit of the
submission (docs/adr/0007), so no WorkflowTemplate has to be in the cluster. What Argo does that one would not
expect, and what is made of it here:

=====================================================  ======================================================
a DAG that failed has no message                       the message of the first task that failed, with its name
Succeeded, though `when` skipped the recording task    Failed, and the message says which task did not run
a run that waits for a mutex has no start              its start is when it was submitted
the attempts at a task are nodes ``task(0)``, ...      the last one's message is the task's
nodes are keyed by a hash                              they are found by display name
`nodes` is absent for an invalid spec                  the run's own message says what is wrong
an image that cannot be pulled is in the pod only      "Step exceeded its deadline"
onExit and Stop run more pods                          a run is ended by Terminate, which runs none
=====================================================  ======================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from reconciler.adapters.kubernetes import rights, served
from reconciler.adapters.kubernetes.client import AlreadyThere, Kind, KubernetesClient, Missing, Object, Refused
from reconciler.core.argo import unrecorded
from reconciler.core.documents import Environment
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.finding import Finding
from reconciler.core.lint import RECIPE
from reconciler.core.observed import LABEL_MANAGED, EngineSweep, WorkflowRun
from reconciler.core.strict_yaml import Unreadable, read
from reconciler.ports import Source

WORKFLOW = Kind("argoproj.io/v1alpha1", "Workflow", "workflows")
POD = Kind("v1", "Pod", "pods")
OURS = f"{LABEL_MANAGED}=trueup"

_ARGOS = "workflows.argoproj.io/"
_NODE = f"{_ARGOS}node-name"
_PAGE = 250
"""A Workflow carries its spec and the status of each node: some 20 KB."""
_LATEST = "200"
"""Lines that are read of a log where only its end is asked for."""
_PHASES = ("Pending", "Running", "Succeeded", "Failed", "Error")
_BAD = ("Failed", "Error")
_SUGGESTED = 5
_SAID = 1000
"""Characters of a reason that are kept: all annotations of an object have 256 KiB together."""


class ArgoEngine:
    """EngineReader and EngineWriter over the Workflows of one namespace that carry our label.

    ``source`` gives the templates at a commit; ``repository`` is the URL from which the pods clone it.
    """

    def __init__(self, client: KubernetesClient, namespace: str, *, source: Source, repository: str) -> None:
        self._client = client
        self._namespace = namespace
        self._source = source
        self._repository = repository

    def diagnose(self, _environments: Sequence[Environment], /) -> Iterator[Finding]:
        yield from served.version(self._client)
        yield from served.installed(self._client, served.WORKFLOWS)
        yield from rights.diagnose(self._client, self._namespace, rights.ENGINE)

    # --- reads --------------------------------------------------------------------------------------------

    def sweep(self) -> EngineSweep:
        runs = self._client.gather(WORKFLOW, self._namespace, run_of, labels=OURS, page=_PAGE)
        return EngineSweep(runs={run.name: run for run in runs})

    def run(self, name: str) -> WorkflowRun:
        return run_of(self._known(name))

    def logs(self, name: str, *, latest: bool = False) -> Iterator[tuple[str, str]]:
        workflow = self._known(name)
        pods = self._client.list(POD, self._namespace, labels=f"workflows.argoproj.io/workflow={name}")
        of_node = {(pod["metadata"].get("annotations") or {}).get(_NODE): pod for pod in pods}
        for node in sorted(_nodes(workflow), key=lambda node: str(node.get("startedAt"))):
            if node.get("type") == "Pod" and not (latest and node.get("finishedAt")):
                yield str(node["displayName"]), self._log(of_node.get(node.get("name")), latest)

    def _known(self, name: str) -> Object:
        """A Workflow of ours. Terminal if there is none, with those that there are."""
        workflow = self._mine(name)
        if workflow is None:
            runs = self.sweep().runs.values()
            newest = sorted(runs, key=lambda run: str(run.started), reverse=True)[:_SUGGESTED]
            known = ", ".join(run.name for run in newest) or "no run yet"
            hint = f"there is {known}; for what serves: reconcile logs ENV/MODEL"
            raise Terminal(f"no run is named {name!r}", where=self._where, hint=hint)
        return workflow

    def _log(self, pod: Object | None, latest: bool) -> str:
        gone = "its pod is gone, and its log with it\n"
        if pod is None:
            return gone
        query = {"container": "main"} | ({"tailLines": _LATEST} if latest else {})
        try:
            log = self._client.text(POD, self._namespace, pod["metadata"]["name"], "log", query)
        except Missing:
            return gone
        except Refused as error:
            if error.status == 400:  # the container has not begun; the server's words say what it waits for
                return f"{error.message}\n"
            raise
        return log.decode(errors="replace")

    # --- writes -------------------------------------------------------------------------------------------

    def submit(
        self,
        *,
        name: str,
        template: str,
        commit: str,
        parameters: Mapping[str, str],
        labels: Mapping[str, str],
        deadline: int,
        priority: int = 0,
        reason: str = "",
        asked_by: str = "",
        parallelism: int | None = None,
    ) -> bool:
        doc = self._template(template, commit)
        values = {**parameters, "repository": self._repository}
        workflow = {
            "metadata": {
                "name": name,
                "labels": dict(labels),
                "annotations": {
                    "trueup.dev/template": template,
                    "trueup.dev/commit": commit,
                    RECIPE: str((doc["metadata"].get("annotations") or {}).get(RECIPE, "")),
                    **_kept({"reason": reason, "asked_by": asked_by}),
                },
            },
            "spec": filled(doc["spec"], values, deadline, priority, parallelism),
        }
        try:
            self._client.create(WORKFLOW, self._namespace, workflow)
        except AlreadyThere:
            if self._mine(name) is None:
                raise Retryable("it was there and is gone", where=name, hint="it is submitted again") from None
            return False
        except Retryable:
            if self._mine(name) is None:
                raise
        return True

    def stop(self, name: str, *, reason: str, by: str = "") -> None:
        workflow = self._mine(name)
        if workflow is None or (run := run_of(workflow)).done:
            return
        word = {} if run.stopped else _kept({"stopped": reason, "stopped_by": by})
        patch = {"metadata": {"annotations": word}, "spec": {"shutdown": "Terminate"}}
        try:
            self._client.patch(WORKFLOW, self._namespace, name, patch)
        except Missing:
            return

    def delete(self, name: str) -> None:
        workflow = self._mine(name)
        if workflow is None:
            return
        if not run_of(workflow).done:
            raise Terminal("the run is not finished", where=name, hint="stop it first")
        self._client.delete(WORKFLOW, self._namespace, name, uid=str(workflow["metadata"]["uid"]))

    # --- one workflow -------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"namespace {self._namespace} of {self._client.where}"

    def _mine(self, name: str) -> Object | None:
        """The Workflow of this name, if there is one. Terminal where it is not ours: it is left alone."""
        workflow = self._client.get(WORKFLOW, self._namespace, name)
        if workflow is not None and (workflow["metadata"].get("labels") or {}).get(LABEL_MANAGED) != "trueup":
            what = f"the Workflow {name} does not carry the label {OURS}"
            raise Terminal(what, where=self._where, hint="it is somebody else's; give trueup a namespace alone")
        return workflow

    def _template(self, name: str, commit: str) -> Object:
        path = f"workflows/rendered/{name}.yaml"
        blob = self._source.files(commit).get(path)
        if blob is None:
            raise Terminal(f"is not there at commit {commit}", where=path, hint="`reconcile init` writes it")
        try:
            value = read(self._source.read([blob.oid])[blob.oid], path).value
        except Unreadable as error:
            raise Terminal(error.what, where=path, hint=error.hint) from error
        if not isinstance(value, dict) or not all(isinstance(value.get(k), dict) for k in ("metadata", "spec")):
            raise Terminal("is not a WorkflowTemplate", where=path, hint="`reconcile validate` says more")
        return value


# --- what people and the planner said of a run ----------------------------------------------------------------


SAID = {
    "reason": "trueup.dev/reason",
    "asked_by": "trueup.dev/asked-by",
    "stopped": "trueup.dev/stopped",
    "stopped_by": "trueup.dev/stopped-by",
}
"""Field of a run -> the annotation of the Workflow that keeps it."""


def _kept(said: Mapping[str, str]) -> dict[str, str]:
    return {SAID[field]: text[:_SAID] for field, text in said.items() if text}


# --- from a template to a Workflow ----------------------------------------------------------------------------


def filled(
    spec: Object, values: Mapping[str, str], deadline: int, priority: int, parallelism: int | None = None
) -> Object:
    """The spec of a Workflow: the template's, with values for its parameters, an end and a priority.

    How many pods run at once is a number of the spec, which no parameter can stand for; so it is written here.
    Every value is kept, also of a parameter that the template does not declare: it tells what was asked for.
    """
    arguments = spec.get("arguments") or {}
    declared = [dict(each) for each in arguments.get("parameters") or ()]
    for each in declared:
        if each["name"] in values:
            each["value"] = values[each["name"]]
    names = {each["name"] for each in declared}
    more = [{"name": name, "value": value} for name, value in values.items() if name not in names]
    own = spec.get("activeDeadlineSeconds")
    pods = [limit for limit in (spec.get("parallelism"), parallelism) if isinstance(limit, int)]
    return {
        **spec,
        "arguments": {**arguments, "parameters": [*declared, *more]},
        "activeDeadlineSeconds": min(deadline, own) if isinstance(own, int) else deadline,
        **({"priority": priority} if priority else {}),
        **({"parallelism": min(pods)} if pods else {}),
    }


# --- from a Workflow to a run ---------------------------------------------------------------------------------


def run_of(workflow: Object) -> WorkflowRun:
    """What a Workflow says of itself, as a run. Before the controller saw it, it says nothing: Pending.

    Terminal where it says what no controller writes.
    """
    metadata, spec, status = workflow["metadata"], workflow.get("spec") or {}, workflow.get("status") or {}
    annotations = metadata.get("annotations") or {}
    phase = status.get("phase") if status.get("phase") in _PHASES else "Pending"
    message = str(status.get("message") or "")
    if phase in _BAD:
        message = message or _first_failure(workflow)
    elif phase == "Succeeded":
        ran = {str(n.get("templateName")) for n in _nodes(workflow) if n.get("phase") == "Succeeded"}
        message = unrecorded(spec, ran)
        phase = "Failed" if message else phase
    said = {
        "name": metadata["name"],
        "phase": phase,
        "labels": {k: v for k, v in (metadata.get("labels") or {}).items() if not k.startswith(_ARGOS)},
        "started": status.get("startedAt") or metadata.get("creationTimestamp"),
        "finished": status.get("finishedAt"),
        "progress": str(status.get("progress") or ""),
        "message": message,
        "outputs": _values(status.get("outputs")),
        "parameters": _values(spec.get("arguments")),
        **{
            field: str(annotations.get(SAID[field], ""))
            for field in SAID
            if phase != "Succeeded" or not field.startswith("stopped")
        },
    }
    try:
        return WorkflowRun.model_validate(said)
    except ValidationError as error:
        what = f"its status is not one that Argo writes: {error.errors()[0]['msg']}"
        raise Terminal(what, where=str(metadata["name"]), hint="delete that Workflow") from error


def _values(holder: Any) -> dict[str, str]:
    parameters = (holder or {}).get("parameters") or ()
    return {each["name"]: str(each["value"]) for each in parameters if each.get("value") is not None}


def _nodes(workflow: Object) -> Iterable[Object]:
    return ((workflow.get("status") or {}).get("nodes") or {}).values()


def _first_failure(workflow: Object) -> str:
    """``TASK: MESSAGE`` of the task that failed first; of one that was tried again, the last attempt's."""
    by_id = {str(node.get("id")): node for node in _nodes(workflow)}
    retried = [node for node in by_id.values() if node.get("type") == "Retry"]
    attempts = {child for node in retried for child in node.get("children") or ()}
    failed = [
        node
        for key, node in by_id.items()
        if node.get("phase") in _BAD and node.get("type") in ("Pod", "Retry") and key not in attempts
    ]
    if not failed:
        return ""
    first = min(failed, key=lambda node: (str(node.get("finishedAt")), str(node.get("displayName"))))
    tried = [by_id[child] for child in first.get("children") or () if child in by_id and child in attempts]
    message = str((tried[-1] if tried else first).get("message") or "no message")
    return f"{first.get('displayName')}: {message.removeprefix('main: ')}"
