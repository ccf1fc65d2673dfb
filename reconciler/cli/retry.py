"""`reconcile retry`: a person asks for one attempt more."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.orders import carry_out, stated, submitted
from reconciler.cli.session import Session


def retry(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="RUN | MODEL", help="A run that ended badly, or a model that has one.")
    ],
    reason: Annotated[
        str,
        typer.Option("--reason", "-r", help="Why it will go better; kept with the run.", show_default=False),
    ] = "",
) -> None:
    """Try a run once more that has failed or was cancelled.

    Who asked, and why, is kept with the run.
    """
    from reconciler.planning import orders

    session, why = Session.of(context), stated(reason) if reason else ""
    run = carry_out(session, lambda desired, seen: orders.retry(desired, seen, what, why), submitted(session))
    console.write(f"{run.name}\n")
