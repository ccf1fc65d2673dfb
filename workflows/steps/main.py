"""``reconcile-step NAME``: what every container of a workflow runs.

A step writes its outputs to files below ``--out`` and its log to stderr. Exit codes: 0 done, 75 (EX_TEMPFAIL)
a service did not answer, or the step was told to end, and the same call may succeed later, 1 everything else,
2 wrong usage. Of these, Argo and the embedded engine retry after 75 only.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import warnings
from typing import Any

from reconciler.core.errors import Retryable, Terminal

EX_TEMPFAIL = 75
QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""A step sends nothing about its use to anyone, and its log is its own."""

IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}
"""Unless set otherwise: a registry that is away is the engine's to wait for, not minutes of a step's."""

STEPS = {
    "data": "fetch what a DVC pointer tracks, by its md5",
    "check": "refuse training rows that break the model's contract",
    "search": "draw the trials of a search, and choose among their results",
    "trial": "train with the hyperparameters of one trial, and say what came of it",
    "train": "run a model's training code and write an MLflow model",
    "register": "make a model folder a version in the registry",
    "identify": "tag a version registered elsewhere with its digest",
    "evaluate": "score candidate and champion on the same rows",
    "contract": "compare the rows of a candidate with the model's contract",
    "changes": "compare the training rows of candidate and champion",
    "notify": "tell the reconciler that a run has ended",
    "reproduce": "compare a version with what its training gives when it is run again",
    "parity": "compare the real server's answers with the model's predictions",
    "behaviour": "run the model's own tests of behaviour",
    "speed": "time candidate and champion on the same records, in turn",
    "load": "ask the real server at a stated rate",
    "drift": "compare training rows with recorded requests",
    "files": "compare interface and libraries with the champion's, and look into the files",
    "replay": "ask the candidate what the champion was asked",
}
"""What each step does. It is the module of its name in this folder: ``arguments(parser)``, ``run(options)``."""


def parser(step: str = "") -> argparse.ArgumentParser:
    """The command line of ``step``, or for any other word one that names all steps.

    Only that step is imported: what one needs is nothing that another should wait for.
    """
    top = argparse.ArgumentParser(
        prog="reconcile-step", description="One step of a workflow.", allow_abbrev=False
    )
    names = top.add_subparsers(dest="name", required=True, metavar="STEP")
    for name, about in ({step: STEPS[step]} if step in STEPS else STEPS).items():
        options = names.add_parser(name, help=about, description=about, allow_abbrev=False)
        if name == step:
            _module(name).arguments(options)
    return top


def _module(step: str) -> Any:
    return importlib.import_module(f"workflows.steps.{step}")


def main(arguments: list[str] | None = None) -> None:
    """Run one step and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(parser(*given[:1]).parse_args(given)))


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ.update({**IMPATIENT, **os.environ, **QUIET})
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    try:
        _module(options.name).run(options)
    except (Retryable, Terminal) as error:
        sys.stderr.write(f"{options.name}: {error}\n")
        return EX_TEMPFAIL if isinstance(error, Retryable) else 1
    return 0


if __name__ == "__main__":
    main()
