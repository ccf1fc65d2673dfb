"""What a cluster is and serves, against what docs/install.md asks of it, for `reconcile doctor`.

Its version and its kinds are read by discovery, which every account may do.
https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from reconciler.adapters.kubernetes.client import KubernetesClient, NotInstalled, Refused
from reconciler.core.finding import Finding

OLDEST = (1, 31)
_GROUP, _VERSION = "argoproj.io", "v1alpha1"


class Product(NamedTuple):
    """What is installed into a cluster, and those of its kinds (of argoproj.io/v1alpha1) that are needed."""

    name: str
    version: str
    kinds: tuple[str, ...]


WORKFLOWS = Product("Argo Workflows", "4.0", ("workflows", "workflowtaskresults"))
"""The second is where Argo's executor in a pod says what became of it."""
ROLLOUTS = Product("Argo Rollouts", "1.10", ("rollouts", "analysistemplates", "analysisruns"))
APPLICATIONS = Product("Argo CD", "3.0 or newer", ("applications",))


def version(client: KubernetesClient) -> Iterator[Finding]:
    """Of the API server. A warning where it does not say one."""
    check, least = "version", ".".join(map(str, OLDEST))
    try:
        told = str(client.read("/version").get("gitVersion") or "")
    except Refused as refused:
        what, hint = f"does not tell its version: {refused.what}", f"it has to be Kubernetes {least} or newer"
        yield Finding(check=check, state="warn", what=what, where=client.where, hint=hint)
        return
    found = re.match(r"v(\d+)\.(\d+)", told)
    if found and (int(found[1]), int(found[2])) >= OLDEST:
        yield Finding(check=check, state="ok", what=f"Kubernetes {told}", where=client.where)
        return
    what = f"Kubernetes {told} is older than {least}" if found else "its version is not one of Kubernetes"
    hint = f"upgrade the cluster to {least} or newer, or name another one"
    yield Finding(check=check, state="fail", what=what, where=client.where, hint=hint)


def installed(client: KubernetesClient, product: Product) -> Iterator[Finding]:
    """One finding: every kind is served, or which is not; with the versions in which it is."""
    found: dict[str, list[str]] = {}
    try:
        for each in client.read(f"/apis/{_GROUP}").get("versions") or ():
            for kind in client.read(f"/apis/{each['groupVersion']}").get("resources") or ():
                found.setdefault(str(kind["name"]), []).append(str(each["version"]))
    except NotInstalled:
        found = {}
    missing = [kind for kind in product.kinds if _VERSION not in found.get(kind, ())]
    if not missing:
        kinds = ", ".join(f"{kind} {' '.join(found[kind])}" for kind in product.kinds)
        what = f"{product.name} is installed: {kinds}"
        yield Finding(check="kinds", state="ok", what=what, where=client.where)
        return
    kinds = ", ".join(
        f"{kind}.{_GROUP}" + (f" (served as {' '.join(found[kind])} only)" if kind in found else "")
        for kind in missing
    )
    yield Finding(
        check="kinds",
        state="fail",
        what=f"{product.name} is not installed: the cluster does not serve {_VERSION} of {kinds}",
        where=client.where,
        hint=f"install {product.name} {product.version}: its CustomResourceDefinitions and its controller",
    )
