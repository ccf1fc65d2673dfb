"""What the Kubernetes client asks, and what it makes of answers. The wire is tried on a server on loopback."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from reconciler.adapters.kubernetes.client import (
    AlreadyThere,
    Answer,
    Changed,
    Conflict,
    Kind,
    KubernetesClient,
    Missing,
    NotInstalled,
    Refused,
    Request,
    connect,
)
from reconciler.adapters.kubernetes.cluster import KubernetesCluster
from reconciler.core.errors import Retryable, Terminal, TrueupError

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SERVICE = Kind("v1", "Service", "services")
TOKEN = "planted-secret-0123456789"  # what no message may show


def ok(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode())


def no(status: int, reason: str = "", message: str = "", *causes: dict[str, str], **details: Any) -> Answer:
    """A Status object as the API server sends it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
    body |= {"reason": reason, "message": message, "details": details | {"causes": list(causes)}}
    return Answer(status, {}, json.dumps(body).encode())


class Server:
    """A transport that answers from a list, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers: Answer | TrueupError) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.slept: list[float] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TrueupError):
            raise answer
        return answer

    def client(self) -> KubernetesClient:
        return KubernetesClient(
            self, where="test cluster", sleep=self.slept.append, clock=lambda: AT, jitter=random.Random(7)
        )


# --- asking -----------------------------------------------------------------------------------------------


def test_paths_are_those_of_the_groups_and_names_are_quoted() -> None:
    assert SERVICE.path("ml") == "/api/v1/namespaces/ml/services"
    assert DEPLOYMENT.path("ml", "digits", "status") == "/apis/apps/v1/namespaces/ml/deployments/digits/status"
    assert DEPLOYMENT.path("../kube-system", "a/b").endswith("/namespaces/..%2Fkube-system/deployments/a%2Fb")


def test_a_missing_object_is_none_and_a_missing_kind_is_an_error() -> None:
    missing = no(404, "NotFound", 'deployments.apps "digits" not found', name="digits", kind="deployments")
    assert Server(missing).client().get(DEPLOYMENT, "ml", "digits") is None
    unknown = [Answer(404, {}, b"404 page not found\n"), no(404, "NotFound", "the server could not find it")]
    for answer in unknown:
        with pytest.raises(NotInstalled, match="CustomResourceDefinition"):
            Server(answer).client().get(DEPLOYMENT, "ml", "digits")


def test_what_knows_no_kind_at_all_is_no_cluster_without_objects() -> None:
    wrong = Server(Answer(404, {}, b"<html>not found"))
    with pytest.raises(
        Refused, match=r"/services is answered with status 404.*address of its API server"
    ) as caught:
        wrong.client().list(SERVICE, "ml")
    assert type(caught.value) is Refused
    with pytest.raises(Terminal, match="address of its API server"):
        KubernetesCluster(wrong.client(), ("ml",)).sweep()


def test_a_list_is_read_page_by_page_and_its_items_say_what_they_are() -> None:
    pages = [
        ok({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}),
        ok({"metadata": {}, "items": [{"metadata": {"name": "b"}}]}),
    ]
    server = Server(*pages)
    found = server.client().list(DEPLOYMENT, "ml", labels="a=b", page=1)
    assert [(item["kind"], item["metadata"]["name"]) for item in found] == [
        ("Deployment", "a"),
        ("Deployment", "b"),
    ]
    assert [request.query for request in server.asked] == [
        {"labelSelector": "a=b", "limit": "1"},
        {"labelSelector": "a=b", "limit": "1", "continue": "more"},
    ]


def test_a_list_that_expires_begins_again_once() -> None:
    first = ok({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "old"}}]})
    gone = no(410, "Expired", "The provided continue parameter is too old")
    whole = ok({"metadata": {}, "items": [{"metadata": {"name": "new"}}]})
    found = Server(first, gone, whole).client().list(DEPLOYMENT, "ml")
    assert [item["metadata"]["name"] for item in found] == ["new"]
    server = Server(first, gone, first, gone)
    with pytest.raises(Retryable, match="expired twice"):
        server.client().list(DEPLOYMENT, "ml")
    assert len(server.asked) == 4


def test_reads_are_repeated_and_retry_after_is_honoured() -> None:
    busy = no(429, "TooManyRequests", "slow down")._replace(headers={"retry-after": "3"})
    server = Server(Retryable("no connection"), no(503), busy, ok({"kind": "Deployment"}))
    assert server.client().get(DEPLOYMENT, "ml", "digits") == {"kind": "Deployment"}
    assert len(server.slept) == 3
    assert server.slept[2] == 3
    assert max(server.slept[:2]) < 2


def test_a_read_gives_up_after_a_few_tries_and_waits_for_no_long_limit() -> None:
    server = Server(no(500, "InternalError", "etcd is away"))
    with pytest.raises(Retryable, match="status 500: etcd is away"):
        server.client().get(DEPLOYMENT, "ml", "digits")
    assert len(server.asked) == 4
    patient = Server(no(429, "TooManyRequests", "later")._replace(headers={"retry-after": "60"}))
    with pytest.raises(Retryable, match="not before 2026-03-01T12:01:00Z"):
        patient.client().get(DEPLOYMENT, "ml", "digits")
    assert (len(patient.asked), patient.slept) == (1, [])


OBJECT = {"metadata": {"name": "digits"}, "spec": {}}
WRITES: dict[str, Callable[[KubernetesClient], Any]] = {
    "create": lambda client: client.create(DEPLOYMENT, "ml", OBJECT),
    "apply": lambda client: client.apply(DEPLOYMENT, "ml", OBJECT),
    "patch": lambda client: client.patch(DEPLOYMENT, "ml", "digits", {"spec": None}, subresource="status"),
    "delete": lambda client: client.delete(DEPLOYMENT, "ml", "digits", uid="u"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("answer", [Retryable("cut off"), no(500), no(503), no(429)], ids=str)
def test_a_write_is_sent_once(write: Callable[[KubernetesClient], Any], answer: Answer | TrueupError) -> None:
    server = Server(answer)
    with pytest.raises(Retryable):
        write(server.client())
    assert (len(server.asked), server.slept) == (1, [])


def test_what_the_writes_send() -> None:
    server = Server(ok({}))
    client = server.client()
    for write in WRITES.values():
        write(client)
    client.apply(DEPLOYMENT, "ml", OBJECT, force=True, dry_run=True)
    create, apply, patch, delete, trial = server.asked
    strict = {"fieldManager": "trueup", "fieldValidation": "Strict"}
    whole = {"apiVersion": "apps/v1", "kind": "Deployment"} | OBJECT
    path = "/apis/apps/v1/namespaces/ml/deployments"
    assert create == Request("POST", path, strict, whole)
    assert apply == Request(
        "PATCH", f"{path}/digits", strict | {"force": "false"}, whole, "application/apply-patch+yaml"
    )
    assert patch == Request(
        "PATCH", f"{path}/digits/status", strict, {"spec": None}, "application/merge-patch+json"
    )
    assert (delete.method, delete.path) == ("DELETE", f"{path}/digits")
    assert delete.body is not None
    assert delete.body["preconditions"] == {"uid": "u"}
    assert trial.query == strict | {"force": "true", "dryRun": "All"}


def test_deleting_what_is_gone_is_no_error() -> None:
    gone = no(404, "NotFound", 'deployments.apps "digits" not found', name="digits")
    assert Server(gone).client().delete(DEPLOYMENT, "ml", "digits") is False
    assert Server(ok({})).client().delete(DEPLOYMENT, "ml", "digits") is True


# --- what an answer means ---------------------------------------------------------------------------------

FORBIDDEN = 'deployments.apps "digits" is forbidden: User "u" cannot patch resource "deployments"'
TERMINATING = {"reason": "NamespaceTerminating", "message": "namespace ml is being terminated"}
REFUSALS: dict[str, tuple[Answer, type[TrueupError], str]] = {
    "expired token": (no(401, "Unauthorized", "Unauthorized"), Refused, "Unauthorized. hint: .*log in again"),
    "forbidden": (no(403, "Forbidden", FORBIDDEN), Refused, "cannot patch .*grant that verb"),
    "namespace ends": (no(403, "Forbidden", "no", TERMINATING), Retryable, "namespace is being deleted"),
    "no namespace": (
        no(404, "NotFound", 'namespaces "ml" not found', name="ml", kind="namespaces"),
        Refused,
        'namespaces "ml" not found. hint: create the namespace',
    ),
    "no object": (no(404, "NotFound", 'deployments.apps "d" not found', name="d"), Missing, "not found"),
    "no kind": (Answer(404, {}, b"404 page not found"), NotInstalled, "CustomResourceDefinitions"),
    "exists": (no(409, "AlreadyExists", "exists", name="d"), AlreadyThere, "exists"),
    "changed": (no(409, "Conflict", "the object has been modified"), Changed, "has been modified"),
    "invalid": (no(422, "Invalid", "spec.replicas: Invalid value: -1"), Refused, "spec.replicas"),
    "unknown field": (
        no(400, "BadRequest", 'unknown field "spec.x"'),
        Refused,
        "spec.x.*this cluster's version",
    ),
    "unknown field of an apply": (
        no(500, "", "failed to create typed patch object (ml/d): .spec.x: field not declared in schema"),
        Refused,
        "spec.x.*this cluster's version",
    ),
    "webhook": (
        no(403, "Forbidden", 'admission webhook "policy.example.org" denied the request: no'),
        Refused,
        "policy.example.org.*the webhook's owner",
    ),
    "webhook away": (
        no(500, "InternalError", 'failed calling webhook "policy.example.org": refused'),
        Retryable,
        "failed calling webhook",
    ),
    "gateway": (Answer(502, {}, b"<html>bad gateway"), Retryable, "status 502"),
    "sent on": (Answer(302, {"location": "https://login.example.org"}, b""), Terminal, "status 302"),
}


@pytest.mark.parametrize(("answer", "kind", "message"), REFUSALS.values(), ids=REFUSALS)
def test_each_refusal_has_its_kind_and_its_sentence(
    answer: Answer, kind: type[TrueupError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        Server(answer).client().apply(DEPLOYMENT, "ml", OBJECT)
    assert type(caught.value) is kind
    assert "test cluster" in str(caught.value)


def test_a_conflict_names_the_other_owners_and_their_fields() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{manager}" using apps/v1',
            "field": field,
        }
        for manager, field in (("kubectl-edit", ".spec.replicas"), ("tuner", ".spec.paused"))
    ]
    with pytest.raises(Conflict, match=r"\.spec\.replicas belongs to kubectl-edit") as caught:
        Server(no(409, "Conflict", "Apply failed", *causes)).client().apply(DEPLOYMENT, "ml", OBJECT)
    assert caught.value.owners == (("kubectl-edit", ".spec.replicas"), ("tuner", ".spec.paused"))


def test_a_success_that_is_no_object_is_unclear() -> None:
    with pytest.raises(Retryable, match="without a JSON object"):
        Server(Answer(200, {}, b"<html>")).client().get(DEPLOYMENT, "ml", "digits")


# --- the wire ---------------------------------------------------------------------------------------------


class Api(BaseHTTPRequestHandler):
    """Says back what it was asked, or does as the object's name says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        wanted = ("Authorization", "Content-Type", "User-Agent")
        said = {"path": self.path, "body": body} | {header: self.headers.get(header) for header in wanted}
        answer = json.dumps(said).encode()
        self.send_response({"away": 503, "moved": 302}.get(name, 200))
        self.send_header("Content-Length", str(len(answer) + (10 if name == "cut" else 0)))
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = True

    do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Writes a kubeconfig for a server on loopback, or for another address, and makes it the one in use."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def write(address: str = "") -> Path:
        file = tmp_path / "kubeconfig"
        address = address or f"http://127.0.0.1:{server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "one",
        }
        file.write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(file))
        return file

    yield write
    server.shutdown()
    server.server_close()


