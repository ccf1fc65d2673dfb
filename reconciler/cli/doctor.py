"""`reconcile doctor`: what trueup needs and whether it is there."""

from __future__ import annotations

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output
from reconciler.cli.session import Session


def doctor(context: typer.Context, output: Output = Format.text) -> None:
    """Look at all that trueup needs, and say what to do.

    Versions, secrets (by name), the repository, its data, each system of the Platform, what is installed in a
    cluster, rights as far as a read can tell. Nothing is written. Exit code 1 if something fails.
    """
    from reconciler.bootstrap.doctor import PATIENCE, examine
    from reconciler.report import doctor as report
    from reconciler.report import json

    with console.working(f"looking, for {PATIENCE:.0f} s at most"):
        findings = examine(Session.of(context).repository)
    if output is Format.json:
        console.write(json.rows(findings))
    else:
        console.show(report.blocks(findings))
    raise typer.Exit(1 if any(finding.state == "fail" for finding in findings) else 0)
