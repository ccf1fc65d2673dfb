"""Reads one commit into a DesiredState: every document parsed, every reference checked, every error at once.

The loop calls :func:`load` on the mirror, ``reconcile validate`` on the working tree, ``reconcile admit`` on
both sides of a pull request. A wrong document is never guessed at: it becomes a Problem for people and hides
its own subjects, and the rest of the commit is loaded as if it were alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BaseModel, TypeAdapter, ValidationError

from reconciler import __version__
from reconciler.core.base import DNS_1123, Md5, Subject
from reconciler.core.desired import DesiredState, ModelSource, Template
from reconciler.core.digests import digest_of
from reconciler.core.documents import KINDS, Model, Release, release_path
from reconciler.core.evidence import EvidenceBundle
from reconciler.core.lint import RECIPE, lint_template, unpinned_images
from reconciler.core.platform import Platform
from reconciler.core.problems import NOBODY, Problem
from reconciler.core.references import (
    Documents,
    Finding,
    check,
    environment_path,
    exceptions_path,
    model_path,
    policy_path,
    policy_test_path,
    resolve_policies,
)
from reconciler.core.strict_yaml import Parsed, Unreadable, read
from reconciler.core.validation import NAME_HINT, Complaint, validate
from reconciler.ports import Blob, Source

PLATFORM: Final = "environments/platform.yaml"
MAX_BUNDLE: Final = 1024 * 1024
_NOT_A_FILE: Final = {"120000": "is a symbolic link", "160000": "is a submodule"}


def load(source: Source, revision: str) -> DesiredState:
    """The state that ``revision`` (a commit id, or what else the source takes for one) asks for.

    Never raises for what a person wrote: that becomes a Problem. What the source raises passes through.
    A blob is parsed once in a process, whatever the number of commits that have it.
    """
    commit = _Commit(source, revision)
    documents = commit.documents()
    policies, findings = resolve_policies(documents)
    findings += [*_requires(commit.platform), *check(documents, policies)]
    problems = {*commit.problems(), *(commit.problem_at(finding) for finding in findings)}
    hidden = {(p.environment, p.model) for p in problems if p.severity == "error"}
    return DesiredState(
        revision=revision,
        platform=documents.platform or Platform(kind="Platform"),
        environments={k: v for k, v in documents.environments.items() if (k, "") not in hidden},
        policies=policies,
        policy_tests=commit.values("PolicyTest"),
        models={k: v for k, v in documents.models.items() if ("", k) not in hidden},
        releases=commit.values("Release"),
        bundles=commit.values("EvidenceBundle"),
        exceptions=commit.values("Exceptions"),
        rendered=commit.rendered(),
        templates=commit.values("WorkflowTemplate"),
        problems=tuple(sorted(problems, key=lambda p: (p.severity, p.path, p.line, p.what))),
    )


def _requires(platform: Platform | None) -> Iterator[Finding]:
    if platform is None:
        return
    try:
        fits = SpecifierSet(platform.requires).contains(__version__, prereleases=True)
    except InvalidSpecifier:
        what = f"requires = {platform.requires!r} is not a range of versions"
        yield Finding(PLATFORM, ("requires",), what, 'write versions as pip does, as in ">=0.1,<0.2"')
        return
    if not fits:
        what = f"requires trueup {platform.requires}, and this is {__version__}"
        yield Finding(PLATFORM, ("requires",), what, "install a version that it allows")


# --- one file ---------------------------------------------------------------------------------------------


class _Read(NamedTuple):
    """What one blob says: a value, or what is wrong with it."""

    value: Any = None
    errors: tuple[Complaint, ...] = ()
    warnings: tuple[Complaint, ...] = ()


def _document(kind: type[BaseModel]) -> Callable[[bytes, str], _Read]:
    def read_document(content: bytes, path: str) -> _Read:
        found = validate(kind, read(content, path))
        return _Read(errors=found) if isinstance(found, tuple) else _Read(found)

    return read_document


def _template(content: bytes, path: str) -> _Read:
    parsed = read(content, path)
    try:
        said = lint_template(parsed.value, path, parsed.line_of)
    except (TypeError, RecursionError):
        # A name that is a list, or thousands of tasks in a row: nothing that Argo would run either.
        return _Read(errors=(Complaint(0, "has a shape that no WorkflowTemplate has", "render it again"),))
    errors = tuple(Complaint(p.line, p.what, p.hint) for p in said if p.severity == "error")
    warnings = tuple(Complaint(p.line, p.what, p.hint) for p in said if p.severity == "warning")
    if errors:
        return _Read(None, errors, warnings)
    metadata = parsed.value["metadata"]
    arguments = parsed.value["spec"].get("arguments") or {}
    declared = {p["name"]: "value" in p for p in arguments.get("parameters") or ()}
    template = Template(
        name=metadata["name"],
        recipe=metadata["annotations"][RECIPE],
        parameters=declared,
        unpinned=unpinned_images(parsed.value),
    )
    return _Read(template, (), warnings)


_MD5: Final[TypeAdapter[str]] = TypeAdapter(Md5)


def _pointer(content: bytes, path: str) -> _Read:
    """The md5 of a DVC pointer with one output; empty where it names a file that is still to be made."""
    parsed = read(content, path)
    try:
        (output,) = parsed.value["outs"]
        if "md5" not in output and isinstance(output["path"], str):
            return _Read("")
        return _Read(_MD5.validate_python(output["md5"]))
    except (KeyError, TypeError, ValueError):
        what = "is not a DVC pointer to one file or folder"
        return _Read(errors=(Complaint(0, what, "make it with `dvc add`"),))


def _bundle(content: bytes, path: str) -> _Read:
    hint = f"{path.rpartition('/')[2]} is written by trueup; restore it from Git"
    if len(content) > MAX_BUNDLE:
        what = f"is {len(content) // 1024} KiB large; the limit is {MAX_BUNDLE // 1024} KiB"
        return _Read(errors=(Complaint(0, what, hint),))
    try:
        return _Read(EvidenceBundle.model_validate_json(content, strict=True))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"is not the evidence of a release: {place + ': ' if place else ''}{first['msg']}"
        return _Read(errors=(Complaint(0, what, hint),))


class _Meaning(NamedTuple):
    """A kind of file that load reads: where it is, and how it is read."""

    path: re.Pattern[str]
    read: Callable[[bytes, str], _Read]


_MEANINGS: Final[dict[str, _Meaning]] = {
    **{name: _Meaning(kind.path, _document(kind.type)) for name, kind in KINDS.items()},
    "EvidenceBundle": _Meaning(
        re.compile(r"^environments/(?P<environment>[^/]+)/releases/(?P<model>[^/]+)\.evidence\.json$"), _bundle
    ),
    "WorkflowTemplate": _Meaning(re.compile(r"^workflows/rendered/(?P<template>[^/]+)\.yaml$"), _template),
    "Pointer": _Meaning(re.compile(r"^models/(?P<model>[^/]+)/(?P<pointer>.+\.dvc)$"), _pointer),
}
_RENDERED: Final = re.compile(r"^environments/(?P<environment>[^/]+)/rendered/(?P<model>[^/]+)/(?P<file>.+)$")
_NO_MODEL: Final = re.compile(r"^environments/[^/]+/rendered/[^/]+$")
_STRAY: Final = re.compile(
    r"^(?:environments/.+|policies/.+|models/[^/]+|models/(?:.+/)?(?:model|behaviou?r))\.ya?ml$"
)

_CACHE_SIZE: Final = 100_000
_cache: OrderedDict[tuple[str, str], _Read] = OrderedDict()
"""(path, blob id) -> what the blob says there: the path gives the kind, and messages may name it."""


def _meaning(path: str) -> tuple[str, tuple[str, ...]] | None:
    """The kind of a file and the names that its path gives; None for a file that load does not read."""
    if not path.startswith(("environments/", "models/", "policies/", "workflows/rendered/")):
        return None
    for kind, meaning in _MEANINGS.items():
        match = meaning.path.match(path)
        if match:
            return kind, match.groups()
    return None


def _hides(path: str) -> tuple[str, str]:
    """The (environment, model) that a problem with this file hides; see :class:`Problem`."""
    match path.removesuffix(".yaml").removesuffix(".evidence.json").split("/"):
        case ["environments", environment, "releases" | "exceptions" | "rendered", model, *_]:
            return environment, model
        case ["environments", "platform"] | ["environments"] | ["models"]:
            return "", ""
        case ["environments", environment, *_]:
            return environment, ""
        case ["models", model, *_]:
            return "", model
    return NOBODY, ""  # those who use a policy or a template have a finding of their own


# --- one commit -------------------------------------------------------------------------------------------


class _Commit:
    """Every file of one commit that has a meaning, read; and where a field of it stands."""

    def __init__(self, source: Source, revision: str) -> None:
        self._source = source
        self._revision = revision
        self._files: Mapping[str, Blob] = source.files(revision)
        self._by_kind: dict[str, dict[tuple[str, ...], str]] = {kind: {} for kind in _MEANINGS}
        for path in sorted(self._files):
            meaning = _meaning(path)
            if meaning is not None:
                self._by_kind[meaning[0]][meaning[1]] = path
        self._read = self._parse()
        self._lines: dict[str, Parsed] = {}

    def _parse(self) -> dict[str, _Read]:
        done: dict[str, _Read] = {}
        wanted: list[tuple[str, str, str]] = []
        for kind, paths in self._by_kind.items():
            for path in paths.values():
                blob = self._files[path]
                if blob.mode in _NOT_A_FILE:
                    done[path] = _Read()
                elif (path, blob.oid) in _cache:
                    _cache.move_to_end((path, blob.oid))
                    done[path] = _cache[path, blob.oid]
                else:
                    wanted.append((kind, path, blob.oid))
        contents = self._source.read({oid for _, _, oid in wanted}) if wanted else {}
        for kind, path, oid in wanted:
            try:
                done[path] = _MEANINGS[kind].read(contents[oid], path)
            except Unreadable as error:
                done[path] = _Read(errors=(Complaint(error.line, error.what, error.hint),))
            _cache[path, oid] = done[path]
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
        return done

    def values(self, kind: str) -> dict[str, Any]:
        """The readable documents of a kind: by name, or by ENV/MODEL where a path gives these two."""
        return {
            "/".join(names): self._read[path].value
            for names, path in self._by_kind[kind].items()
            if self._read[path].value is not None and (kind == "WorkflowTemplate" or all(map(_is_name, names)))
        }

    @property
    def platform(self) -> Platform | None:
        """The platform's document; None if there is none, or none that can be read."""
        found: Platform | None = self._read[PLATFORM].value if PLATFORM in self._read else None
        return found

    def documents(self) -> Documents:
        return Documents(
            platform=self.platform if PLATFORM in self._files else Platform(kind="Platform"),
            environments=self.values("Environment"),
            policies=self.values("GatePolicy"),
            tests=self.values("PolicyTest"),
            models={name: self._with_source(name, model) for name, model in self.values("Model").items()},
            templates=self.values("WorkflowTemplate"),
            releases=self.values("Release"),
            exceptions=self.values("Exceptions"),
            named={kind: {"/".join(names) for names in paths} for kind, paths in self._by_kind.items()},
            files=self._files.keys(),
        )

    def _with_source(self, name: str, model: Model) -> ModelSource:
        def md5(pointer: str) -> str:
            path = f"models/{name}/{pointer}"
            return self._read[path].value or "" if path in self._read else ""

        trains, contract = model.training.workflow is not None, model.data.contract
        suite = self._files.get(f"models/{name}/{contract.suite}") if contract else None
        return ModelSource(
            model=model,
            source_tree=self._source.tree(self._revision, f"models/{name}/src") if trains else "",
            train_md5=md5(model.data.train.pointer) if model.data.train else "",
            evaluation_md5=md5(model.data.evaluation.pointer),
            behaviour=self._behaviour(name),
            suite=suite.oid if suite else "",
        )

    def _behaviour(self, name: str) -> str:
        """One digest over a model's tests of behaviour: its document and its folder; empty without either."""
        folder, path = f"models/{name}/behaviour", f"models/{name}/behaviour.yaml"
        ids = {"behaviour": self._source.tree(self._revision, folder)}
        if path in self._files:
            ids["behaviour.yaml"] = self._files[path].oid
        return digest_of("behaviour", files=ids) if any(ids.values()) else ""

    def rendered(self) -> dict[str, dict[str, str]]:
        folders: dict[str, dict[str, str]] = {}
        for path, blob in sorted(self._files.items()):
            match = _RENDERED.match(path) if path.startswith("environments/") else None
            if match and blob.mode not in _NOT_A_FILE:
                folders.setdefault(f"{match['environment']}/{match['model']}", {})[match["file"]] = blob.oid
        return folders

    def problems(self) -> Iterator[Problem]:
        """What is wrong with single files: content, name, kind of file; and files that nothing reads."""
        for path, blob in self._files.items():
            if not path.startswith(("environments", "models", "policies", "workflows/rendered")):
                continue
            if blob.mode in _NOT_A_FILE:
                yield _problem(path, Complaint(0, _NOT_A_FILE[blob.mode], "commit the file or folder itself"))
            elif _NO_MODEL.match(path):
                what, hint = "is no model's manifest", "delete it; manifests are in rendered/MODEL/"
                yield _problem(path, Complaint(0, what, hint))
            elif path not in self._read and _STRAY.match(path) and not _RENDERED.match(path):
                yield _problem(path, Complaint(0, "is not read", _where_it_belongs(path)), "warning")
        used = {
            f"models/{name}/{data_set.pointer}": bool(model.environments)
            for name, model in self.values("Model").items()
            for data_set in (model.data.train, model.data.evaluation)
            if data_set is not None
        }
        for kind, paths in self._by_kind.items():
            for names, path in paths.items():
                if kind == "Pointer" and path not in used:
                    continue
                for name in names if kind not in ("Pointer", "WorkflowTemplate") else ():
                    if not _is_name(name):
                        yield _problem(path, Complaint(0, f"{name!r} is not an acceptable name", NAME_HINT))
                yield from (_problem(path, complaint) for complaint in self._read[path].errors)
                if kind == "Pointer" and self._read[path].value == "":
                    file = path.removesuffix(".dvc")
                    what = "has no data yet" + (", and its model names environments" if used[path] else "")
                    empty = Complaint(0, what, f"put rows into {file}, and: dvc add {file}")
                    yield _problem(path, empty, "error" if used[path] else "warning")
                yield from (_problem(path, complaint, "warning") for complaint in self._read[path].warnings)

    def problem_at(self, finding: Finding) -> Problem:
        """A finding with its line. Only files with a finding are parsed again for it."""
        path = finding.path
        if path not in self._lines:
            oid = self._files[path].oid
            self._lines[path] = read(self._source.read([oid])[oid], path)
        line = self._lines[path].line_of(finding.field)
        return _problem(path, Complaint(line, finding.what, finding.hint), finding.severity)


