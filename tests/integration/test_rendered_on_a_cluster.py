"""What the renderers and deploy/ say, taken at its word: a real API server checks it, Argo Rollouts acts on it.

`make test-cluster` runs these; see tests/servers/cluster.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.planning.renderers import render
from tests.servers.prometheus import Prometheus, running
from tests.unit.test_renderers import CANARY, VARIANTS, canary, environment, release

if TYPE_CHECKING:
    from tests.servers.cluster import Cluster

pytestmark = pytest.mark.cluster
DEPLOY = Path(__file__).parents[2] / "deploy"
STRICTLY = ("apply", "--server-side", "--validate=strict")


def manifests(namespace: str, changes: dict[str, Any]) -> str:
    files = render("staging", environment(namespace=namespace), "digits", release(**changes))
    return "---\n".join(files.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_field_is_accepted(cluster: Cluster, variant: str) -> None:
    with cluster.namespace() as namespace:
        text = manifests(namespace, VARIANTS[variant])
        said = cluster.kubectl(*STRICTLY, "--dry-run=server", "-f", "-", stdin=text)
    assert said.count("serverside-applied (server dry run)") == text.count("---\n") + 1


def test_the_example_of_deploy_is_accepted(cluster: Cluster) -> None:
    built = cluster.kubectl("kustomize", str(DEPLOY / "example"))
    namespaces = [part for part in built.split("---\n") if "\nkind: Namespace\n" in part]
    assert len(namespaces) == 4
    cluster.kubectl(*STRICTLY, "-f", "-", stdin="---\n".join(namespaces))
    said = cluster.kubectl(*STRICTLY, "--dry-run=server", "-f", "-", stdin=built)
    assert said.count("serverside-applied (server dry run)") == built.count("---\n") + 1


def test_the_shipped_rights_are_enough_and_end_there(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the reconciler's own ServiceAccount: all that a tick asks of a cluster, and a write too many."""
    from reconciler.adapters.kubernetes.client import Refused, connect
    from reconciler.adapters.kubernetes.cluster import KubernetesCluster
    from tests.servers.cluster import until

    built = cluster.kubectl("kustomize", str(DEPLOY / "example"))
    parts = [part for part in built.split("---\n") if "\nkind: CronJob\n" not in part]
    cluster.kubectl(*STRICTLY, "--force-conflicts", "-f", "-", stdin="---\n".join(parts))
    token = cluster.token("trueup", "trueup-reconciler")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig_of(token, tmp_path / "kubeconfig")))
    ours = KubernetesCluster(connect(), ("staging", "production"))

    def apply(namespace: str) -> bool:
        made = release(**VARIANTS["canary, scaled"])
        files = render("staging", environment(namespace=namespace), "digits", made)
        return ours.apply(environment="staging", model="digits", namespace=namespace, manifests=files)

    assert apply("staging")
    until(lambda: ours.sweep().workloads["staging/digits"].health == "Healthy")
    found = ours.sweep()
    assert found.gaps == {}
    assert "serving" in ours.logs("staging", "digits")
    assert not apply("staging")
    ours.prune(
        environment="staging",
        model="digits",
        namespace="staging",
        objects=found.workloads["staging/digits"].objects,
    )
    until(lambda: "staging/digits" not in ours.sweep().workloads)
    with pytest.raises(Refused, match=r"cannot (patch|create)"):  # Argo CD's
        apply("production")
    for verb, resource in (("get", "secrets"), ("list", "configmaps"), ("create", "pods"), ("create", "roles")):
        for namespace in ("staging", "production", "trueup", "trueup-runs"):
            account = "--as=system:serviceaccount:trueup:trueup-reconciler"
            command = ("auth", "can-i", verb, resource, "--namespace", namespace, account)
            with pytest.raises(RuntimeError, match="failed: no"):
                cluster.kubectl(*command)


@pytest.mark.parametrize("variant", ["rolling, recorded", "canary, recorded"])
def test_where_servers_are_asked_for_what_they_recorded(
    cluster: Cluster, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconciler.adapters.kubernetes.client import connect
    from reconciler.adapters.kubernetes.cluster import KubernetesCluster
    from tests.servers.cluster import until

    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with cluster.namespace() as namespace:
        ours = KubernetesCluster(connect(), (namespace,))
        files = render("staging", environment(namespace=namespace), "digits", release(**VARIANTS[variant]))
        applied = {"environment": "staging", "model": "digits", "namespace": namespace, "manifests": files}
        assert ours.apply(**applied)
        until(lambda: ours.sweep().workloads["staging/digits"].health == "Healthy")
        found = ours.sweep().workloads["staging/digits"]
        assert found.recorded == f"http://digits-recorded.{namespace}.svc:8081"
        assert found.endpoint == f"http://digits.{namespace}.svc"
        assert found.drifted == ()
        assert not ours.apply(**applied)


# --- a canary, judged -------------------------------------------------------------------------------------


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with running() as made:
        yield made


@pytest.mark.parametrize(
    ("values", "phase", "why"),
    [
        (["0.001"], "Healthy", ""),
        (["0.9"], "Degraded", "RolloutAborted"),
        (["NaN"], "Paused", "InconclusiveAnalysisRun"),
        ([], "Paused", "InconclusiveAnalysisRun"),
    ],
    ids=["good", "bad", "no number", "no value"],
)
def test_a_canary_goes_as_far_as_its_metrics_let_it(
    cluster: Cluster, prometheus: Prometheus, values: list[str], phase: str, why: str
) -> None:
    from tests.servers.cluster import until

    quick = {"measurements": 2, "interval": "1s", "prometheus": prometheus.url}
    steps = [{"weight": 50, "pause": "1s"}]
    analysis = CANARY["serving"]["canary"]["analysis"] | quick
    served = canary(replicas=2, canary={"steps": steps, "analysis": analysis})
    pin = {"registry": "default", "name": "digits", "digest": "sha256:" + "c" * 64}
    prometheus.values = values

    with cluster.namespace() as namespace:
        rollout = ("rollout", "digits", "--namespace", namespace)

        def status() -> dict[str, Any]:
            item = cluster.get(*rollout)
            found: dict[str, Any] = item.get("status", {})
            current = found.get("observedGeneration") == str(item["metadata"]["generation"])
            return found if current else {}

        def apply(version: str) -> None:
            text = manifests(namespace, served | {"pin": {**pin, "version": version}})
            cluster.kubectl(*STRICTLY, "--field-manager=trueup", "-f", "-", stdin=text)

        apply("1")
        until(lambda: status().get("phase") == "Healthy")
        assert prometheus.asked == set()  # there was nothing to compare with
        first = status()["stableRS"]
        apply("2")

        def arrived() -> bool:
            seen = status()
            settled = phase != "Healthy" or seen.get("stableRS") != first
            return seen.get("phase") == phase and settled and why in str(seen)

        until(arrived)
        assert len(prometheus.asked) >= (2 if phase == "Healthy" else 1)
        # The controller has nothing to write back into what was applied.
        owners = {
            entry["manager"]: entry["fieldsV1"].get("f:spec", {})
            for entry in cluster.get(*rollout, "--show-managed-fields=true")["metadata"]["managedFields"]
            if not entry.get("subresource")
        }
        assert [manager for manager, fields in owners.items() if fields and manager != "trueup"] == []
