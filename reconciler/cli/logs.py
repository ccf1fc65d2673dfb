"""`reconcile logs`: what a run or a server printed."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.session import Session, subject_of


def logs(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="RUN | ENV/MODEL", help="A workflow run, or a model that serves.")
    ],
) -> None:
    """Print what a workflow run, or a model's server, has said."""
    from reconciler.core.errors import Terminal

    session = Session.of(context)
    if "/" not in what:
        for task, text in session.readers.engine.logs(what):
            ending = "" if text.endswith("\n") or not text else "\n"
            console.write(f"==> {task} <==\n{text}{ending}")
        return
    subject = subject_of(what)
    environment = session.main.environments.get(subject.environment)
    if environment is None:
        known = ", ".join(sorted(session.main.environments)) or "none"
        raise Terminal("there is no such environment", where=what, hint=f"the environments are {known}")
    console.write(session.readers.clusters[environment.cluster].logs(subject.environment, subject.model))
