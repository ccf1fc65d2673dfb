"""The details of the subjects that move, and of no others: evidence, proposals' heads, pins' history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.digests import sha256
from reconciler.core.documents import Waiver, release_path, rendered_folder
from reconciler.core.errors import Terminal, TrueupError
from reconciler.core.evidence import Evidence, parse_evidence
from reconciler.core.observed import Edit, Gap, Mark, Observed, PinHistory, Proposal, PullRequest, Swept
from reconciler.core.references import exceptions_path
from reconciler.load import load
from reconciler.past import pins
from reconciler.planning.authors import waived
from reconciler.planning.in_motion import details
from reconciler.planning.view import View
from reconciler.ports import Commit, Kept, Readers, RegistryReader, Source
from reconciler.sweep import seen

PAST = 50
"""How many earlier commits of a Release are read to find what to go back to."""


def look(
    desired: DesiredState, swept: Swept, moving: tuple[Subject, ...], readers: Readers, closely: bool = False
) -> Observed:
    """The sweep with the details of the moving subjects. One subject's failure is that subject's Gap."""
    view = View(desired, Observed(swept=swept))
    marks: list[tuple[str, Mark]] = []
    histories: dict[str, PinHistory] = {}
    edits: dict[str, Edit] = {}
    proposals: dict[int, Proposal] = {}
    complete: dict[int, PullRequest] = {}
    closed: dict[str, tuple[PullRequest, ...]] = {}
    authors: dict[str, tuple[str, ...]] = {}
    waived_by: dict[str, tuple[str, ...]] = {}
    people = _People(readers)
    gaps: dict[str, Gap] = {}
    for subject in moving:
        wanted = details(view, subject, closely)
        marks += wanted.marks
        try:
            for number in wanted.pulls:
                pull = complete[number] = readers.forge.get(number)
                proposals[number] = Proposal(head=pull.head, state=load(readers.source, pull.head))
            if wanted.edited:
                edits |= _edit(readers.source, subject)
            if wanted.history:
                histories[str(subject)] = _history(readers.source, subject, desired)
            if key := wanted.people.key:
                authors[f"{subject.model} {key}"] = people.who_made(subject.model, key)
            for waiver in wanted.people.waivers:
                waived_by[waived(subject, waiver)] = people.who_waived(subject, waiver)
        except TrueupError as error:
            gaps[str(subject)] = Gap(source=f"repository or forge, about {subject}", error=str(error))
        for branch in wanted.branches:
            past = seen(f"forge, about {branch}", partial(readers.forge.closed, branch))
            if isinstance(past, Gap):
                gaps[str(subject)] = past
            else:
                closed[branch] = past
    evidence, evidence_gaps = read_evidence(readers.registries, marks)
    return Observed(
        swept=swept,
        moving=moving,
        evidence=evidence,
        evidence_gaps=evidence_gaps,
        pins=histories,
        edits=edits,
        pulls=complete,
        proposals=proposals,
        closed=closed,
        authors=authors,
        waived_by=waived_by,
        gaps=gaps,
    )


def read_evidence(
    registries: Mapping[str, RegistryReader], marks: Iterable[tuple[str, Mark]], kept: Kept | None = None
) -> tuple[dict[str, Evidence], dict[str, Gap]]:
    """The documents behind these (registry, mark), each read once; and the Gaps, both by mark.

    What is ``kept`` from an earlier command is not read again.
    """
    found: dict[str, Evidence] = {}
    gaps: dict[str, Gap] = {}
    for registry, mark in dict.fromkeys(marks):
        read = seen(f"evidence {mark.uri}", partial(_evidence, registries[registry], mark, kept))
        if isinstance(read, Gap):
            gaps[str(mark)] = read
        else:
            found[str(mark)] = read
    return found, gaps


def _evidence(registry: RegistryReader, mark: Mark, kept: Kept | None) -> Evidence:
    """The document behind a mark. Terminal where its bytes are not the marked ones."""
    content = kept.get(mark.sha256) if kept else None
    if content is None or sha256(content) != mark.sha256:
        content = registry.evidence(mark.uri)
        if sha256(content) != mark.sha256:
            raise Terminal(
                f"its sha256 is {sha256(content)}, and {mark.sha256} was marked",
                where=mark.uri,
                hint="it is measured again",
            )
        if kept:
            kept.put(mark.sha256, content)
    return parse_evidence(content, where=mark.uri)


class _People:
    """Who brought something to main: as the forge says of its pull request, or Git of a commit without one.

    The list of merged pull requests is read once, where it is asked for at all.
    """

    def __init__(self, readers: Readers) -> None:
        self._source, self._forge = readers.source, readers.forge

    @cached_property
    def _merged(self) -> Mapping[str, int]:
        return self._forge.merged()

    def who_made(self, model: str, key: str) -> tuple[str, ...]:
        """Who opened the pull request since which main's training of this model has this key.

        Where no change of the model's folder made it, as a template's does, the newest change of it counts.
        """
        log = self._source.log(f"models/{model}")[:PAST]
        keys = ((commit, _key_at(self._source, commit.oid, model)) for commit in log)
        found = [commit for commit, its in keys if its == key][-1:] or log[:1]
        return tuple(pull.author if (pull := self._pull(c)) else c.author for c in found)

    def who_waived(self, subject: Subject, waiver: Waiver) -> tuple[str, ...]:
        """Who opened, approved or merged the pull request that brought a waiver; sorted."""
        path, key = exceptions_path(subject.environment, subject.model), str(subject)
        brought: Commit | None = None
        for commit in self._source.log(path)[:PAST]:
            exceptions = load(self._source, commit.oid).exceptions.get(key)
            if exceptions is None or waiver not in exceptions.waivers:
                break
            brought = commit
        if brought is None:
            return ()
        pull = self._pull(brought)
        if pull is None:
            return (brought.author,)
        approved = {approval.by for approval in pull.approvals if approval.head == pull.head}
        return tuple(sorted({pull.author, pull.closed_by, *approved} - {""}))

    def _pull(self, commit: Commit) -> PullRequest | None:
        number = self._merged.get(commit.oid)
        return self._forge.get(number) if number else None


def _key_at(source: Source, revision: str, model: str) -> str | None:
    state = load(source, revision)
    return state.training_key(model) if model in state.models else None


def _edit(source: Source, subject: Subject) -> dict[str, Edit]:
    """The newest commit on main that changed this subject's manifests; none where none ever did."""
    log = source.log(rendered_folder(subject.environment, subject.model))
    return {str(subject): Edit(commit=c.oid, at=c.at, author=c.author) for c in log[:1]}


def _history(source: Source, subject: Subject, desired: DesiredState) -> PinHistory:
    """The commit that brought the pin as it is now, what was before it, and the earlier pins."""
    current = desired.releases[str(subject)].digest
    newest = next(pins(source, subject, PAST + 1), None)
    introduced = newest.introduced.releases.get(str(subject)) if newest and newest.introduced else None
    if newest is None or introduced is None or introduced.digest != current:
        raise Terminal(
            "main's history does not show the commit of this pin",
            where=release_path(subject.environment, subject.model),
            hint="fetch again; a rewritten history cannot be judged",
        )
    return newest
