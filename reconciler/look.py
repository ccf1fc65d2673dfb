"""The details of the subjects that move, and of no others: evidence, proposals' heads, pins' history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.digests import sha256
from reconciler.core.documents import release_path, rendered_folder
from reconciler.core.errors import Terminal, TrueupError
from reconciler.core.evidence import Evidence, parse_evidence
from reconciler.core.observed import Edit, Gap, Mark, Observed, PinHistory, Proposal, PullRequest, Swept
from reconciler.load import load
from reconciler.past import pins
from reconciler.planning.in_motion import details
from reconciler.planning.view import View
from reconciler.ports import Kept, Readers, RegistryReader, Source
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
