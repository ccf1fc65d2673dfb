"""What every cluster does: apply, see it serve, switch, break, recover, prune.

Each adapter has a Stage. The Kubernetes one is a real control plane (`make test-cluster`) whose pods are played
and ready when they are to be. Tests marked EMBEDDED look at what a server answers, or at its process.
Those at the end are about what only the embedded cluster has; what only a real one has is in
test_kubernetes_cluster.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.embedded.cluster import EmbeddedCluster
from reconciler.adapters.embedded.deployment_fields import HONOURED, IGNORED, KINDS_REFUSED, REFUSED
from reconciler.adapters.kubernetes.client import connect
from reconciler.adapters.kubernetes.cluster import KubernetesCluster
from reconciler.core.canonical import dump_yaml
from reconciler.core.errors import Terminal
from reconciler.core.observed import (
    ANNOTATION_RELEASE,
    ANNOTATION_RENDERED,
    LABEL_ENVIRONMENT,
    LABEL_MANAGED,
    LABEL_MODEL,
    Workload,
)
from tests.servers.cluster import READY, Cluster

TICK = 0.1
"""Seconds that a Kubernetes second lasts here: its smallest probe period is one."""
PATIENCE = 20.0

SERVER = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

switches = Path(sys.argv[1])
release = sys.argv[2]

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        down = (switches / f"{release}{self.path.replace('/', '-')}-down").exists()
        seen = [os.environ.get(name) for name in ("SETTING", "SECRET", "UNDECLARED")]
        body = " ".join(map(str, [release, os.getpid(), *seen])).encode()
        self.send_response(503 if down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

print("serving", release, flush=True)
ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
"""


