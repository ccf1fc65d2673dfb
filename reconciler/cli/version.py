"""`reconcile version`."""

from __future__ import annotations

from reconciler.cli import console


def version() -> None:
    """Print the version of trueup."""
    from reconciler import __version__

    console.write(f"trueup {__version__}\n")
