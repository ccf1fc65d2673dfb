"""Which rights of those in deploy/ somebody lacks in a namespace, for `reconcile doctor`.

The API server is asked once a namespace what we may do there (SelfSubjectRulesReview, which needs no right).
Its answer may be incomplete where rights do not come from Roles; then a lack is only a warning.
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.adapters.kubernetes.client import KubernetesClient, Object
from reconciler.core.finding import Finding

Needs = Mapping[tuple[str, str], tuple[str, ...]]
"""(API group, resource) -> verbs."""


class Rights(NamedTuple):
    """What the Roles in ``granted_by`` give to the reconciler."""

    granted_by: str
    needs: Needs


_READ, _WRITE = ("get", "list"), ("create", "delete", "patch")
_APPLIED = (
    *(("", "serviceaccounts"), ("", "services"), ("apps", "deployments")),
    *(("argoproj.io", "analysistemplates"), ("argoproj.io", "rollouts")),
    *(("autoscaling", "horizontalpodautoscalers"), ("networking.k8s.io", "networkpolicies")),
    ("policy", "poddisruptionbudgets"),
)
_SEEN: Needs = {
    ("", "pods"): ("list",),
    ("apps", "replicasets"): ("list",),
    ("argoproj.io", "analysisruns"): ("list",),
    ("", "pods/log"): ("get",),
}
SERVING = Rights("deploy/serving", {**dict.fromkeys(_APPLIED, (*_READ, *_WRITE)), **_SEEN})
READING = Rights("deploy/serving/reader", {**dict.fromkeys(_APPLIED, _READ), **_SEEN})
"""Of a namespace in which Argo CD applies."""
APPLICATIONS = Rights("deploy/argocd", {("argoproj.io", "applications"): ("list",)})
"""Of Argo CD's own namespace."""
ENGINE = Rights(
    "deploy/engine",
    {
        ("argoproj.io", "workflows"): ("create", "delete", "get", "list", "patch"),
        ("", "pods"): ("list",),
        ("", "pods/log"): ("get",),
    },
)
LEASE = Rights("deploy/lease", {("coordination.k8s.io", "leases"): ("create", "get", "patch")})


def diagnose(client: KubernetesClient, namespace: str, rights: Rights) -> Iterator[Finding]:
    """One finding a namespace: everything is allowed, or what is not."""
    status = client.rules(namespace)
    rules = status.get("resourceRules") or []
    lacking = {
        what: [verb for verb in verbs if not _allowed(rules, *what, verb)]
        for what, verbs in rights.needs.items()
    }
    missing = [
        f"{', '.join(verbs)} {resource}{f'.{group}' if group else ''}"
        for (group, resource), verbs in lacking.items()
        if verbs
    ]
    check, where = "rights", f"{client.where}, namespace {namespace}"
    if not missing:
        what = f"everything that {rights.granted_by} grants is allowed"
        yield Finding(check=check, state="ok", what=what, where=where)
        return
    yield Finding(
        check=check,
        state="warn" if status.get("incomplete") else "fail",
        what=f"not allowed there: {'; '.join(missing)}",
        where=where,
        hint=f"apply {rights.granted_by} in that namespace",
    )


def _allowed(rules: Sequence[Object], group: str, resource: str, verb: str) -> bool:
    return any(
        {group, "*"} & {*rule.get("apiGroups", ())}
        and {resource, "*"} & {*rule.get("resources", ())}
        and {verb, "*"} & {*rule.get("verbs", ())}
        and not rule.get("resourceNames")
        for rule in rules
    )
