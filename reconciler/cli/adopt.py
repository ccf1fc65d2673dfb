"""`reconcile adopt`: pin what ran before trueup came."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Pair, said
from reconciler.cli.session import Session, subject_of


def adopt(
    context: typer.Context,
    pair: Pair,
    version: Annotated[str, typer.Option("--version", metavar="N", help="Of the registry: what runs already.")],
    reason: Annotated[
        str, typer.Option("--reason", "-r", callback=said, help="Why, for those who read it later.")
    ] = "it runs already",
    digest: Annotated[
        str,
        typer.Option(
            show_default=False, help="Its artifact digest, where the version has no trueup.digest tag."
        ),
    ] = "",
) -> None:
    """Pin what runs already, by a pull request without gates.

    A person merges it. The release says that it was adopted, and soaks like any other.
    """
    from reconciler.apply import open_pull_request
    from reconciler.bootstrap.process import now
    from reconciler.core.observed import PullRequest
    from reconciler.loop import plan_once
    from reconciler.planning import by_hand
    from reconciler.planning.in_motion import Scope

    subject = subject_of(pair)
    session = Session.of(context)
    closely = Scope(environment=subject.environment, model=subject.model, closely=True)
    person = session.repository.name or "a person"
    with console.working("asking the registry, the workflows, the forge and the cluster"):
        desired, observed, _ = plan_once(session.readers, now(), closely)
        wanted = by_hand.adopt(desired, observed, subject, version, reason, person, digest)
        number = (
            wanted.number
            if isinstance(wanted, PullRequest)
            else open_pull_request(wanted, session.writers.forge)
        )
    console.write(f"#{number}\n")
    if isinstance(wanted, PullRequest):
        console.note(f"is open already: {wanted.title}")
        return
    console.note(f"{wanted.title}: {wanted.summary.merges}")
    for sentence in wanted.summary.verdict.against():
        console.note(sentence)
