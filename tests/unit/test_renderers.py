"""The canonical writer and the renderers: exact round trips, stable bytes, valid Kubernetes objects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reconciler.core import strict_yaml
from reconciler.core.canonical import dump_document, dump_yaml
from reconciler.core.documents import Environment, Release
from reconciler.core.observed import ANNOTATION_RELEASE, ANNOTATION_RENDERED
from reconciler.planning.renderers import RENDERERS, object_name, render, rendered_digest

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


@pytest.mark.parametrize("document", [release(), release(serving="none", rejected=[]), environment()])
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


@pytest.mark.parametrize("renderer", sorted(RENDERERS))
def test_manifests_are_valid_kubernetes_objects(renderer: str) -> None:
    """The client's typed models check required fields; what they do not know would be lost on the way back."""
    from kubernetes.client import ApiClient

    client = ApiClient()
    for text in render("staging", environment(), "digits", release(renderer=renderer)).values():
        given_ = read(text)
        model = client.deserialize(json.dumps(given_), f"V1{given_['kind']}", "application/json")
        assert client.sanitize_for_serialization(model) == given_


def test_pods_meet_the_restricted_security_standard() -> None:
    pod = rendered()["deployment.yaml"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "@sha256:" in container["image"]
