"""Options that several commands share. Cheap to import: ``--help`` reads only such files."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


def said(reason: str) -> str:
    """One line, and not nothing: it stands in Git, and people read it there."""
    line = " ".join(reason.split())
    if not line or len(line) > 500:
        raise typer.BadParameter("says nothing" if not line else "has more than 500 characters")
    return line


class Format(StrEnum):
    """What standard output carries."""

    text = "text"
    json = "json"


class VerdictFormat(StrEnum):
    text = "text"
    json = "json"
    markdown = "markdown"


class PlanFormat(StrEnum):
    text = "text"
    json = "json"
    markdown = "markdown"
    html = "html"


class Task(StrEnum):
    """The tasks of a Model, for a command line."""

    classification = "classification"
    binary = "binary-classification"
    regression = "regression"


Output = Annotated[Format, typer.Option("--output", "-o", help="Text for people, JSON for programs.")]
VerdictOutput = Annotated[
    VerdictFormat,
    typer.Option("--output", "-o", help="Text for people, Markdown for a forge, JSON for programs."),
]
PlanOutput = Annotated[
    PlanFormat,
    typer.Option("--output", "-o", help="Text, one HTML page, Markdown for a forge, JSON for programs."),
]
Pair = Annotated[str, typer.Argument(metavar="ENV/MODEL", help="As in production/digits.")]
Why = Annotated[str, typer.Option("--reason", "-r", help="Kept with the run, for those who read it later.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="The pull request's number.")]
Reason = Annotated[
    str,
    typer.Option("--reason", "-r", callback=said, help="Why, for those who read it later.", show_default=False),
]
