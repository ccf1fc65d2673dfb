"""`reconcile cancel`: a person ends a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Why
from reconciler.cli.orders import carry_out, stated
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.plan import StopWorkflow


def cancel(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="As `reconcile status` names it.")],
    reason: Why,
) -> None:
    """End a training or a measurement that is on its way.

    Who ended it, and why, is kept with the run. It is not tried again until somebody says
    `reconcile retry`, or main describes another training.
    """
    from reconciler.planning import orders

    session, why = Session.of(context), stated(reason)

    def stop(action: StopWorkflow, person: str) -> StopWorkflow:
        session.writers.engine.stop(action.name, reason=action.reason, by=person)
        return action

    ended = carry_out(session, lambda desired, seen: orders.cancel(desired, seen, run, why), stop)
    console.write(f"{ended.name}\n")
