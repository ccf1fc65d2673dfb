"""What is wrong with a WorkflowTemplate before it runs. Argo finds these late, and hera does not look.

Pure. For every file in ``workflows/rendered`` when a commit is loaded or validated, and in the embedded engine
before it runs one. Where Argo's controller refuses the same thing, the words are its own.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from reconciler.core.argo import references, start_condition
from reconciler.core.argo_types import FIELDS, Place, unknown_fields
from reconciler.core.problems import Problem

RECIPE = "trueup.dev/recipe"
"""The annotation whose value becomes part of every key made with the template."""

Doc = Mapping[str, Any]


class Fault(NamedTuple):
    """What is wrong, where in the document, and what to do."""

    what: str
    place: Place = ()
    hint: str = ""


def lint_template(doc: object, path: str, line_of: Callable[[Place], int] = lambda _: 0) -> tuple[Problem, ...]:
    """Every problem of the parsed document at ``path``, errors first. ``line_of`` knows the line of a place.

    A parameter that nothing reads, or an image without a digest, is a warning; all else is an error, and the
    template must not run.
    """
    if not isinstance(doc, dict) or doc.get("kind") != "WorkflowTemplate":
        return (Problem(path=path, what="is not a WorkflowTemplate", hint="workflows/templates makes them"),)
    spec = _map(doc.get("spec"))
    errors = [*_identity(doc, path), *_unknown(doc), *_spec(spec), *_devices(spec)]
    found: list[tuple[Literal["error", "warning"], Fault]] = [("error", fault) for fault in errors]
    found += [("warning", fault) for fault in (*_unused(spec), *_unpinned(spec))]
    return tuple(
        Problem(path=path, line=line_of(place), what=what, hint=hint, severity=severity)
        for severity, (what, place, hint) in found
    )


def unpinned_images(doc: Doc) -> tuple[str, ...]:
    """The images of a template that a tag or nothing names: they may be others tomorrow."""
    return tuple(dict.fromkeys(image for image, _ in _images(_map(doc.get("spec")))))


# --- the whole document -----------------------------------------------------------------------------------


def _identity(doc: Doc, path: str) -> Iterator[Fault]:
    metadata, name = _map(doc.get("metadata")), PurePosixPath(path).stem
    if doc.get("apiVersion") != "argoproj.io/v1alpha1":
        what = f"has apiVersion {doc.get('apiVersion')!r} and not 'argoproj.io/v1alpha1'"
        yield Fault(what, ("apiVersion",), "write apiVersion: argoproj.io/v1alpha1")
    if metadata.get("name") != name:
        what = f"is named {metadata.get('name')!r}, which is not the name of its file"
        yield Fault(what, ("metadata", "name"), f"write name: {name}, or rename the file")
    if not isinstance(_map(metadata.get("annotations")).get(RECIPE), str):
        hint = "a new value makes every key made with the template new"
        yield Fault(f"has no annotation {RECIPE} (a text, as in '1')", ("metadata", "annotations"), hint)


def _unknown(doc: Doc) -> Iterator[Fault]:
    for place, of in unknown_fields(doc):
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:]
        near = difflib.get_close_matches(str(place[-1]), FIELDS[of], n=1)
        known = f"did you mean {near[0]}?" if near else f"Argo's {of} has no such field"
        yield Fault(f"has the unknown field {dotted}", place, known)


def _spec(spec: Doc) -> Iterator[Fault]:
    templates, places = _named(spec.get("templates")), _places(spec.get("templates"), ("spec", "templates"))
    yield from _twice(spec.get("templates"), "template name {} is not unique", places)
    entrypoint = spec.get("entrypoint")
    if str(entrypoint) not in templates:
        hint = f"there is {', '.join(sorted(templates)) or 'no template'}"
        yield Fault(f"template name {entrypoint!r} undefined", ("spec", "entrypoint"), hint)
    on_exit = spec.get("onExit")
    if on_exit is not None and str(on_exit) not in templates:
        yield Fault(
            f"template name {on_exit!r} undefined", ("spec", "onExit"), f"there is {', '.join(templates)}"
        )
    known = {f"workflow.parameters.{name}" for name in _declared(spec.get("arguments"), "parameters")}
    for name, template in templates.items():
        own = known | {
            f"inputs.{kind}.{item}"
            for kind in ("parameters", "artifacts")
            for item in _declared(template.get("inputs"), kind)
        }
        if "dag" in template:
            yield from _dag(name, _map(template["dag"]), templates, own, (*places[name], "dag"))
        else:
            yield from _unresolved(template, own, f"templates.{name}", places[name])
    # The entrypoint gets the workflow's own arguments for its inputs.
    for kind, item in _required(_map(templates.get(str(entrypoint)))):
        if item not in _declared(spec.get("arguments"), kind):
            what = f"templates.{entrypoint} inputs.{kind}.{item} was not supplied"
            yield Fault(
                what, (*places[str(entrypoint)], "inputs", kind), f"declare it in spec.arguments.{kind}"
            )


# --- one DAG ----------------------------------------------------------------------------------------------

_LOOPS = {"withItems", "withParam", "withSequence"}
"""A task with one of these runs once an item. Output parameters of the items come as lists, artifacts never."""


def _dag(name: str, dag: Doc, templates: Mapping[str, Doc], own: set[str], place: Place) -> Iterator[Fault]:
    tasks, places = _named(dag.get("tasks")), _places(dag.get("tasks"), (*place, "tasks"))
    where = f"templates.{name}.tasks"
    if not tasks:
        yield Fault(f"{where} must have at least one task", place, "add one, or remove the template")
    yield from _twice(dag.get("tasks"), f"{where}.{{}} is not unique", places)
    waits: dict[str, frozenset[str]] = {}
    looped = {task for task, body in tasks.items() if _LOOPS & body.keys()}
    by_depends = any(body.get("depends") for body in tasks.values())
    for task, body in tasks.items():
        here = places[task]
        if by_depends and body.get("continueOn"):
            what = f"{where}.{task} cannot use 'continueOn' when using 'depends'"
            yield Fault(what, (*here, "continueOn"), f"write {task}.Failed or {task}.Errored in depends")
        if body.get("depends") and body.get("dependencies"):
            what = f"{where}.{task} cannot use both 'depends' and 'dependencies'"
            yield Fault(what, (*here, "dependencies"), "depends says more; remove dependencies")
        try:
            condition = start_condition(body, tasks)
            waits[task] = condition.names
            for single in sorted(condition.items & tasks.keys() - looped):
                what = f"{where}.{task} asks for the items of {single!r}, which has none"
                yield Fault(what, (*here, "depends"), f"write {single}.Succeeded or {single}.Failed")
        except (ValueError, TypeError) as error:
            yield Fault(f"{where}.{task}: {error}", (*here, "depends"), "write it as in a && (b.Failed || !c)")
        for missing in sorted(waits.setdefault(task, frozenset()) - tasks.keys()):
            what = f"{where}.{task} dependency {missing!r} not defined"
            yield Fault(what, (*here, "depends"), f"there is {', '.join(sorted(tasks))}")
    ancestors, cycle = _ancestors(waits)
    if cycle:
        what = f"templates.{name} dependency cycle detected: {'->'.join(cycle)}"
        yield Fault(what, places.get(cycle[0], place), "let one of them depend on none of the others")
    for task, body in tasks.items():
        here = places[task]
        template = templates.get(str(body.get("template")))
        if template is None:
            what = f"{where}.{task} template name {body.get('template')!r} undefined"
            yield Fault(what, (*here, "template"), f"there is {', '.join(sorted(templates))}")
        else:
            yield from _arguments(f"{where}.{task}", body, template, here)
        above = {
            f"tasks.{before}.outputs.{kind}.{item}"
            for before in ancestors[task] & tasks.keys()
            for kind in ("parameters", *(() if before in looped else ("artifacts",)))
            for item in _declared(_map(templates.get(str(tasks[before].get("template")))).get("outputs"), kind)
        }
        results = {f"tasks.{before}.status" for before in ancestors[task]}
        item = {"item"} if task in looped else set()
        yield from _unresolved(body, own | above | results | item, f"{where}.{task}", here)


def _arguments(where: str, task: Doc, template: Doc, place: Place) -> Iterator[Fault]:
    """What a task does not give to its template, and what it gives that the template does not take."""
    name = template.get("name")
    given = {kind: _declared(task.get("arguments"), kind) for kind in ("parameters", "artifacts")}
    for kind, item in _required(template):
        if item not in given[kind]:
            what = f"{where} templates.{name} inputs.{kind}.{item} was not supplied"
            yield Fault(what, place, f"give it in the task's arguments.{kind}")
    for kind, items in given.items():
        for item in sorted(items - _declared(template.get("inputs"), kind)):
            what = f"{where} arguments.{kind}.{item} is not an input of templates.{name}"
            yield Fault(what, (*place, "arguments", kind), "remove it, or declare it in that template's inputs")


def _required(template: Doc) -> Iterator[tuple[str, str]]:
    inputs = _map(template.get("inputs"))
    for name, parameter in _named(inputs.get("parameters")).items():
        if not {"value", "default", "valueFrom"} & parameter.keys():
            yield "parameters", name
    for name, artifact in _named(inputs.get("artifacts")).items():
        if not artifact.get("optional") and not artifact.keys() - {"name", "path", "mode", "archive"}:
            yield "artifacts", name


def _unresolved(body: Doc, known: set[str], where: str, place: Place) -> Iterator[Fault]:
    """References to what is not declared. Argo has more variables than trueup names; those pass here."""
    for reference in dict.fromkeys(references(body)):
        declared = reference.startswith(("workflow.parameters.", "inputs.", "tasks."))
        of_argo = reference.startswith(
            ("workflow.", "outputs.", "lastRetry.", "pod.name", "node.name", "retries")
        )
        if reference not in known and not reference.endswith(".path") and (declared or not of_argo):
            hint = "declare it, or depend on the task whose output it is"
            yield Fault(f"{where}: failed to resolve {{{{{reference}}}}}", place, hint)


# --- what runs, and on what -------------------------------------------------------------------------------


def _devices(spec: Doc) -> Iterator[Fault]:
    """GPUs, and whatever else a vendor's name stands before: Kubernetes refuses a request without a limit."""
    places = _places(spec.get("templates"), ("spec", "templates"))
    for name, template in _named(spec.get("templates")).items():
        found = [(_map(template.get("container")).get("resources"), (*places[name], "container", "resources"))]
        patch = (*places[name], "podSpecPatch")
        found += [(_map(each).get("resources"), patch) for each in _patched(template.get("podSpecPatch"))]
        for resources, place in found:
            requests, limits = _map(_map(resources).get("requests")), _map(_map(resources).get("limits"))
            for device, number in requests.items():
                if "/" in str(device) and str(limits.get(device)) != str(number):
                    limit = f"a limit of {limits[device]}" if device in limits else "no limit"
                    what = f"templates.{name} requests {number} of {device} with {limit}"
                    yield Fault(what, place, f"write the same under limits: {device}: {number!r}")


