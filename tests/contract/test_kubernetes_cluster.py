"""What only a real Kubernetes cluster has: Rollouts and their analysis, field owners, rights, refusals.

`make test-cluster` runs these; see tests/servers/cluster.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from reconciler.adapters.kubernetes import cluster as adapter
from reconciler.adapters.kubernetes.client import (
    Answer,
    Changed,
    Conflict,
    Kind,
    NotInstalled,
    Refused,
    Request,
    connect,
)
from reconciler.adapters.kubernetes.cluster import KINDS, WORKLOADS, KubernetesCluster
from reconciler.core.canonical import dump_yaml
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import (
    ANNOTATION_RELEASE,
    ANNOTATION_RENDERED,
    LABEL_ENVIRONMENT,
    LABEL_MANAGED,
    LABEL_MODEL,
    Workload,
)
from reconciler.planning.renderers import RENDERERS, render
from tests.servers.cluster import READY, Cluster, until
from tests.unit.test_renderers import environment, release

pytestmark = pytest.mark.cluster
DEPLOYMENT, ROLLOUT = WORKLOADS
PROMOTE = {"status": {"pauseConditions": None}}


class Metric:
    """A web metric of which the test says the value."""

    def __init__(self) -> None:
        metric = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"value": metric.value}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.value = 0.0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def metric() -> Iterator[Metric]:
    metric = Metric()
    yield metric
    metric.server.shutdown()
    metric.server.server_close()


class Stage:
    """A namespace, and short ways to say what the tests say often."""

    def __init__(self, server: Cluster, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.client = connect()
        self.cluster = KubernetesCluster(self.client, (namespace,))

    def metadata(self, name: str, release: str) -> dict[str, Any]:
        labels = {LABEL_MANAGED: "trueup", LABEL_ENVIRONMENT: "staging", LABEL_MODEL: "digits"}
        annotations = {ANNOTATION_RELEASE: release, ANNOTATION_RENDERED: f"rendered-{release}"}
        return {"name": name, "namespace": self.namespace, "labels": labels, "annotations": annotations}

    def template(self, release: str, ready: bool = True) -> dict[str, Any]:
        metadata = self.metadata("", release)
        annotations = {ANNOTATION_RELEASE: release, READY: "yes" if ready else "no"}
        container = {
            "name": "server",
            "image": f"registry.example/server:{release}",
            "ports": [{"containerPort": 8080}],
            "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
        }
        return {
            "metadata": {"labels": metadata["labels"], "annotations": annotations},
            "spec": {"containers": [container]},
        }

    def service(self, release: str) -> dict[str, Any]:
        spec = {
            "selector": {LABEL_MODEL: "digits"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        }
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata("digits", release),
            "spec": spec,
        }

    def workload(self, kind: Kind, release: str, ready: bool = True, **spec: Any) -> dict[str, Any]:
        common = {
            "replicas": 2,
            "progressDeadlineSeconds": 3,
            "selector": {"matchLabels": {LABEL_MODEL: "digits"}},
            "template": self.template(release, ready),
        }
        return {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": self.metadata("digits", release),
            "spec": common | spec,
        }

    def rollout(self, release: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
        canary = {"maxSurge": 1, "maxUnavailable": 0, "steps": list(steps)}
        return self.workload(ROLLOUT, release, strategy={"canary": canary}, **({"replicas": 4} | spec))

    def analysis(self, release: str, url: str) -> dict[str, Any]:
        metric = {
            "name": "error-rate",
            "interval": "1s",
            "count": 3,
            "successCondition": "result < 0.05",
            "failureCondition": "result > 0.5",
            "provider": {"web": {"url": url, "jsonPath": "{$.value}"}},
        }
        return {
            "apiVersion": ROLLOUT.api_version,
            "kind": "AnalysisTemplate",
            "metadata": self.metadata("digits", release),
            "spec": {"metrics": [metric]},
        }

    def apply(self, *objects: dict[str, Any], cluster: KubernetesCluster | None = None) -> bool:
        files = {f"{index}.yaml": dump_yaml(item) for index, item in enumerate(objects)}
        subject = {"environment": "staging", "model": "digits", "namespace": self.namespace}
        return (cluster or self.cluster).apply(**subject, manifests=files)

    def now(self) -> Workload:
        sweep = self.cluster.sweep()
        assert sweep.gaps == {}
        return sweep.workloads["staging/digits"]

    def until(self, wanted: Callable[[Workload], bool]) -> Workload:
        seen: list[Workload] = []

        def is_so() -> bool:
            seen[:] = [self.now()]
            return wanted(seen[0])

        try:
            until(is_so, 30)
        except RuntimeError as error:
            raise AssertionError(f"{error}; at last: {seen}") from None
        return seen[0]

    def healthy(self, release: str) -> Workload:
        return self.until(lambda w: (w.health, w.serving) == ("Healthy", release))

    def became(self, health: str) -> Workload:
        return self.until(lambda w: w.health == health)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.server.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def patch(self, what: str, body: Any, *arguments: str) -> None:
        self.kubectl("patch", what, "digits", "--type=merge", f"--patch={json.dumps(body)}", *arguments)


@pytest.fixture
def stage(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with cluster.namespace() as namespace:
        yield Stage(cluster, namespace)


# --- Rollouts ---------------------------------------------------------------------------------------------


def test_a_canary_goes_by_timed_pauses_to_healthy(stage: Stage) -> None:
    steps = ({"setWeight": 25}, {"pause": {"duration": "3s"}})
    assert stage.apply(stage.rollout("one", *steps), stage.service("one"))
    before = stage.healthy("one")
    assert before.endpoint == f"http://digits.{stage.namespace}.svc"
    assert before.objects == ("Rollout/digits", "Service/digits")
    assert before.drifted == ()
    assert stage.apply(stage.rollout("two", *steps), stage.service("two"))
    waiting = stage.until(lambda w: "a pause of 3s since" in w.message)
    assert (waiting.health, waiting.serving, waiting.release) == ("Progressing", "one", "two")
    assert waiting.message.startswith("canary at 25 %, step 2 of 2: ")
    after = stage.healthy("two")
    assert after.since >= waiting.since >= before.since
    assert after.drifted == ()
    assert not stage.apply(stage.rollout("two", *steps), stage.service("two"))


def test_a_pause_without_end_asks_a_person(stage: Stage) -> None:
    steps = ({"setWeight": 25}, {"pause": {}})
    stage.apply(stage.rollout("one", *steps))
    stage.healthy("one")
    stage.apply(stage.rollout("two", *steps))
    paused = stage.became("Paused")
    assert paused.serving == "one"
    assert "canary at 25 %, step 2 of 2: CanaryPauseStep" in paused.message
    stage.patch("rollout", PROMOTE, "--subresource=status")
    assert stage.healthy("two").since >= paused.since


def test_an_aborted_canary_shows_its_failing_measurement(stage: Stage, metric: Metric) -> None:
    steps = ({"setWeight": 25}, {"analysis": {"templates": [{"templateName": "digits"}]}})

    def release(name: str) -> bool:
        return stage.apply(stage.rollout(name, *steps), stage.analysis(name, metric.url))

    release("one")
    stage.healthy("one")
    metric.value = 0.9
    release("two")
    aborted = stage.became("Aborted")
    aborted = stage.until(lambda w: bool(w.measurements))
    assert (aborted.release, aborted.serving) == ("two", "one")
    assert aborted.message.startswith("RolloutAborted: ")
    (sentence,) = aborted.measurements
    assert sentence.startswith("error-rate was 0.9 at 2")
    assert sentence.endswith("(failed); to pass it needs result < 0.05; it fails at result > 0.5")
    assert sentence in aborted.message
    # The release before it again, as a rollback has it.
    assert release("one")
    back = stage.healthy("one")
    assert (back.measurements, back.drifted) == ((), ())
    assert back.since >= aborted.since


def test_an_inconclusive_analysis_asks_a_person(stage: Stage, metric: Metric) -> None:
    steps = ({"setWeight": 25}, {"analysis": {"templates": [{"templateName": "digits"}]}})
    stage.apply(stage.rollout("one", *steps), stage.analysis("one", metric.url))
    stage.healthy("one")
    metric.value = 0.2
    stage.apply(stage.rollout("two", *steps), stage.analysis("two", metric.url))
    paused = stage.became("Paused")
    assert paused.serving == "one"
    assert "InconclusiveAnalysis" in paused.message
    assert "error-rate was 0.2" in paused.measurements[0]


def test_a_canary_that_gets_not_ready_in_time_is_degraded(stage: Stage) -> None:
    stage.apply(stage.rollout("one"))
    stage.healthy("one")
    stage.apply(stage.rollout("two", ready=False))
    degraded = stage.became("Degraded")
    assert degraded.serving == "one"
    assert "has timed out progressing" in degraded.message


def test_healthy_of_an_earlier_spec_does_not_count(stage: Stage) -> None:
    stage.apply(stage.rollout("one"))
    stage.healthy("one")
    with stage.server.stopped("rollouts-controller"):
        stage.apply(stage.rollout("two"))
        live = stage.client.get(ROLLOUT, stage.namespace, "digits")
        assert live is not None
        assert live["status"]["phase"] == "Healthy"  # and it is not
        stale = stage.now()
        assert (stale.health, stale.release, stale.serving) == ("Progressing", "two", "one")
        assert "has not seen it yet" in stale.message
    stage.healthy("two")


def test_a_rolled_out_release_that_turns_unready_is_degraded(stage: Stage) -> None:
    stage.apply(stage.rollout("one"))
    before = stage.healthy("one")
    stage.kubectl("annotate", "--overwrite", "pods", "--all", f"{READY}=no")
    degraded = stage.until(lambda w: (w.health, w.serving) == ("Degraded", ""))
    assert degraded.since >= before.since
    stage.kubectl("annotate", "--overwrite", "pods", "--all", f"{READY}=yes")
    assert stage.healthy("one").since >= degraded.since


def test_a_rollout_takes_over_from_a_deployment(stage: Stage) -> None:
    stage.apply(stage.workload(DEPLOYMENT, "one"), stage.service("one"))
    stage.healthy("one")
    time.sleep(1.0 - time.time() % 1.0)  # the server's instants are whole seconds
    stage.apply(stage.rollout("two", ready=False), stage.service("two"))
    taking_over = stage.now()
    assert (taking_over.release, taking_over.serving) == ("two", "one")
    assert taking_over.objects == ("Deployment/digits", "Rollout/digits", "Service/digits")
    assert taking_over.drifted == ()
    stage.kubectl("annotate", "--overwrite", "pods", "--all", f"{READY}=yes")
    left = stage.healthy("two")
    assert left.drifted == ("Deployment/digits is of an earlier release",)
    assert stage.apply(stage.rollout("two", ready=False), stage.service("two"))
    assert stage.now().objects == ("Rollout/digits", "Service/digits")


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.name)
def test_scaling_up_is_no_failure_and_too_few_are(stage: Stage, kind: Kind) -> None:
    target = {"apiVersion": kind.api_version, "kind": kind.name, "name": "digits"}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": stage.metadata("digits", "one"),
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9},
    }
    strategy = {"strategy": {"canary": {"maxUnavailable": 0}}} if kind is ROLLOUT else {}
    workload = stage.workload(kind, "one", ready=False, progressDeadlineSeconds=30, **strategy)
    del workload["spec"]["replicas"]

    def scale(replicas: int) -> None:
        manager = "--field-manager=kube-controller-manager"
        stage.patch(kind.plural, {"spec": {"replicas": replicas}}, "--subresource=scale", manager)

    stage.apply(workload, scaler)
    scale(2)
    until(lambda: stage.kubectl("get", "pods", "-o=name").count("pod/") == 2)
    stage.kubectl("annotate", "--overwrite", "pods", "--all", f"{READY}=yes")
    stage.healthy("one")
    scale(4)
    until(lambda: stage.kubectl("get", "pods", "-o=name").count("pod/") == 4)
    live: list[Any] = []

    def is_short() -> bool:
        live[:] = [stage.client.get(kind, stage.namespace, "digits")]
        found = {each["type"]: each["status"] for each in live[0]["status"]["conditions"]}
        return found["Available"] == "False"

    until(is_short, 10)
    scaling = stage.now()
    assert (scaling.health, scaling.serving, scaling.drifted) == ("Healthy", "one", ())
    stage.kubectl("annotate", "--overwrite", "pods", "--all", f"{READY}=no")
    stage.until(lambda w: (w.health, w.serving) == ("Degraded", ""))
    stage.kubectl("annotate", "--overwrite", "pods", "--all", f"{READY}=yes")
    stage.healthy("one")


# --- whose field it is ------------------------------------------------------------------------------------


def deployed(stage: Stage) -> Callable[[], bool]:
    """A release that serves, and a way to apply it again."""

    def again() -> bool:
        return stage.apply(stage.workload(DEPLOYMENT, "one"), stage.service("one"))

    again()
    stage.healthy("one")
    return again


def test_an_edit_is_drift_and_is_healed(stage: Stage) -> None:
    again = deployed(stage)
    edit = {"spec": {"replicas": 5, "template": {"spec": {"terminationGracePeriodSeconds": 7}}}}
    stage.patch("deployment", edit, "--field-manager=kubectl-edit")
    stage.patch("service", {"spec": {"selector": {LABEL_MODEL: "other"}}})
    drifted = stage.now().drifted
    assert "Deployment/digits.spec.replicas is 5, by kubectl-edit" in drifted
    assert f'Service/digits.spec.selector.{LABEL_MODEL} is "other", by kubectl-patch' in drifted
    assert len(drifted) == 2  # what others added is theirs
    assert again()
    healed = stage.healthy("one")
    assert healed.drifted == ()
    assert not again()


def test_a_container_that_was_edited_is_drift_and_is_healed(stage: Stage) -> None:
    again = deployed(stage)
    stage.kubectl("set", "image", "deployment/digits", "server=registry.example/evil")
    stage.kubectl("set", "resources", "deployment/digits", "--requests=cpu=2")
    drifted = " ".join(stage.now().drifted)
    assert (
        '.spec.template.spec.containers[name="server"].image is "registry.example/evil", by kubectl-set'
        in drifted
    )
    assert 'containers[name="server"].resources.requests.cpu is "2"' in drifted
    assert again()
    assert stage.until(lambda w: w.health == "Healthy").drifted == ()
    assert not again()


def test_a_field_taken_out_is_drift_and_is_healed(stage: Stage) -> None:
    again = deployed(stage)
    stage.kubectl("annotate", "service/digits", f"{ANNOTATION_RENDERED}-")
    stage.kubectl("label", "--overwrite", "service/digits", "added=here")
    assert "Service/digits.metadata.annotations.trueup.dev/rendered is gone" in stage.now().drifted
    assert again()
    assert stage.now().drifted == ()
    assert not again()


def test_an_object_that_was_deleted_is_drift_and_is_put_back(stage: Stage) -> None:
    again = deployed(stage)
    stage.kubectl("delete", "service", "digits")
    gone = stage.now()
    assert (gone.health, gone.drifted) == ("Healthy", ("Service/digits is gone",))
    assert again()
    back = stage.now()
    assert (back.objects, back.drifted) == (("Deployment/digits", "Service/digits"), ())
    assert not again()
    stage.apply(stage.workload(DEPLOYMENT, "two"))  # a release without a Service misses none
    assert stage.healthy("two").drifted == ()


def test_a_field_that_another_manager_applies_is_never_taken(stage: Stage) -> None:
    again = deployed(stage)
    claim = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "digits"},
        "spec": {"replicas": 3},
    }
    force = ("apply", "--server-side", "--force-conflicts", "--field-manager=tuner", "--filename=-")
    stage.kubectl(*force, stdin=json.dumps(claim))
    assert stage.now().drifted == ("Deployment/digits.spec.replicas is 3, by tuner",)
    with pytest.raises(Conflict, match=r"\.spec\.replicas belongs to tuner"):
        again()
    live = stage.client.get(DEPLOYMENT, stage.namespace, "digits")
    assert live is not None
    assert live["spec"]["replicas"] == 3


def test_what_an_autoscaler_scales_is_no_drift(stage: Stage) -> None:
    again = deployed(stage)
    manager = "--field-manager=kube-controller-manager"
    stage.patch("deployment", {"spec": {"replicas": 4}}, "--subresource=scale", manager)
    assert stage.healthy("one").drifted == ()
    assert not again()
    assert stage.apply(stage.workload(DEPLOYMENT, "two"), stage.service("two"))
    live = stage.client.get(DEPLOYMENT, stage.namespace, "digits")
    assert live is not None
    assert live["spec"]["replicas"] == 4


def test_handing_the_replicas_to_an_autoscaler_keeps_them(stage: Stage) -> None:
    stage.apply(stage.workload(DEPLOYMENT, "one", replicas=3))
    stage.healthy("one")
    workload = stage.workload(DEPLOYMENT, "two")
    del workload["spec"]["replicas"]
    assert stage.apply(workload)
    live = stage.client.get(DEPLOYMENT, stage.namespace, "digits")
    assert live is not None
    assert live["spec"]["replicas"] == 3
    assert not stage.apply(workload)
    assert stage.healthy("two").drifted == ()


@pytest.mark.parametrize("renderer", sorted(RENDERERS))
def test_what_a_renderer_makes_is_accepted_and_no_drift(stage: Stage, renderer: str) -> None:
    rendered = release(renderer=renderer)
    manifests = render("staging", environment(namespace=stage.namespace), "digits", rendered)
    subject = {"environment": "staging", "model": "digits", "namespace": stage.namespace}
    assert stage.cluster.apply(**subject, manifests=manifests)
    workload = stage.healthy(rendered.digest)
    assert (workload.release, workload.drifted) == (rendered.digest, ())
    assert len(workload.objects) == len(manifests)
    assert not stage.cluster.apply(**subject, manifests=manifests)


def test_what_a_release_no_longer_names_is_deleted(stage: Stage) -> None:
    deployed(stage)
    assert stage.apply(stage.workload(DEPLOYMENT, "two"))
    assert stage.healthy("two").objects == ("Deployment/digits",)


# --- refusals ---------------------------------------------------------------------------------------------


def test_somebody_elses_object_is_not_touched(stage: Stage) -> None:
    theirs = stage.workload(DEPLOYMENT, "theirs")
    del theirs["metadata"]["labels"]
    stage.server.apply(theirs)
    with pytest.raises(Terminal, match="does not carry trueup's labels"):
        stage.apply(stage.service("one"), stage.workload(DEPLOYMENT, "one"))
    with pytest.raises(Terminal, match="does not carry trueup's labels"):
        stage.cluster.prune(
            environment="staging", model="digits", namespace=stage.namespace, objects=("Deployment/digits",)
        )
    assert stage.cluster.sweep().workloads == {}  # the Service was not written either


def test_one_refused_object_and_nothing_is_written(stage: Stage) -> None:
    wrong = stage.workload(DEPLOYMENT, "one")
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(Refused, match="imagePullPolice"):
        stage.apply(stage.service("one"), wrong)
    with pytest.raises(Refused, match=r"spec\.replicas"):
        stage.apply(stage.service("one"), stage.workload(DEPLOYMENT, "one", replicas=-1))
    assert stage.cluster.sweep().workloads == {}


def test_a_kind_that_is_not_installed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    widget = Kind("example.org/v1", "Widget", "widgets")
    monkeypatch.setattr(adapter, "KINDS", (*KINDS, widget))
    deployed(stage)  # nothing of it is wanted
    wanted = stage.service("one") | {"apiVersion": widget.api_version, "kind": widget.name}
    with pytest.raises(NotInstalled, match="CustomResourceDefinitions"):
        stage.apply(wanted, stage.workload(DEPLOYMENT, "one"))


def test_a_namespace_without_rights_is_a_gap_and_no_harm_to_others(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(stage)
    stage.kubectl("create", "serviceaccount", "reader")
    rights = ("--clusterrole=view-trueup", f"--serviceaccount={stage.namespace}:reader")
    resources = ",".join(
        f"{kind.plural}.{kind.api_version.rpartition('/')[0]}".rstrip(".")
        for kind in (*KINDS, adapter.REPLICA_SETS, adapter.ANALYSIS_RUNS)
    )
    stage.kubectl("create", "role", "view-trueup", "--verb=get,list", f"--resource={resources}")
    stage.kubectl("create", "rolebinding", "view", "--role=view-trueup", rights[1])
    token = stage.server.token(stage.namespace, "reader")
    monkeypatch.setenv("KUBECONFIG", str(stage.server.kubeconfig_of(token, tmp_path / "reader")))
    reader = KubernetesCluster(connect(), ("default", stage.namespace))
    sweep = reader.sweep()
    assert sweep.workloads["staging/digits"].health == "Healthy"
    assert list(sweep.gaps) == ["default"]
    assert 'cannot list resource "serviceaccounts"' in sweep.gaps["default"].error
    with pytest.raises(Refused, match='cannot patch resource "services"') as refused:
        stage.apply(stage.workload(DEPLOYMENT, "two"), stage.service("two"), cluster=reader)
    assert token not in str(refused.value)
    monkeypatch.setenv("KUBECONFIG", str(stage.server.kubeconfig_of("junk", tmp_path / "junk")))
    with pytest.raises(Refused, match="Unauthorized"):
        KubernetesCluster(connect(), (stage.namespace,)).sweep()


def test_an_object_that_is_being_deleted(stage: Stage) -> None:
    again = deployed(stage)
    stage.patch("deployment", {"metadata": {"finalizers": ["trueup.test/stays"]}})
    stage.kubectl("delete", "deployment", "digits", "--wait=false")
    assert stage.now().health == "Missing"
    with pytest.raises(Retryable, match="still being deleted"):
        again()
    stage.patch("deployment", {"metadata": {"finalizers": None}})
    assert again()
    stage.healthy("one")


def test_a_namespace_that_is_being_deleted(stage: Stage) -> None:
    metadata = {"name": "stays", "namespace": stage.namespace, "finalizers": ["trueup.test/stays"]}
    stage.server.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    stage.server.kubectl("delete", "namespace", stage.namespace, "--wait=false")
    try:
        with pytest.raises(Retryable, match="namespace is being deleted"):
            stage.apply(stage.service("one"), stage.workload(DEPLOYMENT, "one"))
        assert stage.cluster.sweep().workloads == {}
    finally:
        stage.kubectl("patch", "configmap", "stays", "--type=merge", '--patch={"metadata":{"finalizers":null}}')


def test_a_webhook_that_does_not_answer(stage: Stage) -> None:
    hook = {
        "name": "policy.trueup.test",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["services"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    stage.server.apply(kind | {"metadata": {"name": stage.namespace}, "webhooks": [hook]})
    try:
        until(lambda: _fails(lambda: stage.apply(stage.service("one")), "policy.trueup.test"), 10)
        with pytest.raises(Retryable, match=r"failed calling webhook.*policy\.trueup\.test"):
            stage.apply(stage.service("one"), stage.workload(DEPLOYMENT, "one"))
        assert [w.objects for w in stage.cluster.sweep().workloads.values()] in ([], [("Service/digits",)])
    finally:
        stage.server.kubectl("delete", "validatingwebhookconfiguration", stage.namespace)


def _fails(call: Callable[[], Any], text: str) -> bool:
    try:
        call()
    except (Refused, Retryable) as error:
        return text in str(error)
    return False


def test_only_the_very_object_is_deleted(stage: Stage) -> None:
    deployed(stage)
    with pytest.raises(Changed):
        stage.client.delete(DEPLOYMENT, stage.namespace, "digits", uid="another")
    assert stage.now().objects == ("Deployment/digits", "Service/digits")


# --- cost -------------------------------------------------------------------------------------------------


@contextmanager
def counted(stage: Stage) -> Iterator[list[Request]]:
    """The requests of what is done meanwhile."""
    asked: list[Request] = []
    real = stage.client._ask

    def ask(request: Request) -> Answer:
        asked.append(request)
        return real(request)

    stage.client._ask = ask
    try:
        yield asked
    finally:
        stage.client._ask = real


def test_an_apply_that_was_cut_short_is_finished_by_the_next(stage: Stage) -> None:
    deployed(stage)
    real = stage.client._ask

    def cut_off(request: Request) -> Answer:
        if request.method == "PATCH" and "deployments" in request.path and "dryRun" not in request.query:
            raise Retryable("cut off")
        return real(request)

    stage.client._ask = cut_off
    try:
        with pytest.raises(Retryable, match="cut off"):
            stage.apply(stage.service("two"), stage.workload(DEPLOYMENT, "two"))
    finally:
        stage.client._ask = real
    assert stage.now().release == "one"  # what carries the release is written last
    assert stage.apply(stage.service("two"), stage.workload(DEPLOYMENT, "two"))
    assert stage.healthy("two").drifted == ()


def test_after_a_move_to_another_namespace_it_is_where_it_went(stage: Stage) -> None:
    deployed(stage)
    with stage.server.namespace() as namespace:
        there = Stage(stage.server, namespace)
        time.sleep(1.0 - time.time() % 1.0)
        deployed(there)
        for order in ((stage.namespace, namespace), (namespace, stage.namespace)):
            sweep = KubernetesCluster(stage.client, order).sweep()
            assert sweep.workloads["staging/digits"].namespace == namespace


def test_lists_are_read_in_pages(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        stage.kubectl("create", "configmap", name)
    kind = Kind("v1", "ConfigMap", "configmaps")
    with counted(stage) as asked:
        found = [item["metadata"]["name"] for item in stage.client.list(kind, stage.namespace, page=2)]
    assert {"a", "b", "c"} <= set(found)
    assert len(found) == len(set(found))
    assert len(asked) == 2


def test_a_sweep_costs_one_list_a_kind(stage: Stage) -> None:
    deployed(stage)
    with counted(stage) as asked:
        stage.cluster.sweep()
    assert len(asked) == len(KINDS) + 1  # ReplicaSets; no Rollout, no AnalysisRuns
    assert {request.method for request in asked} == {"GET"}
