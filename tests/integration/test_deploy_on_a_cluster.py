"""What deploy/ is built to, what it asks of Argo CD by its own kinds, and what trueup reads of its status.

Nothing syncs here: the real API server has Argo CD's CustomResourceDefinitions, and the test writes a status.
`make test-cluster` runs these; see tests/servers/cluster.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from reconciler.core.observed import Application
from tests.servers.cluster import cached, until

if TYPE_CHECKING:
    from tests.servers.cluster import Cluster

pytestmark = pytest.mark.cluster
DEPLOY = Path(__file__).parents[2] / "deploy"
STRICTLY = ("apply", "--server-side", "--validate=strict")
FORBIDDEN = 'failed to sync: services is forbidden: namespace "other" is not permitted in project "trueup"'


@pytest.fixture(scope="module")
def argocd(cluster: Cluster) -> Iterator[str]:
    """A namespace for Applications, in a cluster that knows what they are."""
    cluster.kubectl("apply", "--server-side", f"--filename={cached() / 'argocd'}")
    until(lambda: cluster.kubectl("api-resources", "--api-group=argoproj.io", "-o", "name").count("app") == 3)
    with cluster.namespace() as namespace:
        yield namespace


def application(namespace: str, name: str, **status: Any) -> dict[str, Any]:
    """As the ApplicationSet of deploy/ makes it of environments/staging/rendered/NAME."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": f"trueup-staging-{name}",
            "namespace": namespace,
            "labels": {"trueup.dev/environment": "staging", "trueup.dev/model": name},
        },
        "spec": {
            "project": "trueup",
            "source": {
                "repoURL": "https://git.example.org/ml/models.git",
                "path": f"environments/staging/rendered/{name}",
            },
            "destination": {"server": "https://kubernetes.default.svc"},
        },
    } | ({"status": status} if status else {})


def test_kustomize_builds_it(cluster: Cluster) -> None:
    built = [cluster.kubectl("kustomize", str(DEPLOY / folder)) for folder in ("example", "argocd")]
    made = [item for text in built for item in YAML(typ="safe", pure=True).load_all(text)]
    homeless = [m["kind"] for m in made if m["kind"] != "Namespace" and "namespace" not in m["metadata"]]
    assert homeless == []
    bindings = [m for m in made if m["kind"] == "RoleBinding"]
    accounts = {
        (m["metadata"]["namespace"], m["metadata"]["name"]) for m in made if m["kind"] == "ServiceAccount"
    }
    for binding in bindings:
        for subject in binding["subjects"]:
            assert (subject["namespace"], subject["name"]) in accounts


def test_every_field_is_accepted(cluster: Cluster, argocd: str) -> None:
    built = cluster.kubectl("kustomize", str(DEPLOY / "argocd")).replace(
        "namespace: argocd", f"namespace: {argocd}"
    )
    said = cluster.kubectl(*STRICTLY, "--dry-run=server", "-f", "-", stdin=built)
    assert said.count("serverside-applied (server dry run)") == built.count("---\n") + 1


def test_what_argo_cd_says_is_read_in_one_call(
    cluster: Cluster, argocd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the ServiceAccount of deploy/, which may list Applications and nothing else here."""
    from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Request, _Wire
    from reconciler.adapters.kubernetes.cluster import KubernetesCluster

    failed = {
        "sync": {"status": "OutOfSync", "comparedTo": {"source": {"repoURL": "a"}, "destination": {}}},
        "health": {"status": "Missing"},
        "operationState": {
            "phase": "Failed",
            "message": FORBIDDEN,
            "startedAt": "2026-03-01T12:00:00Z",
            "operation": {},
        },
    }
    cluster.apply(application(argocd, "digits", **failed), application(argocd, "spam"))
    people = application(argocd, "other")
    del people["metadata"]["labels"]
    cluster.apply(people)
    built = cluster.kubectl("kustomize", str(DEPLOY / "argocd")).split("---\n")
    rights = [part for part in built if "kind: Role" in part]
    assert len(rights) == 2
    text = "---\n".join(rights).replace("namespace: argocd", f"namespace: {argocd}")
    cluster.kubectl(*STRICTLY, "-f", "-", stdin=text.replace("namespace: trueup\n", f"namespace: {argocd}\n"))
    cluster.kubectl("--namespace", argocd, "create", "serviceaccount", "trueup-reconciler")
    token = cluster.token(argocd, "trueup-reconciler")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig_of(token, tmp_path / "config")))
    asked: list[str] = []
    wire = _Wire(None, in_pod=False, where="here")

    def counted(request: Request) -> Answer:
        asked.append(request.path)
        return wire(request)

    with cluster.namespace() as elsewhere:
        sweep = KubernetesCluster(KubernetesClient(counted, where="here"), (elsewhere,), argocd).sweep()
    assert sweep.applications == {
        "staging/digits": Application(sync="OutOfSync", health="Missing", message=FORBIDDEN),
        "staging/spam": Application(sync="Unknown", health="Unknown"),
    }
    assert list(sweep.gaps) == [elsewhere], "it has no rights there, which hides nothing of Argo CD"
    assert len([path for path in asked if path.endswith("/applications")]) == 1
