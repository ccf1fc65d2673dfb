"""`reconcile doctor`: each part by itself, nothing hangs, no secret is told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.kubernetes import rights
from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Request
from reconciler.bootstrap import doctor
from reconciler.cli.init import init
from reconciler.cli.main import run
from reconciler.core.errors import Terminal

SECRET = "s3cr3t-t0ken"
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
        *("registry default", "engine", "forge", "cluster local"),
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


def test_a_full_disk_is_warned_about(examined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**62)
    code, found, _ = examined()
    assert code == 0
    assert {finding["state"] for finding in found["disk"]} == {"warn"}


def test_a_clock_that_is_off_and_the_version_of_a_server() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(b"3.17.2")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://ada:{SECRET}@127.0.0.1:{server.server_port}"
        found = list(doctor._server("registry default", url, "/version", "MLflow"))
        server.shutdown()
    assert found[0].what == "MLflow 3.17.2 on the server"
    assert "its clock and ours are" in found[1].what
    assert SECRET not in str(found)


def everything(needs: rights.Needs) -> list[dict[str, Any]]:
    return [
        {"apiGroups": [group], "resources": [what], "verbs": [*verbs]} for (group, what), verbs in needs.items()
    ]


@pytest.mark.parametrize(
    ("rules", "incomplete", "state", "said"),
    [
        (everything(rights.SERVING), False, "ok", "everything that trueup does there is allowed"),
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
    (finding,) = rights.diagnose(client, "staging", rights.SERVING, "deploy/serving")
    assert finding.state == state
    assert said in finding.what
    assert [request.path for request in asked] == ["/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"]


def test_needed_rights_are_those_that_deploy_grants() -> None:
    from ruamel.yaml import YAML

    deploy = Path(__file__).parents[2] / "deploy"
    granted: dict[tuple[str, str], set[str]] = {}
    for path in deploy.glob("serving/*/role.yaml"):
        for document in YAML(typ="safe").load_all(path):
            for rule in document.get("rules") or ():
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        granted.setdefault((group, resource), set()).update(rule["verbs"])
    assert granted == {what: {*verbs} for what, verbs in rights.SERVING.items()}


def test_a_terminal_of_a_part_keeps_its_hint() -> None:
    found = doctor._failed("engine", Terminal("is off", where="there", hint="switch it on"))
    assert (found.state, found.what, found.where, found.hint) == ("fail", "is off", "there", "switch it on")
