"""`reconcile logs`: what a run or a server printed, or a run is printing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import console
from reconciler.cli.session import Session, subject_of

if TYPE_CHECKING:
    from reconciler.core.observed import WorkflowRun
    from reconciler.ports import EngineReader

FOLLOW_INTERVAL = 1.0
"""Seconds between two readings of a run that is followed."""


def logs(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="RUN | ENV/MODEL", help="A workflow run, or a model that serves.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended. Exit code 1 if it failed.")
    ] = False,
) -> None:
    """Print what a workflow run, or a model's server, has said."""
    from reconciler.core.errors import Terminal
    from reconciler.report.inert import visible

    session = Session.of(context)
    if "/" not in what:
        if follow:
            raise typer.Exit(_follow(session.readers.engine, what))
        found = session.readers.engine.run(what)
        _tell_who_asked(found)
        if found.stopped:
            console.note(visible(f"{what} was ended by {found.stopped_by or 'trueup'}: {found.stopped}"))
        for task, text in session.readers.engine.logs(what):
            ending = "" if text.endswith("\n") or not text else "\n"
            console.write(f"==> {task} <==\n{text}{ending}")
        return
    if follow:
        raise Terminal("a server has no end to follow it to", where=what, hint="leave out --follow")
    subject = subject_of(what)
    environment = session.main.environments.get(subject.environment)
    if environment is None:
        known = ", ".join(sorted(session.main.environments)) or "none"
        raise Terminal("there is no such environment", where=what, hint=f"the environments are {known}")
    console.write(session.readers.clusters[environment.cluster].logs(subject.environment, subject.model))


def _follow(engine: EngineReader, name: str) -> int:
    """Print lines as they come, each behind its task's name; at last the run's phase. 0 if it succeeded."""
    from reconciler.core.errors import Retryable
    from reconciler.report.inert import printed, visible
    from reconciler.report.layout import Line, Span

    read: dict[str, str] = {}
    trouble = ""
    while True:
        try:
            run = engine.run(name)  # before its logs: what a run printed before it ended is read after that
            for task, text in list(_news(engine, run, read)):
                head = Span(f"{task:<{max(map(len, read))}} | ", "note")
                lines = text.removesuffix("\n").split("\n")
                console.show(Line((head, Span(printed(each))), whole=True) for each in lines)
        except Retryable as error:
            if str(error) != trouble:
                console.fail(error)
            trouble = str(error)
        else:
            trouble = ""
            if run.done:
                break
        time.sleep(FOLLOW_INTERVAL)
    _tell_who_asked(run)
    said = f" {run.said}" if run.outcome == "Cancelled" else f": {run.message}" if run.message else ""
    console.note(visible(f"{name}: {run.outcome}{said}"))
    return 0 if run.phase == "Succeeded" else 1


def _tell_who_asked(run: WorkflowRun) -> None:
    """On standard error, where it was a person."""
    from reconciler.report.inert import visible

    if run.asked_by:
        console.note(visible(f"{run.name} was asked for by {run.asked_by}: {run.reason}"))


def _news(engine: EngineReader, run: WorkflowRun, read: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(task, whole lines) that are not in ``read`` yet, which then has them; at the end of the run, all.

    A log that does not begin as it did is another text, such as the log of a container that was waited for.
    """
    for task, text in engine.logs(run.name):
        whole = text if run.done else text[: text.rfind("\n") + 1]
        before = read.get(task, "")
        read[task] = whole
        new = whole.removeprefix(before) if whole.startswith(before) else whole
        if new:
            yield task, new
