"""Argo's API refuses or is silent: what is said of a model that trains; one that soaks is verified."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.adapters.kubernetes.argo_engine import WORKFLOW, ArgoEngine
from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Request, Transport, connect
from reconciler.core.observed import Phase, WorkflowRun
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.integration.on_kubernetes import BLUE, MODELS, RED, Namespaces, Wire
from tests.integration.test_faults_on_a_cluster import (
    Case,
    an_expired_token,
    answered,
    away,
    on_the_wire,
    status,
)
from tests.laws.driving import JUMP, said, tick
from tests.servers.argo_driver import install
from tests.servers.cluster import Cluster

pytestmark = pytest.mark.cluster


class PlayedArgo(ArgoEngine):
    """The adapter over a wire, and a controller with one of its own whose runs end as the World says."""

    def __init__(self, wire: Wire, namespace: str, world: World) -> None:
        repository = {"source": world.repository, "repository": "https://git.example/x.git"}
        super().__init__(wire.client("the cluster of Argo"), namespace, **repository)  # type: ignore[arg-type]
        self.controller = KubernetesClient(wire.transport, where="the controller")
        self.eyes = ArgoEngine(self.controller, namespace, **repository)  # type: ignore[arg-type]
        self.here = namespace

    def running(self) -> tuple[WorkflowRun, ...]:
        return tuple(run for run in self.eyes.sweep().runs.values() if not run.done)

    def finish(
        self, name: str, phase: Phase, outputs: Mapping[str, str] | None = None, message: str = ""
    ) -> None:
        workflow = self.controller.get(WORKFLOW, self.here, name)
        assert workflow is not None
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        ran = [each["name"] for each in workflow["spec"]["templates"] if "container" in each]
        told = {
            "phase": phase,
            "message": message,
            "startedAt": now,
            "finishedAt": now,
            "outputs": {"parameters": [{"name": k, "value": v} for k, v in (outputs or {}).items()]},
            "nodes": {
                each: {"id": each, "type": "Pod", "displayName": each, "templateName": each, "phase": phase}
                for each in ran
            },
        }
        self.controller.patch(WORKFLOW, self.here, name, {"status": told})


class OnArgo(World):
    """Blue's model is released and soaks; red's is about to be trained."""

    def __init__(self, namespace: str) -> None:
        super().__init__(shipped() | environment(RED) | environment(BLUE) | model(MODELS[BLUE], BLUE))
        self.one = Wire(connect()._ask)
        self.namespaces = Namespaces(namespace, namespace)
        self.engine = self.argo = PlayedArgo(self.one, namespace, self)  # type: ignore[assignment]
        for _ in range(12):
            if self.cluster.workloads:
                break
            tick(self)
            self.settle()
        assert f"{BLUE}/{MODELS[BLUE]}" in self.cluster.workloads
        self.commit(model(MODELS[RED], RED))

    def wire(self, name: str) -> Wire:
        return self.one

    @property
    def verified(self) -> bool:
        return self.registry.models[MODELS[BLUE]].aliases == {BLUE: "1"}


@contextmanager
def not_installed(world: OnArgo, server: Cluster, folder: Path) -> Iterator[None]:
    def ask(request: Request, pass_on: Transport) -> Answer:
        return pass_on(
            request._replace(path=request.path.replace("/argoproj.io/", "/not-installed.argoproj.io/"))
        )

    with on_the_wire(ask)(world, server, folder):  # type: ignore[arg-type]
        yield


FAULTS: dict[str, Case] = {
    "Argo is not installed": Case(
        not_installed,  # type: ignore[arg-type]
        r"/workflows is answered with status 404\. hint: install the CustomResourceDefinitions",
        retryable=False,
    ),
    "the token has expired": Case(
        an_expired_token, r"Unauthorized\. hint: the token or certificate is wrong or expired", retryable=False
    ),
    "too many requests": Case(
        on_the_wire(answered(status(429, "slow down", **{"retry-after": "60"}))),
        r"failed with status 429: slow down\. hint: not before 20\d\d-",
    ),
    "the server is ill": Case(
        on_the_wire(answered(status(503, "apiserver is shutting down"))),
        r"failed with status 503: apiserver is shutting down\. hint: it is tried again",
    ),
    "nobody answers": Case(on_the_wire(away), r"got no answer\. hint: is it up\?"),
}


@pytest.fixture
def world(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnArgo]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    install(cluster)
    with cluster.namespace() as namespace:
        yield OnArgo(namespace)


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_while_the_engine_is_a_gap_nothing_is_concluded_and_what_serves_is_verified(
    world: OnArgo, cluster: Cluster, tmp_path: Path, case: Case
) -> None:
    runs = dict(world.argo.eyes.sweep().runs)
    world.one.asked.clear()
    with case.arrange(world, cluster, tmp_path):  # type: ignore[arg-type]
        for _ in range(4):
            plan = tick(world).planned.plan
            world.wait(JUMP)
        assert world.verified, plan
        (gap,) = plan.gaps
        assert re.search(case.says, gap.error)
        assert (gap.source, gap.retryable) == ("engine", case.retryable)
        held = [hold for hold in plan.holds if hold.subject.model == MODELS[RED] and hold.code == "gap"]
        assert any(re.search(case.says, hold.reason) for hold in held), plan.holds
        assert not [hold for hold in plan.holds if hold.subject.environment == BLUE]
        assert not plan.actions
        assert {request.method for request in world.one.asked} == {"GET"}
        assert world.argo.eyes.sweep().runs == runs
    submitted = [o.key for o in tick(world).outcomes if o.result == "done"]
    assert [key for key in submitted if key.startswith(f"submit-workflow train-{MODELS[RED]}-")]


def test_a_namespace_of_workflows_that_is_being_deleted(world: OnArgo, cluster: Cluster) -> None:
    namespace = world.namespaces.red
    metadata = {"name": "stays", "namespace": namespace, "finalizers": ["trueup.test/stays"]}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    try:
        for _ in range(4):
            ticked = tick(world)
            world.wait(JUMP)
        assert world.verified
        (failed,) = ticked.outcomes
        assert (failed.subject.model, failed.result, failed.retryable) == (MODELS[RED], "failed", True)
        assert "the namespace is being deleted" in failed.detail, said(ticked)
        posts = [request for request in world.one.asked if request.method == "POST"]
        assert len([p for p in posts if MODELS[RED] in str(p.body)]) == 4  # one a tick
    finally:
        free = '--patch={"metadata":{"finalizers":null}}'
        cluster.kubectl("--namespace", namespace, "patch", "configmap", "stays", "--type=merge", free)


@pytest.mark.parametrize("done", [True, False], ids=["was made", "was not made"])
def test_a_submission_without_an_answer_is_looked_up(world: OnArgo, done: bool) -> None:
    def lose(request: Request, pass_on: Transport) -> Answer:
        if request.method != "POST":
            return pass_on(request)
        if done:
            pass_on(request)
        return away(request, pass_on)

    world.one.asked.clear()
    world.one.fault = lose
    (outcome,) = [o for o in tick(world).outcomes if o.subject.model == MODELS[RED]]
    assert outcome.result == ("done" if done else "failed")
    assert [request.method for request in world.one.asked][-2:] == ["POST", "GET"]
    world.one.fault = None
    tick(world)
    made = Counter(request.body["metadata"]["name"] for request in world.one.writes if request.body)
    assert list(made.values()) == [1 if done else 2]
    assert [run.name for run in world.argo.running()] == list(made)
