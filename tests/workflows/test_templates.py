"""The rendered WorkflowTemplates: up to date, complete, and calling steps that exist as they exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from reconciler.core.argo import parse_expression, start_condition, substitute
from reconciler.core.evidence import CATALOGUE
from reconciler.core.platform import Images
from reconciler.core.search import MOST_RUNGS
from workflows.steps.main import STEPS, parser
from workflows.templates.__main__ import RENDERED, main, render

TEMPLATES = {path.stem: YAML(typ="safe").load(path) for path in sorted(RENDERED.glob("*.yaml"))}
TASKS = [
    pytest.param(name, template, id=f"{name}/{template['name']}")
    for name, document in TEMPLATES.items()
    for template in document["spec"]["templates"]
    if "container" in template
]


SEARCH = '{"method": "grid", "space": {"x": {"choice": [1, 2]}}, "metric": {"name": "loss", "goal": "min"}}'


def dag(name: str) -> list[dict[str, Any]]:
    templates = {template["name"]: template for template in TEMPLATES[name]["spec"]["templates"]}
    return templates[TEMPLATES[name]["spec"]["entrypoint"]]["dag"]["tasks"]  # type: ignore[no-any-return]


def test_rendered_files_are_up_to_date() -> None:
    assert {path.name: path.read_text() for path in RENDERED.glob("*.yaml")} == render()
    assert render() == render()


def test_check_says_what_differs_and_write_mends_it(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("workflows.templates.__main__.RENDERED", tmp_path)
    (tmp_path / "gone-v1.yaml").write_text("kind: WorkflowTemplate\n")
    assert main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "workflows/rendered/gone-v1.yaml: differs" in said
    assert "hint: run `python -m workflows.templates --write`" in said
    assert main(["--write"]) == 0
    assert main(["--check"]) == 0
    assert not (tmp_path / "gone-v1.yaml").exists()


def test_every_measurement_has_its_template_with_its_recipe() -> None:
    for measurement in CATALOGUE.values():
        annotations = TEMPLATES[measurement.template]["metadata"]["annotations"]
        assert annotations["trueup.dev/recipe"] == measurement.recipe


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_variable_is_declared(name: str) -> None:
    declared = {p["name"] for p in TEMPLATES[name]["spec"]["arguments"]["parameters"]}
    used = set(re.findall(r"{{workflow\.parameters\.([-\w]+)}}", (RENDERED / f"{name}.yaml").read_text()))
    assert used <= declared
    assert declared - used <= {"model"}
    image = next(p for p in TEMPLATES[name]["spec"]["arguments"]["parameters"] if p["name"] == "image")
    assert image["value"] == Images().steps


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_task_gives_its_template_what_it_takes(name: str) -> None:
    templates = {template["name"]: template for template in TEMPLATES[name]["spec"]["templates"]}
    done: list[str] = []
    for task in dag(name):
        assert start_condition(task, {}).names <= set(done)
        template = templates[task["template"]]
        inputs = [a for a in template.get("inputs", {}).get("artifacts", []) if "git" not in a]
        given = {a["name"]: a["from"] for a in task.get("arguments", {}).get("artifacts", [])}
        assert {a["name"] for a in inputs if not a.get("optional")} <= set(given) <= {a["name"] for a in inputs}
        for artifact, origin in given.items():
            giver = re.fullmatch(r"{{tasks\.([-\w]+)\.outputs\.artifacts\.([-\w]+)}}", origin)
            assert giver is not None
            assert giver[1] in done
            assert re.fullmatch(rf"{giver[2]}(-\d)?", artifact)
            origin_of = next(other for other in dag(name) if other["name"] == giver[1])
            assert giver[2] in {a["name"] for a in templates[origin_of["template"]]["outputs"]["artifacts"]}
        done.append(task["name"])


def test_the_stages_of_a_search_are_skipped_unless_there_are_so_many() -> None:
    conditions = {task["name"]: task["when"] for task in dag("train-v1") if "when" in task}
    asked = conditions.pop("contract")
    for contract, wanted in (("", False), (f"sha256:{'a' * 64}", True)):
        text = substitute(asked, {"workflow.parameters.contract": contract})
        assert parse_expression(text).holds({}) is wanted
    for stages in range(MOST_RUNGS + 1):
        values = {"workflow.parameters.stages": str(stages)}
        texts = {name: substitute(when, values) for name, when in conditions.items()}
        wanted = {name for name, text in texts.items() if parse_expression(text).holds({})}
        numbers = range(1, stages + 1)
        assert wanted == {
            *(["plan"] if stages else []),
            *(f"trials-{number}" for number in numbers),
            *(f"choose-{number}" for number in numbers),
        }
    assert conditions.keys() == wanted


@pytest.mark.parametrize(("name", "template"), TASKS)
def test_every_command_is_one_that_its_step_takes(name: str, template: dict[str, Any]) -> None:
    assert template["container"]["command"] == ["reconcile-step"]
    step = template["container"]["args"][0]
    assert step in STEPS
    filled = {
        "hyperparameters": "{}",
        "training-inputs": "{}",
        "inputs": "{}",
        "seed": "0",
        "device": "cpu",
        "task": "regression",
        "search": SEARCH,
        "results": "[]",
        "trial": "3",
    }
    values = [
        re.sub(r"{{(?:workflow|inputs)\.parameters\.([-\w]+)}}", lambda m: filled.get(m[1], "x"), argument)
        for argument in template["container"]["args"]
    ]
    assert parser(step).parse_args(values).name == step


@pytest.mark.parametrize(("name", "template"), TASKS)
def test_every_task_is_confined_and_retried_only_for_infrastructure(
    name: str, template: dict[str, Any]
) -> None:
    assert template["securityContext"]["runAsNonRoot"] is True
    assert template["container"]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in template["container"]["volumeMounts"]}
    assert {"tmp": "/tmp", "trueup": "/trueup"}.items() <= mounts.items()
    assert template["volumes"] == [{"name": volume, "emptyDir": {}} for volume in mounts]


ENDINGS = [
    # phase, exit code, message of a failed pod; and whether another pod is worth a try
    ("Failed", 75, "main: Error (exit code 75)", True),
    ("Failed", -1, "Pod was terminated in response to imminent node shutdown.", True),
    ("Failed", 143, "imminent node shutdown", True),
    ("Error", -1, "pod deleted", True),
    ("Error", -1, "failed to save outputs: timed out", True),
    ("Failed", 1, "main: Error (exit code 1)", False),
    ("Failed", 137, "main: OOMKilled (exit code 137)", False),
    ("Error", 137, "OOMKilled (exit code 137)", False),
    ("Failed", 143, "Step exceeded its deadline", False),
]


@pytest.mark.parametrize(("phase", "code", "message", "again"), ENDINGS)
def test_a_lost_node_is_tried_again_and_a_bug_or_too_little_memory_is_not(
    phase: str, code: int, message: str, again: bool
) -> None:
    last = {"lastRetry.status": phase, "lastRetry.exitCode": str(code), "lastRetry.message": message}
    retried = [parameter.values[1] for parameter in TASKS if parameter.values[1]["name"] != "notify"]
    for template in retried:
        expression = template["retryStrategy"]["expression"]
        assert parse_expression(expression, last.keys()).holds(last) is again


def test_no_credential_is_a_parameter_and_training_code_gets_none() -> None:
    for parameter in TASKS:
        name, template = parameter.values
        variables = template["container"].get("env") or []
        assert all(set(variable) == {"name", "valueFrom"} for variable in variables)
        recorders = {"register", "notify", *CATALOGUE}
        assert bool(variables) == (template["name"] in recorders), name
    for document in TEMPLATES.values():
        declared = {parameter["name"] for parameter in document["spec"]["arguments"]["parameters"]}
        assert not {name for name in declared if re.search("token|password|secret|uri", name)}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_left_in_the_cluster_goes_by_itself(name: str) -> None:
    spec = TEMPLATES[name]["spec"]
    kept = spec["ttlStrategy"]
    assert kept["secondsAfterSuccess"] < kept["secondsAfterFailure"]
    assert spec["podGC"]["strategy"] == "OnWorkflowSuccess"
    mutexes = spec.get("synchronization", {}).get("mutexes", [])
    assert mutexes == ([{"name": "train-{{workflow.parameters.model}}"}] if name == "train-v1" else [])


def test_training_code_runs_without_the_registrys_account() -> None:
    accounts = {
        template["name"]: template["serviceAccountName"]
        for template in TEMPLATES["train-v1"]["spec"]["templates"]
        if "container" in template
    }
    assert accounts.pop("register") == "trueup-record"
    assert accounts == dict.fromkeys(("data", "check", "search", "trial", "train", "notify"), "trueup-train")


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_run_ends_with_a_call_that_nothing_depends_on(name: str) -> None:
    spec = TEMPLATES[name]["spec"]
    templates = {template["name"]: template for template in spec["templates"]}
    (call,) = templates[spec["onExit"]]["dag"]["tasks"]
    assert call["continueOn"] == {"failed": True, "error": True}
    assert call["when"] == "'{{workflow.parameters.wake}}' != ''"
    notify = templates[call["template"]]
    assert (notify["activeDeadlineSeconds"], "retryStrategy" in notify, "outputs" in notify) == (
        60,
        False,
        False,
    )
    (variable,) = notify["container"]["env"]
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "trueup-wake", "key": "token", "optional": True}}


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("train-v1", {"version", "digest"}),
        ("measure-evaluate-v1", {"evidence-uri", "evidence-sha256"}),
        ("measure-parity-v1", {"evidence-uri", "evidence-sha256"}),
        ("measure-behaviour-v1", {"evidence-uri", "evidence-sha256"}),
    ],
)
def test_outputs_of_the_whole_workflow(name: str, outputs: set[str]) -> None:
    given = {
        parameter["globalName"]
        for template in TEMPLATES[name]["spec"]["templates"]
        for parameter in template.get("outputs", {}).get("parameters", [])
        if "globalName" in parameter
    }
    assert given == outputs
