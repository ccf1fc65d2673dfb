"""What a person may have deleted: versions that are archived, that nothing names, and their runs. Pure.

Called by :mod:`reconciler.prune` for the command `reconcile prune`, never by a tick. The retentions and what
is in use come from :mod:`.retention`, which rests on a sweep; here main's history is asked too, so that no
release that a retention covers loses its version, its champion's or its evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.core.base import Subject, format_duration, show_instant
from reconciler.core.desired import DesiredState
from reconciler.core.observed import EngineSweep, Gap, Mark, ModelVersion, Pruned, RegisteredModel, RegistryRun
from reconciler.core.pruning import Held, Kept, Listing, Removal
from reconciler.planning.in_motion import EVERYTHING, Scope
from reconciler.planning.retention import Keep, Standing, standings
from reconciler.planning.rollback import targets
from reconciler.planning.view import View

EVIDENCE = "trueup.evidence."
UNASKED = "none of its environments has a retention, and nothing of it is archived"


class Details(NamedTuple):
    """What the sweep does not tell. ``past``: ENV/MODEL -> main's releases of it, newest first. ``runs``:
    (registry, registered name) -> our runs. A Gap in the place of what was not read."""

    past: Mapping[str, tuple[Held, ...] | Gap]
    runs: Mapping[tuple[str, str], tuple[RegistryRun, ...] | Gap]


def asked_about(view: View, scope: Scope = EVERYTHING, *, external: bool = False) -> Iterator[Standing]:
    """The versions that could go as far as the sweep tells, and so what details are needed of."""
    for model in _models(view.desired, scope):
        found = standings(view, model)
        yield from (each for each in ([] if isinstance(found, str) else found) if not _stays(each, external))


def list_prunable(
    view: View, details: Details, scope: Scope = EVERYTHING, *, external: bool = False
) -> Listing:
    """The list. ``external``: versions that trueup did not train, too; nobody archives these."""
    removals: list[Removal] = []
    kept: list[Kept] = []
    unknown: dict[str, str] = {}
    for model in _models(view.desired, scope):
        found = standings(view, model)
        said = found if isinstance(found, str) else "" if found else UNASKED
        hidden = said or _hidden(view, model, details)
        if hidden or isinstance(found, str):
            unknown[model] = hidden
            continue
        going = []
        for standing in found:
            keeps = [*_stays(standing, external), *_named(view, standing, details, model)]
            if scope.environment and scope.environment not in standing.environments:
                continue
            if keeps:
                kept.append(_kept(model, standing, keeps))
            else:
                going.append(standing)
        removals += _removals(view, model, found, going, details)
    return _limited(view, Listing(removals=tuple(removals), kept=tuple(kept), unknown=unknown))


def _models(desired: DesiredState, scope: Scope) -> list[str]:
    return [model for model in sorted(desired.models) if scope.model in ("", model)]


def _stays(standing: Standing, external: bool) -> list[Keep]:
    """By the sweep. What is trueup's own has to be archived first, which people could see."""
    foreign = any(keep.kind == "foreign" for keep in standing.kept)
    keeps = [keep for keep in standing.kept if not (external and keep.kind == "foreign")]
    if not keeps and not foreign and standing.version.archived is None:
        keeps.append(Keep("it is not archived yet; the next tick does that"))
    return keeps


def _hidden(view: View, model: str, details: Details) -> str:
    """What else did not answer, and could name a version of this model."""
    engine = view.observed.swept.engine
    gaps = [engine] if isinstance(engine, Gap) else []
    name = view.desired.models[model].model.registered_name
    gaps += [runs for (_, about), runs in details.runs.items() if about == name and isinstance(runs, Gap)]
    for key, past in details.past.items():
        subject = Subject.of(key)
        if isinstance(past, Gap):
            gaps.append(past)  # a release of another model's name may pin this one's version
        elif subject.model == model and isinstance(workload := view.workload(subject), Gap):
            gaps.append(workload)
    return f"the {gaps[0].source} did not answer: {gaps[0].error}" if gaps else ""


def _named(view: View, standing: Standing, details: Details, model: str) -> Iterator[Keep]:
    """By main's history, by what runs, and by runs that go on."""
    for key, past in details.past.items():
        if not isinstance(past, Gap):
            yield from _named_by(view, standing, Subject.of(key), past)
    engine = view.observed.swept.engine
    for run in view.runs_about(model) if isinstance(engine, EngineSweep) else ():
        about = (run.parameters.get("candidate-version"), run.parameters.get("champion-version"))
        if not run.done and standing.version.version in about:
            yield Keep(f"{run.name} is about it, and goes on")


def _named_by(view: View, standing: Standing, subject: Subject, past: tuple[Held, ...]) -> Iterator[Keep]:
    here = [
        held
        for held in past
        if (held.release.pin.registry, held.release.pin.name) == (standing.registry, standing.name)
    ]
    release, version = view.release(subject), standing.version
    if release is not None:
        earlier = [held.release for held in here if held.until is not None]
        target = next(targets(view, subject, release, earlier), None)
        if target is not None and _is(version, target.pin.version, target.pin.digest):
            yield Keep(f"a rollback of {subject} would go back to it")
    workload = view.workload(subject)
    running = () if workload is None or isinstance(workload, Gap) else (workload.release, workload.serving)
    digests = list(dict.fromkeys(held.release.pin.digest for held in here))
    for held in here:
        pin, champion = held.release.pin, held.release.champion
        pinned = _is(version, pin.version, pin.digest)
        if pinned and held.release.digest in running:
            yield Keep(f"it runs in {subject}")
        why = _covered(view, subject, held, digests.index(pin.digest))
        if why and pinned:
            yield Keep(f"{subject} released it at {show_instant(held.since)}, and {why}")
        elif why and champion is not None and _is(version, champion.version, champion.digest):
            yield Keep(f"what {subject} released at {show_instant(held.since)} was compared with it, and {why}")


