"""``reconcile-step NAME``: what every container of a workflow runs.

A step writes its outputs to files below ``--out`` and its log to stderr. Exit codes: 0 done, 75 (EX_TEMPFAIL)
a service did not answer, or the step was told to end, and the same call may succeed later, 1 everything else,
2 wrong usage. Of these, Argo and the embedded engine retry after 75 only.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

from reconciler.core.errors import Retryable, Terminal
from workflows.steps import data, evaluate, identify, parity, register, train

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


class Step(NamedTuple):
    about: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


STEPS = {
    "data": Step("fetch what a DVC pointer tracks, by its md5", data.arguments, data.run),
    "train": Step("run a model's training code and write an MLflow model", train.arguments, train.run),
    "register": Step("make a model folder a version in the registry", register.arguments, register.run),
    "identify": Step("tag a version registered elsewhere with its digest", identify.arguments, identify.run),
    "evaluate": Step("score candidate and champion on the same rows", evaluate.arguments, evaluate.run),
    "parity": Step(
        "compare the real server's answers with the model's predictions", parity.arguments, parity.run
    ),
}


def parser() -> argparse.ArgumentParser:
    """The command line, with one subcommand a step."""
    top = argparse.ArgumentParser(
        prog="reconcile-step", description="One step of a workflow.", allow_abbrev=False
    )
    names = top.add_subparsers(dest="name", required=True, metavar="STEP")
    for name, step in STEPS.items():
        step.arguments(names.add_parser(name, help=step.about, description=step.about, allow_abbrev=False))
    return top


def main(arguments: list[str] | None = None) -> None:
    """Run one step and exit."""
    sys.exit(_run(parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ.update({**IMPATIENT, **os.environ, **QUIET})
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
    try:
        STEPS[options.name].run(options)
    except (Retryable, Terminal) as error:
        sys.stderr.write(f"{options.name}: {error}\n")
        return EX_TEMPFAIL if isinstance(error, Retryable) else 1
    return 0


if __name__ == "__main__":
    main()
