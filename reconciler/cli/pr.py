"""`reconcile pr`: pull requests, for people at a terminal. What is done here is done as you."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Number, Output
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.bootstrap.forges import Forge

pr = typer.Typer(name="pr", rich_markup_mode=None, help="Pull requests: look, approve, merge.")

SECURES_NOTHING = (
    "the embedded forge takes your name from git config: its approvals show the flow and secure nothing"
)


@pr.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Pull requests: look, approve, merge."""
    if context.invoked_subcommand is None:
        console.write(f"{context.get_help()}\n")


def _forge(context: typer.Context) -> Forge:
    from reconciler.bootstrap.forges import connect_as_person

    session = _session(context)
    return connect_as_person(session.repository, session.forge)


def _session(context: typer.Context) -> Session:
    """One for a whole command."""
    session: Session = context.meta.setdefault("session", Session.of(context))
    return session


@pr.command("list")
def list_(context: typer.Context, output: Output = Format.text) -> None:
    """List the open pull requests, whoever opened them."""
    from reconciler.report import json, pulls

    forge = _forge(context)
    found = [forge.get(number) for number in sorted(forge.sweep().open)]
    console.write(json.rows(found)) if output is Format.json else console.show(pulls.table(found))


@pr.command()
def show(
    context: typer.Context,
    number: Number,
    diff: Annotated[bool, typer.Option("--diff/--no-diff", help="With what it changes.")] = True,
    output: Output = Format.text,
) -> None:
    """Show a pull request: what it says, and what it changes."""
    from reconciler.report import json, layout, pulls

    forge = _forge(context)
    pull = forge.get(number)
    if output is Format.json:
        console.write(json.rows([pull]))
        return
    console.show([*pulls.head(pull), layout.BLANK])
    console.show_markdown(pulls.body(pull) or "(no description)")
    if pull.comments:
        console.show([layout.BLANK, *pulls.comments(pull)])
    if diff:
        console.show([layout.BLANK, *pulls.difference(forge.difference(number))])


@pr.command("open")
def open_(
    context: typer.Context,
    branch: Annotated[
        str,
        typer.Argument(metavar="[BRANCH]", show_default=False, help="A branch you pushed; yours by default."),
    ] = "",
    title: Annotated[str, typer.Option("--title", "-t", help="By default the last commit's first line.")] = "",
    body: Annotated[str, typer.Option("--body", "-b", help="What it is for.")] = "",
) -> None:
    """Open a pull request of a branch that you pushed."""
    from reconciler.core.errors import Terminal

    repository = _session(context).repository
    name = branch or repository.branch
    if not name:
        raise Terminal("no branch is checked out", hint="name one: reconcile pr open BRANCH")
    first_line = repository.subject(name)
    number = _forge(context).open_as_person(name, title or first_line or name, body)
    console.write(f"#{number}\n")


@pr.command()
def approve(context: typer.Context, number: Number) -> None:
    """Approve the present head of a pull request, as you."""
    head = _forge(context).approve(number)
    console.write(f"approved #{number} at {head[:7]}\n")
    if _session(context).forge.type == "embedded":
        console.note(SECURES_NOTHING)


@pr.command()
def merge(context: typer.Context, number: Number) -> None:
    """Merge a pull request, as you."""
    commit = _forge(context).merge_as_person(number)
    console.write(f"merged #{number} as {commit[:7]}\n")


@pr.command()
def close(
    context: typer.Context,
    number: Number,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for those who ask later.")] = "",
) -> None:
    """Close a pull request, as you. Trueup does not open the same proposal again."""
    _forge(context).close_as_person(number, reason)
    console.write(f"closed #{number}\n")
