"""Step `check`: training rows that break the contract of their model are not trained on.

It stands before the training, where there are no credentials for the registry: what it finds is in its log, by
column and row, and in short in the run's message. The measurement `contract` (contract.py) leaves a report.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from reconciler.core.errors import Terminal
from workflows.steps.contracts import declared, examined, sentence
from workflows.steps.recording import tell_engine
from workflows.steps.rules import TRAIN

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")
    parser.add_argument("--model", required=True)
    parser.add_argument("--contract", required=True, help="the digest that its contract must have")
    parser.add_argument("--data", type=Path, required=True, help="folder with the training rows")


def run(options: argparse.Namespace) -> None:
    said = declared(options.source, options.model, digest=options.contract)
    found = examined(said, {TRAIN: options.data})
    if not found.breaches:
        log.info("%d rows keep the contract", found.rows[TRAIN])
        return
    what = f"the rows break the contract: {sentence(found.breaches)}"
    tell_engine(what)
    where = f"models/{options.model}/{said.model.data.train.pointer if said.model.data.train else ''}"
    raise Terminal(what, where=where, hint="mend the rows, or the data.contract that asks too much")
