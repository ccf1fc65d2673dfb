"""How a version serves: what a Model asks for, what an Environment can do, and what a Release pins of both.

Part of :mod:`reconciler.core.documents`. The planner resolves a Model's section for one environment; the
renderers read the snapshot and nothing else of it, so that a Release renders to the same bytes for ever.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reconciler.core.base import Duration, Frozen, Name, parse_duration

Strategy = Literal["rolling", "canary"]
RendererName = Literal["deployment/v1", "rollout/v1"]

STRATEGIES: dict[RendererName, tuple[Strategy, ...]] = {
    "deployment/v1": ("rolling",),
    "rollout/v1": ("canary", "rolling"),
}
"""What each renderer can do. The first is what it does where a model does not say."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi)?$")]
Replicas = Annotated[int, Field(ge=1, le=1000)]
Address = Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$", max_length=200)]


class Runtime(Frozen):
    """How the environment's cluster runs what is served."""

    renderer: RendererName = Field(
        default="deployment/v1",
        description="`deployment/v1`: a Deployment. `rollout/v1`: an Argo Rollout, which can do a canary.",
    )
    prometheus: Address | None = Field(
        default=None,
        description="Whom the Rollouts controller asks for a canary's metrics; `rollout/v1` only.",
    )
    istio: bool = Field(
        default=False,
        description="Weights by an Istio VirtualService of the model's name, which people keep, instead of by "
        "the number of pods; `rollout/v1` only.",
    )

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.renderer == "deployment/v1" and (self.prometheus or self.istio):
            raise ValueError("prometheus and istio are used by the renderer rollout/v1 only")
        return self


class Resources(Frozen):
    cpu: Quantity = "500m"
    memory: Quantity = "1Gi"


class Autoscaling(Frozen):
    """A HorizontalPodAutoscaler decides the number of pods, by the CPU they use of what they request."""

    min: Replicas
    max: Replicas
    cpu: Annotated[int, Field(ge=10, le=100)] = Field(default=70, description="Percent of the request.")

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.min >= self.max:
            raise ValueError("max is not more than min")
        return self


class CanaryStep(Frozen):
    """A share of the traffic, and how long the canary takes it before it is judged."""

    weight: Annotated[int, Field(ge=1, le=99)] = Field(description="Percent.")
    pause: Duration | Literal["manual"] = Field(
        default=timedelta(minutes=5), description="`manual`: until a person goes on."
    )


class Analysis(Frozen):
    """When a canary is taken back, by the server's own metrics of the canary's pods.

    Each step is judged after its pause. One measurement past a limit aborts. One that is missing or not a
    number, as where there were too few requests, asks a person; it never passes.
    """

    error_share: Annotated[float, Field(ge=0.0001, lt=1)] = Field(
        default=0.01, description="Share of requests on which the model failed."
    )
    p95_seconds: Annotated[float, Field(ge=0.001, lt=10)] = Field(
        default=0.5, description="95th percentile of the time to answer."
    )
    min_requests: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Requests within the window; with fewer there is no value."
    )
    measurements: Annotated[int, Field(ge=1, le=100)] = Field(default=3, description="Of each step.")
    interval: Duration = Field(
        default_factory=lambda: parse_duration("1m"), description="From one measurement to the next."
    )
    window: Duration = Field(
        default_factory=lambda: parse_duration("5m"),
        description="How far back each looks: at least two scrapes of the Prometheus.",
    )


class Canary(Frozen):
    """Step by step to all of the traffic. By the number of pods, a weight is only as fine as they are many."""

    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1, max_length=20)] = Field(
        default=(CanaryStep(weight=10), CanaryStep(weight=50)),
        description="Default: 10 percent for 5m, then 50 percent for 5m.",
    )
    analysis: Analysis | Literal["none"] = Analysis()

    @model_validator(mode="after")
    def _upwards(self) -> Self:
        weights = [step.weight for step in self.steps]
        if weights != sorted(set(weights)):
            raise ValueError("each step takes more weight than the one before it")
        return self


READS_RECORDED = {"trueup.dev/reads": "recorded"}
"""Label of the pods of a measuring step that asks servers for what they recorded."""
MEASURES = {"trueup.dev/measures": "true"}
"""Label of the namespace where such steps run; whoever may label namespaces decides which that is."""


class Record(Frozen):
    """A sample of the rows that are answered, kept by each server in its memory for measuring steps to ask for.

    Requests may hold personal data, so nothing is recorded unless a model asks for it (docs/monitoring.md).
    """

    sample: Annotated[float, Field(gt=0, le=1)] = Field(default=0.1, description="Share of the rows.")
    rows: Annotated[int, Field(ge=100, le=100_000)] = Field(
        default=20_000, description="Of each server, the newest."
    )