def manifests(
    release: str, switches: Path, *, model: str = "digits", namespace: str = "ml", **changes: Any
) -> dict[str, str]:
    """A Deployment and a Service of :data:`SERVER`. ``changes``: of the container; None takes a field out."""
    labels = {LABEL_MANAGED: "trueup", LABEL_ENVIRONMENT: "staging", LABEL_MODEL: model}
    metadata = {
        "name": model,
        "namespace": namespace,
        "labels": labels,
        "annotations": {ANNOTATION_RELEASE: release, ANNOTATION_RENDERED: f"rendered-{release}"},
    }

    def probe(path: str, failures: int) -> dict[str, Any]:
        check = {"path": path, "port": "http"}
        return {"httpGet": check, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": failures}

    container = {
        "name": "server",
        "image": "registry.example/server@sha256:" + "0" * 64,
        "command": [sys.executable, str(switches / "server.py"), str(switches), release],
        "env": [
            {"name": "PORT", "value": "8080"},
            {"name": "SETTING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "SETTING"}}},
        ],
        "ports": [{"name": "http", "containerPort": 8080}],
        "startupProbe": probe("/health", 100),
        "readinessProbe": probe("/ready", 2),
        "livenessProbe": probe("/health", 3),
    } | changes
    spec = {
        "progressDeadlineSeconds": 20,
        "selector": {"matchLabels": {LABEL_MODEL: model}},
        "template": {
            "metadata": {"labels": labels, "annotations": {ANNOTATION_RELEASE: release}},
            "spec": {
                "containers": [{name: value for name, value in container.items() if value is not None}],
                "terminationGracePeriodSeconds": 10,
            },
        },
    }
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    service = {"selector": {LABEL_MODEL: model}, "ports": ports}
    return {
        "deployment.yaml": dump_yaml(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        ),
        "service.yaml": dump_yaml(
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}
        ),
    }


class Stage:
    """One cluster, the switches of its servers, and short ways to say what the tests say often."""

    namespace = "ml"
    unready = "/ready answered 503"
    late = "/ready answered 503"
    printed = "serving one"
    missing = "nothing is deployed"

    def __init__(self, cluster: Any, switches: Path, home: Path) -> None:
        self.cluster = cluster
        self.switches = switches
        self.home = home
        (switches / "server.py").write_text(SERVER)

    def manifests(self, release: str, model: str = "digits", **changes: Any) -> dict[str, str]:
        return manifests(release, self.switches, model=model, namespace=self.namespace, **changes)

    def apply(self, release: str = "one", *, model: str = "digits", **changes: Any) -> bool:
        files = self.manifests(release, model, **changes)
        return bool(
            self.cluster.apply(environment="staging", model=model, namespace=self.namespace, manifests=files)
        )

    def prune(self, *objects: str, namespace: str = "") -> None:
        where = {"environment": "staging", "model": "digits", "namespace": namespace or self.namespace}
        self.cluster.prune(**where, objects=objects)

    def now(self, model: str = "digits") -> Workload:
        return self.cluster.sweep().workloads[f"staging/{model}"]

    def until(self, wanted: Callable[[Workload], bool], model: str = "digits") -> Workload:
        deadline = time.monotonic() + PATIENCE
        while not wanted(seen := self.now(model)):
            assert time.monotonic() < deadline, f"never came; at last: {seen}"
            time.sleep(0.02)
        return seen

    def healthy(self, release: str = "one", model: str = "digits") -> Workload:
        return self.until(lambda w: (w.health, w.serving) == ("Healthy", release), model)

    def degraded(self) -> Workload:
        return self.until(lambda w: w.health == "Degraded")

    def switch(self, what: str, *, down: bool) -> None:
        path = self.switches / f"{what}-down"
        path.touch() if down else path.unlink()

    def pid(self) -> Any:
        """Which process serves."""
        return int(ask(self.now().endpoint).split()[1])

    def gone(self, pid: Any) -> bool:
        return gone(pid)

    def frozen(self) -> AbstractContextManager[None]:
        """While nothing happens but what the test does."""
        return nullcontext()


class KubernetesStage(Stage):
    """A namespace of a real API server. Its instants are whole seconds, so each change begins with one."""

    unready = "minimum availability"
    late = "timed out progressing"
    printed = "serving"

    def __init__(self, server: Cluster, namespace: str, switches: Path) -> None:
        client = connect()
        super().__init__(KubernetesCluster(client, (namespace, "default")), switches, switches)
        self.server, self.namespace = server, namespace

    def manifests(self, release: str, model: str = "digits", **changes: Any) -> dict[str, str]:
        files = super().manifests(release, model, **changes)
        down = (self.switches / f"{release}-ready-down").exists()
        mark = f'      annotations:\n        {READY}: "{"no" if down else "yes"}"\n'
        text = files["deployment.yaml"].replace("progressDeadlineSeconds: 20", "progressDeadlineSeconds: 3")
        head, found, template = text.partition("  template:\n")
        assert found
        files["deployment.yaml"] = head + found + template.replace("      annotations:\n", mark, 1)
        return files

    def apply(self, release: str = "one", *, model: str = "digits", **changes: Any) -> bool:
        next_second()
        return super().apply(release, model=model, **changes)

    def switch(self, what: str, *, down: bool) -> None:
        next_second()
        super().switch(what, down=down)
        release = what.removesuffix("-ready")
        for pod in self.pods():
            if pod["metadata"]["annotations"][ANNOTATION_RELEASE] == release:
                ready = f"{READY}={'no' if down else 'yes'}"
                name = pod["metadata"]["name"]
                self.server.kubectl(
                    "--namespace", self.namespace, "annotate", "--overwrite", "pod", name, ready
                )

    def pods(self) -> list[dict[str, Any]]:
        return list(
            self.server.get("--namespace", self.namespace, "pods", f"--selector={LABEL_MODEL}=digits")["items"]
        )

    def pid(self) -> Any:
        """The pods of the release that serves."""
        serving = self.now().serving
        return {
            pod["metadata"]["uid"]
            for pod in self.pods()
            if pod["metadata"]["annotations"][ANNOTATION_RELEASE] == serving
        }

    def gone(self, pid: Any) -> bool:
        return not pid & {pod["metadata"]["uid"] for pod in self.pods()}

    def frozen(self) -> AbstractContextManager[None]:
        return self.server.stopped("kube-controller-manager")


def next_second() -> None:
    time.sleep(1.0 - time.time() % 1.0)


EMBEDDED = pytest.mark.parametrize("stage", ["embedded"], indirect=True)


@pytest.fixture(params=["embedded", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    switches = tmp_path / "switches"
    switches.mkdir()
    if request.param == "kubernetes":
        server: Cluster = request.getfixturevalue("cluster")
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        with server.namespace() as namespace:
            yield KubernetesStage(server, namespace, switches)
        return
    stage = Stage(EmbeddedCluster(tmp_path, {"SETTING": "set", "SECRET": "x"}, tick=TICK), switches, tmp_path)
    yield stage
    stage.cluster.stop_all()


def ask(endpoint: str, path: str = "/") -> str:
    with urllib.request.urlopen(f"{endpoint}{path}", timeout=10) as answer:
        return answer.read().decode()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.02)


# --- rolling out ------------------------------------------------------------------------------------------


def test_nothing_is_there_before_the_first_apply(stage: Stage) -> None:
    assert stage.cluster.sweep().workloads == {}
    with pytest.raises(Terminal, match="nothing is deployed"):
        stage.cluster.logs("staging", "digits")


def test_a_release_is_applied_progresses_and_serves(stage: Stage) -> None:
    began = datetime.now(UTC)
    with stage.frozen():
        assert stage.apply("one")
        first = stage.now()
    assert (first.health, first.serving, first.release) == ("Progressing", "", "one")
    workload = stage.healthy("one")
    assert began <= first.since <= workload.since <= datetime.now(UTC)
    assert (workload.namespace, workload.rendered) == (stage.namespace, "rendered-one")
    assert workload.objects == ("Deployment/digits", "Service/digits")
    assert workload.drifted == ()
    assert stage.printed in stage.cluster.logs("staging", "digits")


@EMBEDDED
def test_it_answers_at_its_endpoint(stage: Stage) -> None:
    stage.apply("one")
    assert ask(stage.healthy("one").endpoint).split()[0] == "one"


def test_identical_manifests_change_nothing(stage: Stage) -> None:
    assert stage.apply("one")
    assert not stage.apply("one")
    before = stage.healthy("one")
    pid = stage.pid()
    assert not stage.apply("one")
    assert stage.now() == before
    assert stage.pid() == pid


def test_the_next_release_takes_over(stage: Stage) -> None:
    stage.apply("one")
    before = stage.healthy("one")
    old = stage.pid()
    assert stage.apply("two")
    after = stage.healthy("two")
    wait_for(lambda: stage.gone(old))
    assert after.since > before.since


@EMBEDDED
def test_the_next_release_takes_over_without_a_gap(stage: Stage) -> None:
    stage.apply("one")
    before = stage.healthy("one")
    old = stage.pid()
    answers: list[str] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                answers.append(ask(stage.now().endpoint).split()[0])
            except Exception as error:
                answers.append(repr(error))

    thread = threading.Thread(target=client)
    thread.start()
    try:
        assert stage.apply("two")
        after = stage.healthy("two")
        wait_for(lambda: gone(old))
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 2)
    finally:
        stop.set()
        thread.join()
    assert set(answers) == {"one", "two"}
    assert answers == sorted(answers)  # and never back
    assert after.since > before.since


@EMBEDDED
def test_a_sweep_beside_an_apply_sees_the_old_or_the_new(stage: Stage) -> None:
    stage.apply("one")
    before = stage.healthy("one")
    files = manifests("one", stage.switches)
    seen: list[Workload] = []
    stop = threading.Event()

    def reader() -> None:
        while not stop.is_set():
            seen.append(stage.now())

    thread = threading.Thread(target=reader)
    thread.start()
    for port in range(81, 101):
        changed = files | {"service.yaml": files["service.yaml"].replace("port: 80\n", f"port: {port}\n")}
        assert stage.cluster.apply(environment="staging", model="digits", namespace="ml", manifests=changed)
    stop.set()
    thread.join()
    assert len(seen) > 20
    assert {(w.serving, w.drifted, w.objects) for w in seen} == {("one", (), before.objects)}
    assert stage.healthy("one") == before  # the pods are the same, so nothing began again


def test_a_release_that_never_gets_ready_leaves_the_old_one_serving(stage: Stage) -> None:
    stage.apply("one")
    stage.healthy("one")
    pid = stage.pid()
    stage.switch("two-ready", down=True)
    stage.apply("two")
    workload = stage.degraded()
    assert (workload.release, workload.serving) == ("two", "one")
    assert stage.late in workload.message
    assert stage.pid() == pid
    # The release before it again: nothing needs to start, and it is healthy from then on, not from before.
    stage.apply("one")
    again = stage.healthy("one")
    assert again.since > workload.since
    assert stage.pid() == pid


def test_a_late_release_still_takes_over(stage: Stage) -> None:
    stage.switch("one-ready", down=True)
    stage.apply("one")
    late = stage.degraded()
    assert late.serving == ""
    stage.switch("one-ready", down=False)
    assert stage.healthy("one").since > late.since


# --- breaking and recovering ------------------------------------------------------------------------------


def test_unready_is_degraded_since_then_until_it_is_ready_again(stage: Stage) -> None:
    stage.apply("one")
    before = stage.healthy("one")
    pid = stage.pid()
    broken = datetime.now(UTC)
    stage.switch("one-ready", down=True)
    degraded = stage.degraded()
    assert degraded.since > broken > before.since
    assert degraded.serving == ""
    assert stage.unready in degraded.message
    stage.switch("one-ready", down=False)
    again = stage.healthy("one")
    assert again.since > degraded.since
    assert stage.pid() == pid


@EMBEDDED
def test_a_stopped_process_is_noticed_and_restarted(stage: Stage) -> None:
    stage.apply("one")
    stage.healthy("one")
    pid = stage.pid()
    os.kill(pid, signal.SIGSTOP)
    degraded = stage.degraded()
    assert "no answer within 10s" in degraded.message
    again = stage.healthy("one")  # its liveness probe fails too
    assert again.since > degraded.since
    assert stage.pid() != pid
    assert gone(pid)


@EMBEDDED
def test_restarts_are_not_recovery(stage: Stage) -> None:
    stage.apply("one")
    stage.healthy("one")
    pid = stage.pid()
    stage.switch("one-ready", down=True)
    stage.switch("one-health", down=True)
    since = stage.degraded().since
    wait_for(lambda: gone(pid))
    stage.until(lambda w: "restarted" in w.message or "probe" in w.message)
    stage.switch("one-health", down=False)  # alive again, and not ready
    wait_for(lambda: stage.cluster.logs("staging", "digits").count("serving one") >= 2)
    workload = stage.now()
    assert (workload.health, workload.since) == ("Degraded", since)
    stage.switch("one-ready", down=False)
    assert stage.healthy("one").since > since


@EMBEDDED
def test_a_crashed_process_is_started_again(stage: Stage) -> None:
    stage.apply("one")
    before = stage.healthy("one")
    pid = stage.pid()
    os.kill(pid, signal.SIGKILL)
    after = stage.until(lambda w: w.health == "Healthy" and w.since > before.since)
    assert after.serving == "one"
    assert stage.pid() != pid


@EMBEDDED
def test_a_crash_loop_says_so_and_never_serves(stage: Stage) -> None:
    stage.apply("one", command=["/bin/sh", "-c", "echo cannot >&2; exit 3"])
    looping = stage.until(lambda w: "CrashLoopBackOff" in w.message)
    assert "exited with code 3" in looping.message
    assert looping.serving == ""
    assert stage.degraded().since > looping.since
    assert "cannot" in stage.cluster.logs("staging", "digits")


@EMBEDDED
def test_minimum_ready_seconds_count(stage: Stage) -> None:
    files = manifests("one", stage.switches)
    files["deployment.yaml"] = files["deployment.yaml"].replace(
        "  progressDeadlineSeconds: 20", "  progressDeadlineSeconds: 20\n  minReadySeconds: 5"
    )
    stage.cluster.apply(environment="staging", model="digits", namespace="ml", manifests=files)
    ready = stage.until(lambda w: w.serving == "one")
    assert ready.health == "Progressing"
    assert stage.healthy("one").since > ready.since


# --- whose it is ------------------------------------------------------------------------------------------


def test_prune_deletes_the_named_objects_and_their_processes(stage: Stage) -> None:
    stage.apply("one")
    stage.apply("one", model="other")
    stage.healthy("one")
    stage.healthy("one", model="other")
    pid, other = stage.pid(), stage.now("other")
    stage.prune("Service/digits")
    assert stage.now().objects == ("Deployment/digits",)
    assert not stage.gone(pid)
    stage.prune("Deployment/digits", "Service/digits")
    wait_for(lambda: stage.gone(pid))
    assert stage.cluster.sweep().workloads == {"staging/other": other}
    stage.prune("Deployment/digits")  # already done
    assert stage.apply("one")
    stage.healthy("one")


def test_prune_refuses_what_is_not_this_subjects(stage: Stage) -> None:
    stage.apply("one")
    stage.apply("one", model="other")
    with pytest.raises(Terminal, match="belongs to staging/other"):
        stage.prune("Deployment/digits", "Service/other")
    with pytest.raises(Terminal, match="namespace"):
        stage.prune("Deployment/digits", namespace="elsewhere")
    assert stage.healthy("one").objects == ("Deployment/digits", "Service/digits")
    assert stage.healthy("one", model="other").objects == ("Deployment/other", "Service/other")


def test_apply_refuses_manifests_of_another_subject(stage: Stage) -> None:
    files = stage.manifests("one", "other")
    apply = stage.cluster.apply
    with pytest.raises(Terminal, match="labels: are not those of staging/digits"):
        apply(environment="staging", model="digits", namespace=stage.namespace, manifests=files)
    with pytest.raises(Terminal, match="namespace"):
        apply(environment="staging", model="other", namespace="elsewhere", manifests=files)
    assert stage.cluster.sweep().workloads == {}


@EMBEDDED
def test_a_container_sees_what_it_declares(stage: Stage) -> None:
    os.environ["UNDECLARED"] = "leaked"
    try:
        stage.apply("one")
        assert ask(stage.healthy("one").endpoint).split()[2:] == ["set", "None", "None"]
    finally:
        del os.environ["UNDECLARED"]


# --- the embedded cluster alone ---------------------------------------------------------------------------


@EMBEDDED
def test_the_workload_outlives_who_applied_it(stage: Stage) -> None:
    """The applying process is killed right after apply, and its whole session with it."""
    script = (
        "import json, os, signal, sys; from pathlib import Path\n"
        "from reconciler.adapters.embedded.cluster import EmbeddedCluster\n"
        "files = json.load(sys.stdin)\n"
        f"EmbeddedCluster(Path(sys.argv[1]), {{'SETTING': 'set'}}, tick={TICK}).apply(\n"
        "    environment='staging', model='digits', namespace='ml', manifests=files)\n"
        "os.killpg(0, signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(stage.home)],
        input=json.dumps(manifests("one", stage.switches)),
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    stage.healthy("one")


def status(stage: Stage) -> dict[str, Any]:
    return json.loads((stage.home / "cluster/staging/digits/status.json").read_text())


@EMBEDDED
def test_a_killed_supervisor_is_reported_and_healed_by_apply(stage: Stage) -> None:
    stage.apply("one")
    before = stage.healthy("one")
    pid = stage.pid()
    os.kill(status(stage)["pids"]["supervisor"], signal.SIGKILL)
    missing = stage.until(lambda w: w.health == "Missing")
    assert missing.message == "its supervisor is not running"
    assert missing.since >= before.since
    assert missing.serving == "one"  # the process lives on
    assert stage.now() == missing  # a sweep heals nothing
    assert stage.apply("one")
    again = stage.healthy("one")
    assert again.since > missing.since  # availability is counted from when it is seen again
    assert stage.pid() == pid  # and nobody noticed


@EMBEDDED
def test_a_new_release_after_the_supervisor_was_killed(stage: Stage) -> None:
    stage.apply("one")
    stage.healthy("one")
    pid = stage.pid()
    os.kill(status(stage)["pids"]["supervisor"], signal.SIGKILL)
    stage.until(lambda w: w.health == "Missing")
    assert stage.apply("two")
    stage.healthy("two")
    wait_for(lambda: gone(pid))


@EMBEDDED
def test_everything_gone_as_after_a_restart_of_the_machine(stage: Stage) -> None:
    stage.apply("one")
    stage.healthy("one")
    pids = status(stage)["pids"]
    os.kill(pids["supervisor"], signal.SIGKILL)
    os.killpg(pids["serving"], signal.SIGKILL)
    missing = stage.until(lambda w: w.health == "Missing" and not w.serving)
    assert stage.apply("one")
    assert stage.healthy("one").since > missing.since


@EMBEDDED
def test_a_home_that_somebody_removed_leaves_no_process_behind(stage: Stage) -> None:
    stage.apply("one")
    stage.healthy("one")
    pids = status(stage)["pids"]
    (stage.home / "cluster").rename(stage.home / "elsewhere")
    wait_for(lambda: gone(pids["serving"]) and gone(pids["supervisor"]))


@EMBEDDED
def test_there_is_never_a_second_supervisor(stage: Stage) -> None:
    appliers = [threading.Thread(target=stage.apply, args=("one",)) for _ in range(4)]
    for thread in appliers:
        thread.start()
    for thread in appliers:
        thread.join()
    stage.healthy("one")
    assert json.loads((stage.home / "cluster/staging/digits/desired.json").read_text())["generation"] == 1
    assert [path.name for path in (stage.home / "cluster/staging/digits/pods").iterdir()] == ["1"]


@EMBEDDED
def test_stop_all_ends_every_process_and_apply_starts_them_again(stage: Stage) -> None:
    stage.apply("one")
    stage.healthy("one")
    pids = status(stage)["pids"]
    stage.cluster.stop_all()
    assert gone(pids["serving"])
    assert (stage.now().health, stage.now().serving) == ("Missing", "")
    assert stage.apply("one")
    stage.healthy("one")


@EMBEDDED
def test_an_edit_by_hand_is_drift_until_the_next_apply(stage: Stage) -> None:
    stage.apply("one")
    healthy = stage.healthy("one")
    path = stage.home / "cluster/staging/digits/manifests/1/deployment.yaml"
    path.write_text(path.read_text() + "# mine\n")
    assert stage.now().drifted == ("deployment.yaml",)
    assert stage.apply("one")
    assert stage.healthy("one") == healthy  # nothing was restarted


@EMBEDDED
def test_values_stay_with_the_owner_and_a_missing_one_is_named(stage: Stage) -> None:
    secret = {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    optional = {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}
    stage.apply("one", env=[secret, optional])
    path = stage.home / "cluster/staging/digits/values.json"
    assert json.loads(path.read_text()) == {"SECRET": "x"}
    assert path.stat().st_mode & 0o077 == 0
    absent = {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    with pytest.raises(Terminal, match="no value for ABSENT"):
        stage.apply("two", env=[absent])


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"lifecycle": {}}, "containers[0].lifecycle: the embedded cluster cannot"),
        ({"envFrom": []}, "containers[0].envFrom: the embedded cluster cannot"),
        ({"novelty": 1}, "containers[0].novelty: is a field that the embedded cluster does not know"),
        ({"command": None}, "containers[0].command: is missing"),
        ({"command": "run"}, "containers[0].command: is missing or of the wrong type"),
        ({"args": ["$(HOME)"]}, "$(NAME) is not replaced here"),
        ({"ports": []}, "containers[0].ports: one port"),
        ({"livenessProbe": {"grpc": {"port": 1}}}, "livenessProbe.grpc: the embedded cluster cannot"),
        ({"livenessProbe": {"tcpSocket": {"port": 9}}}, "tcpSocket.port: is not the container's port"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/data"}]}, "only an emptyDir at /tmp"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    cluster = EmbeddedCluster(tmp_path, {"SETTING": "set"})
    with pytest.raises(Terminal) as refusal:
        cluster.apply(
            environment="staging",
            model="digits",
            namespace="ml",
            manifests=manifests("one", tmp_path, **changes),
        )
    assert where in str(refusal.value)
    assert cluster.sweep().workloads == {}


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (
            "    spec:\n",
            "    spec:\n      initContainers: []\n",
            "spec.initContainers: the embedded cluster cannot",
        ),
        (
            "    spec:\n",
            "    spec:\n      volumes:\n        - name: x\n          hostPath: {}\n",
            "volumes[0].hostPath",
        ),
        ("kind: Deployment", "kind: DaemonSet", "an object of kind DaemonSet"),
        ("spec:\n", "spec:\n  paused: true\n", "spec.paused: the embedded cluster cannot"),
        ("spec:\n", "spec:\n  replicas: 0\n", "spec.replicas: one process always runs"),
        (
            "        - name: server",
            "        - name: extra\n        - name: server",
            "one container is run here",
        ),
    ],
)
def test_what_a_pod_may_not_ask_for(tmp_path: Path, before: str, after: str, what: str) -> None:
    files = manifests("one", tmp_path)
    files["deployment.yaml"] = files["deployment.yaml"].replace(before, after, 1)
    with pytest.raises(Terminal) as refusal:
        EmbeddedCluster(tmp_path, {"SETTING": "set"}).apply(
            environment="staging", model="digits", namespace="ml", manifests=files
        )
    assert what in str(refusal.value)


@EMBEDDED
def test_what_is_ignored_is_noted(stage: Stage) -> None:
    stage.apply("one", resources={"limits": {"memory": "1Gi"}}, securityContext={"runAsNonRoot": True})
    note = stage.cluster.logs("staging", "digits").partition("\n")[0]
    assert "spec.template.spec.containers[0].resources" in note
    assert "spec.template.spec.containers[0].securityContext" in note


def test_every_field_has_one_treatment() -> None:
    for level in HONOURED.keys() | IGNORED.keys() | REFUSED.keys():
        names = [name for table in (HONOURED, IGNORED, REFUSED) for name in table.get(level, "").split()]
        assert len(names) == len(set(names)), level


def test_what_the_renderer_makes_is_accepted(tmp_path: Path) -> None:
    """Read and reduced only; the server itself is started where the whole story is told."""
    from reconciler.adapters.embedded.deployment_fields import read_manifests
    from reconciler.core.documents import Environment, Release
    from reconciler.planning.renderers import render

    environment = Environment(kind="Environment", policy="p", alias="staging", namespace="ml")
    release = Release.model_validate_json(
        json.dumps(
            {
                "kind": "Release",
                "pin": {
                    "registry": "default",
                    "name": "Digits",
                    "version": "3",
                    "digest": "sha256:" + "a" * 64,
                },
                "image": "trueup/server@sha256:" + "b" * 64,
                "serving": {"replicas": 2},
                "renderer": "deployment/v1",
                "admission": {"grounds": "promotion", "judgedAt": "2026-03-01T12:00:00Z"},
            }
        )
    )
    applied = read_manifests(render("staging", environment, "digits", release), "staging", "digits", "ml")
    assert applied.release == release.digest
    assert applied.pod["command"] == ["reconcile-server"]
    assert applied.pod["env"]["TRUEUP_MODEL_VERSION"] == "3"
    credentials = {f"MLFLOW_TRACKING_{name}": True for name in ("USERNAME", "PASSWORD", "TOKEN")}
    assert applied.values == {"MLFLOW_TRACKING_URI": False, **credentials}
    assert set(applied.pod["probes"]) == {"startup", "readiness", "liveness"}
    assert "spec.replicas beyond the first" in applied.notes
    assert {"NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"} <= set(applied.notes)


@pytest.mark.parametrize("kind", KINDS_REFUSED)
def test_a_canary_is_refused_by_name(kind: str) -> None:
    from reconciler.adapters.embedded.deployment_fields import read_manifests

    item = {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": {"name": "digits"}}
    with pytest.raises(Terminal) as refusal:
        read_manifests({"item.yaml": dump_yaml(item)}, "staging", "digits", "ml")
    assert f"cannot do a {kind}" in str(refusal.value)
    assert "strategy rolling" in refusal.value.hint


def test_a_supervisor_that_ends_before_it_hears_the_signal_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock was seen held, and its process is gone by the time of the signal."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    said = iter([gone.pid, None])
    monkeypatch.setattr("reconciler.adapters.embedded.cluster.holder", lambda *_: next(said))
    folder = tmp_path / "cluster" / "staging" / "digits"
    folder.mkdir(parents=True)
    (folder / "desired.json").write_text('{"pod": null}')
    EmbeddedCluster(tmp_path, {}).stop_all()
    assert next(said, "asked twice") == "asked twice"
