"""Which fields of an Argo WorkflowTemplate the embedded engine honours, ignores and refuses: one visible table.

Read by :mod:`.run_workflow` before anything of a run starts. What would alter a result is refused by name; what
only says where, for whom or how dear a task runs is noted in the run's status and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reconciler.core.argo import CHECKPOINT, parse_expression, references

# Paths leave list indices out. An entry covers everything below it.
# What is in none of the three tables is refused too.

_TEMPLATE = "spec.templates"
_TASK = f"{_TEMPLATE}.dag.tasks"
_CONTAINER = f"{_TEMPLATE}.container"


def _paths(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names.split())


HONOURED: tuple[str, ...] = (
    *("apiVersion", "kind"),
    *_paths("spec", "entrypoint onExit activeDeadlineSeconds parallelism"),
    *_paths("spec.arguments.parameters", "name value default"),
    *_paths(_TEMPLATE, "name activeDeadlineSeconds"),
    *_paths(f"{_TEMPLATE}.inputs.parameters", "name value default"),
    *_paths(f"{_TEMPLATE}.inputs.artifacts", "name path optional git.revision"),
    *_paths(f"{_TEMPLATE}.outputs.parameters", "name globalName valueFrom.path valueFrom.default"),
    *_paths(f"{_TEMPLATE}.outputs.artifacts", "name path optional"),
    *_paths(f"{_TEMPLATE}.retryStrategy", "limit retryPolicy expression"),
    *_paths(f"{_TEMPLATE}.retryStrategy.backoff", "duration factor maxDuration cap"),
    *_paths(_TASK, "name template depends dependencies when withParam continueOn.failed continueOn.error"),
    *_paths(f"{_TASK}.arguments.parameters", "name value"),
    *_paths(f"{_TASK}.arguments.artifacts", "name from optional"),
    *_paths(_CONTAINER, "command args workingDir env.name env.value volumeMounts.name volumeMounts.mountPath"),
    # taken from the engine's own environment, by the variable's name
    *_paths(f"{_CONTAINER}.env.valueFrom", "configMapKeyRef secretKeyRef fieldRef"),
)

_OF_PODS = """affinity automountServiceAccountToken executor metrics nodeSelector podSpecPatch schedulerName
    securityContext serviceAccountName tolerations"""
IGNORED: tuple[str, ...] = (
    "metadata",
    *_paths("spec", _OF_PODS),
    *_paths(
        "spec", "archiveLogs artifactGC artifactRepositoryRef dnsConfig dnsPolicy hostNetwork podGC priority"
    ),
    *_paths("spec", "imagePullSecrets podDisruptionBudget podMetadata podPriorityClassName ttlStrategy"),
    "spec.workflowMetadata",
    *_paths("spec.arguments.parameters", "description enum"),
    *_paths(_TEMPLATE, _OF_PODS),
    *_paths(_TEMPLATE, "archiveLocation metadata priorityClassName"),
    f"{_TEMPLATE}.dag.failFast",  # every branch runs to its end; the phase is Argo's either way
    f"{_TEMPLATE}.inputs.parameters.description",
    f"{_TEMPLATE}.outputs.parameters.description",
    *_paths(f"{_TEMPLATE}.outputs.artifacts", "archive artifactGC"),
    f"{_TEMPLATE}.inputs.artifacts.archive",
    # the repository is the one that the reconciler reads, with its own access
    *_paths(f"{_TEMPLATE}.inputs.artifacts.git", "repo depth singleBranch usernameSecret passwordSecret"),
    *_paths(f"{_TEMPLATE}.inputs.artifacts.git", "sshPrivateKeySecret insecureIgnoreHostKey insecureSkipTLS"),
    # each attempt has a /trueup of its own anyway, and /tmp is this machine's
    *_paths(f"{_TEMPLATE}.volumes", "name emptyDir"),
    "spec.synchronization.mutexes",  # runs beside each other end as they would after each other
    # tasks run in the environment that the reconciler is installed in
    *_paths(_CONTAINER, "image imagePullPolicy name ports resources securityContext"),
    *_paths(_CONTAINER, "terminationMessagePath terminationMessagePolicy"),
)

_STORES = "artifactory azure fromExpression gcs globalName hdfs http mode oss plugin raw s3 subPath"
REFUSED: tuple[str, ...] = (
    *_paths("spec", "hooks retryStrategy shutdown suspend templateDefaults synchronization.semaphores"),
    *_paths("spec", "volumeClaimTemplates volumes workflowTemplateRef"),
    *_paths("spec.arguments", "artifacts parameters.valueFrom"),
    *_paths(_TEMPLATE, "containerSet data http plugin resource script steps suspend"),
    *_paths(_TEMPLATE, "daemon initContainers memoize parallelism sidecars synchronization timeout"),
    f"{_TEMPLATE}.dag.target",
    *_paths(_TASK, "hooks inline onExit templateRef withItems withSequence"),
    *_paths(_CONTAINER, "envFrom lifecycle livenessProbe readinessProbe startupProbe stdin tty volumeDevices"),
    f"{_CONTAINER}.env.valueFrom.resourceFieldRef",
    *_paths(f"{_TEMPLATE}.inputs.artifacts", _STORES),
    *_paths(f"{_TEMPLATE}.outputs.artifacts", _STORES),
    f"{_TEMPLATE}.inputs.parameters.valueFrom",
    *_paths(f"{_TEMPLATE}.outputs.parameters.valueFrom", "event expression jqFilter jsonPath parameter"),
    f"{_TEMPLATE}.outputs.parameters.valueFrom.supplied",
)

# What a field that is honoured may say.
MOUNTS = ("/tmp", "/trueup", CHECKPOINT)  # noqa: S108 - where a template may have an empty volume
"""The last one is kept from one attempt at a task to the next, as a platform's volume for checkpoints is."""
VARIABLES = re.compile(
    r"workflow\.name|workflow\.status|workflow\.parameters\.[-\w]+|inputs\.parameters\.[-\w]+|retries|item"
    r"|tasks\.[-\w]+\.(status|outputs\.(parameters|artifacts)\.[-\w]+)"
)
POLICIES = ("Always", "OnFailure", "OnError")
LAST_RETRY = ("lastRetry.status", "lastRetry.exitCode", "lastRetry.message", "lastRetry.duration")