class Latency(Frozen):
    """How a candidate's server is asked before it is let in. What its answers may take, a policy says."""

    rate: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20,
        description="Requests a second, evenly spaced. With `seconds`, 100 requests at least.",
    )
    rows: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="Of each request.")
    seconds: Annotated[int, Field(ge=5, le=600)] = Field(
        default=6, description="That are measured: the first in which others leave the machine a free core."
    )

    @model_validator(mode="after")
    def _enough_for_a_percentile(self) -> Self:
        if self.rate * self.seconds < FEWEST_REQUESTS:
            raise ValueError(f"asks fewer than {FEWEST_REQUESTS} times; ask for longer, or more often")
        return self


FEWEST_REQUESTS = 100
"""Of which five are slower than the 95th percentile; shipped policies ask for as many."""


class Load(Latency):
    """What the measurement `load` is made with: also the memory that a server may use there."""

    memory: Quantity

    @property
    def memory_bytes(self) -> float:
        number, unit = re.fullmatch(r"([0-9.]+)(\D*)", self.memory).groups()  # type: ignore[union-attr]
        return float(number) * BYTES[unit]


BYTES = {"": 1.0, "m": 0.001, "Ki": 1024.0, "Mi": 1024.0**2, "Gi": 1024.0**3}


class AnalysisSnapshot(Analysis):
    prometheus: Address


class CanarySnapshot(Frozen):
    """``analysis`` is absent where the model renounced it."""

    steps: tuple[CanaryStep, ...]
    analysis: AnalysisSnapshot | None = None
    istio: bool = False


class ServingSnapshot(Frozen):
    """How a version serves in one environment, all defaults and overrides resolved; pinned by its Release."""

    strategy: Strategy = "rolling"
    replicas: Replicas = 1
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = Field(default=None, description="Then `replicas` is its minimum.")
    canary: CanarySnapshot | None = None
    record: Record | None = None


class ServingOverride(Frozen):
    """What one environment serves differently."""

    strategy: Strategy | None = None
    replicas: Replicas | None = None
    resources: Resources | None = None
    autoscaling: Autoscaling | Literal["none"] | None = None
    canary: Canary | None = None

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.replicas is not None and isinstance(self.autoscaling, Autoscaling):
            raise ValueError("autoscaling decides the number of replicas; remove one of the two")
        return self


class Serving(Frozen):
    strategy: Strategy | None = Field(
        default=None, description="Without one: `canary` where the environment's renderer can, else `rolling`."
    )
    replicas: Replicas | None = Field(default=None, description="1, unless autoscaling decides.")
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    canary: Canary | None = None
    overrides: dict[Name, ServingOverride] = Field(default_factory=dict)
    latency: Latency = Latency()

    @model_validator(mode="after")
    def _nothing_unused(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("autoscaling decides the number of replicas; remove one of the two")
        strategies = {self.strategy, *(o.strategy or self.strategy for o in self.overrides.values())}
        if self.canary is not None and strategies == {"rolling"}:
            raise ValueError("canary has steps, and strategy is rolling everywhere")
        for name, override in self.overrides.items():
            if override.canary is not None and (override.strategy or self.strategy) == "rolling":
                raise ValueError(f"overrides.{name}.canary has steps, and strategy is rolling there")
        return self

    def strategy_in(self, environment: str, renderer: RendererName) -> Strategy:
        override = self.overrides.get(environment)
        return (override and override.strategy) or self.strategy or STRATEGIES[renderer][0]

    def canary_in(self, environment: str) -> Canary:
        override = self.overrides.get(environment)
        return (override and override.canary) or self.canary or Canary()

    def load_in(self, environment: str) -> Load:
        """How a server of ``environment`` is measured. None of it is pinned: it changes nothing that runs."""
        override = self.overrides.get(environment, ServingOverride())
        asked = {name: getattr(self.latency, name) for name in Latency.model_fields}
        return Load(**asked, memory=(override.resources or self.resources).memory)

    def resolve(self, environment: str, runtime: Runtime, renderer: RendererName) -> ServingSnapshot:
        """The snapshot for ``environment``, rendered by ``renderer``: an older Release keeps its own."""
        override = self.overrides.get(environment, ServingOverride())
        autoscaling = override.autoscaling or (None if override.replicas else self.autoscaling)
        scaled = autoscaling if isinstance(autoscaling, Autoscaling) else None
        strategy = self.strategy_in(environment, renderer)
        canary = _canary(self.canary_in(environment), runtime) if strategy == "canary" else None
        return ServingSnapshot(
            strategy=strategy,
            replicas=scaled.min if scaled else override.replicas or self.replicas or 1,
            resources=override.resources or self.resources,
            autoscaling=scaled,
            canary=canary,
        )


def _canary(canary: Canary, runtime: Runtime) -> CanarySnapshot:
    analysis = None
    # Without a Prometheus it is a finding of core.references, and nothing of this model is planned.
    if canary.analysis != "none" and runtime.prometheus is not None:
        fields = {name: getattr(canary.analysis, name) for name in Analysis.model_fields}
        analysis = AnalysisSnapshot(**fields, prometheus=runtime.prometheus)
    return CanarySnapshot(steps=canary.steps, analysis=analysis, istio=runtime.istio)
