"""Step `contract`: do the rows that a candidate was trained on, and those it is scored on, keep its contract?

It fetches both by their md5: main's pointer to the training rows may name other rows by now. Numbers and a
report, no judgement.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.steps import measuring
from workflows.steps.contracts import declared, examined, report, sentence
from workflows.steps.data import fetched
from workflows.steps.rules import EVALUATION, TRAIN, Breach, Examined

MOST_COLUMNS = 50
"""With breaches that are in the evidence one by one: those with most."""


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, rows=False)
    parser.add_argument("--source", type=Path, required=True, help="the repository's files")
    parser.add_argument("--train-pointer", required=True, help="empty where the model is trained elsewhere")
    parser.add_argument("--train-md5", required=True, help="of the candidate; empty where nobody knows")
    parser.add_argument("--evaluation-pointer", required=True)


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("contract", options.inputs, key=options.key)
    digest = str(inputs["contract"])
    said = declared(options.source, options.model, digest=digest)
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            name: fetched(options.source, pointer, md5, Path(folder) / name)
            for name, pointer, md5 in (
                (TRAIN, options.train_pointer, options.train_md5),
                (EVALUATION, options.evaluation_pointer, str(inputs["data"])),
            )
            if pointer and md5
        }
        found = examined(said, sets)
    why = "" if options.train_pointer else "the model is trained elsewhere, on rows that are not known here"
    attached = {f"contract-report-{options.key}.json": report(options.model, digest, found)}
    measuring.publish("contract", measure(found, why), inputs, options, attached=attached)


def measure(found: Examined, why: str = "") -> dict[str, Metric]:
    """``violations``: values and rows that break the contract, by check and by column, in all rows that were
    asked. ``leaked-rows``: evaluation rows that are among the training rows; 0 where no more are than the
    contract allows. ``why`` the training rows are not known, where they are not.
    """
    unknown = f"only the evaluation rows: {why or 'the version does not say what it was trained on'}"
    both = TRAIN in found.rows
    asked, evaluated = sum(found.rows.values()), found.rows[EVALUATION]
    notes = [sentence(found.breaches), "" if both else unknown]
    violations = Metric(
        overall=_count(found.violations, asked, *notes),
        slices={
            kind: by
            for kind, by in (
                ("check", _by(found.breaches, "check", asked)),
                ("column", _by(found.breaches, "column", asked)),
            )
            if by
        },
    )
    if found.leaked is None:
        note = "a file has no column of the keys" if both else unknown
        leaked = Scores(candidate=Estimate(value=None, n=evaluated, note=note))
    else:
        places = ", ".join(map(str, found.leaks[:3])) + (", ..." if found.leaked > 3 else "")
        said = [f"{found.leaked} of {evaluated}: {places}"] if found.leaked else []
        said += [f"the contract allows {found.allowed}"] if found.allowed else []
        leaked = _count(found.leaked if found.leaked > found.allowed else 0, evaluated, *said)
    return {"violations": violations, "leaked-rows": Metric(overall=leaked)}


def _by(breaches: Iterable[Breach], field: str, n: int) -> dict[str, Scores]:
    counts: dict[str, int] = {}
    for breach in breaches:
        if name := getattr(breach, field):
            counts[name] = counts.get(name, 0) + breach.count
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_COLUMNS]
    return {name: _count(count, n) for name, count in most}


def _count(count: int, n: int, *notes: str) -> Scores:
    said = "; ".join([*filter(None, notes), "every row was asked: no interval"])
    return Scores(candidate=Estimate(value=float(count), n=n, note=said))
