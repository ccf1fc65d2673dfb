"""``rollout/v1``: an Argo Rollout, version 1.10 of argoproj.io/v1alpha1, with a canary judged by Prometheus.

The first release of a model skips the steps, as Rollouts does: there is nothing to compare with. So does going
back to one of the last three revisions (``rollbackWindow``).
"""

from __future__ import annotations

from datetime import timedelta

from reconciler.core.serving import AnalysisSnapshot, CanarySnapshot
from reconciler.planning.renderers.parts import Part, Served, around, service, workload_spec

API_VERSION = "argoproj.io/v1alpha1"
HASH = "canary-hash"
"""The analysis' argument: the hash that the names of the canary's pods carry, as in digits-6f9c5d-x2x7q."""


def rollout_v1(served: Served) -> dict[str, Part]:
    canary = served.serving.canary
    own = {
        "progressDeadlineAbort": True,
        "rollbackWindow": {"revisions": 3},
        "strategy": {"canary": _strategy(served, canary)},
    }
    objects = {
        "rollout.yaml": served.object(API_VERSION, "Rollout", workload_spec(served, own)),
        **around(served, api_version=API_VERSION, kind="Rollout"),
    }
    if canary and canary.analysis:
        objects["analysistemplate.yaml"] = _analysis(served, canary.analysis)
    if canary and canary.istio:
        # The controller writes their selectors, so they are left to it: a selector has one owner.
        objects["service-stable.yaml"] = service(served, "-stable", selected=False)
        objects["service-canary.yaml"] = service(served, "-canary", selected=False)
    return objects


def _strategy(served: Served, canary: CanarySnapshot | None) -> Part:
    """Without a canary there are no steps, and it rolls as a Deployment does."""
    rolling: Part = {"maxSurge": 1, "maxUnavailable": 0}
    if canary is None:
        return rolling
    steps: list[Part] = []
    for step in canary.steps:
        pause = {} if step.pause == "manual" else {"duration": _seconds(step.pause)}
        steps += [{"setWeight": step.weight}, {"pause": pause}]
        if canary.analysis:
            latest = {"name": HASH, "valueFrom": {"podTemplateHashValue": "Latest"}}
            steps.append({"analysis": {"templates": [{"templateName": served.name}], "args": [latest]}})
    routed = {
        "stableService": f"{served.name}-stable",
        "canaryService": f"{served.name}-canary",
        "trafficRouting": {"istio": {"virtualService": {"name": served.name}}},
    }
    return rolling | (routed if canary.istio else {}) | {"steps": steps}


def _analysis(served: Served, analysis: AnalysisSnapshot) -> Part:
    """Two metrics of the canary's pods alone: the share of failed requests, and how long they take.

    The names are those of ``reconcile-server``. Prometheus puts ``namespace`` and ``pod`` on what it scrapes.
    """
    pods = f'namespace="{served.namespace}",pod=~"{served.name}-{{{{args.{HASH}}}}}-.+"'
    window = _seconds(analysis.window)

    def rate(metric: str, labels: str = "") -> str:
        return f"rate({metric}{{{pods}{labels}}}[{window}])"

    seconds = "trueup_request_duration_seconds"
    failed = rate("trueup_prediction_errors_total", ',kind="model"')
    # Of too few requests there is no value, rather than a good one.
    enough = f"and on() sum(increase({seconds}_count{{{pods}}}[{window}])) >= {analysis.min_requests}"
    queries = {
        "error-share": (f"sum({failed}) / sum({rate(f'{seconds}_count')})", analysis.error_share),
        "p95-seconds": (
            f"histogram_quantile(0.95, sum by (le) ({rate(f'{seconds}_bucket')}))",
            analysis.p95_seconds,
        ),
    }
    metrics = [
        {
            "name": name,
            "interval": _seconds(analysis.interval),
            "count": analysis.measurements,
            "failureLimit": 0,
            "inconclusiveLimit": 0,
            # No value, or one that is no number, meets neither: that is inconclusive, and pauses for a person.
            "successCondition": f"len(result) == 1 && result[0] <= {limit!r}",
            "failureCondition": f"len(result) == 1 && result[0] > {limit!r}",
            "provider": {"prometheus": {"address": analysis.prometheus, "query": f"{query} {enough}"}},
        }
        for name, (query, limit) in queries.items()
    ]
    return served.object(API_VERSION, "AnalysisTemplate", {"args": [{"name": HASH}], "metrics": metrics})


def _seconds(duration: timedelta) -> str:
    """As both Go and Prometheus read it; Go knows no days."""
    return f"{int(duration.total_seconds())}s"
