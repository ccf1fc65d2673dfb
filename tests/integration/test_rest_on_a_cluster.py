"""What a tick at rest costs on a real API server with 500 models: paged lists, and no write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

from reconciler.adapters.kubernetes.argo_engine import WORKFLOW, ArgoEngine, filled
from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Object, Request, connect
from reconciler.adapters.kubernetes.cluster import ANALYSIS_RUNS, KINDS, REPLICA_SETS, WORKLOADS
from reconciler.core.canonical import dump_document
from reconciler.core.desired import DesiredState, blobs_digest
from reconciler.core.documents import Release, evidence_path, release_path, rendered_folder
from reconciler.core.observed import LABEL_MANAGED, VerifiedMark, verified_tag
from reconciler.core.strict_yaml import read
from reconciler.load import load
from reconciler.planning.renderers import blob_ids, render, rendered_digest
from reconciler.planning.runs import run_name
from tests.doubles.documents import model
from tests.integration.on_kubernetes import BLUE, MODELS, RED, OnKubernetes, Wire, on_kubernetes
from tests.laws.driving import said, tick
from tests.servers.argo_driver import install
from tests.servers.cluster import SERVER, Cluster

pytestmark = pytest.mark.cluster
FIRST = MODELS[RED]
TWINS = 500
"""Besides the first: one Rollout more than a page has."""
ATTEMPTS = 4
"""Failed ones of each twin's training, before the one that registered its version and was collected."""
OBJECTS_A_PAGE, WORKFLOWS_A_PAGE = 500, 250
AT_ONCE = 6
ROLLOUT = WORKLOADS[1]
FAILED = json.loads((Path(__file__).parents[1] / "contract" / "argo" / "task-exits-3.json").read_text())


class Twin(NamedTuple):
    """A model that is as the first one, but for its name."""

    name: str
    release: Release
    manifests: Mapping[str, str]

    def files(self, world: OnKubernetes) -> dict[str, str]:
        """Its documents. Code and data are the first one's, and so is the key of its training."""
        found = model(self.name, RED)
        for path in found:
            if not path.endswith("model.yaml"):
                found[path] = world.repository.text(path.replace(self.name, FIRST))
        folder = rendered_folder(RED, self.name)
        found |= {f"{folder}/{file}": text for file, text in self.manifests.items()}
        found[evidence_path(RED, self.name)] = world.repository.text(evidence_path(RED, FIRST))
        found[release_path(RED, self.name)] = dump_document(self.release)
        return found

    def of(self, first: Twin, there: Object) -> Object:
        """What the first one has in the cluster, for this one."""
        text = json.dumps({key: value for key, value in there.items() if key != "status"})
        for old, new in (
            (first.name, self.name),
            (first.release.digest, self.release.digest),
            (rendered_digest(first.manifests), rendered_digest(self.manifests)),
        ):
            text = text.replace(old, new)
        made: Object = json.loads(text)
        for field in ("uid", "resourceVersion", "managedFields", "creationTimestamp", "generation"):
            made["metadata"].pop(field, None)
        for field in ("clusterIP", "clusterIPs"):
            made.get("spec", {}).pop(field, None)
        return made


def twins(desired: DesiredState) -> Iterator[Twin]:
    """The first one, and then the others."""
    environment, release = desired.environments[RED], desired.releases[f"{RED}/{FIRST}"]
    yield Twin(FIRST, release, render(RED, environment, FIRST, release))
    for index in range(TWINS):
        name = f"{FIRST}-{index:03}"
        named = release.model_copy(update={"pin": release.pin.model_copy(update={"name": name})})
        manifests = render(RED, environment, name, named)
        admission = named.admission.model_copy(update={"rendered": blobs_digest(blob_ids(manifests))})
        yield Twin(name, named.model_copy(update={"admission": admission}), manifests)


def multiply(world: OnKubernetes, client: KubernetesClient) -> None:
    """In Git, in the registry, in the cluster and in the engine, while no controller looks."""
    namespace = world.namespaces.red
    desired = load(world.repository, world.repository.main)
    first, *others = twins(desired)
    files: dict[str, str | None] = {}
    registered = world.registry.models[FIRST]
    (version,) = registered.versions
    mark = version.verified(RED)
    assert mark is not None
    for twin in others:
        files |= twin.files(world)
        tag = {verified_tag(RED): str(VerifiedMark(release=twin.release.digest, at=mark.at))}
        own = version.model_copy(update={"tags": {**version.tags, **tag}})
        world.registry.models[twin.name] = registered.model_copy(update={"versions": (own,)})
    world.commit(files)
    kinds = (*KINDS, REPLICA_SETS)
    there = {kind: client.list(kind, namespace, labels=f"{LABEL_MANAGED}=trueup") for kind in kinds}
    key = desired.training_key(FIRST)
    assert key is not None
    template = read(world.repository.text("workflows/rendered/train-v1.yaml").encode(), "train-v1").value

    def make(twin: Twin) -> None:
        made: Object = {}
        for kind in kinds:
            for each in there[kind]:
                wanted = twin.of(first, each)
                if kind is REPLICA_SETS:
                    wanted["metadata"]["ownerReferences"][0]["uid"] = made["metadata"]["uid"]
                created = client.create(kind, namespace, wanted)
                if kind is ROLLOUT:
                    made = created
                if kind in (ROLLOUT, REPLICA_SETS):
                    status = each["status"] | {"observedGeneration": seen(created)}
                    name = wanted["metadata"]["name"]
                    client.patch(kind, namespace, name, {"status": status}, subresource="status")
        for number in range(1, ATTEMPTS + 1):
            client.create(WORKFLOW, namespace, attempt(twin.name, key, number, template["spec"]))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(make, others))