def _is_name(text: str) -> bool:
    return re.fullmatch(DNS_1123, text) is not None


def _problem(path: str, complaint: Complaint, severity: Literal["error", "warning"] = "error") -> Problem:
    environment, model = _hides(path)
    line, what, hint = complaint
    return Problem(
        path=path, line=line, what=what, hint=hint, environment=environment, model=model, severity=severity
    )


def _where_it_belongs(path: str) -> str:
    folder, *between, file = path.split("/")
    stem = file.rpartition(".")[0]
    if folder == "policies":
        return f"a policy is {policy_path(stem)}, and a test of one {policy_test_path(stem)}"
    if folder == "models":
        if between and stem.startswith("behavio"):
            return f"tests of behaviour are models/{between[0]}/behaviour.yaml"
        return f"a model is {model_path(between[0] if between else stem)}"
    if not between:
        return f"an environment is {environment_path(stem)}, and the platform {PLATFORM}"
    places = environment_path(between[0]), release_path(between[0], stem), exceptions_path(between[0], stem)
    return f"what is read is {', '.join(places)}"


def release_at(source: Source, revision: str, subject: Subject) -> Release | None:
    """One subject's Release at one commit; None where there is none, or none that can be read."""
    path = release_path(subject.environment, subject.model)
    blob = source.files(revision).get(path)
    if blob is None or blob.mode in _NOT_A_FILE:
        return None
    if (path, blob.oid) not in _cache:
        try:
            _cache[path, blob.oid] = _MEANINGS["Release"].read(source.read([blob.oid])[blob.oid], path)
        except Unreadable:
            return None
    found: Release | None = _cache[path, blob.oid].value
    return found
