"""The Argo engine: what it makes of a real controller's answers, and what it asks of the API server.

``tests/contract/argo`` has Workflows in the shapes in which a real controller (4.0.10) was seen to leave them:
one success and six failures. What every engine does is tested in test_engine.py.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from reconciler.adapters.kubernetes.argo_engine import ArgoEngine, filled, run_of
from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Request, connect
from reconciler.adapters.kubernetes.lease import KubernetesLease
from reconciler.core.digests import canonical_json
from reconciler.core.documents import Compute
from reconciler.core.errors import Retryable, Terminal, TrueupError
from reconciler.core.platform import DataCache, EngineArgo, Platform
from reconciler.planning.compute import data_pod_patch, pod_patch
from reconciler.ports import Blob
from tests.servers.argo_driver import install
from tests.servers.cluster import LOG_LINES, Cluster
from tests.unit.test_compute import ENGINE
from workflows.templates.__main__ import RENDERED

ROOT = Path(__file__).parents[2]
RECORDED = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "argo").glob("*.json")}
LABELS = {"app.kubernetes.io/managed-by": "trueup", "trueup.dev/kind": "train"}
NAME = "train-digits-0123456789ab-1"
COMMIT = "c" * 40
TEMPLATE = """
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: train-v1, annotations: {trueup.dev/recipe: "1"}}
spec:
  entrypoint: main
  activeDeadlineSeconds: 7200
  arguments: {parameters: [{name: model}, {name: repository, value: ""}, {name: seed, value: "7"}]}
  templates: [{name: main, container: {command: ["true"], args: ["{{workflow.parameters.model}}"]}}]
