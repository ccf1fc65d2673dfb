"""`reconcile retrain`: a person asks for a training now."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Why
from reconciler.cli.orders import carry_out, stated, submitted
from reconciler.cli.session import Session


def retrain(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As in digits.")],
    reason: Why,
) -> None:
    """Train what main describes of a model now.

    It waits for no schedule, cooldown or budget, and not for retrainOn. It is refused where a version of main's
    training is there already, and where a run is on its way. Who asked, and why, is kept with the run.
    """
    from reconciler.planning import orders

    session, why = Session.of(context), stated(reason)
    run = carry_out(
        session, lambda desired, seen: orders.retrain(desired, seen, model, why), submitted(session)
    )
    console.write(f"{run.name}\n")
