"""`reconcile doctor`: each part by itself, nothing hangs, no secret is told."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from reconciler.adapters.kubernetes import rights, served
from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Request
from reconciler.adapters.kubernetes.cluster import KubernetesCluster
from reconciler.adapters.mlflow_registry import MlflowRegistry
from reconciler.bootstrap import doctor
from reconciler.cli.init import init
from reconciler.cli.main import run
from reconciler.core.documents import Environment
from reconciler.core.errors import Terminal
from reconciler.core.finding import Finding, State

SECRET = "s3cr3t-t0ken"
MLFLOW = version("mlflow")
REAL = """\
apiVersion: trueup.dev/v1
kind: Platform
registries:
  default: {type: mlflow, trackingUriEnv: MLFLOW_TRACKING_URI}
  other: {type: mlflow, trackingUriEnv: OTHER_TRACKING_URI}
engine: {type: argo, namespace: runs, repository: "https://git.example.org/ml/models.git"}
forge:
  type: gitea
  url: "http://127.0.0.1:PORT"
  repository: ml/models
  token: {env: TRUEUP_FORGE_TOKEN}
clusters:
  main: {type: kubernetes, namespaces: [staging, production]}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    for name in ("KUBERNETES_SERVICE_HOST", "TRUEUP_FORGE_TOKEN", "MLFLOW_TRACKING_URI", "TRUEUP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "PATIENCE", 15.0)
    init(tmp_path / "models", say=lambda _: None)
    return tmp_path / "models"


@pytest.fixture
def examined(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[], tuple[int, dict[str, Any], str]]:
    """Exit code, findings by their part, everything that was printed."""

    def examine() -> tuple[int, dict[str, Any], str]:
        code = run(["-C", str(repository), "doctor", "--output", "json"])
        said = capsys.readouterr()
        found: dict[str, Any] = {}
        for finding in json.loads(said.out):
            found.setdefault(finding["check"], []).append(finding)
        return code, found, said.out + said.err

    return examine


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_fresh_embedded_repository_is_well(examined: Any, repository: Path) -> None:
    code, found, _ = examined()
    assert code == 0
    assert {finding["state"] for findings in found.values() for finding in findings} <= {"ok", "warn"}
    assert found.keys() == {
        *("versions", "disk", "secrets", "repository", "data"),
        *("registry default", "engine", "forge", "cluster local", "notifier default"),
    }
    assert found["registry default"][0]["what"] == "is not made yet; the first tick makes it"
    assert not (repository / ".trueup/mlflow.db").exists()
    assert found["data"][0]["hint"] == "`dvc push` makes it; nothing has been pushed yet"


def test_everything_is_down_and_each_part_says_so(
    examined: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = closed_port()
    (repository / "environments/platform.yaml").write_text(REAL.replace("PORT", str(port)))
    monkeypatch.setenv("TRUEUP_FORGE_TOKEN", SECRET)
    monkeypatch.setenv("OTHER_TRACKING_URI", f"http://ada:{SECRET}@127.0.0.1:{port}")
    begun = time.monotonic()
    code, found, said = examined()
    assert time.monotonic() - begun < 60
    assert code == 1
    assert SECRET not in said
    assert "Traceback" not in said
    for part in ("registry default", "registry other", "engine", "forge", "cluster main"):
        assert found[part][-1]["state"] == "fail", part
        assert found[part][-1]["hint"], part
    assert "$MLFLOW_TRACKING_URI, which is not set" in found["registry default"][0]["what"]
    assert [finding["state"] for finding in found["repository"]] == ["ok"]


def test_secrets_are_named_and_not_told(
    examined: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "environments/platform.yaml").write_text(REAL.replace("PORT", str(closed_port())))
    assert [f["what"] for f in examined()[1]["secrets"]] == ["$TRUEUP_FORGE_TOKEN is not set"]
    monkeypatch.setenv("TRUEUP_FORGE_TOKEN", SECRET)
    _, found, said = examined()
    assert found["secrets"][0]["what"] == "1 named, and all set"
    assert SECRET not in said


def test_a_wrong_platform_is_said_and_the_rest_is_looked_at(examined: Any, repository: Path) -> None:
    (repository / "environments/platform.yaml").write_text("kind: [\n")
    code, found, _ = examined()
    assert code == 1
    assert found["platform"][0]["where"].endswith("environments/platform.yaml:1") or found["platform"]
    assert found["repository"][0]["state"] == "ok"


def test_origin_is_gone(examined: Any, repository: Path) -> None:
    origin = repository.with_name("models.git")
    origin.rename(origin.with_name("elsewhere"))
    code, found, _ = examined()
    assert code == 1
    assert found["repository"][0]["state"] == "fail"
    assert found["forge"][0]["state"] == "fail"
    assert found["engine"][0]["state"] == "ok"


def test_a_part_that_hangs_or_breaks_holds_nobody_up(
    examined: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    released = threading.Event()

    def hangs(_patient: doctor.Patient) -> Iterator[Any]:
        released.wait(60)
        yield from ()

    def breaks(_patient: doctor.Patient) -> Iterator[Any]:
        raise RuntimeError(SECRET)
        yield

    monkeypatch.setattr(doctor, "PATIENCE", 3.0)
    monkeypatch.setitem(doctor.PARTS, "disk", hangs)
    monkeypatch.setitem(doctor.PARTS, "data", breaks)
    try:
        code, found, said = examined()
    finally:
        released.set()
    assert code == 1
    assert found["disk"][0]["what"] == "did not answer within 3 s"
    assert found["data"][0]["what"] == "could not be looked at: RuntimeError"
    assert SECRET not in said
    assert found["versions"][0]["state"] == "ok"


def test_folders_that_cannot_be_written_to_are_said_with_how_to_name_others(
    examined: Any, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file in the place of a folder refuses root as well; what rights refuse is asked for by os.access."""
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "a file" / "cache"))
    refused, access = repository / ".trueup", doctor.os.access
    refused.mkdir(exist_ok=True)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != refused and access(path, mode))
    code, found, said = examined()
    assert code == 1
    assert [(f["state"], f["what"], f["where"]) for f in found["disk"]] == [
        ("fail", "is not a folder", str(tmp_path / "a file")),
        ("fail", "cannot be written to", str(refused)),
    ]
    assert [f["hint"].rpartition(" ")[2] for f in found["disk"]] == ["TRUEUP_CACHE", "TRUEUP_HOME"]
    assert found["repository"][0]["where"].startswith(str(tmp_path / "a file"))
    assert "please report it" not in said


def test_a_full_disk_is_warned_about(examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**62)
    code, found, _ = examined()
    assert code == 0
    assert {finding["state"] for finding in found["disk"]} == {"warn"}


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """The address of a server that says this to everything, and whose clock stands."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://ada:{SECRET}@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_clock_that_is_off() -> None:
    with answering(b"") as url:
        (found,) = doctor._clock("registry default", url)
    assert found.state == "warn"
    assert "its clock and ours are" in found.what
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("told", "state", "said", "hint"),
    [
        (MLFLOW, "ok", f"MLflow {MLFLOW} on the server, as here", ""),
        ("2.22.0", "fail", f"MLflow 2.22.0 on the server is older than {MLFLOW} here", "upgrade the server to"),
        ("99.0.0rc1", "warn", "MLflow 99.0.0rc1 on the server is newer than", "look for a newer trueup"),
        ("<html>", "warn", "the server does not tell its version", "it has to be MLflow"),
    ],
)
def test_the_version_of_an_mlflow_server_against_the_client(
    told: str, state: str, said: str, hint: str
) -> None:
    with answering(told.encode()) as url:
        (found,) = MlflowRegistry(url).diagnose(())
    assert found.state == state
    assert said in found.what
    assert hint in found.hint
    assert SECRET not in str(found)


def everything(needed: rights.Rights) -> list[dict[str, Any]]:
    return [
        {"apiGroups": [group], "resources": [what], "verbs": [*verbs]}
        for (group, what), verbs in needed.needs.items()
    ]


@pytest.mark.parametrize(
    ("rules", "incomplete", "state", "said"),
    [
        (everything(rights.SERVING), False, "ok", "everything that deploy/serving grants is allowed"),
        ([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}], False, "ok", "everything"),
        (everything(rights.SERVING)[1:], False, "fail", "get, list, create, delete, patch serviceaccounts"),
        ([], True, "warn", "get, list, create, delete, patch deployments.apps"),
        (
            [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "resourceNames": ["one"]}],
            False,
            "fail",
            "list pods",
        ),
    ],
)
def test_missing_rights_are_named(rules: list[dict[str, Any]], incomplete: bool, state: str, said: str) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        status = {"resourceRules": rules, "nonResourceRules": [], "incomplete": incomplete}
        return Answer(201, {}, json.dumps({"status": status}).encode())

    client = KubernetesClient(answer, where="here")
    (finding,) = rights.diagnose(client, "staging", rights.SERVING)
    assert finding.state == state
    assert said in finding.what
    assert [request.path for request in asked] == ["/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"]


def granted(folder: str) -> dict[tuple[str, str], set[str]]:
    """By the Roles of a folder of deploy/ that are bound to the reconciler."""
    paths = (Path(__file__).parents[2] / folder).rglob("*.yaml")
    documents = [each for path in sorted(paths) for each in YAML(typ="safe").load_all(path)]
    bound = {
        each["roleRef"]["name"]
        for each in documents
        if each["kind"] == "RoleBinding"
        and any(subject["name"] == "trueup-reconciler" for subject in each["subjects"])
    }
    found: dict[tuple[str, str], set[str]] = {}
    for role in documents:
        for rule in (role["kind"] == "Role" and role["metadata"]["name"] in bound and role["rules"]) or ():
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


@pytest.mark.parametrize(
    "needed",
    [rights.SERVING, rights.READING, rights.APPLICATIONS, rights.ENGINE, rights.LEASE],
    ids=lambda needed: needed.granted_by,
)
def test_needed_rights_are_those_that_deploy_grants(needed: rights.Rights) -> None:
    assert granted(needed.granted_by) == {what: {*verbs} for what, verbs in needed.needs.items()}


class Discovery:
    """An API server's answers: its version, the kinds of Argo in each version, and that all is allowed."""

    def __init__(self, told: str = "v1.34.4", kinds: dict[str, list[str]] | None = None) -> None:
        self.told, self.kinds = told, kinds or {}
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request.path)
        status, said = 200, self._answer(request.path)
        if said is None:
            status, said = 404, {}
        elif request.path == "/version" and not self.told:
            status, said = 403, {"kind": "Status", "message": "no", "reason": "Forbidden"}
        elif request.method == "POST":
            self.asked[-1] = f"rights in {(request.body or {})['spec']['namespace']}"
        return Answer(status, {}, json.dumps(said).encode())

    def _answer(self, path: str) -> Any:
        group = "argoproj.io"
        if path == "/version":
            return {"gitVersion": self.told}
        if path == f"/apis/{group}" and self.kinds:
            return {"versions": [{"groupVersion": f"{group}/{v}", "version": v} for v in self.kinds]}
        for each, kinds in self.kinds.items():
            if path == f"/apis/{group}/{each}":
                return {"resources": [{"name": kind} for kind in kinds]}
        every = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
        return {"status": {"resourceRules": [every]}} if path.endswith("reviews") else None

    @property
    def client(self) -> KubernetesClient:
        return KubernetesClient(self, where="here")


