"""The fields of Argo's types, as far as a WorkflowTemplate of trueup's may nest them: one visible table.

Pure. Read by :mod:`reconciler.core.lint`, because Argo takes a field that it does not know without a word where
its CustomResourceDefinition has no schema, and runs the template without it. The names are those of Argo 4.0; a
test compares them with hera's models. What is below a type that is not here is Kubernetes' own, and not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_TEXTS: Final = {
    "WorkflowTemplate": "apiVersion kind metadata spec",
    "WorkflowSpec": """
        activeDeadlineSeconds affinity archiveLogs arguments artifactGC artifactRepositoryRef
        automountServiceAccountToken dnsConfig dnsPolicy entrypoint executor hooks hostAliases hostNetwork
        imagePullSecrets metrics nodeSelector onExit parallelism podDisruptionBudget podGC podMetadata
        podPriorityClassName podSpecPatch priority retryStrategy schedulerName securityContext
        serviceAccountName shutdown suspend synchronization templateDefaults templates tolerations
        ttlStrategy volumeClaimGC volumeClaimTemplates volumes workflowMetadata workflowTemplateRef
    """,
    "Arguments": "artifacts parameters",
    "Template": """
        activeDeadlineSeconds affinity annotations archiveLocation automountServiceAccountToken container
        containerSet daemon dag data executor failFast hostAliases http initContainers inputs memoize
        metadata metrics name nodeSelector outputs parallelism plugin podSpecPatch priorityClassName
        resource retryStrategy schedulerName script securityContext serviceAccountName sidecars steps
        suspend synchronization timeout tolerations volumes
    """,
    "DAGTemplate": "failFast target tasks",
    "DAGTask": """
        arguments continueOn dependencies depends hooks inline name onExit template templateRef when
        withItems withParam withSequence
    """,
    "ContinueOn": "error failed",
    "Inputs": "artifacts parameters",
    "Outputs": "artifacts exitCode parameters result",
    "Parameter": "default description enum globalName name value valueFrom",
    "ValueFrom": "configMapKeyRef default event expression jqFilter jsonPath parameter path supplied",
    "Artifact": """
        archive archiveLogs artifactGC artifactory azure deleted from fromExpression gcs git globalName hdfs
        http mode name optional oss path plugin raw recurseMode s3 subPath
    """,
    "GitArtifact": """
        branch depth disableSubmodules fetch insecureIgnoreHostKey insecureSkipTLS passwordSecret repo
        revision singleBranch sshPrivateKeySecret usernameSecret
    """,
    "RetryStrategy": "affinity backoff expression limit retryPolicy",
    "Backoff": "cap duration factor maxDuration",
    "Container": """
        args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe
        resizePolicy resources restartPolicy securityContext startupProbe stdin stdinOnce
        terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts workingDir
    """,
    "EnvVar": "name value valueFrom",
    "EnvVarSource": "configMapKeyRef fieldRef resourceFieldRef secretKeyRef",
    "ResourceRequirements": "claims limits requests",
    "VolumeMount": "mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr",
    "SecurityContext": """
        allowPrivilegeEscalation appArmorProfile capabilities privileged procMount readOnlyRootFilesystem
        runAsGroup runAsNonRoot runAsUser seLinuxOptions seccompProfile windowsOptions
    """,
    "PodSecurityContext": """
        appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy
        seLinuxOptions seccompProfile supplementalGroups supplementalGroupsPolicy sysctls windowsOptions
    """,
    "TTLStrategy": "secondsAfterCompletion secondsAfterFailure secondsAfterSuccess",
    "PodGC": "deleteDelayDuration labelSelector strategy",
    "Synchronization": "mutexes semaphores",
    "Mutex": "database name namespace",
}
FIELDS: Final[dict[str, frozenset[str]]] = {name: frozenset(text.split()) for name, text in _TEXTS.items()}
"""Type -> its fields."""

INSIDE: Final[dict[str, dict[str, str]]] = {
    "WorkflowTemplate": {"spec": "WorkflowSpec"},
    "WorkflowSpec": {
        "arguments": "Arguments",
        "podGC": "PodGC",
        "retryStrategy": "RetryStrategy",
        "securityContext": "PodSecurityContext",
        "synchronization": "Synchronization",
        "templateDefaults": "Template",
        "templates": "Template",
        "ttlStrategy": "TTLStrategy",
    },
    "Arguments": {"artifacts": "Artifact", "parameters": "Parameter"},
    "Template": {
        "container": "Container",
        "dag": "DAGTemplate",
        "inputs": "Inputs",
        "outputs": "Outputs",
        "retryStrategy": "RetryStrategy",
        "securityContext": "PodSecurityContext",
        "synchronization": "Synchronization",
    },
    "DAGTemplate": {"tasks": "DAGTask"},
    "DAGTask": {"arguments": "Arguments", "continueOn": "ContinueOn", "inline": "Template"},
    "Inputs": {"artifacts": "Artifact", "parameters": "Parameter"},
    "Outputs": {"artifacts": "Artifact", "parameters": "Parameter"},
    "Parameter": {"valueFrom": "ValueFrom"},
    "Artifact": {"git": "GitArtifact"},
    "RetryStrategy": {"backoff": "Backoff"},
    "Container": {
        "env": "EnvVar",
        "resources": "ResourceRequirements",
        "securityContext": "SecurityContext",
        "volumeMounts": "VolumeMount",
    },
    "EnvVar": {"valueFrom": "EnvVarSource"},
    "Synchronization": {"mutexes": "Mutex"},
}
"""Type -> field -> the type of its value, or of each entry where it is a list."""

Place = tuple[str | int, ...]


def unknown_fields(value: Any, of: str = "WorkflowTemplate", place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Where a field is that its type does not have, and the type."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(item, of, (*place, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in FIELDS[of]:
                yield (*place, key), of
            elif key in INSIDE.get(of, {}):
                yield from unknown_fields(item, INSIDE[of][key], (*place, key))