def _is(version: ModelVersion, number: str, digest: str) -> bool:
    return version.digest == digest or version.version == number


def _covered(view: View, subject: Subject, held: Held, rank: int) -> str:
    """Why this release can still be verified again by anybody; empty where its retention is over.

    ``rank``: how many other versions were released here since.
    """
    if held.until is None:
        return "main has it"
    rule = view.environment(subject).retention
    if rule is None:
        return f"{subject.environment} has no retention"
    if rule.for_ is not None and view.at < held.until + rule.for_:
        until = show_instant(held.until + rule.for_)
        return f"{subject.environment} keeps that until {until} (retention.for is {format_duration(rule.for_)})"
    if rule.versions is not None and rank < rule.versions:
        return f"{subject.environment} keeps the newest {rule.versions} (retention.versions)"
    return ""


def _removals(
    view: View, model: str, all_of: Sequence[Standing], going: Sequence[Standing], details: Details
) -> Iterator[Removal]:
    gone = {(each.registry, each.version.version) for each in going}
    staying = [each for each in all_of if (each.registry, each.version.version) not in gone]
    needed = _needed_runs(view, staying, details)
    for each in going:
        version = each.version
        log = _log(view, each.registry, each.name)
        runs = _runs(each.registry, each.name, version.version, version.run_id, details)
        yield Removal(
            model=model,
            registry=each.registry,
            name=each.name,
            version=version.version,
            digest=version.digest,
            training_key=version.training_key,
            created=version.created,
            run=version.run_id,
            archived=version.archived,
            environments=each.environments,
            runs=tuple(sorted(runs - needed)),
            begun=log.get(version.version),
        )
    for registry, name in sorted({(each.registry, each.name) for each in all_of}):
        there = {each.version.version for each in all_of if each.registry == registry}
        for number, begun in sorted(_log(view, registry, name).items()):
            left = _runs(registry, name, number, begun.run, details) - needed
            if left and number not in there:
                yield Removal(
                    model=model,
                    registry=registry,
                    name=name,
                    version=number,
                    digest=begun.digest or None,
                    training_key=begun.training_key or None,
                    run=begun.run,
                    runs=tuple(sorted(left)),
                    begun=begun,
                )


def _log(view: View, registry: str, name: str) -> Mapping[str, Pruned]:
    registered = view.registered(registry, name)
    return registered.pruned if isinstance(registered, RegisteredModel) else {}


def _runs(registry: str, name: str, number: str, training: str, details: Details) -> set[str]:
    """Ids of our runs that are about this version and no other: training, its trials, measurements of it."""
    runs = details.runs.get((registry, name), ())
    return {
        run.run_id
        for run in (() if isinstance(runs, Gap) else runs)
        if (training and training in (run.run_id, run.parent)) or run.candidate == f"{name}/{number}"
    }


def _needed_runs(view: View, staying: Sequence[Standing], details: Details) -> set[str]:
    """Those of what stays, and whatever holds evidence that a version or a release that stays names."""
    marks = [
        mark
        for each in staying
        for tag, value in each.version.tags.items()
        if tag.startswith(EVIDENCE) and (mark := Mark.parse(value))
    ]
    for bundle in view.desired.bundles.values():
        marks += [mark for value in bundle.sources.values() if (mark := Mark.parse(value))]
    for key, past in details.past.items():
        subject = Subject.of(key)
        helds = () if isinstance(past, Gap) else past
        digests = list(dict.fromkeys(held.release.pin.digest for held in helds))
        for held in helds:
            if _covered(view, subject, held, digests.index(held.release.pin.digest)):
                marks += held.evidence
    found = {mark.uri.removeprefix("runs:/").partition("/")[0] for mark in marks}
    return found.union(
        *(_runs(e.registry, e.name, e.version.version, e.version.run_id, details) for e in staying)
    )


def _limited(view: View, listing: Listing) -> Listing:
    """More at once than the limit of an environment are hardly meant: then all of these stay."""
    stopped: dict[str, str] = {}
    for name, environment in sorted(view.desired.environments.items()):
        number = sum(name in each.environments for each in listing.removals)
        if number > environment.limits.prunes:
            stopped[name] = (
                f"{name}: {number} versions at once, and limits.prunes is {environment.limits.prunes}; name a "
                "--model, or raise it if this is meant"
            )
    if not stopped:
        return listing
    left, kept = [], list(listing.kept)
    for each in listing.removals:
        why = tuple(stopped[name] for name in each.environments if name in stopped)
        if why:
            named = each.model_dump(include={"model", "registry", "name", "version"})
            kept.append(Kept(**named, archived=each.archived is not None, why=why))
        else:
            left.append(each)
    return listing.model_copy(
        update={"removals": tuple(left), "kept": tuple(kept), "tripped": tuple(stopped.values())}
    )


def _kept(model: str, standing: Standing, keeps: Sequence[Keep]) -> Kept:
    return Kept(
        model=model,
        registry=standing.registry,
        name=standing.name,
        version=standing.version.version,
        archived=standing.version.archived is not None,
        why=tuple(dict.fromkeys(keep.why for keep in keeps)),
    )
