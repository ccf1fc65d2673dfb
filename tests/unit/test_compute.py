"""What a training asks of the cluster, as a strategic merge patch of its pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from reconciler.core.argo import CHECKPOINT
from reconciler.core.base import Subject
from reconciler.core.digests import canonical_json
from reconciler.core.documents import Compute, Model
from reconciler.core.plan import SubmitWorkflow
from reconciler.core.platform import DataCache, EngineArgo, EngineEmbedded
from reconciler.core.references import Documents, check
from reconciler.planning.compute import CHECKPOINTS, DATA_CACHE, data_pod_patch, pod_patch
from reconciler.planning.plan import make_plan
from reconciler.planning.training import plan_training
from reconciler.planning.view import View
from tests.stories.build import HERE, Story
from tests.unit.test_keys import BASE
from workflows.templates.__main__ import RENDERED

ENGINE = EngineArgo.model_validate(
    {
        "type": "argo",
        "namespace": "trueup",
        "repository": "https://git.example/team/models.git",
        "pools": {
            "gpu": {
                "nodeSelector": {"gpu": "a100"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "gpuResource": "amd.com/gpu",
                "spot": {
                    "nodeSelector": {"spot": "yes"},
                    "tolerations": [{"key": "spot", "value": "yes"}],
                    "checkpoints": "trueup-checkpoints",
                },
            },
            "cpu": {},
        },
    }
)
RUN = "train-digits-0123456789ab-1"


def test_a_training_that_asks_for_nothing_patches_nothing() -> None:
    assert pod_patch(EngineEmbedded(), Compute(), RUN) == {}
    assert pod_patch(ENGINE, Compute(pool="cpu"), RUN) == {}


def test_gpus_are_requested_and_limited_alike() -> None:
    gpus = {"nvidia.com/gpu": "2"}
    assert pod_patch(EngineEmbedded(), Compute(gpus=2), RUN) == {
        "containers": [{"name": "main", "resources": {"requests": gpus, "limits": gpus}}]
    }


def test_a_pool_says_where_and_what_its_gpus_are_called() -> None:
    gpus = {"amd.com/gpu": "1"}
    assert pod_patch(ENGINE, Compute(gpus=1, pool="gpu"), RUN) == {
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [{"name": "main", "resources": {"requests": gpus, "limits": gpus}}],
    }


def test_spot_adds_its_nodes_and_a_folder_of_the_claim_for_this_run() -> None:
    patch = pod_patch(ENGINE, Compute(pool="gpu", spot=True), RUN)
    assert patch["nodeSelector"] == {"gpu": "a100", "spot": "yes"}
    assert [toleration["key"] for toleration in patch["tolerations"]] == ["nvidia.com/gpu", "spot"]
    claim = {"claimName": "trueup-checkpoints"}
    assert patch["volumes"] == [{"name": "checkpoint", "emptyDir": None, "persistentVolumeClaim": claim}]
    mount = {"name": "checkpoint", "mountPath": "/trueup/checkpoint", "subPath": RUN}
    assert patch["containers"] == [{"name": "main", "volumeMounts": [mount]}]


def test_the_template_has_the_volume_that_a_patch_replaces() -> None:
    templates = YAML(typ="safe").load(RENDERED / "train-v1.yaml")["spec"]["templates"]
    (train,) = [template for template in templates if template["name"] == "train"]
    assert train["podSpecPatch"] == "{{workflow.parameters.pod}}"
    assert {"name": CHECKPOINTS, "emptyDir": {}} in train["volumes"]
    assert {"name": CHECKPOINTS, "mountPath": CHECKPOINT} in train["container"]["volumeMounts"]


def test_the_plan_hands_the_patch_over_and_restarts_spot_more_often() -> None:
    def parameters(compute: dict[str, Any]) -> dict[str, str]:
        story = Story(HERE / "first-training")
        source = story.main.models["digits"]
        training = source.model.training.model_copy(update={"compute": Compute.model_validate(compute)})
        model = source.model.model_copy(update={"training": training})
        platform = story.main.platform.model_copy(update={"engine": ENGINE})
        changes = {"models": {"digits": source.model_copy(update={"model": model})}, "platform": platform}
        view = View(story.main.model_copy(update=changes), story.observed())
        (action,) = plan_training(view, Subject(model="digits")).actions
        assert isinstance(action, SubmitWorkflow)
        return action.parameters

    plain, spot = parameters({}), parameters({"gpus": 1, "pool": "gpu", "spot": True})
    assert (plain["pod"], plain["restarts"]) == ("{}", "2")
    assert (json.loads(spot["pod"])["nodeSelector"]["spot"], spot["restarts"]) == ("yes", "10")


CACHED = ENGINE.model_copy(update={"data_cache": DataCache(claim="trueup-data", limit="200GB")})


def test_the_platforms_cache_is_a_volume_of_the_pods_that_fetch_data() -> None:
    assert data_pod_patch(ENGINE) == {}
    assert data_pod_patch(CACHED) == {
        "containers": [
            {
                "name": "main",
                "env": [
                    {"name": "TRUEUP_CACHE", "value": DATA_CACHE},
                    {"name": "TRUEUP_CACHE_LIMIT", "value": "200GB"},
                ],
                "volumeMounts": [{"name": "data-cache", "mountPath": DATA_CACHE}],
            }
        ],
        "volumes": [{"name": "data-cache", "persistentVolumeClaim": {"claimName": "trueup-data"}}],
    }
    assert pod_patch(CACHED, Compute(), RUN) == {}, "model code runs in the pod of the training"


@pytest.mark.parametrize("path", sorted(RENDERED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_template_gives_the_cache_to_the_pods_that_fetch_data_and_to_no_other(path: Path) -> None:
    spec = YAML(typ="safe").load(path)["spec"]
    patched = {
        template["name"]
        for template in spec["templates"]
        if template.get("podSpecPatch") == "{{workflow.parameters.data-pod}}"
    }
    fetching = {
        template["name"]
        for template in spec["templates"]
        if template.get("container", {}).get("args", [""])[0] in ("data", "contract", "changes")
    }
    assert patched == fetching
    assert ({"name": "data-pod", "value": "{}"} in spec["arguments"]["parameters"]) == bool(fetching)


@pytest.mark.parametrize("name", ["first-training", "measurement-submitted"])
def test_the_plan_hands_the_cache_over_where_there_is_one_and_no_key_changes(name: str) -> None:
    story = Story(HERE / name)

    def submitted(engine: EngineArgo) -> list[SubmitWorkflow]:
        platform = story.main.platform.model_copy(update={"engine": engine})
        plan = make_plan(story.main.model_copy(update={"platform": platform}), story.observed())
        return [action for action in plan.actions if isinstance(action, SubmitWorkflow)]

    without, cached = submitted(ENGINE), submitted(CACHED)
    assert cached
    assert [action.key for action in cached] == [action.key for action in without]
    for before, after in zip(without, cached, strict=True):
        assert "data-pod" not in before.parameters
        assert after.parameters == before.parameters | {"data-pod": canonical_json(data_pod_patch(CACHED))}


@pytest.mark.parametrize(
    ("compute", "what", "hint"),
    [
        ({"pool": "gpus"}, "names the unknown pool gpus", "did you mean gpu?"),
        ({"pool": "cpu", "spot": True}, "asks for spot nodes, and the pool cpu has none", "say `spot:`"),
    ],
)
def test_a_pool_that_is_not_there(compute: dict[str, Any], what: str, hint: str) -> None:
    source = BASE.models["digits"]
    training = source.model.training.model_copy(update={"compute": Compute.model_validate(compute)})
    model: Model = source.model.model_copy(update={"training": training})
    documents = Documents(
        platform=BASE.platform.model_copy(update={"engine": ENGINE}),
        environments=BASE.environments,
        policies={},
        tests={},
        models={"digits": source.model_copy(update={"model": model})},
        templates=BASE.templates,
        releases=(),
        exceptions=(),
        named={
            "Environment": BASE.environments.keys(),
            "GatePolicy": BASE.policies.keys(),
            "WorkflowTemplate": BASE.templates.keys(),
            "Model": {"digits"},
        },
        files={f"models/digits/{data.pointer}" for data in (model.data.train, model.data.evaluation) if data},
    )
    (finding,) = check(documents, BASE.policies)
    assert finding.field[:2] == ("training", "compute")
    assert finding.what == what
    assert finding.hint.startswith(hint)


def test_spot_without_a_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="has spot without a pool"):
        Compute(spot=True)
