"""`reconcile status`: the matrix of models and environments, once or again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.options import Format, Output
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.core.observed import WorkflowRun
    from reconciler.loop import Planned
    from reconciler.ports import EngineReader
    from reconciler.report.layout import Block
    from reconciler.report.status import Matrix, Running

LOOK_INTERVAL = 5
"""Seconds between two looks where ``--watch`` does not say."""


def status(
    context: typer.Context,
    watch: Annotated[
        int | None,
        typer.Option(
            metavar="[SECONDS]",
            min=1,
            help=f"Look again every {LOOK_INTERVAL} seconds unless said otherwise.",
        ),
    ] = None,
    output: Output = Format.text,
) -> None:
    """Show what each environment has, and why no further."""
    from reconciler.bootstrap.process import now
    from reconciler.loop import plan_once
    from reconciler.report import json
    from reconciler.report.status import blocks

    session = Session.of(context)
    if watch is not None:
        if output is Format.json:
            raise typer.BadParameter("is for people; a program asks again by itself", param_hint="--watch")
        _forever(session, watch)
    with console.working("asking the registry, the workflows, the forge and the cluster"):
        matrix = matrix_of(plan_once(session.readers, now()), session.readers.engine)
    if output is Format.json:
        console.write(json.rows(matrix.rows))
    else:
        console.show(blocks(matrix, ages=console.is_terminal()))


def matrix_of(planned: Planned, engine: EngineReader) -> Matrix:
    """All that is shown of a plan and of what it rests on. Of runs, only those that go on are read."""
    from reconciler.core.observed import EngineSweep
    from reconciler.planning.view import View
    from reconciler.report import status as report

    desired, observed, plan = planned
    view = View(desired, observed)
    verified = {key: view.verified_at(key.partition("/")[0], pin) for key, pin in desired.releases.items()}
    swept = observed.swept.engine
    runs = swept.runs.values() if isinstance(swept, EngineSweep) else ()
    return report.Matrix(
        at=plan.at,
        rows=report.rows(desired, observed.swept, plan, verified),
        environments=tuple(report.environments_in_order(desired)),
        running=tuple(_running(engine, run) for run in runs if not run.done),
        gaps=plan.gaps,
    )


def _running(engine: EngineReader, run: WorkflowRun) -> Running:
    """With what its tasks last said of their progress. A log that cannot be read says nothing."""
    from reconciler.core.errors import TrueupError
    from reconciler.core.progress import latest_progress
    from reconciler.report.status import Running

    try:
        said = [latest_progress(text) for _, text in engine.logs(run.name, latest=True)]
    except TrueupError:
        said = []
    return Running(run=run, progress=tuple(progress for progress in said if progress is not None))


def _forever(session: Session, seconds: int) -> None:
    """Until interrupted: redrawn in place at a terminal; in a pipe, a block when something is new."""
    from reconciler.bootstrap.process import now
    from reconciler.core.errors import TrueupError
    from reconciler.loop import plan_once
    from reconciler.report.layout import BLANK
    from reconciler.report.status import blocks, headline

    shown: list[Block] = []
    told: object = None
    live = console.is_terminal()
    with console.redrawn() as draw:
        while True:
            try:
                planned = plan_once(session.readers, now())
                matrix = matrix_of(planned, session.readers.engine)
            except TrueupError as error:
                session, told = Session(session.directory), None
                if live:
                    draw([*shown, *([BLANK] if shown else []), *console.failure(error)])
                else:
                    console.fail(error)
            else:
                shown = [headline(matrix), BLANK, *blocks(matrix, ages=live)]
                if live:
                    draw(shown)
                elif matrix.lasting != told:
                    draw([*([BLANK] if told else []), *shown])
                told = matrix.lasting
                if planned.desired.platform != session.platform:
                    session = Session(session.directory)
            time.sleep(seconds)
