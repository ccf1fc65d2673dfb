"""What an environment has had of one model, when, on what grounds, and how each turned out.

Called by ``reconcile history``. Released is what Git's first parents say; verified and failed are what the
registry's marks and later Releases say of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import Field

from reconciler.core.base import Frozen, Instant, Subject
from reconciler.core.documents import Release
from reconciler.core.evidence import EvidenceBundle
from reconciler.core.observed import Archived, Pruned, RegistrySweep
from reconciler.report.gates import number
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Grid, Line, Style, cell, line, sections
from reconciler.report.status import moment

Result = Literal["verified", "failed", "superseded", "in flight", "removed"]
STYLES: dict[Result, Style] = {
    "verified": "good",
    "failed": "bad",
    "superseded": "dim",
    "in flight": "note",
    "removed": "dim",
}


class Change(NamedTuple):
    """One commit of main that changed the Release; no release where it removed it."""

    commit: str
    at: datetime
    author: str
    release: Release | None
    bundle: EvidenceBundle | None = None


class Number(Frozen):
    """One number that was judged: the candidate's overall value of a metric."""

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    champion: float | None = None


class Entry(Frozen):
    """One release. ``until`` is when the next one was merged; none for the one that main has."""

    version: str | None
    digest: str | None
    release: str | None
    since: Instant
    until: Instant | None = None
    result: Result
    verified_at: Instant | None = None
    failed_at: Instant | None = None
    reason: str | None = None
    grounds: str | None = None
    pull_request: int | None = None
    by: str
    commit: str
    policy: str | None = None
    evidence: str | None = None
    archived: Archived | None = Field(default=None, description="The version, by now.")
    pruned: Pruned | None = Field(default=None, description="The version, by now: deleted, or begun to be.")
    sources: dict[str, str] = Field(default_factory=dict)
    numbers: tuple[Number, ...] = ()

    @property
    def label(self) -> str:
        """The version, and whether it is archived or deleted by now."""
        stage = " deleted" if self.pruned else " archived" if self.archived else ""
        return f"v{self.version}{stage}" if self.version else ""


def entries(
    changes: Sequence[Change],
    merged: Mapping[str, int],
    registries: Mapping[str, RegistrySweep],
    environment: str,
) -> tuple[Entry, ...]:
    """Newest first, as ``changes`` are. Commits that left the release digest alone are no new release."""
    real: list[Change] = []
    for change in reversed(changes):
        if not real or _identity(real[-1]) != _identity(change):
            real.append(change)
    copies = [change.release.champion for change in changes if change.release and change.release.champion]
    verified = {copy.release: copy.at for copy in copies}
    for release in {change.release.digest: change.release for change in real if change.release}.values():
        at = _marked(release, registries, environment)
        if at is not None:
            verified[release.digest] = at
    made = [_entry(change, real[place + 1 :], merged, verified) for place, change in enumerate(real)]
    told = [
        entry.model_copy(update=_whereabouts(change.release, registries)) if change.release else entry
        for entry, change in zip(made, real, strict=True)
    ]
    return tuple(reversed(told))


def in_effect(table: Sequence[Entry], at: datetime) -> Entry | None:
    """The entry whose release main had at that instant."""
    return next((entry for entry in table if entry.since <= at), None)


def _identity(change: Change) -> str:
    return change.release.digest if change.release else ""


def _entry(
    change: Change,
    later: Sequence[Change],
    merged: Mapping[str, int],
    verified: Mapping[str, datetime],
) -> Entry:
    release = change.release
    base = {
        "since": change.at,
        "until": later[0].at if later else None,
        "by": change.author,
        "commit": change.commit,
        "pull_request": merged.get(change.commit),
    }
    if release is None:
        return Entry(version=None, digest=None, release=None, result="removed", **base)
    verified_at = verified.get(release.digest)
    failed = next(
        (
            rejected
            for other in later
            if other.release
            for rejected in other.release.rejected
            if rejected.digest in (release.pin.digest, release.digest) and rejected.since >= change.at
        ),
        None,
    )
    result: Result = (
        "failed" if failed else "verified" if verified_at else "superseded" if later else "in flight"
    )
    return Entry(
        version=release.pin.version,
        digest=release.pin.digest,
        release=release.digest,
        result=result,
        verified_at=verified_at,
        failed_at=failed.since if failed else None,
        reason=(failed.reason if failed else release.admission.reason) or None,
        grounds=release.admission.grounds,
        policy=release.admission.policy,
        evidence=release.admission.evidence,
        sources=change.bundle.sources if change.bundle else {},
        numbers=_numbers(change.bundle),
        **base,
    )


