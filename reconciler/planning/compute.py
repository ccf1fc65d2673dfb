"""From a training's compute section and the Platform's pools to the pod that it asks for.

The result is a parameter of the run, and a template uses it as its ``podSpecPatch``; it is no part of any key.
An engine without pods takes no notice of it.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.argo import CHECKPOINT
from reconciler.core.digests import plain
from reconciler.core.documents import Compute
from reconciler.core.platform import Engine, Placement

CHECKPOINTS = "checkpoint"
"""The volume that holds a training's checkpoint, mounted there by the template; empty at first."""

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


def _toleration(toleration: Any) -> dict[str, Any]:
    return {key: value for key, value in plain(toleration).items() if value != ""}
