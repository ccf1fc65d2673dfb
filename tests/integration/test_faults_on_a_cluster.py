"""A cluster that refuses one environment, or is silent: what is said of it, and that nobody else notices.

Each fault comes while version 1 of both models serves and version 2 is on its way. A refusal is the real
server's wherever it can be brought to refuse; what it says only under load is put on the wire.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.request import Request as Http
from urllib.request import urlopen

import pytest

from reconciler.adapters.kubernetes.client import Answer, Request, Transport, connect
from reconciler.core.errors import Retryable
from reconciler.loop import Ticked
from tests.integration.on_kubernetes import BLUE, RED, Fault, OnKubernetes, on_kubernetes
from tests.servers.cluster import Cluster, until

pytestmark = pytest.mark.cluster

Arranged = AbstractContextManager[None]


class Case(NamedTuple):
    """A fault, and what is said about it, by an outcome or by a hold.

    ``together``: red and blue are namespaces of one cluster. ``keeps``: what served before goes on to serve.
    """

    arrange: Callable[[OnKubernetes, Cluster, Path], Arranged]
    says: str
    by: str = "outcome"
    retryable: bool = True
    together: bool = True
    keeps: bool = True
    mends: bool = True
    renderer: str = "deployment/v1"


# --- what the server does by itself -----------------------------------------------------------------------


@contextmanager
def being_deleted(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    """Something in the namespace has a finalizer that nobody takes off."""
    namespace = world.namespaces.red
    metadata = {"name": "stays", "namespace": namespace, "finalizers": ["trueup.test/stays"]}
    server.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    server.kubectl("delete", "namespace", namespace, "--wait=false")
    try:
        until(lambda: world.workload(RED) is None, 30)
        yield
    finally:
        free = '--patch={"metadata":{"finalizers":null}}'
        server.kubectl("--namespace", namespace, "patch", "configmap", "stays", "--type=merge", free)


@contextmanager
def gone(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    server.kubectl("delete", "namespace", world.namespaces.red, "--timeout=30s")
    yield


@contextmanager
def claimed(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    """Another manager applies a field of ours, and means it."""
    claim = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": world.main(RED)}}
    server.kubectl(
        *("--namespace", world.namespaces.red, "apply", "--server-side", "--force-conflicts"),
        *("--field-manager=tuner", "--filename=-"),
        stdin=json.dumps(claim | {"spec": {"replicas": 3}}),
    )
    yield
    server.kubectl(
        *("--namespace", world.namespaces.red, "apply", "--server-side"),
        *("--field-manager=tuner", "--filename=-"),
        stdin=json.dumps(claim),
    )


@contextmanager
def webhook(world: OnKubernetes, server: Cluster, url: str) -> Iterator[None]:
    """A validating webhook for the Deployments of red's namespace."""
    authority = server.kubeconfig.with_name("ca.crt")
    if not authority.exists():
        pytest.skip("the webhook's certificate is of the authority of our own cluster")
    hook = {
        "name": "policy.trueup.test",
        "clientConfig": {"url": url, "caBundle": base64.b64encode(authority.read_bytes()).decode()},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespaces.red}},
        "rules": [
            {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
        ],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    server.apply(kind | {"metadata": {"name": world.namespaces.red}, "webhooks": [hook]})

    def is_asked() -> bool:
        label = ("label", "deployment", world.main(RED), "trueup.test/x=y", "--dry-run=server")
        try:
            server.kubectl("--namespace", world.namespaces.red, *label)
        except RuntimeError as error:
            return "policy.trueup.test" in str(error)
        return False

    try:
        until(is_asked, 20)
        yield
    finally:
        server.kubectl("delete", "validatingwebhookconfiguration", world.namespaces.red)
        until(lambda: not is_asked(), 20)


class Refusing(BaseHTTPRequestHandler):
    """An admission webhook that allows nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"uid": asked["request"]["uid"], "allowed": False, "status": {"message": "not on a Friday"}}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def refused_by_a_webhook(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = server.kubeconfig.with_name("apiserver.crt")
    if certificate.exists():
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with webhook(world, server, f"https://127.0.0.1:{listening.server_address[1]}/"):
            yield
    finally:
        listening.shutdown()
        listening.server_close()


@contextmanager
def a_silent_webhook(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    """It takes connections and says nothing."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stack.enter_context(webhook(world, server, f"https://127.0.0.1:{listening.getsockname()[1]}/"))
        yield


@contextmanager
def as_account(world: OnKubernetes, server: Cluster, token: str, file: Path) -> Iterator[None]:
    """Red's wire is somebody else's from now on."""
    wire = world.wire(RED)
    before = wire.transport
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(server.kubeconfig_of(token, file)))
        wire.transport = connect()._ask
        try:
            yield
        finally:
            wire.transport = before