def _whereabouts(
    release: Release, registries: Mapping[str, RegistrySweep]
) -> dict[str, Archived | Pruned | None]:
    """What the registry says of the version now."""
    registry = registries.get(release.pin.registry)
    registered = registry.models.get(release.pin.name) if registry else None
    if registered is None:
        return {}
    version = registered.version(release.pin.version)
    pruned = registered.pruned.get(release.pin.version)
    return {"archived": version.archived if version else None, "pruned": pruned}


def _marked(release: Release, registries: Mapping[str, RegistrySweep], environment: str) -> datetime | None:
    """By the mark on the version. Where the registry lost it, the copies in later Releases remain."""
    registry = registries.get(release.pin.registry)
    registered = registry.models.get(release.pin.name) if registry else None
    version = registered.version(release.pin.version) if registered else None
    mark = version.verified(environment) if version else None
    return mark.at if mark is not None and mark.release == release.digest else None


def _numbers(bundle: EvidenceBundle | None) -> tuple[Number, ...]:
    if bundle is None:
        return ()
    return tuple(
        Number(
            metric=f"{measurement}.{name}",
            value=metric.overall.candidate.value,
            low=metric.overall.candidate.low,
            high=metric.overall.candidate.high,
            n=metric.overall.candidate.n,
            champion=metric.overall.champion.value if metric.overall.champion else None,
        )
        for measurement, evidence in sorted(bundle.evidence.items())
        for name, metric in sorted(evidence.metrics.items())
    )


# --- wording ----------------------------------------------------------------------------------------------


def blocks(table: Sequence[Entry], subject: Subject) -> list[Block]:
    if not table:
        return [line(f"{subject} has never had a release on main.")]
    return [
        Grid(
            ("SINCE", "VERSION", "RESULT", "PULL REQUEST", "GROUNDS", "COMMIT", "REASON"),
            tuple(
                (
                    cell(moment(entry.since)),
                    cell(entry.label, "strong"),
                    cell(entry.result, STYLES[entry.result]),
                    cell(f"#{entry.pull_request}" if entry.pull_request else ""),
                    cell(entry.grounds),
                    cell(entry.commit[:7]),
                    cell(visible(entry.reason or "")),
                )
                for entry in table
            ),
        )
    ]


def details(entry: Entry | None, subject: Subject, at: datetime) -> list[Block]:
    """One release, in full: what was in effect at an instant."""
    if entry is None:
        return [line(f"{subject} had no release at {moment(at)}.")]
    facts: list[tuple[str, str]] = [
        ("version", f"v{entry.version}  {entry.digest}" if entry.version else "none: it was removed"),
        ("since", f"{moment(entry.since)}" + (f" until {moment(entry.until)}" if entry.until else "")),
        ("result", _result(entry)),
        ("archived", f"since {moment(entry.archived.at)}: {entry.archived.why}" if entry.archived else ""),
        ("deleted", f"{moment(entry.pruned.at)} by {visible(entry.pruned.by)}" if entry.pruned else ""),
        ("grounds", entry.grounds or ""),
        ("reason", visible(entry.reason or "")),
        (
            "by",
            f"pull request #{entry.pull_request}"
            if entry.pull_request
            else f"{visible(entry.by)}, no pull request",
        ),
        ("commit", entry.commit),
        ("policy", entry.policy or ""),
        ("evidence", entry.evidence or ""),
    ]
    facts += [(f"  {name}", source) for name, source in entry.sources.items()]
    width = max(len(name) for name, text in facts if text) + 2
    told: list[Block] = [_fact(name.ljust(width), text) for name, text in facts if text]
    numbers = Grid(
        ("METRIC", "VALUE", "INTERVAL", "N", "CHAMPION"),
        tuple(
            (
                cell(visible(item.metric)),
                cell(number(item.value)),
                cell(f"[{number(item.low)}, {number(item.high)}]" if item.low is not None else ""),
                cell(item.n or ""),
                cell(number(item.champion)),
            )
            for item in entry.numbers
        ),
    )
    return sections([line(f"{subject} at {moment(at)}")], told, [numbers] if numbers.rows else [])


def _fact(name: str, text: str) -> Line:
    """A digest or an address stays on its line, whatever the width, so that it can be copied."""
    return line(name, text, hang=len(name))._replace(whole=" " not in text)


def _result(entry: Entry) -> str:
    when = [f"verified {moment(entry.verified_at)}"] if entry.verified_at else []
    when += [f"failed {moment(entry.failed_at)}"] if entry.failed_at else []
    return ", ".join(when) or entry.result
