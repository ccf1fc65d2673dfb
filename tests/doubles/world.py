"""Everything outside the loop, in memory: one clock, one repository, one of each system, and people.

Between ticks :meth:`World.settle` lets the systems come to rest: runs end, workloads become healthy, people
approve. What they come to is chosen by the fields below; the default is that everything goes well.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.core.digests import sha256, short
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, Metric, Scores
from reconciler.core.observed import TAG_DIGEST, TAG_INPUTS, TAG_KEY, Phase, WorkflowRun
from reconciler.core.strict_yaml import read
from reconciler.ports import Readers, Writers
from tests.doubles.calls import Around, around_readers, around_writers
from tests.doubles.cluster import MemoryCluster
from tests.doubles.documents import ROOT
from tests.doubles.engine import MemoryEngine
from tests.doubles.forge import MemoryForge
from tests.doubles.people import MemoryLease, MemoryNotifier
from tests.doubles.registry import MemoryRegistry
from tests.doubles.repository import Changes, MemoryRepository

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
GOOD = 0.95
SAMPLES = 1000
MANY = 100_000
"""Samples of what is not a score: as many as any policy may ask for."""
HALF_INTERVAL = 0.005
METRICS = {"evaluate": ("accuracy", "f1-macro", "ece"), "parity": ("agreement",), "reproduce": ("score",)}


def _thresholds() -> dict[str, dict[str, float]]:
    """Measurement -> metric -> the shipped policies' strictest threshold, which a good version meets."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted((ROOT / "policies").glob("*.yaml")):
        for gate in read(path.read_bytes(), str(path)).value["gates"]:
            measurement, _, metric = gate["metric"].partition(".")
            if "threshold" in gate:
                strictest = max if gate["op"] == ">=" else min
                known = found.setdefault(measurement, {})
                known[metric] = strictest(known.get(metric, gate["threshold"]), gate["threshold"])
    return found


THRESHOLDS = _thresholds()


