"""What is left of a release's claims, for a terminal. Called by ``reconcile verify``."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.proof import Proof, Standing
from reconciler.report import gates, json
from reconciler.report.inert import visible
from reconciler.report.layout import Block, Grid, Line, Span, Style, cell, line, sections
from reconciler.report.status import moment

STYLES: dict[Standing, Style] = {"proven": "good", "contradicted": "bad", "unknown": "warn"}


def blocks(proofs: Sequence[Proof]) -> list[Block]:
    """A section for each release, newest first as they are given; and of several, all counted."""
    return sections(*(_one(proof) for proof in proofs), [_summary(proofs)] if len(proofs) > 1 else [])


def _one(proof: Proof) -> list[Block]:
    asked = "Git alone" if proof.offline else "Git and the registry"
    head = line(
        Span(str(proof.subject), "strong"),
        f": version {proof.version}, a {proof.grounds}, on main since {moment(proof.since)} "
        f"({proof.commit[:7]}), by {asked}: ",
        Span(proof.standing, STYLES[proof.standing]),
        hang=4,
    )
    steps = Grid(
        ("CLAIM", "STANDS", "BECAUSE"),
        tuple(
            (cell(step.what), cell(step.standing, STYLES[step.standing]), cell(visible(step.said)))
            for step in proof.steps
        ),
        indent=2,
    )
    return [head, steps, *gates.table(proof.gates, indent=2)]


def _summary(proofs: Sequence[Proof]) -> Line:
    said = [proof.standing for proof in proofs]
    counts = [Span(f"{said.count(each)} {each}", STYLES[each]) for each in STYLES if each in said]
    parts = [part for each in counts for part in (each, Span(", "))][:-1]
    return line(f"{len(said)} releases: ", *parts, ".")


def as_json(proofs: Sequence[Proof]) -> str:
    """Each proof with how it stands, which is a property of it and not a field."""
    return json.dump([{"standing": p.standing, **p.model_dump(mode="json", by_alias=True)} for p in proofs])
