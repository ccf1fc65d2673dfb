"""The lint of WorkflowTemplates, and the conditions and durations of Argo's that it and the engine read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hera.workflows import models
from ruamel.yaml import YAML

from reconciler.core.argo import parse_depends, parse_expression, references, seconds, substitute
from reconciler.core.argo_types import FIELDS, INSIDE
from reconciler.core.lint import lint_template
from reconciler.core.strict_yaml import read

RENDERED = Path(__file__).parents[2] / "workflows" / "rendered"
PATH = "workflows/rendered/train-v1.yaml"
GOOD = """
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata:
  name: train-v1
  annotations: {trueup.dev/recipe: "1"}
spec:
  entrypoint: main
  arguments: {parameters: [{name: model}, {name: seed, value: "1"}]}
  templates:
  - name: main
    dag:
      tasks:
      - name: data
        template: data
        arguments: {parameters: [{name: model, value: "{{workflow.parameters.model}}"}]}
      - name: train
        template: train
        depends: data.Succeeded
        when: "{{tasks.data.outputs.parameters.rows}} > 0"
        arguments: {artifacts: [{name: data, from: "{{tasks.data.outputs.artifacts.data}}"}]}
  - name: data
    inputs: {parameters: [{name: model}, {name: limit, default: "10"}]}
    outputs:
      artifacts: [{name: data, path: /trueup/out/data}]
      parameters: [{name: rows, valueFrom: {path: /trueup/out/rows}}]
    container: {command: [data], args: ["{{inputs.parameters.model}}", "{{inputs.parameters.limit}}"]}
  - name: train
    inputs: {artifacts: [{name: data, path: /trueup/in/data}]}
    container:
      command: [train]
      args: ["{{inputs.artifacts.data.path}}", "{{workflow.parameters.seed}}"]
      env: [{name: RUN, value: "{{workflow.name}}/{{retries}}"}]
