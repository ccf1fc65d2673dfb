"""Whose field is whose: managedFields and conflicts as a real server writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.adapters.kubernetes.fields import (
    ANNOTATION_APPLIED,
    applied_at,
    as_served,
    changed,
    drift,
    instant,
    may_take_back,
    scaled,
)

EDITED = "2026-03-01T13:00:00Z"
APPLIED = {
    "metadata": {"labels": {"app.kubernetes.io/name": "digits"}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "server",
                        "image": "a",
                        "args": ["--fast"],
                        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                        "resources": {"limits": {"memory": "1024Mi"}},
                    }
                ]
            }
        },
    },
}


def entry(
    manager: str, fields: dict[str, Any], operation: str = "Update", subresource: str = ""
) -> dict[str, Any]:
    made = {"manager": manager, "operation": operation, "time": EDITED, "fieldsV1": fields}
    return made | ({"subresource": subresource} if subresource else {})


REPLICAS = {"f:spec": {"f:replicas": {}}}
CONTAINER = 'k:{"name":"server"}'
IMAGE = {"f:spec": {"f:template": {"f:spec": {"f:containers": {CONTAINER: {"f:image": {}}}}}}}


def live(change: Any = None, *managers: dict[str, Any]) -> dict[str, Any]:
    """What we applied at noon, as it is there after a change and with other managers."""
    item = json.loads(json.dumps(APPLIED))
    if change is not None:
        change(item)
    item["kind"] = "Deployment"
    item["metadata"] |= {
        "name": "digits",
        "creationTimestamp": "2026-03-01T11:00:00Z",
        "annotations": {ANNOTATION_APPLIED: json.dumps(APPLIED)},
        "managedFields": [
            {"manager": "trueup", "operation": "Apply", "time": "2026-03-01T12:00:00Z", "fieldsV1": {}},
            *managers,
        ],
    }
    return item


def container(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item["spec"]["template"]["spec"]["containers"][0]
    return found


def sentences(item: dict[str, Any]) -> list[str]:
    return [each.sentence for each in drift(item)]


def test_what_others_add_is_no_drift() -> None:
    def add(item: dict[str, Any]) -> None:
        item["metadata"]["labels"]["team"] = "a"
        item["spec"]["paused"] = False
        item["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "image": "p"})
        container(item)["env"] = []

    assert sentences(live(add)) == []


def test_equal_quantities_are_the_same_and_others_are_not() -> None:
    def memory(value: str) -> dict[str, Any]:
        return live(lambda item: container(item)["resources"]["limits"].update(memory=value))

    assert sentences(memory("1Gi")) == []
    assert sentences(memory("2Gi")) == [
        'Deployment/digits.spec.template.spec.containers[name="server"].resources.limits.memory is "2Gi"'
    ]


def test_an_edit_names_its_field_its_value_its_manager_and_its_instant() -> None:
    item = live(lambda item: container(item).update(image="b"), entry("kubectl-edit", IMAGE))
    (found,) = drift(item)
    place = 'Deployment/digits.spec.template.spec.containers[name="server"].image'
    assert found.sentence == f'{place} is "b", by kubectl-edit'
    assert found.since == instant(EDITED)
    assert applied_at(item) == instant("2026-03-01T12:00:00Z")


def test_what_was_taken_out_is_drift() -> None:
    assert sentences(live(lambda item: item["spec"].pop("replicas"))) == [
        "Deployment/digits.spec.replicas is gone"
    ]
    assert sentences(live(lambda item: container(item).update(name="other"))) == [
        'Deployment/digits.spec.template.spec.containers[name="server"] is gone'
    ]
    item = live()
    del item["metadata"]["annotations"][ANNOTATION_APPLIED]
    assert sentences(item) == ["Deployment/digits: what was applied is not recorded"]


def test_what_argo_cd_applied_is_its_own() -> None:
    item = live()
    del item["metadata"]["annotations"][ANNOTATION_APPLIED]
    item["metadata"]["managedFields"][0]["manager"] = "argocd-controller"
    assert sentences(item) == []
    assert applied_at(item) == instant("2026-03-01T11:00:00Z")


def test_an_autoscalers_replicas_are_its_own() -> None:
    def four(item: dict[str, Any]) -> None:
        item["spec"]["replicas"] = 4

    autoscaler = entry("kube-controller-manager", REPLICAS, subresource="scale")
    assert scaled(live(four, autoscaler))
    assert sentences(live(four, autoscaler)) == []
    person = entry("kubectl", REPLICAS, subresource="scale")
    assert sentences(live(four, person)) == ["Deployment/digits.spec.replicas is 4, by kubectl"]


def test_the_owner_of_a_whole_map_owns_what_is_in_it() -> None:
    whole = entry("kubectl-patch", {"f:metadata": {"f:labels": {}}})
    item = live(lambda item: item["metadata"]["labels"].update({"app.kubernetes.io/name": "x"}), whole)
    assert sentences(item) == [
        'Deployment/digits.metadata.labels.app.kubernetes.io/name is "x", by kubectl-patch'
    ]


OURS = [
    ".spec.replicas",
    ".metadata.labels.app.kubernetes.io/name",
    '.spec.template.spec.containers[name="server"].image',
    '.spec.template.spec.containers[name="server"].ports[containerPort=8080,protocol="TCP"].containerPort',
]
NOT_OURS = [
    ".spec.paused",
    ".metadata.labels.team",
    '.spec.template.spec.containers[name="proxy"].image',
    ".spec.rep",
]


@pytest.mark.parametrize("path", OURS)
def test_an_edited_field_of_ours_may_be_taken_back(path: str) -> None:
    item = live(None, entry("kubectl-edit", {}), entry("tuner", {}, "Apply"))
    assert may_take_back(item, (("kubectl-edit", path),))
    assert not may_take_back(item, (("kubectl-edit", path), ("kubectl-edit", NOT_OURS[0])))
    assert not may_take_back(item, (("tuner", path),))


@pytest.mark.parametrize("path", NOT_OURS)
def test_a_field_that_was_never_ours_is_not(path: str) -> None:
    assert not may_take_back(live(None, entry("kubectl-edit", {})), (("kubectl-edit", path),))


def test_only_our_fields_are_kept_with_the_servers_values() -> None:
    manifest = {"spec": {"cpu": "1000m", "list": [{"name": "b", "x": 1}], "gone": {"a": 1}}}
    served = {"spec": {"cpu": "1", "list": [{"name": "a"}, {"name": "b", "x": 2, "y": 3}], "more": 1}}
    kept = as_served(manifest, served)
    assert kept == {"spec": {"cpu": "1", "list": [{"name": "b", "x": 2}], "gone": {"a": 1}}}
    assert list(changed(kept, served)) == [(".spec.gone", "gone")]
