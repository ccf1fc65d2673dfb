"""A metric by version, as a chart's coordinates: what a model's page draws, and what a table beside it says.

Every measured version counts, also one that no gate let through: that is what the line is looked at for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from reconciler.core.desired import DesiredState, ModelSource
from reconciler.core.documents import Gate
from reconciler.core.evidence import Evidence

WIDTH, HEIGHT = 640, 200
"""Units of the plot."""
MARGIN = 0.08
"""Share of the plot that stays free above the highest and below the lowest number."""


class Point(NamedTuple):
    """One version's value, with the interval where it has one, and the environments that pin it now."""

    version: str
    value: float
    low: float | None
    high: float | None
    n: int
    pinned: tuple[str, ...]


class Asked(NamedTuple):
    """What policies ask of it whatever the champion has: a threshold, or the baseline with its margin."""

    threshold: float
    op: str
    environments: tuple[str, ...]


class Chart(NamedTuple):
    """One metric over the versions that it was measured of, oldest first. Never without a point."""

    metric: str
    points: tuple[Point, ...]
    asked: tuple[Asked, ...]

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and highest number that is drawn; never equal."""
        numbers = [asked.threshold for asked in self.asked]
        numbers += [n for p in self.points for n in (p.value, p.low, p.high) if n is not None]
        low, high = min(numbers), max(numbers)
        free = (high - low) * MARGIN or abs(high) * MARGIN or 1.0
        return low - free, high + free

    def x(self, place: int) -> float:
        """Where the point at this place is, from the left."""
        return WIDTH * (place + 0.5) / len(self.points)

    def y(self, value: float) -> float:
        """Where a value is, from the top."""
        low, high = self.span
        return HEIGHT * (high - value) / (high - low)


def charts(desired: DesiredState, model: str, measured: Mapping[str, Iterable[Evidence]]) -> tuple[Chart, ...]:
    """A chart for each metric that a gate asks of this model. ``measured``: version -> its evidence, in the
    versions' order; of several measurements of one kind the newest counts."""
    environments = [name for name in desired.models[model].model.environments if name in desired.environments]
    gates = {
        name: desired.policies[policy].gates
        for name in environments
        if (policy := desired.environments[name].policy) in desired.policies
    }
    newest = {
        version: {evidence.measurement: evidence for evidence in sorted(given, key=lambda each: each.at)}
        for version, given in measured.items()
    }
    metrics = dict.fromkeys(gate.metric for asked in gates.values() for gate in asked)
    drawn = (_chart(desired, model, metric, newest, gates) for metric in metrics)
    return tuple(chart for chart in drawn if chart.points)


def _chart(
    desired: DesiredState,
    model: str,
    metric: str,
    newest: Mapping[str, Mapping[str, Evidence]],
    gates: Mapping[str, tuple[Gate, ...]],
) -> Chart:
    measurement, _, name = metric.partition(".")
    points = []
    for version, by_kind in newest.items():
        found = by_kind[measurement].metrics.get(name) if measurement in by_kind else None
        estimate = found.overall.candidate if found else None
        if estimate is None or estimate.value is None:
            continue
        pinned = tuple(e for e in gates if _pins(desired, e, model, version))
        points.append(Point(version, estimate.value, estimate.low, estimate.high, estimate.n, pinned))
    source = desired.models[model]
    thresholds: dict[tuple[float, str], list[str]] = {}
    for environment, asked in gates.items():
        for gate in asked:
            for line in _lines(gate, model, source) if gate.metric == metric and not gate.slices else ():
                places = thresholds.setdefault(line, [])
                places += [] if environment in places else [environment]
    lines = (Asked(threshold, op, tuple(places)) for (threshold, op), places in sorted(thresholds.items()))
    return Chart(metric, tuple(points), tuple(lines))


def _lines(gate: Gate, name: str, source: ModelSource) -> Iterator[tuple[float, str]]:
    if not gate.when.meant(name, source.model.task, source.declared):
        return
    if gate.threshold is not None and gate.op is not None:
        yield gate.threshold, gate.op
    baseline = source.model.baselines.get(gate.metric.partition(".")[2])
    if gate.versus is None or gate.versus.ref != "baseline" or baseline is None:
        return
    if gate.versus.max_drop is not None:
        yield baseline - gate.versus.max_drop, ">="
    elif gate.versus.max_rise is not None:
        yield baseline + gate.versus.max_rise, "<="


def _pins(desired: DesiredState, environment: str, model: str, version: str) -> bool:
    release = desired.releases.get(f"{environment}/{model}")
    return release is not None and release.pin.version == version
