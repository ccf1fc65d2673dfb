"""`reconcile waive`: one gate, for one candidate, for a time, is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Pair
from reconciler.cli.session import Session, subject_of

if TYPE_CHECKING:
    from reconciler.core.base import Instant, Subject
    from reconciler.core.plan import GateVerdict
    from reconciler.planning.candidates import Candidate


def waive(
    context: typer.Context,
    pair: Pair,
    gate: Annotated[str, typer.Argument(help="As in not-worse.")],
    reason: Annotated[
        str, typer.Option("--reason", "-r", show_default=False, help="Why, for those who read it later.")
    ] = "",
    expires: Annotated[
        str, typer.Option(metavar="INSTANT|DURATION", show_default=False, help="Its end, as in 7d.")
    ] = "",
    digest: Annotated[
        str,
        typer.Option(show_default=False, help="Of what it is for; the present candidate by default."),
    ] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the waivers of this gate back.")] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="With --remove: only those that have ended.")
    ] = False,
) -> None:
    """Let one candidate pass one gate, by a pull request.

    --reason and --expires are needed. It is opened as you, and counts when it is merged, for this candidate
    alone.
    """
    from reconciler.bootstrap.process import now
    from reconciler.cli.exceptions import carry_out
    from reconciler.cli.options import said
    from reconciler.planning import exception_orders as orders
    from reconciler.planning.exceptions import EVALUATION_DATA

    subject, at, session = subject_of(pair), now(), Session.of(context)
    if remove:
        if reason or expires:
            raise typer.BadParameter("goes without --reason and --expires", param_hint="--remove")
        carry_out(session, orders.Order("unwaive", subject, at, gate=gate, digest=digest, expired=expired))
        return
    if expired:
        raise typer.BadParameter("goes with --remove", param_hint="--expired")
    if not expires:
        raise typer.BadParameter("must be said: a waiver has an end", param_hint="--expires")
    try:
        why = said(reason)
    except typer.BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="--reason") from None
    end = orders.until(expires, at)
    about: tuple[str, ...] = ()
    if not digest:
        if gate == EVALUATION_DATA:
            hint = "`reconcile admit` says which, as in md5:HEX"
            raise typer.BadParameter(f"must be said for this gate; {hint}", param_hint="--digest")
        with console.working("asking the registry and the forge"):
            wanted, verdict = _candidate(session, subject, gate, at)
        digest = wanted.pin.digest
        about = (f"Version {wanted.pin.version} ({digest}) does not pass {gate}: {verdict.why}.",)
        console.note(about[0])
    order = orders.Order("waive", subject, at, reason=why, end=end, gate=gate, digest=digest)
    carry_out(session, order, about)


def _candidate(session: Session, subject: Subject, gate: str, at: Instant) -> tuple[Candidate, GateVerdict]:
    """Who the candidate is and what the gate says of it, by the registry and the forge alone."""
    from reconciler.bootstrap.forges import connect_as_person
    from reconciler.bootstrap.registries import connect_registries
    from reconciler.core.observed import Observed, Swept
    from reconciler.look import read_evidence
    from reconciler.planning.exception_orders import gate_now, marks_of
    from reconciler.planning.view import View
    from reconciler.sweep import registry_sweeps, seen

    forge = connect_as_person(session.repository, session.forge)
    registries = connect_registries(session.repository, session.platform)
    swept = Swept(at=at, registries=registry_sweeps(registries), forge=seen("forge", forge.sweep))
    view = View(session.main, Observed(swept=swept))
    evidence, _ = read_evidence(registries, marks_of(view, subject))
    return gate_now(View(session.main, Observed(swept=swept, evidence=evidence)), subject, gate)
