"""`reconcile prune`: what is archived and could go, and by order of a person, its deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.plan import Outcome
    from reconciler.core.pruning import Listing
    from reconciler.planning.in_motion import Scope


def prune(
    context: typer.Context,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what --expect names. It cannot be brought back.")
    ] = False,
    expect: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Of the list that was shown; only with --delete.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List only. So it is without --delete, too.")
    ] = False,
    environment: Annotated[
        str, typer.Option(metavar="ENV", show_default=False, help="Versions under its retention only.")
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="MODEL", show_default=False, help="This model's versions only.")
    ] = "",
    external: Annotated[
        bool, typer.Option("--external", help="Versions that trueup did not train, too.")
    ] = False,
    output: Output = Format.text,
) -> None:
    """List versions that could go, and what keeps the rest.

    With --delete and the digest of that list, exactly these are deleted from the registry: never a pin, what a
    rollback would go back to, the evidence of either, or what a release within the retentions names. Who
    did it, and what it was, is logged on the registered model.
    """
    from reconciler.core.errors import Terminal
    from reconciler.planning.in_motion import Scope
    from reconciler.report import json
    from reconciler.report import prune as report

    if delete and dry_run:
        raise Terminal("--delete deletes, and --dry-run does nothing", hint="leave one of them out")
    if delete != (expect is not None):
        hint = "list first: `reconcile prune` prints the digest"
        raise Terminal("--delete and --expect DIGEST go together", hint=hint)
    session, scope = Session.of(context), Scope(environment=environment, model=model)
    _check(session, scope)
    done: tuple[Outcome, ...] | None = None
    if expect is None:
        listing = _listed(session, scope, external)
    else:
        listing, done = _deleted(session, scope, external, expect)
    if output is Format.json:
        console.write(json.dump(report.data(listing, done)))
    elif done is None:
        console.show(report.blocks(listing, _command(scope, external)))
    else:
        console.show(report.outcomes(done))
    if listing.tripped or any(each.result == "failed" for each in done or ()):
        raise typer.Exit(1)


def _command(scope: Scope, external: bool) -> str:
    """What makes the same list again."""
    said = ["reconcile prune", *(["--external"] if external else [])]
    said += [f"--environment {scope.environment}"] if scope.environment else []
    return " ".join(said + ([f"--model {scope.model}"] if scope.model else []))


def _listed(session: Session, scope: Scope, external: bool) -> Listing:
    from reconciler.bootstrap.process import now
    from reconciler.load import load
    from reconciler.prune import survey

    with console.working("asking the registry, the workflows, the forge, the cluster and main's history"):
        desired = load(session.source, session.source.head())
        return survey(desired, session.readers, now(), scope, external=external)


def _deleted(
    session: Session, scope: Scope, external: bool, expect: str
) -> tuple[Listing, tuple[Outcome, ...]]:
    """Listed again under the lease: exactly what was shown, or nothing."""
    from reconciler.bootstrap.process import now
    from reconciler.cli.orders import in_turn
    from reconciler.core.errors import Terminal
    from reconciler.loop import check_digest
    from reconciler.prune import remove

    person = session.repository.name
    if not person:
        raise Terminal("it is logged who deletes, and Git does not know you", hint="git config user.name NAME")
    with in_turn(session.writers.lease):
        listing = _listed(session, scope, external)
        check_digest("list", listing.digest, expect, "`reconcile prune`")
        done = []
        for outcome in remove(listing, session.writers, person, now()):
            done.append(outcome)
            console.note(f"{outcome.result} {outcome.key}")
        return listing, tuple(done)


def _check(session: Session, scope: Scope) -> None:
    from reconciler.core.errors import Terminal

    for option, asked, known in (
        ("--environment", scope.environment, session.main.environments),
        ("--model", scope.model, session.main.models),
    ):
        if asked and asked not in known:
            raise Terminal(
                f"main has no {asked!r}", where=option, hint=f"it has {', '.join(sorted(known)) or 'none'}"
            )
