"""What runs: the engine, the clusters, the lease, and what the embedded stack's processes get from this one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.bootstrap.process import Clock, cache, is_set, secret
from reconciler.bootstrap.registries import tracking_uris
from reconciler.bootstrap.repository import Repository
from reconciler.core.argo import WAKE_TOKEN
from reconciler.core.errors import Terminal
from reconciler.core.platform import ClusterKubernetes, EngineArgo, Platform
from reconciler.ports import Lease, Source

if TYPE_CHECKING:
    from reconciler.adapters.embedded.cluster import EmbeddedCluster
    from reconciler.adapters.embedded.engine import EmbeddedEngine
    from reconciler.adapters.kubernetes.argo_engine import ArgoEngine
    from reconciler.adapters.kubernetes.cluster import KubernetesCluster


def connect_engine(repository: Repository, platform: Platform, source: Source) -> EmbeddedEngine | ArgoEngine:
    """The engine that the Platform names."""
    match platform.engine:
        case EngineArgo(context=context, namespace=namespace, repository=url):
            from reconciler.adapters.kubernetes.argo_engine import ArgoEngine
            from reconciler.adapters.kubernetes.client import connect as kubernetes

            return ArgoEngine(kubernetes(context), namespace, source=source, repository=url)
        case _:
            from reconciler.adapters.embedded.engine import EmbeddedEngine

            wake = platform.engine.wake
            token = {WAKE_TOKEN: secret(wake.token)} if wake and is_set(wake.token) else {}
            environment = step_environment(repository, platform) | token
            return EmbeddedEngine(home=repository.home, checkout=source.checkout, env=environment)


def connect_cluster(
    repository: Repository, platform: Platform, name: str
) -> EmbeddedCluster | KubernetesCluster:
    """The cluster that the Platform names so."""
    match platform.clusters[name]:
        case ClusterKubernetes(context=context, namespaces=namespaces, argocd=argocd):
            from reconciler.adapters.kubernetes.client import connect as kubernetes
            from reconciler.adapters.kubernetes.cluster import KubernetesCluster

            return KubernetesCluster(kubernetes(context), namespaces, argocd)
        case _:
            from reconciler.adapters.embedded.cluster import EmbeddedCluster

            # a folder for each, so that two of them never show each other's workloads
            home = repository.home if name == "local" else repository.home / "clusters" / name
            return EmbeddedCluster(home, step_environment(repository, platform))


def connect_lease(repository: Repository, platform: Platform, clock: Clock) -> Lease:
    """Where every reconciler of the repository meets: in Kubernetes as soon as the Platform names it.

    Beside the workflows of Argo; else in the first namespace of the first Kubernetes cluster, by name; else a
    file of this machine.
    """
    places = [
        (cluster.context, cluster.namespaces[0])
        for _, cluster in sorted(platform.clusters.items())
        if isinstance(cluster, ClusterKubernetes)
    ]
    if isinstance(platform.engine, EngineArgo):
        places.insert(0, (platform.engine.context, platform.engine.namespace))
    if not places:
        from reconciler.adapters.embedded.lease import EmbeddedLease

        return EmbeddedLease(repository.home, clock)
    from reconciler.adapters.kubernetes.client import connect as kubernetes
    from reconciler.adapters.kubernetes.lease import KubernetesLease

    context, namespace = places[0]
    return KubernetesLease(kubernetes(context), namespace, clock)


def step_environment(repository: Repository, platform: Platform) -> dict[str, str]:
    """What a step, or a server of the embedded cluster, gets from this process: no secret of the shell's."""
    uris = tracking_uris(repository, platform)
    inherited = (
        *("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"),
        *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TRUEUP_CACHE_LIMIT"),
    )
    return {name: os.environ[name] for name in inherited if name in os.environ} | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "MLFLOW_TRACKING_URI": uris.get("default") or next(iter(uris.values())),
        "TRUEUP_HOME": str(repository.home),
        "TRUEUP_CACHE": str(cache()),
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def stop_local(repository: Repository) -> None:
    """End every process of the embedded stack. What ran counts as terminated; files stay."""
    from reconciler.adapters.embedded.cluster import EmbeddedCluster
    from reconciler.adapters.embedded.engine import EmbeddedEngine

    def refuse(commit: str, destination: Path) -> None:
        raise Terminal(f"{commit} is not checked out to {destination} while stopping")

    EmbeddedEngine(home=repository.home, checkout=refuse, env={}).stop_all()
    for home in (repository.home, *sorted((repository.home / "clusters").glob("*"))):
        EmbeddedCluster(home, {}).stop_all()