def _patched(patch: object) -> Iterable[object]:
    """The containers of a podSpecPatch that is JSON as it stands; one made of a parameter is the planner's."""
    try:
        value = json.loads(patch) if isinstance(patch, str) else None
    except ValueError:
        return ()
    containers = _map(value).get("containers")
    return containers if isinstance(containers, list) else ()


_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$")


def _images(spec: Doc) -> Iterator[tuple[str, Place]]:
    """The images without a digest: of a container, or the default of the parameter that a container names."""
    defaults = {
        f"{{{{workflow.parameters.{name}}}}}": str(parameter.get("value", parameter.get("default", "")))
        for name, parameter in _named(_map(spec.get("arguments")).get("parameters")).items()
    }
    places = _places(spec.get("templates"), ("spec", "templates"))
    for name, template in _named(spec.get("templates")).items():
        image = _map(template.get("container")).get("image")
        if isinstance(image, str):
            value = defaults.get(image.replace(" ", ""), image)
            if value and "{{" not in value and not _PINNED.search(value):
                yield value, (*places[name], "container", "image")


def _unpinned(spec: Doc) -> Iterator[Fault]:
    for image, place in _images(spec):
        hint = "write NAME@sha256:DIGEST, or {{workflow.parameters.image}} for the Platform's images.steps"
        yield Fault(f"image {image} has no digest, and may be another one tomorrow", place, hint)


