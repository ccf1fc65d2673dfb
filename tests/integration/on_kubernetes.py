"""A World whose clusters are namespaces of a real API server, reached over wires that a test can cut.

Two environments, ``red`` and ``blue``, each with a namespace and a model of its own. What goes wrong is
always with red; blue is the neighbour that must not notice. Everything else is in memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Request, Transport, connect
from reconciler.adapters.kubernetes.cluster import KubernetesCluster
from reconciler.core.canonical import dump_yaml
from reconciler.core.observed import ClusterSweep, Workload
from reconciler.loop import Ticked
from reconciler.ports import Readers, Writers
from tests.doubles.calls import Around, around_readers, around_writers
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import JUMP, said, tick
from tests.servers.cluster import Cluster, until

RED, BLUE = "red", "blue"
MODELS = {RED: "cherry", BLUE: "plum"}

Fault = Callable[[Request, Transport], Answer]
"""Answers in the server's place, or passes the request on, changed or not."""


class Wire:
    """A transport to the real server that keeps what is asked, and how much came; answers as ``fault`` says."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.fault: Fault | None = None
        self.asked: list[Request] = []
        self.got: list[int] = []
        self.slept: list[float] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        answer = self.fault(request, self.transport) if self.fault else self.transport(request)
        self.got.append(len(answer.body))
        return answer

    @property
    def writes(self) -> list[Request]:
        """Those that change something: no dry run."""
        return [r for r in self.asked if r.method != "GET" and "dryRun" not in r.query]

    def client(self, where: str) -> KubernetesClient:
        return KubernetesClient(self, where=where, sleep=self.slept.append, jitter=random.Random(7))


class Namespaces(NamedTuple):
    red: str
    blue: str


class OnKubernetes(World):
    """``together``: one cluster has both namespaces; else each is a cluster of its own name."""

    def __init__(self, namespaces: Namespaces, transport: Transport, *, together: bool, renderer: str) -> None:
        self.namespaces = namespaces
        self.wires = {name: Wire(transport) for name in (("both",) if together else (RED, BLUE))}
        clusters = {name: namespaces if together else (namespaces._asdict()[name],) for name in self.wires}
        self.clusters = {
            name: KubernetesCluster(self.wires[name].client(f"cluster {name}"), tuple(clusters[name]))
            for name in self.wires
        }
        super().__init__(files(namespaces, clusters, renderer), at=datetime.now(UTC))
        self.eyes = KubernetesCluster(KubernetesClient(transport, where="eyes"), tuple(namespaces))
        """Sees both namespaces, whatever is wrong with the wires."""

    def wire(self, name: str) -> Wire:
        return self.wires.get(name) or self.wires["both"]

    # --- the ports ----------------------------------------------------------------------------------------

    def readers(self, around: Around | None = None) -> Readers:
        readers = super().readers()._replace(clusters=dict(self.clusters))
        return around_readers(readers, around) if around else readers

    def writers(self, around: Around | None = None) -> Writers:
        writers = super().writers()._replace(clusters=dict(self.clusters))
        return around_writers(writers, around) if around else writers

    def settle(self) -> bool:
        """Runs end, and what the real controllers work on comes to its end."""
        moved = super().settle()
        until(lambda: all(w.health != "Progressing" for w in self.seen().workloads.values()), 30)
        return moved

    # --- what a test asks ---------------------------------------------------------------------------------

    def seen(self) -> ClusterSweep:
        return self.eyes.sweep()

    def workload(self, name: str) -> Workload | None:
        return self.seen().workloads.get(f"{name}/{MODELS[name]}")

    def aliases(self, name: str) -> Mapping[str, str]:
        return self.registry.models[MODELS[name]].aliases

    def retrain(self) -> None:
        """Main asks for another training of both models."""
        for name, fruit in MODELS.items():
            self.commit(model(fruit, name, seed=1))

    def story(self, reached: Callable[[], bool], limit: int = 20) -> list[Ticked]:
        """Ticks, with the systems at rest and time gone by between them, until something is so."""
        told: list[Ticked] = []
        for _ in range(limit):
            if reached():
                return told
            told.append(tick(self))
            self.settle()
            self.wait(JUMP)
        problems = told[-1].planned.plan.problems
        raise AssertionError("\n--\n".join([*map(said, told[-4:]), *map(str, problems)]))

    def story_of(self, ticks: int) -> list[Ticked]:
        """So many ticks more."""
        left = iter(range(ticks))
        return self.story(lambda: next(left, None) is None, ticks + 1)

    def main(self, name: str) -> str:
        """The name of the model's Deployment or Rollout."""
        workload = self.workload(name)
        assert workload is not None
        return next(
            each.partition("/")[2] for each in workload.objects if each.startswith(("Deployment/", "Rollout/"))
        )

    def serves(self, name: str, version: str) -> bool:
        """Whether this version is verified, and the alias of its environment names it."""
        known = MODELS[name] in self.registry.models
        return known and self.aliases(name).get(name) == version


def files(namespaces: Namespaces, clusters: Mapping[str, tuple[str, ...]], renderer: str) -> dict[str, str]:
    platform: dict[str, Any] = {
        "apiVersion": "trueup.dev/v1",
        "kind": "Platform",
        "clusters": {
            name: {"type": "kubernetes", "namespaces": list(inside)} for name, inside in clusters.items()
        },
    }
    found = shipped() | {"environments/platform.yaml": dump_yaml(platform)}
    for name, namespace in namespaces._asdict().items():
        cluster = name if name in clusters else "both"
        # Only what is red is of another kind, where one asks for it.
        runtime = {"renderer": renderer if name == RED else "deployment/v1"}
        if runtime["renderer"] == "rollout/v1":
            runtime["prometheus"] = "http://prometheus.monitoring:9090"
        found |= environment(name, cluster=cluster, namespace=namespace, runtime=runtime)
        found |= model(MODELS[name], name)
    return found


@contextmanager
def on_kubernetes(
    server: Cluster, *, together: bool, renderer: str = "deployment/v1"
) -> Iterator[OnKubernetes]:
    """Nothing is there yet."""
    with server.namespace() as red, server.namespace() as blue:
        transport = connect()._ask
        yield OnKubernetes(Namespaces(red, blue), transport, together=together, renderer=renderer)
