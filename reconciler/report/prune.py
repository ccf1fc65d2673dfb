"""The list of `reconcile prune`, and what became of it. Called by that command."""

from __future__ import annotations

from typing import Any

from reconciler.core.plan import Outcome
from reconciler.core.pruning import Kept, Listing, Removal
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Grid, Line, Span, cell, line, sections
from reconciler.report.status import moment
from reconciler.report.text import count


def blocks(listing: Listing, command: str) -> list[Block]:
    """What could go, what keeps the rest, and how to delete exactly this: ``command`` makes such a list."""
    silent = sorted(listing.unknown.items())
    kept = [each for each in listing.kept if each.archived] + [e for e in listing.kept if not e.archived]
    return sections(
        _removals(listing.removals),
        [line(Span("Kept", "strong")), *(_kept(each) for each in kept)] if kept else [],
        [line(Span(f"? {model}", "warn"), f": all is kept: {visible(why)}", hang=4) for model, why in silent],
        [line(Span("! tripwire", "bad"), f": {each}", hang=4) for each in listing.tripped],
        _next(listing, command),
    )


def outcomes(done: tuple[Outcome, ...]) -> list[Block]:
    return [
        line(
            Span(
                "deleted" if each.result == "done" else each.result, "good" if each.result == "done" else "bad"
            ),
            f" {visible(each.detail)}",
            hang=2,
        )
        for each in done
    ]


def data(listing: Listing, done: tuple[Outcome, ...] | None) -> dict[str, Any]:
    """For programs: the list with its digest, and the outcomes; null where nothing was to be deleted."""
    said = listing.model_dump(mode="json", by_alias=True)
    became = None if done is None else [each.model_dump(mode="json", by_alias=True) for each in done]
    return {"digest": listing.digest, **said, "outcomes": became}


def _removals(removals: tuple[Removal, ...]) -> list[Block]:
    if not removals:
        return [line("Nothing can go.")]
    rows = tuple(
        (
            cell(f"{each.name} {each.version}", "strong"),
            cell(moment(each.created) if each.created else ""),
            cell(moment(each.archived.at) if each.archived else ""),
            cell(len(each.runs)),
            cell(visible(_why(each))),
        )
        for each in removals
    )
    return [
        line(Span("Could go", "strong")),
        Grid(("VERSION", "CREATED", "ARCHIVED", "RUNS", "WHY"), rows, indent=2),
    ]


def _why(removal: Removal) -> str:
    if removal.begun is not None:
        return f"{removal.begun.by} had it deleted at {moment(removal.begun.at)}, and that was cut short"
    return removal.archived.why if removal.archived else "its retention is over, and trueup did not train it"


def _kept(kept: Kept) -> Line:
    name = f"{kept.name} {kept.version}" + (", archived" if kept.archived else "")
    return line(Span(visible(name)), ": ", Span(visible("; ".join(kept.why)), "dim"), indent=2, hang=2)


def _next(listing: Listing, command: str) -> list[Block]:
    if not listing.removals:
        return []
    runs = sum(len(each.runs) for each in listing.removals)
    what = f"{count(len(listing.removals), 'version')} and {count(runs, 'run')}"
    digest = listing.digest.removeprefix("sha256:")[:12]
    return [
        line(f"{what}. A version that is deleted cannot be brought back. To delete exactly these:"),
        line(f"{command} --delete --expect {digest}", indent=2)._replace(whole=True),
    ]
