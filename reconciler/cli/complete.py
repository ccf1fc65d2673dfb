"""Completion: what the Tab key offers for the words in capitals that a command's help has. Called by main.py.

Names come from the files of this checkout alone: nothing is fetched, asked or parsed. It runs while somebody
types, so whatever goes wrong offers nothing and says nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import get_type_hints

import typer
from typer.models import ParameterInfo

NAME = re.compile(r"[a-z0-9][-a-z0-9]*")
"""What is offered: nothing that means something to a shell, whatever a folder may be called."""

RUNS = 30
"""Newest runs that are offered."""


def answer(app: typer.Typer) -> int:
    """What the shell asked, on standard output. The exit code is the shell's function's to read."""
    try:
        with redirect_stderr(StringIO()):
            offer(app)
            app(args=[], prog_name="reconcile", standalone_mode=False)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    except Exception:
        return 1
    return 0


def offer(app: typer.Typer) -> None:
    """Give every parameter whose metavar is one of :data:`OFFERED` its values, in the groups below too."""
    for command in (app.registered_callback, *app.registered_commands):
        if command is None or command.callback is None:
            continue
        # Evaluated once and kept, so that the parser sees what is added here.
        hints = command.callback.__annotations__ = get_type_hints(command.callback, include_extras=True)
        for hint in hints.values():
            for about in getattr(hint, "__metadata__", ()):
                if isinstance(about, ParameterInfo) and (words := _words(about.metavar)):
                    about.autocompletion = _offering(words)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            offer(group.typer_instance)


def _words(metavar: str | None) -> list[str]:
    """``RUN | ENV/MODEL`` as the words in it that have values."""
    return [word for word in re.split(r"[\s|\[\]]+", metavar or "") if word in OFFERED]


def _offering(words: list[str]) -> Callable[[typer.Context, str], list[str]]:
    def values(ctx: typer.Context, incomplete: str) -> list[str]:
        root = _root(Path(ctx.find_root().params.get("directory") or "."))
        found = [name for word in words for name in OFFERED[word](root)] if root else []
        return [name for name in found if name.startswith(incomplete)]

    return values


def _root(start: Path) -> Path | None:
    """The folder around ``start`` that has environments."""
    start = start.absolute()
    return next((folder for folder in (start, *start.parents) if (folder / "environments").is_dir()), None)


def _environments(root: Path) -> list[str]:
    return _named(path.parent for path in root.glob("environments/*/environment.yaml"))


def _models(root: Path) -> list[str]:
    return _named(path.parent for path in root.glob("models/*/model.yaml"))


def _pairs(root: Path) -> list[str]:
    return [f"{environment}/{model}" for environment in _environments(root) for model in _models(root)]


def _runs(root: Path) -> list[str]:
    """Of the embedded engine, newest first. The names of another engine's runs are not in a checkout."""
    home = Path(os.environ.get("TRUEUP_HOME") or root / ".trueup")
    folders = [path.parent for path in home.glob("engine/runs/*/run.json")]
    newest = sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)
    return [folder.name for folder in newest if NAME.fullmatch(folder.name)][:RUNS]


def _named(folders: Iterable[Path]) -> list[str]:
    return sorted(folder.name for folder in folders if NAME.fullmatch(folder.name))


OFFERED: dict[str, Callable[[Path], list[str]]] = {
    "ENV": _environments,
    "MODEL": _models,
    "ENV/MODEL": _pairs,
    "RUN": _runs,
}
