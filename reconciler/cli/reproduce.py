"""`reconcile reproduce`: a person asks whether a version comes out again."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.orders import carry_out, stated, submitted
from reconciler.cli.session import Session


def reproduce(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As in digits.")],
    version: Annotated[
        str, typer.Option("--version", help="Of main's training; the newest otherwise.", show_default=False)
    ] = "",
    reason: Annotated[
        str, typer.Option("--reason", "-r", help="Why; kept with the run.", show_default=False)
    ] = "it was asked whether it comes out again",
) -> None:
    """Train a version once more from its own key, and compare.

    The evidence is marked on the version, as `reproduce`: the share of equal predictions, the difference of
    each metric, and whether the files are the same. Nothing is registered.
    """
    from reconciler.planning import orders

    session, why = Session.of(context), stated(reason)
    run = carry_out(
        session, lambda desired, seen: orders.reproduce(desired, seen, model, version, why), submitted(session)
    )
    console.write(f"{run.name}\n")