def quick(server: Cluster) -> KubernetesClient:
    """The administrator, without what the official package does to each body: it makes 6,000 objects here."""
    from urllib3 import PoolManager

    folder = server.kubeconfig.parent
    pool = PoolManager(
        maxsize=AT_ONCE,
        ca_certs=str(folder / "ca.crt"),
        cert_file=str(folder / "admin.crt"),
        key_file=str(folder / "admin.key"),
    )

    def ask(request: Request) -> Answer:
        url = f"{SERVER}{request.path}?{urlencode(request.query)}"
        headers = {"Content-Type": request.content_type}
        answer = pool.request(request.method, url, body=json.dumps(request.body), headers=headers)
        return Answer(answer.status, {}, answer.data)

    return KubernetesClient(ask, where="the administrator")


def seen(created: Object) -> str | int:
    """A Rollout's observed generation is a string."""
    generation = created["metadata"]["generation"]
    return str(generation) if created["kind"] == "Rollout" else int(generation)


def attempt(name: str, key: str, number: int, spec: Object) -> Object:
    """A training that failed, in the shape in which a real controller left one."""
    labels = FAILED["metadata"]["labels"] | {
        "trueup.dev/model": name,
        "trueup.dev/key": key,
        "trueup.dev/attempt": str(number),
    }
    parameters = {"model": name, "registered-name": name, "training-key": key}
    return {
        "metadata": {"name": run_name("train", name, key, number), "labels": labels},
        "spec": filled(spec, parameters, 3600, 0),
        "status": FAILED["status"],
    }


def test_a_tick_at_rest_is_a_list_a_page_and_no_write(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    install(cluster)
    with on_kubernetes(cluster, together=True, renderer="rollout/v1") as world, ExitStack() as stack:
        world.story(lambda: world.serves(RED, "1") and world.serves(BLUE, "1"))
        for controller in ("rollouts-controller", "kube-controller-manager"):
            stack.enter_context(cluster.stopped(controller))
        multiply(world, quick(cluster))
        argo = Wire(connect()._ask)
        world.engine = ArgoEngine(  # type: ignore[assignment]
            argo.client("engine"),
            world.namespaces.red,
            source=world.repository,
            repository="https://git.example/x",
        )
        wire = world.wire(RED)
        wire.asked.clear()
        wire.got.clear()
        ticked = tick(world)
        plan, observed = ticked.planned.plan, ticked.planned.observed
        assert (plan.actions, plan.holds, plan.gaps, observed.moving) == ((), (), (), ()), said(ticked)[:5000]
        assert plan.subjects == 2 * (TWINS + 2)
        assert Counter((r.method, r.path) for r in wire.asked) == lists_of(world)
        pages = ceil(TWINS * ATTEMPTS / WORKFLOWS_A_PAGE)
        assert Counter((r.method, r.path) for r in argo.asked) == {
            ("GET", WORKFLOW.path(world.namespaces.red)): pages
        }
        # What is held at once is a page, and of large objects no more than is made of it.
        assert max(argo.got) < 8_000_000
        assert max(wire.got) < 16_000_000


def lists_of(world: OnKubernetes) -> Counter[tuple[str, str]]:
    """One a page, kind and namespace."""
    counted: Counter[tuple[str, str]] = Counter()
    for name, models in ((RED, TWINS + 1), (BLUE, 1)):
        workload = world.workload(name)
        assert workload is not None
        has = {each.partition("/")[0] for each in workload.objects} | {"ReplicaSet"}
        rolled = (ANALYSIS_RUNS,) if "Rollout" in has else ()
        for kind in (*KINDS, REPLICA_SETS, *rolled):
            number = models if kind.name in has else 0
            counted["GET", kind.path(getattr(world.namespaces, name))] = ceil(number / OBJECTS_A_PAGE) or 1
    return counted