@pytest.mark.parametrize(
    ("told", "state", "said"),
    [
        ("v1.31.0", "ok", "Kubernetes v1.31.0"),
        ("v1.34.2-gke.100", "ok", "Kubernetes v1.34.2-gke.100"),
        ("v2.0.0", "ok", "Kubernetes v2.0.0"),
        ("v1.30.9", "fail", "Kubernetes v1.30.9 is older than 1.31"),
        ("nightly", "fail", "its version is not one of Kubernetes"),
        ("", "warn", "does not tell its version: no"),
    ],
)
def test_the_version_of_the_cluster(told: str, state: str, said: str) -> None:
    (found,) = served.version(Discovery(told).client)
    assert (found.state, found.what) == (state, said)
    assert bool(found.hint) == (state != "ok")


@pytest.mark.parametrize(
    ("kinds", "state", "said"),
    [
        (
            {"v1alpha1": [*served.WORKFLOWS.kinds]},
            "ok",
            "is installed: workflows v1alpha1, workflowtaskresults",
        ),
        ({}, "fail", "not serve v1alpha1 of workflows.argoproj.io, workflowtaskresults.argoproj.io"),
        (
            {"v1alpha1": ["workflows", "workflows/status"]},
            "fail",
            "v1alpha1 of workflowtaskresults.argoproj.io",
        ),
        (
            {"v1alpha1": ["workflows"], "v1": ["workflowtaskresults"]},
            "fail",
            "v1alpha1 of workflowtaskresults.argoproj.io (served as v1 only)",
        ),
        ({"v1": [], "v1alpha1": [*served.WORKFLOWS.kinds]}, "ok", "is installed"),
    ],
)
def test_kinds_that_are_not_served_are_named(kinds: dict[str, list[str]], state: str, said: str) -> None:
    (found,) = served.installed(Discovery(kinds=kinds).client, served.WORKFLOWS)
    assert found.state == state
    assert said in found.what
    assert state == "ok" or found.hint.startswith("install Argo Workflows 4.0: its CustomResourceDefinitions")


