"""`reconcile prune`: the details that its list rests on, and the deletes that a person ordered.

Called by that command alone, under the lease. No tick deletes a version.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import evidence_path, release_path
from reconciler.core.errors import Retryable, TrueupError
from reconciler.core.evidence import EvidenceBundle
from reconciler.core.observed import PRUNED, Gap, Mark, Observed, Pruned
from reconciler.core.plan import Outcome
from reconciler.core.pruning import Held, Listing, Removal
from reconciler.load import release_at
from reconciler.planning.in_motion import EVERYTHING, Scope
from reconciler.planning.prune import Details, asked_about, list_prunable
from reconciler.planning.view import View
from reconciler.ports import Readers, RegistryWriter, Source, Writers
from reconciler.sweep import seen, sweep


def survey(
    desired: DesiredState, readers: Readers, at: datetime, scope: Scope = EVERYTHING, *, external: bool = False
) -> Listing:
    """The list as of now. Histories and runs are read only of models that have something to delete."""
    view = View(desired, Observed(swept=sweep(readers, at)))
    found = list(asked_about(view, scope, external=external))
    names = {(each.registry, each.name) for each in found} | set(_begun(view, scope))
    models = sorted({m for m, s in desired.models.items() if s.model.registered_name in {n for _, n in names}})
    subjects = [
        Subject(environment=environment, model=model)
        for environment in sorted(desired.environments)
        for model in models
    ]
    past = {
        str(subject): seen(f"history of {subject}", partial(history, readers.source, subject))
        for subject in subjects
    }
    runs = {
        (registry, name): seen(f"registry {registry}", partial(readers.registries[registry].runs, name))
        for registry, name in sorted(names)
    }
    return list_prunable(view, Details(past, runs), scope, external=external)


def _begun(view: View, scope: Scope) -> Iterator[tuple[str, str]]:
    """(registry, registered name) of models that had versions deleted: some of that may have been cut short."""
    for registry, swept in view.observed.swept.registries.items():
        for model, source in view.desired.models.items():
            name = source.model.registered_name
            registered = None if isinstance(swept, Gap) else swept.models.get(name)
            if scope.model in ("", model) and registered is not None and registered.pruned:
                yield registry, name


def history(source: Source, subject: Subject) -> tuple[Held, ...]:
    """All releases that main had of a subject, newest first. One that does not parse was nobody's pin."""
    path = release_path(subject.environment, subject.model)
    found: list[Held] = []
    until: datetime | None = None
    for commit in source.log(path):
        release = release_at(source, commit.oid, subject)
        if release is not None:
            marks = _evidence(source, commit.oid, evidence_path(subject.environment, subject.model))
            found.append(Held(release=release, since=commit.at, until=until, evidence=marks))
        elif path in source.files(commit.oid):
            continue
        until = commit.at
    return tuple(found)


def _evidence(source: Source, commit: str, path: str) -> tuple[Mark, ...]:
    """Where the evidence beside a Release says that it is kept; nowhere, if it does not parse."""
    blob = source.files(commit).get(path)
    if blob is None:
        return ()
    try:
        bundle = EvidenceBundle.model_validate_json(source.read([blob.oid])[blob.oid])
    except ValueError:
        return ()
    return tuple(mark for value in bundle.sources.values() if (mark := Mark.parse(value)))


def remove(listing: Listing, writers: Writers, by: str, at: datetime) -> Iterator[Outcome]:
    """Delete what is listed, one version after the other, and say what became of each.

    First the log on the registered model, then the version, then its runs: cut short, nobody can use what has
    lost its files, and by the log the next list has what is left. A failure stops its version only.
    """
    for removal in listing.removals:
        about = {
            "key": f"prune {removal.registry}/{removal.name}/{removal.version}",
            "kind": "prune-version",
            "subject": Subject(model=removal.model),
        }
        try:
            _delete(removal, writers.registries[removal.registry], by, at, listing.digest)
        except TrueupError as error:
            yield Outcome(**about, result="failed", detail=str(error), retryable=isinstance(error, Retryable))
        else:
            runs = "1 run" if len(removal.runs) == 1 else f"{len(removal.runs)} runs"
            yield Outcome(**about, result="done", detail=f"{removal.label} and {runs}")


def _delete(removal: Removal, registry: RegistryWriter, by: str, at: datetime, listed: str) -> None:
    if removal.begun is None:
        said = Pruned(
            at=at,
            by=by,
            listed=listed,
            digest=removal.digest or "",
            training_key=removal.training_key or "",
            run=removal.run,
        )
        registry.log(removal.name, f"{PRUNED}{removal.version}", str(said))
    registry.delete_version(removal.name, removal.version)
    for run in removal.runs:
        registry.delete_run(run)
