"""What `reconcile new-model` and `reconcile new-environment` share: names, Copier, how a folder comes to be.

The templates are in `starter/`, packed into the wheel below ``reconciler/example``. A new folder is put
together where Git does not see it and moved into place at once: it is there as a whole or not at all.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.cli import console
from reconciler.core.base import DNS_1123
from reconciler.core.errors import Terminal
from reconciler.core.validation import NAME_HINT

if TYPE_CHECKING:
    from reconciler.bootstrap.repository import Repository
    from reconciler.core.desired import DesiredState


def working_tree(repository: Repository) -> DesiredState:
    """The documents as they lie in the clone, committed or not."""
    from reconciler.bootstrap.sources import folder_source
    from reconciler.load import load

    source = folder_source(repository)
    return load(source, source.head())


def check_name(name: str, place: Path, command: str) -> None:
    """Terminal for what cannot be a name, with one that can; and where something is there already."""
    if not re.fullmatch(DNS_1123, name):
        close = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].strip("-")
        hint = f"reconcile {command} {close}" if close else NAME_HINT
        raise Terminal(f"{name!r} is not an acceptable name: {NAME_HINT}", hint=hint)
    if place.exists():
        where = f"{place.parent.name}/{name}"
        raise Terminal("is there already", where=where, hint="choose another name, or edit that one")


@contextmanager
def put_together(root: Path, place: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``place`` if all goes well and is gone otherwise."""
    home = root / ".trueup"
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="new-") as scratch:
        staged = Path(scratch) / place.name
        yield staged
        move(staged, place)


def move(staged: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    try:
        staged.rename(place)
    except OSError as error:
        where = f"{place.parent.name}/{place.name}"
        raise Terminal(f"cannot be made: {error.strerror}", where=where) from error


def fill_in(template: str, staged: Path, answers: dict[str, Any]) -> None:
    """Render ``starter/TEMPLATE`` into ``staged``. Copier asks nothing, and needs neither Git nor a network."""
    import copier

    from reconciler.cli.init import shipped_root

    copier.run_copy(
        str(shipped_root() / "starter" / template),
        staged,
        data=answers,
        settings=copier.Settings(),
        defaults=True,
        overwrite=True,
        quiet=True,
    )


def tell_problems(state: DesiredState, folder: str) -> int:
    """What `reconcile validate` says of ``folder``; the exit code that follows."""
    wrong = [problem for problem in state.problems if problem.path.startswith(f"{folder}/")]
    for problem in wrong:
        console.write(f"{problem.severity}: {problem}\n")
    return 1 if any(problem.severity == "error" for problem in wrong) else 0
