"""`reconcile verify`: the verdict on a release, worked out again."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.history import check_known, instant_of
from reconciler.cli.options import Format, Output, Pair
from reconciler.cli.session import Session, subject_of

if TYPE_CHECKING:
    from reconciler.ports import RegistryReader

EXIT = {"proven": 0, "contradicted": 1, "unknown": 2}


def verify(
    context: typer.Context,
    pair: Pair,
    at: Annotated[
        str, typer.Option("--at", metavar="INSTANT", help="The release of then; as in 2026-03-01T12:00Z.")
    ] = "",
    version: Annotated[
        str, typer.Option("--version", metavar="N", help="The last release of this version.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Every release that main has had.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="From Git alone, and the copy of the evidence in it.")
    ] = False,
    output: Output = Format.text,
) -> None:
    """Work out again how the release that runs now was let in.

    Evidence, policy, manifests and inputs are compared byte for byte with what the Release records, its gates
    are judged again as of then, and the registry is asked for the marks. Exit code 1 if something is not so, 2
    if nothing is wrong and something cannot be told.
    """
    from reconciler.core.errors import Terminal
    from reconciler.past import gone
    from reconciler.replay import proofs
    from reconciler.report import proofs as report

    if sum((bool(at), bool(version), every)) > 1:
        raise typer.BadParameter("goes without the others", param_hint="--all, --at or --version")
    subject, instant = subject_of(pair), instant_of(at) if at else None
    session = Session.of(context)
    with console.working("reading the history of main" if offline else "reading main, and asking the registry"):
        registries = None if offline else _registries(session)
        found = proofs(session.source, subject, session.main, registries)
        chosen = (
            proof
            for proof in found
            if (instant is None or proof.since <= instant) and version in ("", proof.version)
        )
        shown = tuple(chosen) if every else tuple(islice(chosen, 1))
        removed = not every and not version and gone(session.source, subject, instant)
    if not shown or removed:
        check_known(session.main, subject)
        of = f" of version {version}" if version else ""
        when = "had no release then" if at else f"has no release{of}"
        raise Terminal(f"{subject} {when}", hint=f"reconcile history {pair}")
    console.write(report.as_json(shown)) if output is Format.json else console.show(report.blocks(shown))
    raise typer.Exit(max((EXIT[proof.standing] for proof in shown), key=(0, 2, 1).index))


def _registries(session: Session) -> Mapping[str, RegistryReader]:
    from reconciler.bootstrap.registries import connect_registries

    return connect_registries(session.repository, session.platform)
