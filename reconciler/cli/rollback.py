"""`reconcile rollback`: a person asks for the last verified release back."""

from __future__ import annotations

import typer

from reconciler.cli import console
from reconciler.cli.options import Pair, Reason
from reconciler.cli.session import Session, subject_of


def rollback(
    context: typer.Context,
    pair: Pair,
    reason: Reason,
) -> None:
    """Open a pull request back to the last verified release.

    The same pull request rejects the present release, so that it is not proposed again.
    """
    from reconciler.apply import open_pull_request
    from reconciler.bootstrap.process import now
    from reconciler.loop import plan_once
    from reconciler.planning.in_motion import Scope
    from reconciler.planning.rollback import by_hand

    subject = subject_of(pair)
    session = Session.of(context)
    closely = Scope(environment=subject.environment, model=subject.model, closely=True)
    with console.working("asking the registry, the workflows, the forge and the cluster"):
        desired, observed, _ = plan_once(session.readers, now(), closely)
        wanted = by_hand(desired, observed, subject, reason, session.repository.name)
        number = open_pull_request(wanted, session.writers.forge)
    console.write(f"#{number}\n")
    console.note(f"{wanted.title}: {wanted.summary.merges}")
