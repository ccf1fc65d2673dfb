"""`reconcile admit`: the required check on every pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import VerdictFormat, VerdictOutput
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.bootstrap.repository import Repository
    from reconciler.core.plan import Verdict
    from reconciler.ports import Source


def admit(
    context: typer.Context,
    base: Annotated[
        str, typer.Option(metavar="REV", help="What it is merged into; main as it is now by default.")
    ] = "",
    head: Annotated[str, typer.Option(metavar="REV", help="What would be merged.")] = "HEAD",
    output: VerdictOutput = VerdictFormat.text,
) -> None:
    """Judge a change as every pull request is judged.

    Policy, model, environment and champion are read from the base, as origin has it. Evidence is checked
    against the registry. The head may be a commit of this clone. Exit code 1 if any of it is blocked.
    """
    from reconciler.report import verdicts

    session = Session.of(context)
    with console.working("fetching, and asking the registry"):
        said = judged(session, base, head)
    match output:
        case VerdictFormat.json:
            console.write(verdicts.as_json(said))
        case VerdictFormat.markdown:
            console.write(verdicts.as_markdown(said))
        case VerdictFormat.text:
            console.show(verdicts.blocks(said))
    raise typer.Exit(1 if any(verdict.verdict == "block" for verdict in said) else 0)


def judged(session: Session, base: str, head: str) -> tuple[Verdict, ...]:
    """The verdicts on what ``head`` changes; ``base`` is main's tip unless given."""
    from reconciler.bootstrap.process import now
    from reconciler.bootstrap.registries import connect_registries
    from reconciler.core.errors import Terminal
    from reconciler.core.observed import Observed, Swept
    from reconciler.load import load
    from reconciler.look import read_evidence
    from reconciler.planning.admission import admit as judge
    from reconciler.planning.admission import evidence_marks
    from reconciler.sweep import registry_sweeps

    repository, origin = session.repository, session.source
    tip = origin.head()
    base_commit = origin.resolve(base) if base else tip
    head_source, head_commit = found_here(repository, origin, head)
    if repository.is_behind(base_commit, head_commit):
        raise Terminal(
            f"{head} does not contain origin's {base or 'main'}, so more differs than what it changes",
            hint="merge or rebase first",
        )
    registries = connect_registries(repository, session.platform)
    observed = Observed(swept=Swept(at=now(), registries=registry_sweeps(registries)))
    before, after = load(origin, base_commit), load(head_source, head_commit)
    evidence, _ = read_evidence(registries, evidence_marks(before, after, observed))
    return judge(before, after, observed.model_copy(update={"evidence": evidence}))


def found_here(repository: Repository, origin: Source, revision: str) -> tuple[Source, str]:
    """By this clone's names first, HEAD among them, and read from origin where it was pushed."""
    from reconciler.bootstrap.sources import clone_source
    from reconciler.core.errors import Terminal

    here = repository.commit(revision)
    try:
        return origin, origin.resolve(here or revision)
    except Terminal:
        if not here:
            raise
    clone = clone_source(repository)
    clone.head()
    return clone, clone.resolve(here)
