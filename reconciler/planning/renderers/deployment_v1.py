"""``deployment/v1``: a Deployment. No pod goes before its successor is ready."""

from __future__ import annotations

from reconciler.planning.renderers.parts import Part, Served, around, workload_spec


def deployment_v1(served: Served) -> dict[str, Part]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    spec = workload_spec(served, {"strategy": strategy})
    return {
        "deployment.yaml": served.object("apps/v1", "Deployment", spec),
        **around(served, api_version="apps/v1", kind="Deployment"),
    }
