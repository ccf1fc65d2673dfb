"""`reconcile validate`: everything that is wrong with the documents of the working tree, at once."""

from __future__ import annotations

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output
from reconciler.cli.session import Session


def validate(context: typer.Context, output: Output = Format.text) -> None:
    """Check every document of the working tree.

    Committed or not. Exit code 1 if one is wrong.
    """
    from reconciler.bootstrap.sources import folder_source
    from reconciler.load import load
    from reconciler.report import json, problems

    source = folder_source(Session.of(context).repository)
    state = load(source, source.head())
    if output is Format.json:
        console.write(json.rows(state.problems))
    else:
        console.show(problems.blocks(state))
    raise typer.Exit(1 if any(problem.severity == "error" for problem in state.problems) else 0)
