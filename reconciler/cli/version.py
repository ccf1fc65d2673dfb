"""`reconcile version`, and `reconcile --version`."""

from __future__ import annotations

import typer

from reconciler.cli import console


def version() -> None:
    """Print the version of trueup."""
    from reconciler import __version__

    console.write(f"trueup {__version__}\n")


def version_option(wanted: bool) -> None:
    """The callback of ``--version``: print it and end, whatever else was asked."""
    if wanted:
        version()
        raise typer.Exit
