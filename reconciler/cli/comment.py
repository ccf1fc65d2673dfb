"""`reconcile comment`: what is checked out here, judged in a comment on its pull request. For any CI."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Number
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.plan import Plan


class About(StrEnum):
    """What the comment says."""

    admission = "admission"
    plan = "plan"


def comment(
    context: typer.Context,
    number: Number,
    about: Annotated[
        About, typer.Option("--about", help="Whether it may be merged, or what a tick would do after that.")
    ] = About.admission,
) -> None:
    """Say in one comment of a pull request what it means.

    Judged is the commit that is checked out, as continuous integration checks it out: merged into main. The
    comment is yours (TRUEUP_TOKEN). It is found by its mark and edited in place, unless it says so already.
    """
    from reconciler.bootstrap.forges import connect_as_person
    from reconciler.cli.admit import judged
    from reconciler.report import markdown, pull_request, verdicts

    session = Session.of(context)
    with console.working("fetching, and asking the registry"):
        said = (
            markdown.plan(planned(session)) + changed_policies(session)
            if about is About.plan
            else verdicts.as_markdown(judged(session, "", "HEAD"))
        )
        mark = f"<!-- trueup-{about.value} -->"
        text = pull_request.cut(said, pull_request.LIMIT - len(mark) - 2)
        forge = connect_as_person(session.repository, session.forge)
        changed = forge.keep_comment(number, text, mark=mark)
    console.write(f"#{number} {'says so now' if changed else 'says so already'}\n")


def planned(session: Session) -> Plan:
    """What a tick would do if main was what is checked out here."""
    from reconciler.bootstrap.process import now
    from reconciler.bootstrap.sources import clone_source
    from reconciler.loop import plan_once

    readers = session.readers._replace(source=clone_source(session.repository))
    return plan_once(readers, now()).plan


def changed_policies(session: Session) -> str:
    """What policies that are changed here would have said of past candidates; nothing where none is changed."""
    from reconciler.cli.policy import simulated
    from reconciler.report import simulation

    told = simulated(session)
    return "\n" + simulation.as_markdown(told) if any(asked.differs for asked in told.asked) else ""
