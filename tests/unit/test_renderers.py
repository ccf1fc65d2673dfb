"""The canonical writer and the renderers: exact round trips, stable bytes, valid Kubernetes objects."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reconciler.core import strict_yaml
from reconciler.core.canonical import dump_document, dump_yaml
from reconciler.core.documents import Environment, Release
from reconciler.core.observed import ANNOTATION_RELEASE, ANNOTATION_RENDERED
from reconciler.core.serving import RendererName
from reconciler.planning.renderers import RENDERERS, render, rendered_digest
from reconciler.planning.renderers.parts import object_name
from tests.kubernetes_types import complaints, strict

DIGEST = "sha256:" + "a" * 64
IMAGE = "registry.example/trueup/server@sha256:" + "b" * 64


def read(text: str) -> Any:
    """YAML 1.2, read by the implementation in Python, which is the stricter one."""
    return YAML(typ="safe", pure=True).load(text)


def environment(**changes: Any) -> Environment:
    return Environment.model_validate_json(
        json.dumps(
            {"kind": "Environment", "policy": "strict", "alias": "staging", "namespace": "ml-staging"} | changes
        )
    )


def release(**changes: Any) -> Release:
    return Release.model_validate_json(
        json.dumps(
            {
                "kind": "Release",
                "pin": {"registry": "default", "name": "digits", "version": "3", "digest": DIGEST},
                "image": IMAGE,
                "serving": {"replicas": 2, "resources": {"cpu": "500m", "memory": "1Gi"}},
                "renderer": "deployment/v1",
                "admission": {"grounds": "promotion", "judgedAt": "2026-03-01T12:00:00Z"},
                "rejected": [
                    {
                        "digest": DIGEST,
                        "version": "2",
                        "reason": "503s: all of them\nsince noon",
                        "since": "2026-02-01T12:00:00Z",
                    }
                ],
            }
            | changes
        )
    )


ANALYSIS = {"errorShare": 0.02, "p95Seconds": 0.25, "minRequests": 50, "prometheus": "http://prometheus:9090"}
CANARY: dict[str, Any] = {
    "renderer": "rollout/v1",
    "serving": {
        "strategy": "canary",
        "replicas": 10,
        "canary": {
            "steps": [{"weight": 10, "pause": "1d"}, {"weight": 50, "pause": "manual"}],
            "analysis": ANALYSIS,
        },
    },
}
SCALED = {"replicas": 2, "autoscaling": {"min": 2, "max": 9, "cpu": 60}}


def canary(**changes: Any) -> dict[str, Any]:
    """A Release's fields for a canary, with these changes of its serving section."""
    return CANARY | {"serving": CANARY["serving"] | changes}


VARIANTS: dict[str, dict[str, Any]] = {
    "rolling": {},
    "rolling, one": {"serving": {"replicas": 1}},
    "rolling, scaled": {"serving": SCALED},
    "rolling, recorded": {"serving": {"record": {"sample": 0.25, "rows": 5000}}},
    "rollout, rolling": {"renderer": "rollout/v1"},
    "canary": canary(),
    "canary, scaled": canary(**SCALED),
    "canary, no analysis": canary(canary={"steps": [{"weight": 10}]}),
    "canary, recorded": canary(record={}),
    "canary, istio": canary(canary=CANARY["serving"]["canary"] | {"istio": True}),
}
"""Every branch of the renderers, by name."""

# --- the canonical writer ---------------------------------------------------------------------------------

TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=30)
TRAPS = st.sampled_from(
    [
        *("", " ", "no", "On", "y", "NULL", "~", "true", "1", "0o7", "0x1F", "1_000", "12:30:45", "1e3", ".5"),
        *(".inf", "-.INF", "2026-03-01", "2026-03-01T12:00:00Z", "<<", "=", "- a", "? a", "a: b", "a:", "a #b"),
        *("#", "&a", "*a", "!t", "|", ">", "%", "@", "`", "'", '"', "\\", "{a}", "[a]", "a, b", "---", "..."),
        *(" a", "a ", "\ta", "a\n", "\n", "\u2028", "\ufeff", "\x85", "\x7f", "\U0001f600"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | TRAPS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | TRAPS, inner, max_size=4),
    max_leaves=20,
)


def typed(value: Any) -> Any:
    """``value`` with every scalar beside its type, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return [(key, typed(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (type(value).__name__, repr(value))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(VALUES)
def test_what_is_written_is_read_back_exactly(value: Any) -> None:
    text = dump_yaml(value)
    assert typed(read(text)) == typed(value)
    assert typed(strict_yaml.read(text, "test.yaml").value) == typed(value)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(TEXT | TRAPS, TEXT | TRAPS, max_size=4))
def test_no_reader_of_yaml_1_1_takes_a_string_for_something_else(value: dict[str, str]) -> None:
    import yaml  # PyYAML: the YAML 1.1 that kubectl's and Argo CD's users meet

    assert yaml.safe_load(dump_yaml(value)) == value


def test_the_form_is_this_one() -> None:
    value = {
        "name": "a b",
        "y": "no",
        "list": [1, {"a": 1.5, "b": []}, [True, None]],
        "at": "2026-03-01",
        "e": 1e-05,
    }
    assert dump_yaml(value) == (
        'name: a b\n"y": "no"\nlist:\n  - 1\n  - a: 1.5\n    b: []\n  - - true\n    - null\n'
        'at: "2026-03-01"\ne: 1.0e-05\n'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}])
def test_a_number_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="canonical"):
        dump_yaml(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": object()}, {"a": b"bytes"}])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="canonical"):
        dump_yaml(value)


@pytest.mark.parametrize(
    "document", [release(), release(**CANARY), release(serving="none", rejected=[]), environment()]
)
def test_a_document_survives_its_file(document: Release | Environment) -> None:
    text = dump_document(document)
    assert text.startswith(f"apiVersion: trueup.dev/v1\nkind: {document.kind}\n")
    assert type(document).model_validate_json(json.dumps(read(text))) == document
    assert dump_document(document) == text


# --- the renderers ----------------------------------------------------------------------------------------


def rendered(**changes: Any) -> dict[str, Any]:
    files = render("staging", environment(), "digits", release(**changes))
    return {name: read(text) for name, text in files.items()}


def test_a_batch_model_has_no_manifests() -> None:
    assert render("staging", environment(), "digits", release(serving="none")) == {}
    assert rendered_digest({}) == ""


def test_the_release_decides_what_runs() -> None:
    deployment = rendered()["deployment.yaml"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    env = {item["name"]: item.get("value") for item in container["env"]}
    assert deployment["metadata"]["namespace"] == "ml-staging"
    assert deployment["spec"]["replicas"] == 2
    assert container["image"] == IMAGE
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    assert env["TRUEUP_MODEL_DIGEST"] == DIGEST
    assert env["TRUEUP_MODEL_URI"] == "models:/digits/3"
    assert env["MLFLOW_TRACKING_URI"] is None


def test_every_object_says_whose_it_is_and_of_which_release() -> None:
    files = render("staging", environment(), "digits", release())
    for text in files.values():
        metadata = read(text)["metadata"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "trueup"
        assert metadata["labels"]["trueup.dev/environment"] == "staging"
        assert metadata["labels"]["trueup.dev/model"] == "digits"
        assert metadata["annotations"][ANNOTATION_RELEASE] == release().digest
        assert metadata["annotations"][ANNOTATION_RENDERED] == rendered_digest(files)


def test_the_rendered_digest_sees_every_other_byte() -> None:
    files = render("staging", environment(), "digits", release())
    edited = files | {"service.yaml": files["service.yaml"].replace("port: 80\n", "port: 81\n")}
    assert edited != files
    assert rendered_digest(edited) != rendered_digest(files)
    assert rendered_digest({"deployment.yaml": files["deployment.yaml"]}) != rendered_digest(files)


def test_the_service_and_the_selector_find_the_pods() -> None:
    objects = rendered()
    labels = objects["deployment.yaml"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        objects["deployment.yaml"]["spec"]["selector"]["matchLabels"],
        objects["service.yaml"]["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()


def test_why_a_release_was_let_in_does_not_change_what_runs() -> None:
    later = release(admission={"grounds": "rollback", "judgedAt": "2026-04-01T12:00:00Z"}, rejected=[])
    assert render("staging", environment(), "digits", later) == render(
        "staging", environment(), "digits", release()
    )


def test_names_fit_kubernetes() -> None:
    assert object_name("digits") == "digits"
    assert object_name("3d") == "model-3d"  # a Service's name starts with a letter


def test_pods_meet_the_restricted_security_standard() -> None:
    pod = rendered()["deployment.yaml"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == rendered()["serviceaccount.yaml"]["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is False
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "@sha256:" in container["image"]


# --- kinds and fields -------------------------------------------------------------------------------------


def kind_of(item: dict[str, Any]) -> tuple[str, str]:
    return str(item["apiVersion"]).rpartition("/")[0], item["kind"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_knows_every_field(variant: str) -> None:
    objects = rendered(**VARIANTS[variant]).values()
    ours = [item for item in objects if kind_of(item)[0] != "argoproj.io"]
    assert [complaints(item) for item in ours] == [[]] * len(ours)


def test_an_unknown_field_would_be_found() -> None:
    service = rendered()["service.yaml"]
    service["spec"]["ports"][0]["protcol"] = "TCP"
    assert complaints(service) == ["Service.spec.ports[0].protcol"]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_renderer_makes_exactly_the_kinds_it_says(renderer: RendererName) -> None:
    made = {
        kind_of(item)
        for variant in VARIANTS.values()
        if variant.get("renderer", "deployment/v1") == renderer
        for item in rendered(**variant).values()
    }
    assert made == RENDERERS[renderer].kinds


def test_every_container_says_its_resources() -> None:
    for variant in VARIANTS.values():
        workload = next(
            item for item in rendered(**variant).values() if item["kind"] in ("Deployment", "Rollout")
        )
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert set(container["resources"]) == {"requests", "limits"}


def test_one_pod_needs_no_disruption_budget_and_several_have_one() -> None:
    assert "poddisruptionbudget.yaml" not in rendered(serving={"replicas": 1})
    assert rendered(serving={"replicas": 2})["poddisruptionbudget.yaml"]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("variant", ["rolling, scaled", "canary, scaled"])
def test_an_autoscaler_owns_the_number_of_pods(variant: str) -> None:
    objects = rendered(**VARIANTS[variant])
    scaler = objects["horizontalpodautoscaler.yaml"]["spec"]
    target = scaler["scaleTargetRef"]
    workload = objects[f"{target['kind'].lower()}.yaml"]
    assert (target["apiVersion"], target["name"]) == (workload["apiVersion"], workload["metadata"]["name"])
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 9)
    assert "replicas" not in workload["spec"]


# --- recorded requests ------------------------------------------------------------------------------------


def test_without_a_recording_nothing_is_said_of_one() -> None:
    """The bytes that were rendered before there were recordings; a Release of then has this digest."""
    files = render("staging", environment(), "digits", release())
    assert "record" not in "".join(files.values()).lower()
    assert rendered_digest(files).startswith("sha256:37de518ea96eac9f")
    assert release().digest.startswith("sha256:3dd5cf23e90d6988")


@pytest.mark.parametrize(
    ("variant", "workload"), [("rolling, recorded", "deployment"), ("canary, recorded", "rollout")]
)
def test_a_recording_has_a_port_that_measuring_steps_alone_reach(variant: str, workload: str) -> None:
    objects = rendered(**VARIANTS[variant])
    pod = objects[f"{workload}.yaml"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    env = {item["name"]: item.get("value") for item in container["env"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8080, "recorded": 8081}
    assert env["RECORDED_PORT"] == "8081"
    assert env["TRUEUP_RELEASE"] == objects[f"{workload}.yaml"]["metadata"]["annotations"][ANNOTATION_RELEASE]
    service = objects["service-recorded.yaml"]
    assert service["metadata"]["name"] == "digits-recorded"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["recorded"]
    assert [port["name"] for port in objects["service.yaml"]["spec"]["ports"]] == ["http"]
    everybody, measuring = objects["networkpolicy.yaml"]["spec"]["ingress"]
    assert everybody == {"ports": [{"port": "http", "protocol": "TCP"}]}
    assert measuring["ports"] == [{"port": "recorded", "protocol": "TCP"}]
    (only,) = measuring["from"]
    assert only == {
        "namespaceSelector": {"matchLabels": {"trueup.dev/measures": "true"}},
        "podSelector": {"matchLabels": {"trueup.dev/reads": "recorded"}},
    }


def test_the_server_is_told_how_much_to_record() -> None:
    """By the names that the server reads."""
    from workflows.server.main import settings as read_settings

    container = rendered(**VARIANTS["rolling, recorded"])["deployment.yaml"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    env = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    record = read_settings(env).record
    assert record is not None
    assert (record.sample, record.rows, record.port) == (0.25, 5000, 8081)
    assert record.release == env["TRUEUP_RELEASE"]
    plain = {name: value for name, value in env.items() if not name.startswith("TRUEUP_RECORD")}
    assert read_settings(plain).record is None


# --- the canary -------------------------------------------------------------------------------------------


def test_a_canary_waits_and_is_judged_after_each_weight() -> None:
    strategy = rendered(**canary())["rollout.yaml"]["spec"]["strategy"]["canary"]
    assert [next(iter(step)) for step in strategy["steps"]] == ["setWeight", "pause", "analysis"] * 2
    assert [step["setWeight"] for step in strategy["steps"][::3]] == [10, 50]
    assert [step["pause"] for step in strategy["steps"][1::3]] == [{"duration": "86400s"}, {}]
    assert strategy["maxUnavailable"] == 0


def test_a_canary_may_renounce_its_analysis() -> None:
    objects = rendered(**VARIANTS["canary, no analysis"])
    assert "analysistemplate.yaml" not in objects
    steps = objects["rollout.yaml"]["spec"]["strategy"]["canary"]["steps"]
    assert steps == [{"setWeight": 10}, {"pause": {"duration": "300s"}}]


def test_the_arguments_of_the_analysis_are_those_that_the_steps_give() -> None:
    objects = rendered(**canary())
    template = objects["analysistemplate.yaml"]
    step = objects["rollout.yaml"]["spec"]["strategy"]["canary"]["steps"][2]["analysis"]
    assert step["templates"] == [{"templateName": template["metadata"]["name"]}]
    assert {arg["name"] for arg in step["args"]} == {arg["name"] for arg in template["spec"]["args"]}
    for metric in template["spec"]["metrics"]:
        used = set(re.findall(r"{{args\.([\w-]+)}}", metric["provider"]["prometheus"]["query"]))
        assert used == {arg["name"] for arg in step["args"]}


def metrics() -> dict[str, Any]:
    found = {m["name"]: m for m in rendered(**canary())["analysistemplate.yaml"]["spec"]["metrics"]}
    assert found.keys() == {"error-share", "p95-seconds"}
    return found


def evaluated(condition: str, result: list[float]) -> bool:
    """A condition in the expression language of Rollouts; what is used of it reads alike in Python."""
    assert re.fullmatch(r"len\(result\) == 1 && result\[0\] (<=|>) [0-9.]+", condition)
    return bool(eval(condition.replace("&&", "and"), {"result": result, "len": len}))


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        ([0.019], "success"),
        ([0.3], "failure"),
        ([math.inf], "failure"),
        ([], "inconclusive"),
        ([math.nan], "inconclusive"),
        ([0.0, 0.0], "inconclusive"),
    ],
)
def test_what_is_missing_or_no_number_neither_passes_nor_fails(result: list[float], verdict: str) -> None:
    for metric in metrics().values():
        success = evaluated(metric["successCondition"], result)
        failure = evaluated(metric["failureCondition"], result)
        assert not (success and failure)
        assert ("success" if success else "failure" if failure else "inconclusive") == verdict
        assert metric["failureLimit"] == metric["inconclusiveLimit"] == 0


def test_the_analysis_asks_for_metrics_that_the_server_has() -> None:
    """Names and labels are read off the server itself."""
    from fastapi.testclient import TestClient

    from workflows.server.app import Served, create_app

    text = TestClient(create_app(Served("digits", "3", DIGEST))).get("/metrics").text
    for metric in metrics().values():
        query = metric["provider"]["prometheus"]["query"]
        asked = set(re.findall(r"trueup_\w+(?={)", query))
        assert asked
        for name in asked:
            assert re.search(rf"^{name}{{", text, re.MULTILINE), name
        for label, value in re.findall(r'(kind)="(\w+)"', query):
            assert f'{label}="{value}"' in text


def test_only_the_canarys_pods_are_judged() -> None:
    for metric in metrics().values():
        query = metric["provider"]["prometheus"]["query"]
        selectors = re.findall(r"trueup_\w+{(.*?-\.\+\")", query)
        assert set(selectors) == {'namespace="ml-staging",pod=~"digits-{{args.canary-hash}}-.+"'}
        assert len(selectors) == query.count("trueup_")


def test_with_istio_the_controller_owns_the_selectors() -> None:
    objects = rendered(**VARIANTS["canary, istio"])
    strategy = objects["rollout.yaml"]["spec"]["strategy"]["canary"]
    names = {objects[f"service-{kind}.yaml"]["metadata"]["name"] for kind in ("stable", "canary")}
    assert {strategy["stableService"], strategy["canaryService"]} == names == {"digits-stable", "digits-canary"}
    assert all("selector" not in objects[f"service-{kind}.yaml"]["spec"] for kind in ("stable", "canary"))
    assert strategy["trafficRouting"] == {"istio": {"virtualService": {"name": "digits"}}}


# --- Argo Rollouts' own schemas ---------------------------------------------------------------------------

ROLLOUTS = "github.com/argoproj/argo-rollouts@v1.10.2"


@pytest.fixture(scope="module")
def crds() -> dict[str, Any]:
    """Kind -> schema of the CRDs in Argo Rollouts' Go module."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go to fetch the module with")
    # Go writes the module's files down even where it says that it is too old to build them.
    command = ["go", "mod", "download", "-json", ROLLOUTS]
    said = json.loads(subprocess.run(command, check=False, capture_output=True, text=True).stdout)
    if "Zip" not in said:
        pytest.skip(f"the module could not be fetched: {said.get('Error')}")
    archive = zipfile.ZipFile(said["Zip"])
    found = {}
    for name in ("rollout-crd", "analysis-template-crd"):
        crd = read(archive.read(f"{ROLLOUTS}/manifests/crds/{name}.yaml").decode())
        (version,) = crd["spec"]["versions"]
        found[crd["spec"]["names"]["kind"]] = strict(version["schema"]["openAPIV3Schema"])
    return found


@pytest.mark.cluster
@pytest.mark.parametrize("variant", [name for name, v in VARIANTS.items() if "renderer" in v])
def test_argo_rollouts_knows_every_field(crds: dict[str, Any], variant: str) -> None:
    import jsonschema

    objects = [item for item in rendered(**VARIANTS[variant]).values() if item["kind"] in crds]
    assert objects
    for item in objects:
        # apiVersion, kind and metadata are the API server's own business in every CRD.
        jsonschema.Draft202012Validator(crds[item["kind"]] | {"additionalProperties": True}).validate(item)
    objects[0]["spec"]["strtegy"] = {}
    with pytest.raises(jsonschema.ValidationError, match="strtegy"):
        jsonschema.Draft202012Validator(crds[objects[0]["kind"]]).validate(objects[0])