"""


@pytest.mark.parametrize(
    ("case", "phase", "message"),
    [
        ("success", "Succeeded", ""),
        ("task-exits-3", "Failed", "train: Error (exit code 3)"),
        ("when-false", "Failed", "ended without register, which was to record its outcome and did not run"),
        (
            "account-without-rights",
            "Error",
            RECORDED["account-without-rights"]["status"]["message"],
        ),
        ("deadline", "Failed", "Step exceeded its deadline"),
        ("unknown-entrypoint", "Failed", "invalid spec: template name 'nope' undefined"),
        ("terminated", "Failed", "Stopped with strategy 'Terminate'"),
    ],
)
def test_what_a_recorded_workflow_says(case: str, phase: str, message: str) -> None:
    run = run_of(RECORDED[case])
    assert (run.phase, run.message) == (phase, message)
    assert run.done
    assert run.started is not None
    assert run.finished is not None
    assert run.parameters == {"model": "digits"}
    assert not [label for label in run.labels if label.startswith("workflows.argoproj.io/")]
    assert run.outputs == ({"version": "1"} if case == "success" else {})
    assert run.progress == RECORDED[case]["status"].get("progress", "")


def test_every_recorded_workflow_is_looked_at() -> None:
    assert len(RECORDED) == 7


def test_before_the_controller_saw_it_a_workflow_is_pending_since_it_was_made() -> None:
    workflow = {key: value for key, value in RECORDED["success"].items() if key != "status"}
    run = run_of(workflow)
    assert (run.phase, run.finished) == ("Pending", None)
    assert run.started == run_of(RECORDED["success"]).started


def test_while_the_first_pod_runs_nothing_is_missing_yet() -> None:
    workflow = json.loads(json.dumps(RECORDED["when-false"]))
    workflow["status"] |= {"phase": "Running", "finishedAt": None}
    run = run_of(workflow)
    assert (run.phase, run.message, run.done) == ("Running", "", False)


def test_a_status_that_no_controller_writes_is_said_and_not_guessed_at() -> None:
    workflow = json.loads(json.dumps(RECORDED["success"]))
    workflow["status"]["finishedAt"] = "yesterday"
    with pytest.raises(
        Terminal, match=f"{workflow['metadata']['name']}: its status is not one that Argo writes"
    ):
        run_of(workflow)


# --- what is asked ----------------------------------------------------------------------------------------


class Templates:
    """A source with one template."""

    def files(self, commit: str) -> Mapping[str, Blob]:
        return {"workflows/rendered/train-v1.yaml": Blob("100644", "1")} if commit == COMMIT else {}

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        return {oid: TEMPLATE.encode() for oid in oids}


class Server:
    """A transport: (method, last part of the path) -> the answers, the last one for ever."""

    def __init__(self, **answers: list[Answer | TrueupError]) -> None:
        self.answers = answers
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        left = self.answers[request.method]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, TrueupError):
            raise answer
        return answer

    def engine(self) -> ArgoEngine:
        client = KubernetesClient(self, where="test cluster", sleep=lambda _: None, jitter=random.Random(7))
        repository = "https://git.example/team/models.git"
        return ArgoEngine(client, "trueup", source=Templates(), repository=repository)  # type: ignore[arg-type]


def ok(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode())


def no(status: int, reason: str, message: str, **details: Any) -> Answer:
    body = {"kind": "Status", "code": status, "reason": reason, "message": message, "details": details}
    return Answer(status, {}, json.dumps(body).encode())


MISSING = no(404, "NotFound", f'workflows.argoproj.io "{NAME}" not found', name=NAME)
TAKEN = no(409, "AlreadyExists", f'workflows.argoproj.io "{NAME}" already exists', name=NAME)
AWAY = Retryable("no answer")


def found(case: str = "success", **labels: str) -> Answer:
    workflow = json.loads(json.dumps(RECORDED[case]))
    workflow["metadata"]["labels"] |= labels
    return ok(workflow)


def submit(engine: ArgoEngine, **changes: Any) -> bool:
    asked = {
        "name": NAME,
        "template": "train-v1",
        "commit": COMMIT,
        "parameters": {"model": "digits", "note": "kept"},
        "labels": LABELS,
        "deadline": 3600,
        "priority": 5,
    }
    return engine.submit(**{**asked, **changes})


def test_a_workflow_carries_the_spec_of_its_template_at_the_commit() -> None:
    server = Server(POST=[ok({})])
    assert submit(server.engine())
    (request,) = server.asked
    assert request.path == "/apis/argoproj.io/v1alpha1/namespaces/trueup/workflows"
    assert request.query["fieldValidation"] == "Strict"
    assert request.body is not None
    assert request.body["metadata"] == {
        "name": NAME,
        "labels": LABELS,
        "annotations": {
            "trueup.dev/template": "train-v1",
            "trueup.dev/commit": COMMIT,
            "trueup.dev/recipe": "1",
        },
    }
    spec = request.body["spec"]
    assert spec["arguments"]["parameters"] == [
        {"name": "model", "value": "digits"},
        {"name": "repository", "value": "https://git.example/team/models.git"},
        {"name": "seed", "value": "7"},
        {"name": "note", "value": "kept"},
    ]
    assert (spec["activeDeadlineSeconds"], spec["priority"]) == (3600, 5)
    assert spec["templates"][0]["container"]["args"] == ["{{workflow.parameters.model}}"]
    assert "workflowTemplateRef" not in spec


def test_a_template_may_end_a_run_sooner_and_an_equal_priority_is_not_written() -> None:
    spec = filled({"activeDeadlineSeconds": 60}, {}, 3600, 0)
    assert (spec["activeDeadlineSeconds"], "priority" in spec) == (60, False)
    assert filled({}, {}, 3600, 0)["activeDeadlineSeconds"] == 3600


@pytest.mark.parametrize(
    ("own", "asked", "written"), [(None, None, None), (None, 3, 3), (2, 3, 2), (4, 3, 3), (4, None, 4)]
)
def test_pods_at_once_are_the_fewer_of_what_template_and_submission_say(
    own: int | None, asked: int | None, written: int | None
) -> None:
    spec = {} if own is None else {"parallelism": own}
    assert filled(spec, {}, 3600, 0, asked).get("parallelism") == written


def test_a_name_that_is_taken_is_success_if_it_is_ours() -> None:
    assert submit(Server(POST=[TAKEN], GET=[found()]).engine()) is False


def test_a_name_that_somebody_else_has_is_a_persons_matter() -> None:
    theirs = found(**{"app.kubernetes.io/managed-by": "helm"})
    for call in (
        submit,
        lambda engine: engine.stop(NAME, reason="done with"),
        lambda engine: engine.delete(NAME),
    ):
        server = Server(POST=[TAKEN], GET=[theirs])
        with pytest.raises(Terminal, match="does not carry the label app"):
            call(server.engine())
        assert {request.method for request in server.asked} <= {"POST", "GET"}


def test_an_unclear_answer_is_looked_into_and_never_sent_again() -> None:
    server = Server(POST=[AWAY], GET=[found()])
    assert submit(server.engine()) is True
    assert [request.method for request in server.asked] == ["POST", "GET"]
    server = Server(POST=[AWAY], GET=[MISSING])
    with pytest.raises(Retryable, match="no answer"):
        submit(server.engine())
    assert [request.method for request in server.asked] == ["POST", "GET"]


def test_a_template_that_is_not_at_the_commit_is_not_submitted() -> None:
    with pytest.raises(Terminal, match=r"workflows/rendered/train-v1\.yaml: is not there at commit d+"):
        submit(Server().engine(), commit="d" * 40)


def test_a_run_is_ended_at_once_and_only_while_it_runs() -> None:
    running = json.loads(found().body)
    running["status"]["phase"] = "Running"
    server = Server(GET=[ok(running)], PATCH=[ok(running)])
    server.engine().stop(NAME, reason="done with", by="Ada")
    said = {"trueup.dev/stopped": "done with", "trueup.dev/stopped-by": "Ada"}
    assert server.asked[-1].body == {
        "metadata": {"annotations": said},
        "spec": {"shutdown": "Terminate"},
    }
    assert server.asked[-1].content_type == "application/merge-patch+json"
    for answer in (found(), MISSING):
        server = Server(GET=[answer])
        server.engine().stop(NAME, reason="done with", by="Ada")
        assert [request.method for request in server.asked] == ["GET"]
    Server(GET=[ok(running)], PATCH=[MISSING]).engine().stop(NAME, reason="done with", by="Ada")


def test_who_ended_a_run_first_stays_who_ended_it() -> None:
    running = json.loads(found().body)
    running["status"]["phase"] = "Running"
    running["metadata"]["annotations"] = {"trueup.dev/stopped": "done with", "trueup.dev/stopped-by": "Ada"}
    server = Server(GET=[ok(running)], PATCH=[ok(running)])
    server.engine().stop(NAME, reason="me too", by="Grace")
    assert server.asked[-1].body == {"metadata": {"annotations": {}}, "spec": {"shutdown": "Terminate"}}
    assert (run_of(running).stopped, run_of(running).stopped_by) == ("done with", "Ada")


def test_a_run_that_succeeded_although_it_was_to_be_ended_was_not_stopped() -> None:
    done = json.loads(found().body)
    done["metadata"]["annotations"] = {"trueup.dev/stopped": "done with", "trueup.dev/asked-by": "Ada"}
    assert (run_of(done).phase, run_of(done).stopped, run_of(done).asked_by) == ("Succeeded", "", "Ada")


def test_only_the_run_that_was_looked_at_is_deleted_and_only_when_it_is_done() -> None:
    server = Server(GET=[found()], DELETE=[ok({})])
    server.engine().delete(NAME)
    assert server.asked[-1].body is not None
    assert server.asked[-1].body["preconditions"] == {"uid": RECORDED["success"]["metadata"]["uid"]}
    running = json.loads(found().body)
    running["status"]["phase"] = "Running"
    with pytest.raises(Terminal, match="not finished"):
        Server(GET=[ok(running)]).engine().delete(NAME)
    Server(GET=[MISSING]).engine().delete(NAME)


def test_one_paged_list_sees_every_run() -> None:
    names = [f"train-digits-0123456789ab-{number}" for number in range(1, 4)]

    def page(name: str, more: str) -> Answer:
        workflow = json.loads(found().body)
        workflow["metadata"]["name"] = name
        return ok({"metadata": {"continue": more}, "items": [workflow]})

    server = Server(GET=[page(names[0], "1"), page(names[1], "2"), page(names[2], "")])
    assert list(server.engine().sweep().runs) == names
    assert len(server.asked) == 3
    assert {request.query["labelSelector"] for request in server.asked} == {
        "app.kubernetes.io/managed-by=trueup"
    }


# --- logs -------------------------------------------------------------------------------------------------


def test_logs_are_those_of_the_pods_in_the_order_in_which_they_began() -> None:
    def pod(name: str) -> dict[str, Any]:
        annotations = {"workflows.argoproj.io/node-name": f"train-digits-0123456789ab-2.{name}"}
        return {"metadata": {"name": f"pod-{name[:5]}{len(name)}", "annotations": annotations}}

    waits = 'container "main" in pod "pod-train8" is waiting to start: ContainerCreating'
    server = Server(
        GET=[
            found("task-exits-3"),
            ok({"items": [pod("train(1)"), pod("train(0)"), pod("data")]}),
            Answer(200, {}, b"fetched\n"),
            Answer(200, {}, b"epoch 1\xff\n"),
            no(400, "BadRequest", waits),
        ]
    )
    told = list(server.engine().logs("train-digits-0123456789ab-2"))
    assert told[:3] == [("data", "fetched\n"), ("train(0)", "epoch 1�\n"), ("train(1)", f"{waits}\n")]
    assert told[3:] == [("train-digits-0123456789ab-2.onExit", "its pod is gone, and its log with it\n")]
    assert server.asked[1].query["labelSelector"] == (
        "workflows.argoproj.io/workflow=train-digits-0123456789ab-2"
    )
    assert {request.query["container"] for request in server.asked[2:]} == {"main"}


def test_the_latest_logs_are_the_ends_of_what_goes_on() -> None:
    workflow = json.loads(json.dumps(RECORDED["task-exits-3"]))
    nodes = [node for node in workflow["status"]["nodes"].values() if node["type"] == "Pod"]
    going = next(node for node in nodes if node["displayName"] == "train(0)")
    del going["finishedAt"]
    annotations = {"workflows.argoproj.io/node-name": going["name"]}
    pods = {"items": [{"metadata": {"name": "pod-1", "annotations": annotations}}]}
    server = Server(GET=[ok(workflow), ok(pods), Answer(200, {}, b"epoch 1\n")])
    assert list(server.engine().logs(NAME, latest=True)) == [("train(0)", "epoch 1\n")]
    assert server.asked[2].query == {"container": "main", "tailLines": "200"}


def test_logs_of_a_run_that_is_not_there_name_those_that_are() -> None:
    listed = ok({"items": [RECORDED["success"], RECORDED["deadline"]]})
    with pytest.raises(Terminal, match=r"no run is named 'train-1'.*there is train-digits-0123456789ab-1, "):
        list(Server(GET=[MISSING, listed]).engine().logs("train-1"))


# --- a pod on a real API server ---------------------------------------------------------------------------


CREATED = "create", "--dry-run=server", "--validate=strict", "--output=json", "--filename=-"


def patched_pod(cluster: Cluster, name: str, patch: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The pod of a task of `train-v1`, roughly as Argo makes it, with this podSpecPatch."""
    templates = YAML(typ="safe").load(RENDERED / "train-v1.yaml")["spec"]["templates"]
    (template,) = [template for template in templates if template["name"] == name]
    main = {**template["container"], "name": "main", "image": "example/steps", "args": []}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [main, {"name": "wait", "image": "example/argoexec"}],
            "volumes": template["volumes"],
            "securityContext": template["securityContext"],
        },
    }
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod))
    merge = "patch", "--local", f"--filename={file}", "--type=strategic", "--output=json"
    patched: dict[str, Any] = json.loads(cluster.kubectl(*merge, f"--patch={canonical_json({'spec': patch})}"))
    return patched


