"""From a training's compute section and the Platform's engine to the pods that they ask for.

The results are parameters of the run, and a template uses them as its ``podSpecPatch``; they are no part of any
key. An engine without pods takes no notice of them.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.argo import CHECKPOINT
from reconciler.core.digests import plain
from reconciler.core.documents import Compute
from reconciler.core.platform import Engine, Placement

CHECKPOINTS = "checkpoint"
"""The volume that holds a training's checkpoint, mounted there by the template; empty at first."""

DATA_CACHE = "/trueup/cache"
"""Where the pods that fetch data have the volume of ``engine.dataCache``."""

RESTARTS = 2
RESTARTS_ON_SPOT = 10
"""How often the engine itself begins a training's pod again, where it was not the training's fault."""


def pod_patch(engine: Engine, compute: Compute, run: str) -> dict[str, Any]:
    """What the pod of a training has that its template does not say: a strategic merge patch of a PodSpec.

    Empty where nothing is asked for. GPUs are requested and limited alike, as Kubernetes demands.
    """
    pool = engine.pools.get(compute.pool or "")
    patch: dict[str, Any] = {}
    main: dict[str, Any] = {"name": "main"}
    if compute.gpus:
        resource = pool.gpu_resource if pool else "nvidia.com/gpu"
        gpus = {resource: str(compute.gpus)}
        main["resources"] = {"requests": gpus, "limits": gpus}
    places: list[Placement] = [place for place in (pool, pool.spot if pool and compute.spot else None) if place]
    selector = {key: value for place in places for key, value in place.node_selector.items()}
    tolerations = [_toleration(each) for place in places for each in place.tolerations]
    if selector:
        patch["nodeSelector"] = selector
    if tolerations:
        patch["tolerations"] = tolerations
    if pool and pool.spot and compute.spot and pool.spot.checkpoints:
        # One folder a run: what a failed run kept is nothing for the next attempt to begin from.
        claim = {"claimName": pool.spot.checkpoints}
        patch["volumes"] = [{"name": CHECKPOINTS, "emptyDir": None, "persistentVolumeClaim": claim}]
        main["volumeMounts"] = [{"name": CHECKPOINTS, "mountPath": CHECKPOINT, "subPath": run}]
    if len(main) > 1:
        patch["containers"] = [main]
    return patch


def data_pod_patch(engine: Engine) -> dict[str, Any]:
    """What a pod that fetches data has besides: the cache of the platform, where there is one.

    Model code runs in other pods, which do not get it.
    """
    cache = engine.data_cache
    if cache is None:
        return {}
    settings = {"TRUEUP_CACHE": DATA_CACHE, "TRUEUP_CACHE_LIMIT": cache.limit}
    main = {
        "name": "main",
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "volumeMounts": [{"name": "data-cache", "mountPath": DATA_CACHE}],
    }
    volume = {"name": "data-cache", "persistentVolumeClaim": {"claimName": cache.claim}}
    return {"containers": [main], "volumes": [volume]}


def _toleration(toleration: Any) -> dict[str, Any]:
    return {key: value for key, value in plain(toleration).items() if value != ""}
