"""What is wrong with a WorkflowTemplate before it runs. Argo finds these late, and hera does not look.

Pure. For every file in ``workflows/rendered`` when a commit is loaded or validated, and in the embedded engine
before it runs one. Where Argo's controller refuses the same thing, the words are its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from reconciler.core.argo import references, start_condition
from reconciler.core.errors import Problem

RECIPE = "trueup.dev/recipe"
"""The annotation whose value becomes part of every key made with the template."""

Doc = Mapping[str, Any]


def lint_template(doc: object, path: str) -> tuple[Problem, ...]:
    """Every problem of the parsed document at ``path``, errors first; lines are not known here (0).

    A parameter that nothing reads is a warning; all else is an error, and the template must not run.
    """
    if not isinstance(doc, dict) or doc.get("kind") != "WorkflowTemplate":
        return (Problem(path=path, what="is not a WorkflowTemplate", hint="workflows/templates makes them"),)
    errors = [*_identity(doc, path), *_spec(_map(doc.get("spec")))]
    return (
        *(Problem(path=path, what=what) for what in errors),
        *(Problem(path=path, what=what, severity="warning") for what in _unused(_map(doc.get("spec")))),
    )


def _identity(doc: Doc, path: str) -> Iterator[str]:
    metadata = _map(doc.get("metadata"))
    if doc.get("apiVersion") != "argoproj.io/v1alpha1":
        yield f"has apiVersion {doc.get('apiVersion')!r} and not 'argoproj.io/v1alpha1'"
    if metadata.get("name") != PurePosixPath(path).stem:
        yield f"is named {metadata.get('name')!r}, which is not the name of its file"
    if not isinstance(_map(metadata.get("annotations")).get(RECIPE), str):
        yield f"has no annotation {RECIPE} (a text, as in '1')"


def _spec(spec: Doc) -> Iterator[str]:
    templates = _named(spec.get("templates"))
    yield from _twice(spec.get("templates"), "template name {} is not unique")
    entrypoint = spec.get("entrypoint")
    if str(entrypoint) not in templates:
        yield f"template name {entrypoint!r} undefined"
    known = {f"workflow.parameters.{name}" for name in _declared(spec.get("arguments"), "parameters")}
    for name, template in templates.items():
        own = known | {
            f"inputs.{kind}.{item}"
            for kind in ("parameters", "artifacts")
            for item in _declared(template.get("inputs"), kind)
        }
        if "dag" in template:
            yield from _dag(name, _map(template["dag"]), templates, own)
        else:
            yield from (f"templates.{name}: {what}" for what in _unresolved(template, own))
    # The entrypoint gets the workflow's own arguments for its inputs.
    for kind, item in _required(_map(templates.get(str(entrypoint)))):
        if item not in _declared(spec.get("arguments"), kind):
            yield f"templates.{entrypoint} inputs.{kind}.{item} was not supplied"


def _dag(name: str, dag: Doc, templates: Mapping[str, Doc], own: set[str]) -> Iterator[str]:
    tasks = _named(dag.get("tasks"))
    where = f"templates.{name}.tasks"
    if not tasks:
        yield f"{where} must have at least one task"
    yield from _twice(dag.get("tasks"), f"{where}.{{}} is not unique")
    waits: dict[str, frozenset[str]] = {}
    for task, body in tasks.items():
        if body.get("depends") and body.get("dependencies"):
            yield f"{where}.{task} cannot use both 'depends' and 'dependencies'"
        try:
            waits[task] = start_condition(body).names
        except (ValueError, TypeError) as error:
            yield f"{where}.{task}: {error}"
        for missing in sorted(waits.setdefault(task, frozenset()) - tasks.keys()):
            yield f"{where}.{task} dependency {missing!r} not defined"
    ancestors, cycle = _ancestors(waits)
    if cycle:
        yield f"templates.{name} dependency cycle detected: {'->'.join(cycle)}"
    for task, body in tasks.items():
        template = templates.get(str(body.get("template")))
        if template is None:
            yield f"{where}.{task} template name {body.get('template')!r} undefined"
        else:
            yield from (f"{where}.{task} {what}" for what in _arguments(body, template))
        above = {
            f"tasks.{before}.outputs.{kind}.{item}"
            for before in ancestors[task] & tasks.keys()
            for kind in ("parameters", "artifacts")
            for item in _declared(_map(templates.get(str(tasks[before].get("template")))).get("outputs"), kind)
        }
        results = {f"tasks.{before}.status" for before in ancestors[task]}
        yield from (f"{where}.{task}: {what}" for what in _unresolved(body, own | above | results))


def _arguments(task: Doc, template: Doc) -> Iterator[str]:
    """What a task does not give to its template, and what it gives that the template does not take."""
    name = template.get("name")
    given = {kind: _declared(task.get("arguments"), kind) for kind in ("parameters", "artifacts")}
    for kind, item in _required(template):
        if item not in given[kind]:
            yield f"templates.{name} inputs.{kind}.{item} was not supplied"
    for kind, items in given.items():
        for item in items - _declared(template.get("inputs"), kind):
            yield f"arguments.{kind}.{item} is not an input of templates.{name}"


def _required(template: Doc) -> Iterator[tuple[str, str]]:
    inputs = _map(template.get("inputs"))
    for name, parameter in _named(inputs.get("parameters")).items():
        if not {"value", "default", "valueFrom"} & parameter.keys():
            yield "parameters", name
    for name, artifact in _named(inputs.get("artifacts")).items():
        if not artifact.get("optional") and not artifact.keys() - {"name", "path", "mode", "archive"}:
            yield "artifacts", name


def _unresolved(body: Doc, known: set[str]) -> Iterator[str]:
    """References to what is not declared. Argo has more variables than trueup names; those pass here."""
    for reference in dict.fromkeys(references(body)):
        declared = reference.startswith(("workflow.parameters.", "inputs.", "tasks."))
        of_argo = reference.startswith(
            ("workflow.", "outputs.", "lastRetry.", "pod.name", "node.name", "retries")
        )
        if reference not in known and not reference.endswith(".path") and (declared or not of_argo):
            yield f"failed to resolve {{{{{reference}}}}}"


def _unused(spec: Doc) -> Iterator[str]:
    used = set(references(spec))
    for name in sorted(_declared(spec.get("arguments"), "parameters")):
        if f"workflow.parameters.{name}" not in used:
            yield f"parameter {name!r} is declared and never used"
    for template, body in _named(spec.get("templates")).items():
        used = set(references(body))
        for name in sorted(_declared(body.get("inputs"), "parameters")):
            if f"inputs.parameters.{name}" not in used:
                yield f"templates.{template} inputs.parameters.{name} is declared and never used"


def _ancestors(waits: Mapping[str, frozenset[str]]) -> tuple[dict[str, frozenset[str]], list[str]]:
    """Everything before each task, and the first cycle as a path that ends where it began."""
    before: dict[str, frozenset[str]] = {}
    cycle: list[str] = []

    def visit(task: str, path: tuple[str, ...]) -> frozenset[str]:
        if task in path:
            cycle[:] = cycle or [*path[path.index(task) :], task]
            return frozenset()
        if task not in before:
            above = waits.get(task, frozenset())
            before[task] = above.union(*(visit(name, (*path, task)) for name in sorted(above)))
        return before[task]

    for task in waits:
        visit(task, ())
    return before, cycle


def _map(value: object) -> Doc:
    return value if isinstance(value, dict) else {}


def _named(value: object) -> dict[str, Doc]:
    """The entries of a list by name; what has another shape is left for Argo's own schema to refuse."""
    items = value if isinstance(value, list) else []
    return {
        item["name"]: item for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)
    }


def _declared(holder: object, kind: str) -> set[str]:
    return set(_named(_map(holder).get(kind)))


def _twice(value: object, what: str) -> Iterable[str]:
    items = value if isinstance(value, list) else []
    names = [item.get("name") for item in items if isinstance(item, dict)]
    return [what.format(repr(name)) for name in dict.fromkeys(names) if names.count(name) > 1]
