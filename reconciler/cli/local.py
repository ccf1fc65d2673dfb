"""`reconcile local`: the processes of the embedded stack on this machine."""

from __future__ import annotations

import typer

from reconciler.cli import console
from reconciler.cli.session import Session

local = typer.Typer(name="local", rich_markup_mode=None, help="The embedded stack's processes.")


@local.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """The embedded stack's processes."""
    if context.invoked_subcommand is None:
        console.write(f"{context.get_help()}\n")


@local.command()
def stop(context: typer.Context) -> None:
    """End the embedded stack's workflow runs and servers. The next tick starts again what should run."""
    from reconciler.bootstrap.clusters import stop_local

    repository = Session.of(context).repository
    with console.working("waiting for runs and servers to end"):
        stop_local(repository)
    console.note(f"stopped what ran under {repository.home}")
