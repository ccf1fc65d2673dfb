"""`reconcile policy`: what policies say of candidates that a test makes up, and of those that there were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.policy_tests import Rehearsed
    from reconciler.ports import Source

policy = typer.Typer(name="policy", rich_markup_mode=None, help="Policies: test a change of one.")


@policy.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Policies: test a change of one."""
    if context.invoked_subcommand is None:
        console.write(f"{context.get_help()}\n")


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
    if not chosen:
        hint = "write one, as docs/gates.md shows" if path is None else "name a file of policies/tests"
        raise Terminal("there is no test of a policy", where=str(path or "policies/tests"), hint=hint)
    done = _with_lines(run_tests(chosen, policies), source)
    if output is Format.json:
        console.write(json.dump(done.model_dump(mode="json", by_alias=True)))
    else:
        console.show(policy_tests.blocks(done))
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