@pytest.mark.cluster
def test_the_patch_of_a_data_cache_makes_a_pod_that_kubernetes_takes(cluster: Cluster, tmp_path: Path) -> None:
    engine = ENGINE.model_copy(update={"data_cache": DataCache(claim="trueup-data", limit="200GB")})
    patched = patched_pod(cluster, "data", data_pod_patch(engine), tmp_path)
    volumes = {volume["name"]: volume for volume in patched["spec"]["volumes"]}
    assert volumes.keys() == {"tmp", "trueup", "data-cache"}
    assert volumes["data-cache"]["persistentVolumeClaim"] == {"claimName": "trueup-data"}
    own = patched["spec"]["containers"][0]
    assert {mount["mountPath"] for mount in own["volumeMounts"]} == {"/tmp", "/trueup", "/trueup/cache"}
    cluster.kubectl("--namespace=default", *CREATED, stdin=json.dumps(patched))


@pytest.mark.cluster
def test_the_patch_of_a_spot_pool_makes_a_pod_that_kubernetes_takes(cluster: Cluster, tmp_path: Path) -> None:
    """Merged by kubectl with the library that Argo merges podSpecPatch with, and admitted by a real server."""
    patch = pod_patch(ENGINE, Compute(gpus=2, pool="gpu", spot=True), NAME)
    patched = patched_pod(cluster, "train", patch, tmp_path)
    volumes = {volume["name"]: volume for volume in patched["spec"]["volumes"]}
    assert volumes["checkpoint"] == {
        "name": "checkpoint",
        "persistentVolumeClaim": {"claimName": "trueup-checkpoints"},
    }
    assert volumes["trueup"] == {"name": "trueup", "emptyDir": {}}
    assert [container["name"] for container in patched["spec"]["containers"]] == ["main", "wait"]
    own = patched["spec"]["containers"][0]
    mounts = {mount["mountPath"]: mount for mount in own["volumeMounts"]}
    assert mounts.keys() == {"/tmp", "/trueup", "/trueup/checkpoint"}
    assert mounts["/trueup/checkpoint"]["subPath"] == NAME
    assert own["resources"]["limits"] == {"memory": "4Gi", "amd.com/gpu": "2"}
    assert own["resources"]["requests"]["amd.com/gpu"] == "2"
    admitted = json.loads(cluster.kubectl("--namespace=default", *CREATED, stdin=json.dumps(patched)))
    keys = [toleration["key"] for toleration in admitted["spec"]["tolerations"]]
    assert keys[:2] == ["nvidia.com/gpu", "spot"]