"""


def good() -> Any:
    return YAML(typ="safe").load(GOOD)


def task(doc: Any, number: int) -> Any:
    return doc["spec"]["templates"][0]["dag"]["tasks"][number]


def template(doc: Any, number: int) -> Any:
    return doc["spec"]["templates"][number]


def said(doc: Any, path: str = PATH) -> list[str]:
    return [f"{problem.severity}: {problem.what}" for problem in lint_template(doc, path)]


def test_a_good_template_has_no_problems() -> None:
    assert said(good()) == []


@pytest.mark.parametrize("doc", [None, [], "text", 3, {}, {"kind": "Workflow"}, {"kind": ["WorkflowTemplate"]}])
def test_not_a_workflow_template(doc: Any) -> None:
    assert said(doc) == ["error: is not a WorkflowTemplate"]


ALLOWED = "use one of .Succeeded, .Failed, .Errored, .Skipped, .Omitted, .AnySucceeded, .AllFailed"
CHANGES: list[tuple[str, Any, list[str]]] = [
    ("apiVersion", lambda d: d.update(apiVersion="v1"), ["has apiVersion 'v1' and not 'argoproj.io/v1alpha1'"]),
    (
        "name",
        lambda d: d["metadata"].update(name="train-v2"),
        ["is named 'train-v2', which is not the name of its file"],
    ),
    (
        "no recipe",
        lambda d: d["metadata"].pop("annotations"),
        ["has no annotation trueup.dev/recipe (a text, as in '1')"],
    ),
    (
        "a number as recipe",
        lambda d: d["metadata"]["annotations"].update({"trueup.dev/recipe": 1}),
        ["has no annotation trueup.dev/recipe (a text, as in '1')"],
    ),
    ("entrypoint", lambda d: d["spec"].update(entrypoint="nope"), ["template name 'nope' undefined"]),
    (
        "task's template",
        lambda d: task(d, 1).update(template="nope"),
        ["templates.main.tasks.train template name 'nope' undefined"],
    ),
    (
        "dependency",
        lambda d: task(d, 1).update(depends="data && nope.Failed"),
        ["templates.main.tasks.train dependency 'nope' not defined"],
    ),
    (
        "depends and dependencies",
        lambda d: task(d, 1).update(dependencies=["data"]),
        ["templates.main.tasks.train cannot use both 'depends' and 'dependencies'"],
    ),
    (
        "a result that is not supported",
        lambda d: task(d, 1).update(depends="data.Daemoned"),
        [
            f"templates.main.tasks.train: .Daemoned in depends is not supported; {ALLOWED}",
            "templates.main.tasks.train: failed to resolve {{tasks.data.outputs.parameters.rows}}",
            "templates.main.tasks.train: failed to resolve {{tasks.data.outputs.artifacts.data}}",
        ],
    ),
    (
        "cycle",
        lambda d: task(d, 0).update(depends="train"),
        ["templates.main dependency cycle detected: data->train->data"],
    ),
    (
        "itself",
        lambda d: task(d, 0).update(depends="data"),
        ["templates.main dependency cycle detected: data->data"],
    ),
    (
        "missing argument",
        lambda d: task(d, 0).pop("arguments"),
        [
            "templates.main.tasks.data templates.data inputs.parameters.model was not supplied",
            "warning: parameter 'model' is declared and never used",
        ],
    ),
    (
        "missing artifact",
        lambda d: task(d, 1).pop("arguments"),
        ["templates.main.tasks.train templates.train inputs.artifacts.data was not supplied"],
    ),
    (
        "unknown argument",
        lambda d: task(d, 0)["arguments"]["parameters"].append({"name": "colour", "value": "red"}),
        ["templates.main.tasks.data arguments.parameters.colour is not an input of templates.data"],
    ),
    (
        "undefined workflow parameter",
        lambda d: d["spec"]["arguments"]["parameters"].pop(1),
        ["templates.train: failed to resolve {{workflow.parameters.seed}}"],
    ),
    (
        "undefined input",
        lambda d: template(d, 1)["inputs"]["parameters"].pop(1),
        ["templates.data: failed to resolve {{inputs.parameters.limit}}"],
    ),
    (
        "undefined output",
        lambda d: template(d, 1)["outputs"].pop("parameters"),
        ["templates.main.tasks.train: failed to resolve {{tasks.data.outputs.parameters.rows}}"],
    ),
    (
        "an output of a task that is not before",
        lambda d: task(d, 1).pop("depends"),
        [
            "templates.main.tasks.train: failed to resolve {{tasks.data.outputs.parameters.rows}}",
            "templates.main.tasks.train: failed to resolve {{tasks.data.outputs.artifacts.data}}",
        ],
    ),
    (
        "a variable that is nothing's",
        lambda d: template(d, 2)["container"].update(args=["{{inputs.artifacts.data.path}}", "{{seed}}"]),
        ["templates.train: failed to resolve {{seed}}", "warning: parameter 'seed' is declared and never used"],
    ),
    (
        "unused workflow parameter",
        lambda d: d["spec"]["arguments"]["parameters"].append({"name": "idle"}),
        ["warning: parameter 'idle' is declared and never used"],
    ),
    (
        "unused input",
        lambda d: template(d, 1)["container"].update(args=["{{inputs.parameters.model}}"]),
        ["warning: templates.data inputs.parameters.limit is declared and never used"],
    ),
    (
        "template twice",
        lambda d: d["spec"]["templates"].append(copy.deepcopy(template(d, 2))),
        ["template name 'train' is not unique"],
    ),
    (
        "task twice",
        lambda d: template(d, 0)["dag"]["tasks"].append(copy.deepcopy(task(d, 1))),
        ["templates.main.tasks.'train' is not unique"],
    ),
    (
        "a field that is misspelt",
        lambda d: template(d, 2)["container"].update(comand=["train"]),
        ["has the unknown field spec.templates[2].container.comand"],
    ),
    (
        "a field in the wrong place",
        lambda d: template(d, 1).update(image="x"),
        ["has the unknown field spec.templates[1].image"],
    ),
    (
        "a GPU without a limit",
        lambda d: template(d, 2)["container"].update(resources={"requests": {"nvidia.com/gpu": 1, "cpu": "1"}}),
        ["templates.train requests 1 of nvidia.com/gpu with no limit"],
    ),
    (
        "a GPU with another limit",
        lambda d: template(d, 2).update(
            podSpecPatch='{"containers": [{"name": "main", "resources": {"requests": {"amd.com/gpu": "2"}, '
            '"limits": {"amd.com/gpu": "1"}}}]}'
        ),
        ["templates.train requests 2 of amd.com/gpu with a limit of 1"],
    ),
    (
        "an image by tag",
        lambda d: template(d, 2)["container"].update(image="registry.example/steps:v1"),
        ["warning: image registry.example/steps:v1 has no digest, and may be another one tomorrow"],
    ),
    (
        "an image by tag, as a parameter's default",
        lambda d: (
            d["spec"]["arguments"]["parameters"].append({"name": "image", "value": "steps:v1"}),
            template(d, 1)["container"].update(image="{{workflow.parameters.image}}"),
        ),
        ["warning: image steps:v1 has no digest, and may be another one tomorrow"],
    ),
    (
        "an item of a task that has none",
        lambda d: task(d, 0)["arguments"]["parameters"][0].update(
            value="{{item}} of {{workflow.parameters.model}}"
        ),
        ["templates.main.tasks.data: failed to resolve {{item}}"],
    ),
    (
        "the items of a task that has none",
        lambda d: task(d, 1).update(depends="data.AnySucceeded"),
        ["templates.main.tasks.train asks for the items of 'data', which has none"],
    ),
    (
        "an artifact of a task that runs for each item",
        lambda d: (
            task(d, 0).update(withParam="[1, 2]"),
            task(d, 0)["arguments"]["parameters"].append({"name": "limit", "value": "{{item}}"}),
        ),
        ["templates.main.tasks.train: failed to resolve {{tasks.data.outputs.artifacts.data}}"],
    ),
    (
        "continueOn beside depends",
        lambda d: task(d, 0).update(continueOn={"failed": True}),
        ["templates.main.tasks.data cannot use 'continueOn' when using 'depends'"],
    ),
    (
        "an input of the entrypoint",
        lambda d: template(d, 0).update(inputs={"parameters": [{"name": "nope"}]}),
        [
            "templates.main inputs.parameters.nope was not supplied",
            "warning: templates.main inputs.parameters.nope is declared and never used",
        ],
    ),
]


@pytest.mark.parametrize(("change", "expected"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_each_problem_is_named(change: Any, expected: list[str]) -> None:
    doc = good()
    change(doc)
    assert said(doc) == [what if what.startswith("warning: ") else f"error: {what}" for what in expected]


def test_several_problems_are_said_at_once_errors_first() -> None:
    doc = good()
    doc["spec"]["arguments"]["parameters"].append({"name": "idle"})
    doc["spec"]["entrypoint"] = "nope"
    doc["metadata"]["name"] = "other"
    problems = lint_template(doc, PATH)
    assert [problem.severity for problem in problems] == ["error", "error", "warning"]
    assert {(problem.path, problem.line) for problem in problems} == {(PATH, 0)}


@pytest.mark.parametrize(
    ("before", "after", "line", "hint"),
    [
        ("entrypoint: main", "entrypoint: nope", 8, "there is data, main, train"),
        ("depends: data.Succeeded", "depends: date.Succeeded", 19, "there is data, train"),
        ("template: train", "template: trian", 18, "there is data, main, train"),
        (
            '{name: seed, value: "1"}',
            '{name: seed, value: "1"}, {name: idle}',
            9,
            "remove it, or read it where it is",
        ),
        ("container: {command: [data]", "container: {comand: [data]", 27, "did you mean command?"),
        ("    inputs: {artifacts", "    resources: {}\n    inputs: {artifacts", 29, "did you mean resource?"),
        (
            "      command: [train]",
            "      command: [train]\n      resources: {requests: {nvidia.com/gpu: 1}}",
            32,
            "write the same under limits: nvidia.com/gpu: 1",
        ),
        (
            "      command: [train]",
            "      command: [train]\n      image: steps",
            32,
            "write NAME@sha256:DIGEST, or {{",
        ),
        ("apiVersion: argoproj.io/v1alpha1", "apiVersion: v1", 2, "write apiVersion: argoproj.io/v1alpha1"),
        ("name: train-v1", "name: train-v2", 5, "write name: train-v1, or rename the file"),
    ],
)
def test_a_problem_has_its_line_and_a_hint(before: str, after: str, line: int, hint: str) -> None:
    assert GOOD.count(before) >= 1
    parsed = read(GOOD.replace(before, after, 1), PATH)
    problems = lint_template(parsed.value, PATH, parsed.line_of)
    assert problems[0].line == line, [str(problem) for problem in problems]
    assert problems[0].hint.startswith(hint)
    assert str(problems[0]).startswith(f"{PATH}:{line}: ")


def test_every_problem_has_a_hint() -> None:
    for _, change, _ in CHANGES:
        doc = good()
        change(doc)
        hints = [problem.hint for problem in lint_template(doc, PATH)]
        assert hints
        assert all(hints)


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"WorkflowTemplate"}))
def test_the_fields_of_argos_types_are_those_that_hera_knows(name: str) -> None:
    model = getattr(models, name)
    assert FIELDS[name] == {field.alias or key for key, field in model.model_fields.items()}
    assert INSIDE.get(name, {}).keys() <= FIELDS[name]
    assert set(INSIDE.get(name, {}).values()) <= FIELDS.keys()


def test_a_gpu_with_its_limit_is_right() -> None:
    doc = good()
    gpus = {"nvidia.com/gpu": 1}
    template(doc, 2)["container"]["resources"] = {"requests": gpus | {"cpu": "1"}, "limits": gpus}
    template(doc, 1)["podSpecPatch"] = "{{workflow.parameters.seed}}"
    assert said(doc) == []


@pytest.mark.parametrize("value", [None, 3, "text", [], ["text"], {}, {"a": 1}, [{"name": 3}], [[1]]])
@pytest.mark.parametrize(
    "where", ["metadata", "spec", "entrypoint", "templates", "dag", "tasks", "arguments", "inputs", "depends"]
)
def test_no_shape_breaks_the_lint(where: str, value: Any) -> None:
    doc = good()
    holders = {"metadata": doc, "spec": doc, "templates": doc["spec"], "arguments": doc["spec"]}
    holders["entrypoint"] = doc["spec"]
    holders |= {"dag": template(doc, 0), "tasks": template(doc, 0)["dag"], "inputs": template(doc, 1)}
    holders.get(where, task(doc, 1))[where] = value
    lint_template(doc, PATH)


@pytest.mark.parametrize("path", sorted(RENDERED.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_templates_that_are_shipped(path: Path) -> None:
    assert said(YAML(typ="safe").load(path.read_text()), str(path)) == []


# --- the language -----------------------------------------------------------------------------------------

PHASES = {"a": "Succeeded", "b": "Failed", "c": "Skipped", "d": "Omitted", "e": "Error"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a", True),
        ("b", False),
        ("c", True),
        ("d", False),
        ("c.Succeeded", False),
        ("b.Failed", True),
        ("e.Failed", False),
        ("e.Errored", True),
        ("d.Omitted", True),
        ("a && b", False),
        ("a || b", True),
        ("a||b&&b", True),
        ("(a||b)&&b", False),
        ("b && b || a", True),
        ("!b", True),
        ("!a || b", False),
        ("!(a && b) && !(b || e)", True),
        ("! !a", True),
    ],
)
def test_depends(text: str, holds: bool) -> None:
    condition = parse_depends(text)
    assert condition.holds(PHASES) is holds
    assert condition.names <= PHASES.keys()


def test_the_names_in_depends() -> None:
    condition = parse_depends("train-v1 && (b.Failed || !c.AllFailed)")
    assert (condition.names, condition.items) == ({"train-v1", "b", "c"}, {"c"})


@pytest.mark.parametrize(
    ("items", "any_succeeded", "all_failed"),
    [
        ("Succeeded Failed", True, False),
        ("Failed Failed", False, True),
        ("Failed Error", False, False),
        ("Skipped", False, False),
        ("", False, False),
    ],
)
def test_what_became_of_items(items: str, any_succeeded: bool, all_failed: bool) -> None:
    phases = {"a": "Failed", "a(": items}
    assert parse_depends("a.AnySucceeded").holds(phases) is any_succeeded
    assert parse_depends("a.AllFailed").holds(phases) is all_failed


@pytest.mark.parametrize(
    "text",
    [
        *("", "a &&", "&& a", "a b", "(a", "a)", "a & b", "a == b", "'a'"),
        *("a.Nope", "a.anysucceeded", "a.Daemoned"),
        *("(" * 60 + "a" + ")" * 60, "!" * 5000 + "a"),
    ],
)
def test_depends_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_depends(text)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("0.5 >= 0.9", False),
        ("0.95 >= 0.9", True),
        ("10 > 9", True),
        ("-1 < 0", True),
        ("1e3 == 1000", True),
        ("pass == pass", True),
        ("'a b' == \"a b\"", True),
        ("'1' == 1", False),
        ("a != b", True),
        ("true", True),
        ("false || 1 == 1", True),
        ("!(1 == 1)", False),
        ("asInt('75') == 75 && asFloat('0.5') < 1", True),
    ],
)
def test_when(text: str, holds: bool) -> None:
    assert parse_expression(text).holds({}) is holds


@pytest.mark.parametrize("text", ["nan >= 0.9", "inf > 1", "'2' > '10'", "a < b", "maybe", "asInt('x') == 1"])
def test_only_numbers_have_an_order(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_expression(text).holds({})


def test_a_retry_expression_reads_its_variables_and_no_others() -> None:
    text = "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) == 75"
    condition = parse_expression(text, ("lastRetry.status", "lastRetry.exitCode"))
    assert condition.names == {"lastRetry.status", "lastRetry.exitCode"}
    assert condition.holds({"lastRetry.status": "Failed", "lastRetry.exitCode": "75"})
    assert not condition.holds({"lastRetry.status": "Failed", "lastRetry.exitCode": "1"})
    with pytest.raises(ValueError, match=r"'lastRetry\.weather' is unknown"):
        parse_expression("lastRetry.weather == 'fine'", ("lastRetry.status",))


def test_a_retry_expression_may_look_for_a_text_in_another() -> None:
    names = ("lastRetry.message",)
    condition = parse_expression("!(lastRetry.message contains 'OOMKilled')", names)
    assert condition.holds({"lastRetry.message": "pod deleted"})
    assert not condition.holds({"lastRetry.message": "main: OOMKilled (exit code 137)"})
    with pytest.raises(ValueError, match="does not ask about two texts"):
        parse_expression("lastRetry.message contains 7", names).holds({"lastRetry.message": "7"})
    with pytest.raises(ValueError, match=r"."):
        parse_expression("'a b' contains a")


def test_references_are_found_and_replaced_once() -> None:
    assert list(references({"a": ["{{x}}", {"b": "{{ y }} and {{z}}"}], "c": 3})) == ["x", "y", "z"]
    assert substitute("{{x}}-{{ y }}", {"x": "{{y}}", "y": "1"}) == "{{y}}-1"
    with pytest.raises(ValueError, match=r"failed to resolve \{\{z\}\}"):
        substitute("{{z}}", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), (3, 3), ("500ms", 0.5), ("5s", 5), ("1m30s", 90), ("1.5h", 5400), ("1d", 86400)],
)
def test_durations(text: str | int, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "s", "5 s", "5y", "-5s", "5s!", "1m 30s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)
