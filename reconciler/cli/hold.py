"""`reconcile hold` and `unhold`: nothing is promoted until a person says so."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli.options import Pair, Reason
from reconciler.cli.session import Session, subject_of


def hold(
    context: typer.Context,
    pair: Pair,
    reason: Reason,
    until: Annotated[
        str,
        typer.Option(
            metavar="INSTANT|DURATION",
            show_default=False,
            help="Its end, as in 7d; without, until it is lifted.",
        ),
    ] = "",
) -> None:
    """Order, by a pull request, that nothing is promoted.

    It is opened as you, and counts when it is merged. Rollbacks happen all the same. The same reason again
    changes the end.
    """
    from reconciler.bootstrap.process import now
    from reconciler.cli.exceptions import carry_out
    from reconciler.planning import exception_orders as orders

    at = now()
    end = orders.until(until, at) if until else None
    carry_out(Session.of(context), orders.Order("hold", subject_of(pair), at, reason=reason, end=end))


def unhold(
    context: typer.Context,
    pair: Pair,
    expired: Annotated[bool, typer.Option("--expired", help="Only those whose time is over.")] = False,
) -> None:
    """Lift the holds, by a pull request."""
    from reconciler.bootstrap.process import now
    from reconciler.cli.exceptions import carry_out
    from reconciler.planning import exception_orders as orders

    carry_out(Session.of(context), orders.Order("unhold", subject_of(pair), now(), expired=expired))