PAGE = (ROOT / "docs" / "argo-workflows.md").read_text()


def documents(first: str) -> list[dict[str, Any]]:
    """The YAML documents of the page's block that begins so."""
    (block,) = [
        text for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S) if text.startswith(first)
    ]
    return list(YAML(typ="safe").load_all(block))


def test_the_platform_and_the_compute_of_the_page_are_accepted() -> None:
    (platform,) = documents("apiVersion: trueup.dev/v1")
    named = Platform.model_validate_json(json.dumps(platform)).engine
    (training,) = documents("training:")
    compute = Compute.model_validate(training["training"]["compute"])
    assert isinstance(named, EngineArgo)
    assert pod_patch(named, compute, NAME)["nodeSelector"].keys() == {
        "cloud.example/accelerator",
        "cloud.example/spot",
    }


@pytest.mark.cluster
def test_the_rights_in_deploy_are_what_is_needed_and_no_more(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(cluster)
    with cluster.namespace() as namespace:
        needed = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trueup-reconciler"}}]
        for part in ("engine", "lease"):
            built = cluster.kubectl("kustomize", str(ROOT / "deploy" / part))
            needed += json.loads(json.dumps(list(YAML(typ="safe").load_all(built))))
        for each in needed:
            each["metadata"]["namespace"] = namespace
            for subject in each.get("subjects", ()):
                subject["namespace"] = namespace
        cluster.apply(*needed)
        accounts = {each["metadata"]["name"] for each in needed if each["kind"] == "ServiceAccount"}
        assert accounts == {"trueup-reconciler", "trueup-train", "trueup-record"}
        used = {
            template["serviceAccountName"]
            for path in RENDERED.glob("*.yaml")
            for template in YAML(typ="safe").load(path)["spec"]["templates"]
            if "container" in template
        }
        assert used == {"trueup-train", "trueup-record"}
        own = cluster.kubeconfig_of(
            cluster.token(namespace, "trueup-reconciler"), tmp_path / "trueup.kubeconfig"
        )
        monkeypatch.setenv("KUBECONFIG", str(own))
        engine = ArgoEngine(connect(), namespace, source=Templates(), repository="https://git.example/x.git")  # type: ignore[arg-type]
        with KubernetesLease(connect(), namespace, lambda: datetime.now(UTC)).hold():
            assert submit(engine)
        assert submit(engine) is False
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "pod",
                "namespace": namespace,
                "labels": {"workflows.argoproj.io/workflow": NAME},
                "annotations": {"workflows.argoproj.io/node-name": f"{NAME}.train"},
            },
            "spec": {"containers": [{"name": "main", "image": "example/steps"}]},
        }
        cluster.apply(pod)
        cluster.kubectl("--namespace", namespace, "wait", "--for=condition=Ready", "pod/pod", "--timeout=30s")
        node = {"id": "1", "name": f"{NAME}.train", "displayName": "train", "type": "Pod", "phase": "Failed"}
        status = {"phase": "Failed", "nodes": {"1": node | {"message": "main: Error (exit code 3)"}}}
        assert engine.sweep().runs[NAME].phase == "Pending"
        engine.stop(NAME, reason="done with")
        cluster.kubectl(
            *("--namespace", namespace, "patch", "workflow", NAME, "--type=merge"),
            f"--patch={json.dumps({'status': status})}",
        )
        assert list(engine.logs(NAME)) == [("train", LOG_LINES)]
        assert engine.sweep().runs[NAME].message == "train: Error (exit code 3)"
        engine.delete(NAME)
        assert engine.sweep().runs == {}

        def may(account: str, verb: str, group: str, resource: str) -> bool:
            asked = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
            user = f"system:serviceaccount:{namespace}:{account}"
            review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
            review |= {"spec": {"user": user, "resourceAttributes": asked}}
            answer = cluster.kubectl("create", "--output=json", "--filename=-", stdin=json.dumps(review))
            return bool(json.loads(answer)["status"]["allowed"])

        steps = ("trueup-train", "trueup-record")
        assert all(may(account, "create", "argoproj.io", "workflowtaskresults") for account in steps)
        assert not any(may(account, "patch", "argoproj.io", "workflows") for account in steps)
        assert not any(may(account, "get", "", "secrets") for account in accounts)
        assert not any(may(account, "create", "", "pods") for account in accounts)