class Clock:
    """The instant that everything in a World reads."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class World:
    """``files`` are the repository's first commit, by a person."""

    def __init__(self, files: Mapping[str, str], at: datetime = START) -> None:
        self.clock = Clock(at)
        self.repository = MemoryRepository()
        self.forge = MemoryForge(self.repository, self.clock)
        self.registry = MemoryRegistry(self.clock)
        self.engine = MemoryEngine(self.clock)
        self.cluster = MemoryCluster(self.clock)
        self.notifier = MemoryNotifier()
        self.lease = MemoryLease()
        self.accuracy: dict[tuple[str, str], float] = {}
        """(registered name, version) -> what it scores; :data:`GOOD` where nothing is said."""
        self.failing: dict[str, int] = {}
        """Beginning of a run's name -> how many runs of that name fail before one succeeds."""
        self.broken: set[tuple[str, str]] = set()
        """(environment, version) that become unhealthy there, of every model."""
        self.registries: tuple[str, ...] = ("default",)
        """The names under which the one registry is reached; each may fail apart."""
        self.approvers: tuple[str, ...] = ("Ada", "Grace")
        self.commit(files, subject="the first commit")

    def copy(self) -> World:
        """Another World in the same state; neither sees what the other does from now on."""
        made = copy.copy(self)
        made.clock = Clock(self.clock.now)
        for name in ("repository", "forge", "registry", "engine", "cluster", "notifier", "lease"):
            part = copy.copy(getattr(self, name))
            for field, value in vars(part).items():
                setattr(part, field, copy.copy(value) if isinstance(value, dict | list) else value)
            if hasattr(part, "clock"):
                part.clock = made.clock
            setattr(made, name, part)
        made.forge.repository = made.repository
        for name in ("accuracy", "failing", "broken"):
            setattr(made, name, copy.copy(getattr(self, name)))
        return made

    # --- what people do -----------------------------------------------------------------------------------

    def commit(self, changes: Changes, subject: str = "edit", author: str = "Ada") -> str:
        """A person's commit on main."""
        return self.repository.commit(changes, at=self.clock.now, author=author, subject=subject)

    def wait(self, time: timedelta) -> None:
        self.clock.now += time

    # --- the ports ----------------------------------------------------------------------------------------

    def readers(self, around: Around | None = None) -> Readers:
        registries, clusters = dict.fromkeys(self.registries, self.registry), {"local": self.cluster}
        readers = Readers(self.repository, registries, self.engine, self.forge, clusters)
        return around_readers(readers, around) if around else readers

    def writers(self, around: Around | None = None) -> Writers:
        registries, clusters = dict.fromkeys(self.registries, self.registry), {"local": self.cluster}
        notifiers = {"default": self.notifier}
        writers = Writers(registries, self.engine, self.forge, clusters, notifiers, self.lease)
        return around_writers(writers, around) if around else writers

    # --- what the systems do by themselves ----------------------------------------------------------------

    def settle(self) -> bool:
        """Let everything come to rest; whether anything had to."""
        running = self.engine.running()
        for run in running:
            self._end(run)
        turned = [self._turn(subject) for subject in self.cluster.workloads]
        approved = [self._approve(number) for number in self.forge.sweep().open]
        return bool(running) or any(turned) or any(approved)

    def _end(self, run: WorkflowRun) -> None:
        for prefix, left in self.failing.items():
            if run.name.startswith(prefix) and left > 0:
                self.failing[prefix] = left - 1
                self.engine.finish(run.name, "Failed", message="main: exit code 1")
                return
        outcome: Phase = "Succeeded"
        train = run.labels["trueup.dev/kind"] == "train"
        self.engine.finish(run.name, outcome, self._train(run) if train else self._measure(run))

    def _train(self, run: WorkflowRun) -> dict[str, str]:
        said = run.parameters
        name, key = said["registered-name"], said["training-key"]
        digest = sha256(f"{name} {key}")
        tags = {TAG_KEY: key, TAG_DIGEST: digest, TAG_INPUTS: said["training-inputs"]}
        return {"version": self.registry.register(name, tags, run_id=run.name), "digest": digest}

    def _measure(self, run: WorkflowRun) -> dict[str, str]:
        said, measurement = run.parameters, run.labels["trueup.dev/measurement"]
        inputs: dict[str, Any] = json.loads(said["inputs"])
        champion = said.get("champion-version", "")
        scores = self._scores(said["registered-name"], said["candidate-version"], champion, measurement)
        slices = {column: {"low": scores, "high": scores} for column in inputs.get("slices", ())}
        evidence = Evidence(
            measurement=measurement,
            recipe=CATALOGUE[measurement].recipe,
            key=said["key"],
            inputs=inputs,
            at=self.clock.now,
            metrics={
                name: Metric(overall=CALIBRATED if name == "ece" else scores, slices=slices)
                for name in METRICS.get(measurement, ())
            }
            or {
                name: Metric(overall=Scores(candidate=Estimate(value=value, n=MANY)))
                for name, value in THRESHOLDS[measurement].items()
            },
        )
        uri = f"memory:/{run.name}-{short(evidence.digest)}.json"
        self.registry.documents[uri] = evidence.to_bytes()
        return {"evidence-uri": uri, "evidence-sha256": evidence.digest}

    def _scores(self, name: str, candidate: str, champion: str, measurement: str) -> Scores:
        if measurement == "parity":
            return Scores(candidate=Estimate(value=1.0, n=SAMPLES))
        value = self.accuracy.get((name, candidate), GOOD)
        if not champion:
            return Scores(candidate=_around(value))
        other = self.accuracy.get((name, champion), GOOD)
        return Scores(candidate=_around(value), champion=_around(other), difference=_around(value - other))

    def _turn(self, subject: str) -> bool:
        before = self.cluster.workloads[subject]
        environment = before.environment
        version = _version_of(self.cluster.applied[subject])
        if (environment, version) in self.broken:
            self.cluster.turn(subject, "Degraded", "the readiness probe fails")
        else:
            self.cluster.turn(subject, "Healthy")
        return self.cluster.workloads[subject] != before

    def _approve(self, number: int) -> bool:
        before = self.forge.get(number)
        for person in self.approvers:
            self.forge.person = person
            self.forge.approve(number)
        return self.forge.get(number) != before


def _around(value: float) -> Estimate:
    low, high = value - HALF_INTERVAL, value + HALF_INTERVAL
    return Estimate(value=value, n=SAMPLES, low=low, high=high, confidence=0.95)


CALIBRATED = Scores(candidate=_around(0.02), champion=_around(0.02), difference=_around(0.0))
"""Every version keeps what its probabilities promise."""


def _version_of(manifests: Mapping[str, str]) -> str:
    """The model version that a Deployment's server is told to load."""
    lines = manifests["deployment.yaml"].splitlines()
    after = next(i for i, line in enumerate(lines) if "TRUEUP_MODEL_VERSION" in line) + 1
    return lines[after].partition(":")[2].strip().strip('"')
