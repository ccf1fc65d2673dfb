"""Which rights of those in deploy/ somebody lacks in a namespace, for `reconcile doctor`.

The API server is asked once a namespace what we may do there (SelfSubjectRulesReview, which needs no right).
Its answer may be incomplete where rights do not come from Roles; then a lack is only a warning.
https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.adapters.kubernetes.client import KubernetesClient, Object
from reconciler.core.finding import Finding

Needs = Mapping[tuple[str, str], tuple[str, ...]]
"""(API group, resource) -> verbs."""

_READ, _WRITE = ("get", "list"), ("create", "delete", "patch")
_APPLIED = (
    *(("", "serviceaccounts"), ("", "services"), ("apps", "deployments")),
    *(("argoproj.io", "analysistemplates"), ("argoproj.io", "rollouts")),
    *(("autoscaling", "horizontalpodautoscalers"), ("networking.k8s.io", "networkpolicies")),
    ("policy", "poddisruptionbudgets"),
)
SERVING: Needs = {
    **dict.fromkeys(_APPLIED, (*_READ, *_WRITE)),
    ("", "pods"): ("list",),
    ("apps", "replicasets"): ("list",),
    ("argoproj.io", "analysisruns"): ("list",),
    ("", "pods/log"): ("get",),
}
"""As deploy/serving grants. With ``sync: argocd`` only what is read is needed."""
ENGINE: Needs = {
    ("argoproj.io", "workflows"): ("create", "delete", "get", "list", "patch"),
    ("", "pods/log"): ("get",),
}
"""As deploy/engine grants."""


def diagnose(client: KubernetesClient, namespace: str, needs: Needs, granted_by: str) -> Iterator[Finding]:
    """One finding a namespace: everything is allowed, or what is not."""
    status = client.rules(namespace)
    rules = status.get("resourceRules") or []
    lacking = {what: [v for v in verbs if not _allowed(rules, *what, v)] for what, verbs in needs.items()}
    missing = [
        f"{', '.join(verbs)} {resource}{f'.{group}' if group else ''}"
        for (group, resource), verbs in lacking.items()
        if verbs
    ]
    check, where = "rights", f"{client.where}, namespace {namespace}"
    if not missing:
        yield Finding(check=check, state="ok", what="everything that trueup does there is allowed", where=where)
        return
    yield Finding(
        check=check,
        state="warn" if status.get("incomplete") else "fail",
        what=f"not allowed there: {'; '.join(missing)}",
        where=where,
        hint=f"apply {granted_by} in that namespace",
    )


def _allowed(rules: Sequence[Object], group: str, resource: str, verb: str) -> bool:
    return any(
        {group, "*"} & {*rule.get("apiGroups", ())}
        and {resource, "*"} & {*rule.get("resources", ())}
        and {verb, "*"} & {*rule.get("verbs", ())}
        and not rule.get("resourceNames")
        for rule in rules
    )