def test_versions_are_those_that_the_page_asks_for() -> None:
    page = (Path(__file__).parents[2] / "docs/install.md").read_text()
    asked = dict(re.findall(r"^\| ([A-Za-z ]+?) \| ([^|]+?)(?:, [^|]*)? \| ", page, re.MULTILINE))
    assert asked["Kubernetes"] == f"{'.'.join(map(str, served.OLDEST))} or newer"
    assert asked["MLflow server"] == ".".join(MLFLOW.split(".")[:2])
    for product in (served.WORKFLOWS, served.ROLLOUTS, served.APPLICATIONS):
        assert asked[product.name] == product.version


def served_to(name: str, **changed: Any) -> Environment:
    """An environment of the namespace ``name``."""
    wish = {"policy": "p", "alias": "a", "namespace": name, **changed}
    return Environment.model_validate({"apiVersion": "trueup.dev/v1", "kind": "Environment", **wish})


def test_what_is_asked_of_a_cluster_is_what_its_environments_need() -> None:
    plain, synced = served_to("staging"), served_to("production", sync="argocd")
    canaries = served_to("staging", runtime={"renderer": "rollout/v1"})
    server = Discovery(kinds={"v1alpha1": ["applications"]})

    def looked(*environments: Environment, argocd: str | None = None) -> list[tuple[str, str]]:
        cluster = KubernetesCluster(server.client, ("staging", "production"), argocd)
        return [(each.state, each.what.partition(":")[0]) for each in cluster.diagnose(environments)]

    version = ("ok", "Kubernetes v1.34.4")
    writes, reads = (
        ("ok", f"everything that {each.granted_by} grants is allowed")
        for each in (rights.SERVING, rights.READING)
    )
    assert looked() == [version, writes, writes]
    assert looked(plain, synced) == [version, writes, reads]
    assert looked(plain, synced, served_to("production")) == [version, writes, writes]
    assert looked(canaries, synced) == [version, ("fail", "Argo Rollouts is not installed"), writes, reads]
    server.asked.clear()
    assert looked(synced, argocd="argocd")[3:] == [
        ("ok", "Argo CD is installed"),
        ("ok", "everything that deploy/argocd grants is allowed"),
    ]
    assert server.asked[-1] == "rights in argocd"


def test_a_refused_read_is_not_told_beside_what_is_known() -> None:
    class Known:
        state: State = "fail"

        def diagnose(self, _environments: Any, /) -> Iterator[Finding]:
            yield Finding(check="kinds", state=self.state, what="it is not installed")

    def refused() -> Iterator[Finding]:
        raise Terminal("status 404")
        yield

    known = Known()
    assert [each.what for each in doctor._looked("engine", known, (), refused)] == ["it is not installed"]
    known.state = "warn"
    with pytest.raises(Terminal):
        list(doctor._looked("engine", known, (), refused))


def test_without_a_clone_nothing_of_it_is_missed(
    examined: Any, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEUP_REPOSITORY", str(repository.with_name("models.git")))
    monkeypatch.setenv("TRUEUP_HOME", str(repository / ".trueup"))
    code, found, said = examined()
    assert code == 0, said
    assert "data" not in found
    assert "did not answer" not in said


def test_a_terminal_of_a_part_keeps_its_hint() -> None:
    found = doctor._failed("engine", Terminal("is off", where="there", hint="switch it on"))
    assert (found.state, found.what, found.where, found.hint) == ("fail", "is off", "there", "switch it on")