def test_the_wire_carries_token_body_and_type(kubeconfig: Callable[..., Path]) -> None:
    kubeconfig()
    client = connect("one")
    said = client.apply(DEPLOYMENT, "ml", OBJECT)
    assert said["Authorization"] == f"Bearer {TOKEN}"
    assert (said["Content-Type"], said["User-Agent"]) == ("application/apply-patch+yaml", "trueup")
    assert said["body"]["kind"] == "Deployment"
    assert "/deployments/digits?fieldManager=trueup&" in said["path"]
    patched = client.patch(DEPLOYMENT, "ml", "digits", {"spec": {"paused": None}})
    assert (patched["Content-Type"], patched["body"]) == (
        "application/merge-patch+json",
        {"spec": {"paused": None}},
    )
    listed = client.get(DEPLOYMENT, "ml", "digits")
    assert listed is not None
    assert listed["body"] is None


def test_a_pod_uses_its_serviceaccount_and_reads_its_token_again(
    kubeconfig: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("none")
    authority.write_text("not read over http")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    address = json.loads(kubeconfig().read_text())["clusters"][0]["cluster"]["server"]
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    client = connect()
    assert client.where == "this pod's cluster"
    load = incluster_config.InClusterConfigLoader._load_config

    def over_http(loader: Any) -> None:  # the server of this test has no certificate
        load(loader)
        loader.host = address

    monkeypatch.setattr(incluster_config.InClusterConfigLoader, "_load_config", over_http)
    # A minute is over at each look.
    monkeypatch.setattr(
        incluster_config.InClusterConfigLoader,
        "token_expires_at",
        property(lambda self: datetime.min, lambda self, value: None),  # noqa: DTZ901 - as the package has it
        raising=False,
    )
    for text in ("first", "second"):
        token.write_text(text)
        said = client.get(SERVICE, "ml", "x")
        assert said is not None
        assert said["Authorization"].lower() == f"bearer {text}"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("away", Retryable, "503"), ("cut", Retryable, "no answer"), ("moved", Terminal, "sent on elsewhere")],
)
def test_the_wire_tells_bad_answers(
    kubeconfig: Callable[..., Path], name: str, kind: type[TrueupError], message: str
) -> None:
    kubeconfig()
    with pytest.raises(kind, match=message) as caught:
        connect().delete(DEPLOYMENT, "ml", name)
    assert TOKEN not in str(caught.value)


def test_nobody_listens(kubeconfig: Callable[..., Path]) -> None:
    kubeconfig("http://127.0.0.1:1")
    with pytest.raises(Retryable, match=r"refused.*is the API server up") as caught:
        connect().delete(DEPLOYMENT, "ml", "digits")
    assert TOKEN not in str(caught.value)


def test_a_context_that_is_not_there(kubeconfig: Callable[..., Path], tmp_path: Path) -> None:
    kubeconfig()
    with pytest.raises(Terminal, match="context two"):
        connect("two").get(DEPLOYMENT, "ml", "digits")
