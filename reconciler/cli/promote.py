"""`reconcile promote`: a person orders a version, and it goes through the gates like every other."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Pair, Reason
from reconciler.cli.session import Session, subject_of


def promote(
    context: typer.Context,
    pair: Pair,
    reason: Reason,
    version: Annotated[
        str,
        typer.Option("--version", metavar="N", show_default=False, help="By default the present candidate."),
    ] = "",
) -> None:
    """Order a version, by a pull request with every gate.

    What is not measured yet is measured by the following ticks. When it is merged, the version stays until one
    comes that is younger than the order.
    """
    from reconciler.apply import open_pull_request, update_pull_request
    from reconciler.bootstrap.process import now
    from reconciler.core.observed import PullRequest
    from reconciler.core.plan import UpdatePullRequest
    from reconciler.look import read_evidence
    from reconciler.loop import plan_once
    from reconciler.planning import by_hand
    from reconciler.planning.in_motion import Scope

    subject = subject_of(pair)
    session = Session.of(context)
    closely = Scope(environment=subject.environment, model=subject.model, closely=True)
    person = session.repository.name or "a person"
    with console.working("asking the registry, the workflows, the forge and the cluster"):
        desired, observed, _ = plan_once(session.readers, now(), closely)
        marks = by_hand.marks_of(desired, observed, subject, version)
        evidence, gaps = read_evidence(session.readers.registries, marks)
        read = {"evidence": observed.evidence | evidence, "evidence_gaps": observed.evidence_gaps | gaps}
        seen = observed.model_copy(update=read)
        wanted = by_hand.promote(desired, seen, subject, version, reason, person)
        if isinstance(wanted, UpdatePullRequest):
            update_pull_request(wanted, session.writers.forge)
            number = wanted.number
        elif isinstance(wanted, PullRequest):
            number = wanted.number
        else:
            number = open_pull_request(wanted, session.writers.forge)
    console.write(f"#{number}\n")
    if isinstance(wanted, PullRequest):
        console.note(f"is open already: {wanted.title}")
    else:
        console.note(f"{wanted.title}: {wanted.summary.merges}")
    for sentence in by_hand.in_the_way(desired, seen, subject):
        console.note(sentence)
