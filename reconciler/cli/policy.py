"""`reconcile policy`: what policies ask, and what they say of candidates made up by a test and of past ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output, VerdictFormat, VerdictOutput
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.policy_tests import Rehearsed
    from reconciler.core.simulation import Simulation
    from reconciler.ports import Source

policy = typer.Typer(
    name="policy", rich_markup_mode=None, help="Policies: read, test, see what a change would have done."
)


@policy.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Policies: read, test, see what a change would have done."""
    if context.invoked_subcommand is None:
        console.write(f"{context.get_help()}\n")


@policy.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="POLICY", help="As in production.")],
    output: Output = Format.text,
) -> None:
    """Print all that a policy of the working tree asks: its own gates, and those of what it extends."""
    from reconciler.bootstrap.sources import folder_source
    from reconciler.core.errors import Terminal
    from reconciler.core.references import policy_path
    from reconciler.core.validation import nearest
    from reconciler.load import load
    from reconciler.report import json
    from reconciler.report import policy as report

    source = folder_source(Session.of(context).repository)
    state = load(source, source.head())
    if name not in state.policies:
        wrong = next((each for each in state.problems if each.path == policy_path(name)), None)
        if wrong is not None:
            raise Terminal(wrong.what, where=f"{wrong.path}:{wrong.line}", hint=wrong.hint)
        if policy_path(name) in source.files(source.head()):
            what, hint = "extends a policy that has an error", "see `reconcile validate`"
            raise Terminal(what, where=policy_path(name), hint=hint)
        hint = nearest(name, state.policies, if_none="there is no policy in policies/")
        raise Terminal(f"there is no policy {name}", hint=hint)
    if output is Format.json:
        console.write(json.dump(report.records(state.policies, name)))
    else:
        console.show(report.blocks(state.policies, name))


@policy.command("test")
def put_to_the_test(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", show_default=False, help="One file or folder of policies/tests."),
    ] = None,
    coverage_min: Annotated[
        int,
        typer.Option(
            "--coverage-min",
            metavar="PERCENT",
            min=0,
            max=100,
            help="Fail where fewer answers than that were seen: of each gate pass, fail and missing.",
        ),
    ] = 0,
    output: Output = Format.text,
) -> None:
    """Put the cases of policies/tests to the policies of the working tree.

    Exit code 1 if a gate answers otherwise than a case expects, or too few of the gates' answers were seen.
    """
    from reconciler.bootstrap.sources import folder_source
    from reconciler.core.errors import Terminal
    from reconciler.core.references import policy_path, policy_test_path
    from reconciler.load import load
    from reconciler.planning.policy_tests import run_tests
    from reconciler.report import json, policy_tests

    repository = Session.of(context).repository
    source = folder_source(repository)
    state = load(source, source.head())
    chosen = {
        name: found
        for name, found in state.policy_tests.items()
        if path is None or _inside(repository.root / policy_test_path(name), path)
    }
    named = {each for found in chosen.values() for each in found.policies}
    policies = {name: found for name, found in state.policies.items() if path is None or name in named}
    for problem in state.problems:
        of_tests = problem.path.startswith("policies/tests/")
        of_policy = problem.path in map(policy_path, named)
        if problem.severity == "error" and (of_tests or of_policy):
            raise Terminal(problem.what, where=f"{problem.path}:{problem.line}", hint=problem.hint)
    if not chosen and path is not None:
        raise Terminal("there is no test of a policy", where=str(path), hint="name a file of policies/tests")
    done = _with_lines(run_tests(chosen, policies), source)
    if output is Format.json:
        console.write(json.dump(done.model_dump(mode="json", by_alias=True)))
    else:
        every = len(chosen) == len(state.policy_tests)
        console.show(policy_tests.blocks(done, unseen=every or coverage_min > 0))
    enough = done.share * 100 >= coverage_min
    if not enough:
        console.note(f"{done.share:.1%} of the gates' answers were seen, and --coverage-min is {coverage_min}%")
    raise typer.Exit(1 if done.wrong or not enough else 0)


def _inside(file: Path, path: Path) -> bool:
    asked = path.resolve()
    return file == asked or asked in file.parents


def _with_lines(done: Rehearsed, source: Source) -> Rehearsed:
    """Only files with a wrong answer are parsed again for the line of what they expect."""
    from reconciler.core.strict_yaml import read

    files = source.files(source.head())
    oids = {answer.path: files[answer.path].oid for answer in done.wrong}
    texts = source.read(oids.values())
    parsed = {path: read(texts[oid], path) for path, oid in oids.items()}
    answers = tuple(
        answer
        if answer.right
        else answer.model_copy(update={"line": parsed[answer.path].line_of(answer.field)})
        for answer in done.answers
    )
    return done.model_copy(update={"answers": answers})


@policy.command()
def simulate(
    context: typer.Context,
    against: Annotated[
        str, typer.Option("--against", metavar="REV", help="The old side; main as it is now by default.")
    ] = "",
    environment: Annotated[
        str, typer.Option("--environment", metavar="ENV", show_default=False, help="This environment only.")
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="How many of a model's newest versions are looked at.")
    ] = 200,
    output: VerdictOutput = VerdictFormat.text,
) -> None:
    """Judge every past candidate again by the policies of the working tree.

    Beside it, by those of --against: what would have been blocked or let through. The numbers, the champion,
    the waivers and the instant are those of then. Nothing is measured, and nothing written.
    """
    from reconciler.core.errors import Terminal
    from reconciler.report import json
    from reconciler.report import simulation as report

    session = Session.of(context)
    with console.working("reading what was, and asking the registry"):
        told = simulated(session, against, environment, limit)
    if environment and not told.asked and environment not in session.main.environments:
        raise Terminal(
            f"there is no environment {environment}", hint="reconcile policy simulate names them all"
        )
    match output:
        case VerdictFormat.json:
            console.write(json.dump(told.model_dump(mode="json", by_alias=True)))
        case VerdictFormat.markdown:
            console.write(report.as_markdown(told))
        case VerdictFormat.text:
            console.show(report.blocks(told))


def simulated(session: Session, against: str = "", environment: str = "", limit: int = 200) -> Simulation:
    """The policies of the working tree are the new side; the old one is ``against``, or main's tip."""
    from reconciler.bootstrap.registries import connect_registries, kept_evidence
    from reconciler.bootstrap.sources import folder_source
    from reconciler.cli.admit import found_here
    from reconciler.load import load
    from reconciler.replay import simulate as judged_again

    origin = session.source
    tip = origin.head()
    source, commit = found_here(session.repository, origin, against) if against else (origin, tip)
    folder = folder_source(session.repository)
    return judged_again(
        origin,
        connect_registries(session.repository, session.platform),
        (f"{against or 'main'} at {commit[:7]}", load(source, commit)),
        ("the working tree", load(folder, folder.head())),
        main=session.main,
        environment=environment,
        limit=limit,
        kept=kept_evidence(),
    )
