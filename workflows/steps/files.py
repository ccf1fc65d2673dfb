"""Step `files`: what can be said of a version by its files alone. No code of the model runs.

Its interface and its libraries against the champion's, whether its requirements are pinned and hashed, what its
files are, what its pickles would run, and how large it is. Counts, and what was counted; no judgement.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.environment import FILE, Installed, Line, read_installed, read_requirements
from workflows.interface import Schema, breaking, described, fields, openapi
from workflows.steps import measuring
from workflows.steps.contents import look

REQUIREMENTS = "requirements.txt"
NAMED, LONGEST = 30, 200
"""Of what was counted, and characters of a name: a file may be called anything."""


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, rows=False, champion=True)


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("files", options.inputs, key=options.key)
    versions = measuring.versions(inputs, options)
    with tempfile.TemporaryDirectory() as folder:
        models = measuring.fetched(versions, inputs, options, Path(folder))
        metrics = measure(models["candidate"], models.get("champion"), tuple(inputs["allowed"]))
    measuring.publish("files", metrics, inputs, options)


def measure(candidate: Path, champion: Path | None, allowed: Sequence[str] = ()) -> dict[str, Metric]:
    """All metrics of the model in the folder ``candidate``; ``allowed`` as :func:`contents.look` takes it."""
    contents = look(candidate, allowed)
    looked = f"{contents.scanned} of {contents.files} files are no plain text and were scanned"
    estimates = {
        "unsafe-globals": _counted(contents.unsafe, contents.files, looked),
        "unexpected-files": _counted(contents.unexpected, contents.files, ""),
        "size-mb": Estimate(value=contents.size / 1e6, n=contents.files, note="every byte: no interval"),
        **dependencies(_requirements(candidate), read_installed(candidate)),
        "changed-libraries": changed_libraries(candidate, champion),
        "breaking-changes": breaking_changes(
            interface(candidate), None if champion is None else interface(champion)
        ),
    }
    return {name: Metric(overall=Scores(candidate=each)) for name, each in estimates.items()}


def interface(model: Path) -> Schema:
    """The OpenAPI document of the server of this model; equal for equal signatures."""
    from mlflow.models import Model

    signature = Model.load(str(model / "MLmodel")).signature
    return openapi("model", "0", signature.to_dict() if signature else None)


def breaking_changes(candidate: Schema, champion: Schema | None) -> Estimate:
    """How many; ``n`` is the number of the champion's columns."""
    if champion is None:
        return Estimate(value=None, n=0, note="no champion to compare with")
    if not described(champion):
        return Estimate(value=None, n=0, note="the champion has no signature to compare with")
    return _counted(tuple(breaking(champion, candidate)), fields(champion), "")


def dependencies(requirements: list[Line] | None, installed: Installed | None) -> dict[str, Estimate]:
    """``unpinned``: requirements without one version. ``unhashed``: those, and what they need, of which nothing
    says what their files are: neither the lock behind ``environment.json`` nor the requirement itself."""
    if not requirements:
        nothing = Estimate(value=None, n=0, note=f"there is no {REQUIREMENTS} that names anything")
        return {"unpinned": nothing, "unhashed": nothing}
    unpinned = tuple(line.text for line in requirements if not line.version)
    packages = dict(installed.packages) if installed else {}
    own = {line.name: line for line in requirements}
    bare = [
        f"{name} {package.version}"
        for name, package in packages.items()
        if not package.hashes and not (name in own and own[name].hashes)
    ]
    for name, line in own.items():
        known = packages.get(name)
        if not line.hashes and (known is None or known.version != line.version):
            bare.append(f"{line.text}{f' (trained with {known.version})' if known else ''}")
    said = (
        f"environment {installed.digest} of {len(packages)} packages on {installed.platform}, Python "
        f"{installed.python}"
        if installed
        else f"the version has no {FILE}, which the step `train` writes"
    )
    return {
        "unpinned": _counted(unpinned, len(requirements), ""),
        "unhashed": _counted(tuple(sorted({*bare})), len({*packages, *own}), said),
    }


def changed_libraries(candidate: Path, champion: Path | None) -> Estimate:
    """How many of the libraries of the two differ; ``n`` is how many they have together."""
    if champion is None:
        return Estimate(value=None, n=0, note="no champion to compare with")
    installed = [read_installed(model) for model in (champion, candidate)]
    if all(installed):
        old, new = ({n: p.version for n, p in each.packages.items()} for each in installed if each)
        old, new = ({"python": i.python, **v} for i, v in zip(installed, (old, new), strict=True) if i)
        said = ""
    else:
        old, new = (
            {line.name: line.version for line in _requirements(model) or ()} for model in (champion, candidate)
        )
        said = f"of the requirements alone, because not both have {FILE}"
    changes = tuple(
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )
    return _counted(changes, len(old.keys() | new.keys()), said)


def _requirements(model: Path) -> list[Line] | None:
    try:
        return list(read_requirements((model / REQUIREMENTS).read_text()))
    except OSError:
        return None


def _counted(found: tuple[str, ...], n: int, said: str) -> Estimate:
    """How many were found among ``n``, with their names."""
    note = "; ".join(filter(None, (said, "all were looked at: no interval")))
    names = tuple(name[:LONGEST] for name in found[:NAMED])
    return Estimate(value=float(len(found)), n=n, note=note, names=names or None)