class Support(NamedTuple):
    """A template as this engine takes it: ``honoured`` is the document without what is ignored."""

    honoured: dict[str, Any]
    ignored: tuple[str, ...]
    refused: tuple[str, ...]


def read_fields(doc: Mapping[str, Any]) -> Support:
    """Sort every field of a template that passed the lint. What is refused is named by its path."""
    ignored: list[str] = []
    refused: list[str] = []

    def keep(path: str, value: Any) -> Any:
        """The part of ``value`` that is honoured, or None."""
        if path in IGNORED:
            ignored.append(path)
        elif path in HONOURED:
            unknown = (name for name in references(value) if not VARIABLES.fullmatch(name))
            refused.extend(f"{path} with {{{{{name}}}}}" for name in unknown)
            return value
        elif path in REFUSED or not any(entry.startswith(f"{path}.") for entry in (*HONOURED, *IGNORED)):
            refused.append(path)
        elif isinstance(value, Mapping):
            below = {key: keep(f"{path}.{key}", item) for key, item in value.items() if item is not None}
            return {key: item for key, item in below.items() if item is not None}
        elif isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            return [keep(path, item) for item in value]
        else:
            refused.append(f"{path} of this shape")
        return None

    honoured = {key: keep(str(key), value) for key, value in doc.items()}
    if not refused:
        refused.extend(_combinations(honoured["spec"]))
    return Support(honoured, tuple(dict.fromkeys(ignored)), tuple(dict.fromkeys(refused)))


def _combinations(spec: Mapping[str, Any]) -> Iterator[str]:
    """What no single field shows: templates that are neither a container nor one of the two DAGs, and exits
    that could fail a run."""
    leaving: Mapping[str, Any] = next(
        (each for each in spec["templates"] if each["name"] == spec.get("onExit")), {}
    )
    for task in (leaving.get("dag") or {}).get("tasks") or ():
        goes_on = task.get("continueOn") == {"failed": True, "error": True}
        if not goes_on or {"depends", "dependencies", "withParam"} & task.keys():
            rule = "it must go on after failed and error, depend on none and be one"
            yield f"task {task['name']!r} of onExit: {rule}"
    for template in spec["templates"]:
        name, retry = template["name"], template.get("retryStrategy") or {}
        if ("dag" in template) != (name in (spec["entrypoint"], spec.get("onExit"))):
            yield f"template {name!r}: the entrypoint must be a dag, and so onExit; all others a container"
        elif "dag" not in template and not isinstance(template.get("container", {}).get("command"), list):
            yield f"template {name!r}: a container without command (images are not read here)"
        for mount in template.get("container", {}).get("volumeMounts") or ():
            if mount.get("mountPath") not in MOUNTS:
                yield f"template {name!r}: a volume at {mount.get('mountPath')}, and not at {', '.join(MOUNTS)}"
        if retry.get("retryPolicy") not in (None, *POLICIES):
            yield f"template {name!r}: retryPolicy {retry['retryPolicy']}"
        try:
            parse_expression(retry.get("expression") or "true", LAST_RETRY)
        except ValueError as error:
            yield f"template {name!r}: retryStrategy.expression {error}"