def _unused(spec: Doc) -> Iterator[Fault]:
    used, hint = set(references(spec)), "remove it, or read it where it is wanted"
    declared = _places(_map(spec.get("arguments")).get("parameters"), ("spec", "arguments", "parameters"))
    for name in sorted(declared):
        if f"workflow.parameters.{name}" not in used:
            yield Fault(f"parameter {name!r} is declared and never used", declared[name], hint)
    places = _places(spec.get("templates"), ("spec", "templates"))
    for template, body in _named(spec.get("templates")).items():
        used = set(references(body))
        inside = (*places[template], "inputs", "parameters")
        inputs = _places(_map(body.get("inputs")).get("parameters"), inside)
        for name in sorted(inputs):
            if f"inputs.parameters.{name}" not in used:
                what = f"templates.{template} inputs.parameters.{name} is declared and never used"
                yield Fault(what, inputs[name], hint)


# --- shapes -----------------------------------------------------------------------------------------------


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


def _places(value: object, above: Place) -> dict[str, Place]:
    """Where the entries that :func:`_named` gives are."""
    items = value if isinstance(value, list) else []
    return {
        item["name"]: (*above, index)
        for index, item in enumerate(items)
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }


def _twice(value: object, what: str, places: Mapping[str, Place]) -> Iterable[Fault]:
    items = value if isinstance(value, list) else []
    names = [item.get("name") for item in items if isinstance(item, dict)]
    return [
        Fault(what.format(repr(name)), places.get(str(name), ()), "give each a name of its own")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
