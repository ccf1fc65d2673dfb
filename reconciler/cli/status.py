"""`reconcile status`: the matrix of models and environments."""

from __future__ import annotations

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output
from reconciler.cli.session import Session


def status(context: typer.Context, output: Output = Format.text) -> None:
    """Show the matrix: what each environment has, and why no further."""
    from reconciler.bootstrap.process import now
    from reconciler.loop import plan_once
    from reconciler.planning.view import View
    from reconciler.report import json
    from reconciler.report import status as report

    with console.working("asking the registry, the workflows, the forge and the cluster"):
        desired, observed, plan = plan_once(Session.of(context).readers, now())
    view = View(desired, observed)
    verified = {key: view.verified_at(key.partition("/")[0], pin) for key, pin in desired.releases.items()}
    rows = report.rows(desired, observed.swept, plan, verified)
    if output is Format.json:
        console.write(json.rows(rows))
        return
    training = report.training(desired, plan)
    console.show(report.blocks(rows, training, report.environments_in_order(desired), plan.gaps))