@contextmanager
def no_rights(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    """An account that may do everything in blue's namespace and nothing in red's."""
    here, name = ("--namespace", world.namespaces.blue), "trueup"
    server.kubectl(*here, "create", "serviceaccount", name)
    account = f"--serviceaccount={world.namespaces.blue}:{name}"
    server.kubectl(*here, "create", "rolebinding", name, "--clusterrole=cluster-admin", account)
    with as_account(world, server, server.token(world.namespaces.blue, name), folder / "account"):
        yield


@contextmanager
def an_expired_token(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    """Of the server's own key, and an hour old."""
    key = server.kubeconfig.with_name("accounts.key")
    if not key.exists():
        pytest.skip("the token is signed with the key of our own cluster")
    claims = {"iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"]}
    claims |= {"sub": f"system:serviceaccount:{world.namespaces.red}:default", "iat": 1, "nbf": 1, "exp": 3600}
    token = signed(claims, key.read_bytes())
    with as_account(world, server, token, folder / "expired"):
        yield


def signed(claims: dict[str, Any], key: bytes) -> str:
    """A JWT by RS256 (RFC 7515)."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    def text(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    private = serialization.load_pem_private_key(key, password=None)
    assert isinstance(private, rsa.RSAPrivateKey)
    head = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return f"{head}.{text(private.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


# --- what is put on the wire ------------------------------------------------------------------------------


def on_the_wire(fault: Fault) -> Callable[[OnKubernetes, Cluster, Path], Arranged]:
    @contextmanager
    def arrange(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
        world.wire(RED).fault = fault
        yield
        world.wire(RED).fault = None

    return arrange


def status(code: int, message: str, **headers: str) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    return Answer(code, headers, json.dumps(body).encode())


def answered(answer: Answer) -> Fault:
    return lambda request, pass_on: answer


def away(request: Request, pass_on: Transport) -> Answer:
    raise Retryable(f"{request.method} {request.path} got no answer", where="cluster red", hint="is it up?")


def writes_fail(request: Request, pass_on: Transport) -> Answer:
    is_write = request.method != "GET" and "dryRun" not in request.query
    return status(500, "etcdserver: request timed out") if is_write else pass_on(request)


def without_rollouts(request: Request, pass_on: Transport) -> Answer:
    """What a server says that was never told of Argo Rollouts: it knows no such group."""
    return pass_on(request._replace(path=request.path.replace("/argoproj.io/", "/not-installed.argoproj.io/")))


def expired(request: Request, pass_on: Transport) -> Answer:
    """Every list has another page, and the server has forgotten the revision at which it begins."""
    answer = pass_on(request)
    if "limit" in request.query and answer.status == 200:
        body = json.loads(answer.body)
        token = json.dumps({"v": "meta.k8s.io/v1", "rv": 2, "start": "a\0"}).encode()
        body["metadata"]["continue"] = base64.urlsafe_b64encode(token).decode().rstrip("=")
        return answer._replace(body=json.dumps(body).encode())
    return answer


@contextmanager
def expired_lists(world: OnKubernetes, server: Cluster, folder: Path) -> Iterator[None]:
    forget_the_past(server)
    with on_the_wire(expired)(world, server, folder):
        yield


def forget_the_past(server: Cluster) -> None:
    """etcd keeps earlier revisions for five minutes; here it drops them now."""
    if not server.processes:
        pytest.skip("the etcd of another cluster is not ours to compact")
    revision = server.get("namespaces")["metadata"]["resourceVersion"] or "0"
    newest = max(
        [int(revision), *(int(n["metadata"]["resourceVersion"]) for n in server.get("namespaces")["items"])]
    )
    body = json.dumps({"revision": str(newest), "physical": True}).encode()
    urlopen(Http("http://127.0.0.1:2379/v3/kv/compaction", body, method="POST"), timeout=10).close()


FAULTS: dict[str, Case] = {
    "the namespace is being deleted": Case(
        being_deleted,
        r"the namespace is being deleted: .*\. hint: wait until it is gone; create it again, or name another",
        keeps=False,
        mends=False,
    ),
    "there is no namespace": Case(
        gone,
        r'namespaces "trueup-test-\w+" not found\. hint: create the namespace, or correct environment\.yaml',
        retryable=False,
        keeps=False,
        mends=False,
    ),
    "another manager applies": Case(
        claimed,
        r"/deployments/cherry is not applied: \.spec\.replicas belongs to tuner\. hint: take the field out",
        retryable=False,
    ),
    "a webhook refuses": Case(
        refused_by_a_webhook,
        r'admission webhook "policy\.trueup\.test" denied the request: not on a Friday\. hint: the webhook',
        retryable=False,
    ),
    "a webhook is silent": Case(
        a_silent_webhook,
        r'PATCH /apis/apps/v1/.* failed with status 500: .*failed calling webhook "policy\.trueup\.test"',
    ),
    "no rights there": Case(
        no_rights,
        r'cannot list resource "\w+" .* in the namespace "trueup-test-\w+"\. hint: grant that verb',
        by="hold",
        retryable=False,
    ),
    "the token has expired": Case(
        an_expired_token,
        r"cluster red: Unauthorized\. hint: the token or certificate is wrong or expired: log in again",
        by="hold",
        retryable=False,
        together=False,
    ),
    "too many requests": Case(
        on_the_wire(answered(status(429, "slow down", **{"retry-after": "60"}))),
        r"cluster red: GET .* failed with status 429: slow down\. hint: not before 20\d\d-",
        by="hold",
        together=False,
    ),
    "the server is ill": Case(
        on_the_wire(answered(status(503, "apiserver is shutting down"))),
        r"cluster red: GET .* failed with status 503: apiserver is shutting down\. hint: it is tried again",
        by="hold",
        together=False,
    ),
    "nobody answers": Case(
        on_the_wire(away),
        r"cluster red: GET .* got no answer\. hint: is it up\?",
        by="hold",
        together=False,
    ),
    "writes fail": Case(
        on_the_wire(writes_fail),
        r"cluster red: PATCH .* failed with status 500: etcdserver: request timed out\. hint: it is tried",
        together=False,
    ),
    "Rollouts are not installed": Case(
        on_the_wire(without_rollouts),
        r"GET /apis/argoproj\.io/.*/cherry is answered with status 404\. hint: install the Custom",
        retryable=False,
        together=False,
        mends=False,  # a canary takes its time; see below
        renderer="rollout/v1",
    ),
    "lists expire": Case(
        expired_lists,
        r"cluster red: the list of \w+ in trueup-test-\w+ expired twice while it was read\. hint: it is tried",
        by="hold",
        together=False,
    ),
}


@pytest.fixture(autouse=True)
def connected(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_and_harms_nobody_else(cluster: Cluster, tmp_path: Path, case: Case) -> None:
    with on_kubernetes(cluster, together=case.together, renderer=case.renderer) as world:
        world.story(lambda: world.serves(RED, "1") and world.serves(BLUE, "1"))
        before = world.workload(RED)
        with case.arrange(world, cluster, tmp_path):
            world.retrain()
            for wire in world.wires.values():
                wire.asked.clear()
            ticks = world.story(lambda: world.serves(BLUE, "2"))
            ticks += world.story_of(2)
            check(world, case, ticks)
            now = world.workload(RED)
            if case.keeps:
                assert before is not None
                assert now is not None
                assert (now.release, now.serving, now.objects) == (
                    before.release,
                    before.serving,
                    before.objects,
                )
        if case.mends:
            world.story(lambda: world.serves(RED, "2"))


def check(world: OnKubernetes, case: Case, ticks: list[Ticked]) -> None:
    """What was said of red in the last tick, and that nothing was concluded from it."""
    plan, outcomes = ticks[-1].planned.plan, ticks[-1].outcomes
    holds = [hold.reason for hold in plan.holds if hold.subject.environment == RED and hold.code == "gap"]
    failed = [o for o in outcomes if o.subject.environment == RED and o.result == "failed"]
    if case.by == "hold":
        assert any(re.search(case.says, reason) for reason in holds), (holds, plan.gaps)
        assert [gap.retryable for gap in plan.gaps] == [case.retryable]
        assert not [o for o in outcomes if o.subject.environment == RED]
    else:
        assert any(re.search(case.says, o.detail) for o in failed), (failed, holds)
        assert {o.retryable for o in failed} == {case.retryable}
    assert not plan.tripped
    assert world.aliases(RED) == {RED: "1"}
    inside = f"/namespaces/{world.namespaces.red}/"
    assert not [r for r in world.wire(RED).asked if r.method == "DELETE" and inside in r.path]
    told = [o for ticked in ticks for o in ticked.outcomes]
    assert not [o for o in told if o.subject.environment == RED and "rollback" in o.key]
    assert all(o.result in ("done", "already") for o in told if o.subject.environment == BLUE)
    assert not [hold for hold in plan.holds if hold.subject.environment == BLUE]


def test_rollouts_that_are_installed_late(cluster: Cluster) -> None:
    with on_kubernetes(cluster, together=False, renderer="rollout/v1") as world:
        world.wire(RED).fault = without_rollouts
        world.story(lambda: world.serves(BLUE, "1"))
        (failed,) = world.story_of(1)[0].outcomes
        assert failed.result == "failed"
        assert "hint: install the CustomResourceDefinitions" in failed.detail
        assert world.workload(RED) is None  # not a part of it was written
        world.wire(RED).fault = None
        world.story(lambda: world.serves(RED, "1"))


class FirstTime:
    """Every read fails when it is asked for the first time, each in another way."""

    ways = (away, answered(status(503, "busy")), answered(status(429, "slow", **{"retry-after": "1"})))

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, request: Request, pass_on: Transport) -> Answer:
        if request.method != "GET":
            return pass_on(request)
        self.reads += 1
        again = self.reads % 2 == 0
        return pass_on(request) if again else self.ways[self.reads // 2 % 3](request, pass_on)


def test_a_read_that_failed_is_asked_again_in_the_same_tick(cluster: Cluster) -> None:
    with on_kubernetes(cluster, together=False) as world:
        wire, fault = world.wire(RED), FirstTime()
        wire.fault = fault
        ticks = world.story(lambda: world.serves(RED, "1") and world.serves(BLUE, "1"))
        assert not [gap for ticked in ticks for gap in ticked.planned.plan.gaps]
        assert {o.result for ticked in ticks for o in ticked.outcomes} == {"done"}
        assert fault.reads == 2 * len(wire.slept) > 100
        assert max(wire.slept) <= 1  # the first pause is no longer; and so says Retry-After
        assert len(set(wire.slept)) > len(wire.slept) / 2  # jitter
        assert wire.writes
        assert set(Counter(map(str, wire.writes)).values()) == {1}


def test_a_write_whose_answer_is_lost_is_looked_for_and_not_repeated(cluster: Cluster) -> None:
    lost: list[Request] = []

    def lose(request: Request, pass_on: Transport) -> Answer:
        answer = pass_on(request)
        if request.method == "GET" or "dryRun" in request.query:
            return answer
        lost.append(request)
        return away(request, pass_on)

    with on_kubernetes(cluster, together=False) as world:
        wire = world.wire(RED)
        wire.fault = lose
        ticks = world.story(lambda: world.serves(RED, "1") and world.serves(BLUE, "1"))
        failed = [o for ticked in ticks for o in ticked.outcomes if o.result == "failed"]
        assert len(failed) == len(lost) > 2  # each tick gets one object further
        assert {(o.subject.environment, o.retryable) for o in failed} == {(RED, True)}
        assert set(Counter(map(str, wire.writes)).values()) == {1}
        assert wire.slept == []
