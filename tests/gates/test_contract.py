"""Rows that break the contract: a fault of each kind in a copy of digits' data, and rows that are in both."""

from __future__ import annotations

import json
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from reconciler.core.observed import TAG_INPUTS
from tests.gates.workbench import REPOSITORY
from workflows.steps.contracts import declared, examined

pytestmark = pytest.mark.gates

TOLD = """
  contract:
    columns:
      pixel_{00..63}: {type: integer, min: 0, max: 16}
      ink: {type: text, values: [light, medium, heavy]}
      label: {type: integer, values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}
      scan: {type: text, unique: true, pattern: "s[0-9]{4}"}
      total: {type: number, nulls: 0.01}
      day: {type: instant}
      writer: {type: text, personal: true, pattern: "[a-z]+"}
    rows: {min: 500, max: 1000}
    rules:
      - {name: light-ink, column: total, op: "<", value: 297, when: {column: ink, op: "==", value: light}}
    target: {each: {min: 0.05, max: 0.15}}
    freshness: {column: day, newest: 30d, oldest: 400d, asOf: "1998-07-01T00:00:00Z"}
    keys: [scan]
"""
"""The contract of digits with every kind of check in it."""


def told(folder: Path) -> None:
    """Put the fuller contract in the place of the shipped one."""
    document = folder / "model.yaml"
    before, _, rest = document.read_text().partition("  # Rows that break this")
    document.write_text(before.rstrip() + TOLD + "training:" + rest.partition("\ntraining:")[2])


def extended(rows: pd.DataFrame, first: int) -> pd.DataFrame:
    """Digits with the columns that the fuller contract asks for."""
    numbers = range(first, first + len(rows))
    return rows.assign(
        scan=[f"s{number:04d}" for number in numbers],
        total=rows.filter(like="pixel_").sum(axis=1).astype(float),
        day="1998-06-20",
        writer="ada",
    )


def faulty(rows: pd.DataFrame) -> pd.DataFrame:
    """A fault of each kind; the rows below are the numbers in the report, less one."""
    rows = extended(rows, 0).astype(object)
    rows.loc[3, "pixel_03"] = 17
    rows.loc[4, "pixel_04"] = "blot"
    rows.loc[5, "ink"] = "blue"
    rows.loc[6, "label"] = None
    rows.loc[8, "scan"] = "s0007"
    rows.loc[9, "scan"] = "S-9"
    rows.loc[10:40, "total"] = None
    rows.loc[50, "day"] = "1996-01-01"
    rows.loc[51, "day"] = "soon"
    rows.loc[52, "writer"] = "Ada Lovelace"
    light = rows.index[rows["ink"] == "light"][-1]
    rows.loc[light, "total"] = 300.0
    rows["guess"] = rows["label"]
    return pd.concat([rows.drop(columns="pixel_10"), rows.drop(columns="pixel_10")[100:200]])


CAUGHT = {
    # (column, check) -> rows of the report
    ("pixel_03", "range"): [4],
    ("pixel_04", "type"): [5],
    ("ink", "values"): [6],
    ("label", "nulls"): [7],
    ("scan", "unique"): [9, *range(998, 1007)],
    ("scan", "pattern"): [10],
    ("total", "nulls"): [*range(11, 21)],
    ("day", "oldest"): [51],
    ("day", "type"): [52],
    ("writer", "pattern"): [53],
    ("pixel_10", "column"): [0],
    ("guess", "column"): [0],
    ("", "light-ink"): None,
    ("", "rows"): [],
}


@pytest.fixture(scope="module")
def fuller(digits):
    return (
        digits.with_rows("train", lambda rows: extended(rows, 0))
        .with_rows("evaluation", lambda rows: extended(rows, 5000))
        .edited(told)
    )


def as_if_trained_on(bench, version):
    """A version like this one, that says it was trained on the rows of this commit."""
    inputs = {**version.training_inputs, "data": bench.desired.models["digits"].train_md5}
    claims = version.model_copy(update={"tags": {**version.tags, TAG_INPUTS: json.dumps(inputs)}})
    return bench.planted(claims, lambda folder: (folder / "trained-on").write_text(inputs["data"]))


def report_of(evidence) -> dict:
    import mlflow

    folder = f"runs:/{evidence.measured_on.run}/evidence"
    name = f"contract-report-{evidence.key}.json"
    return json.loads(Path(mlflow.artifacts.download_artifacts(f"{folder}/{name}")).read_text())


@pytest.fixture(autouse=True)
def _registry(digits, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", digits.environment["MLFLOW_TRACKING_URI"])


def test_the_rows_of_digits_pass(digits, good) -> None:
    evidence = digits.measure("contract", good)
    verdicts = digits.judged(evidence, good)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {"contract": "pass", "leakage": "pass"}
    assert evidence.metrics["violations"].overall.candidate.n == 997 + 800


def test_the_rows_of_flight_delay_keep_their_contract(tmp_path: Path) -> None:
    """All 80,789 and 29,425, of which none is trained on here."""
    from reconciler.adapters.folder_source import FolderSource
    from reconciler.load import load

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    runpy.run_path(str(REPOSITORY / "models/flight-delay/data/prepare.py"))["write"](fresh)
    sets = {name: tmp_path / name for name in ("train", "evaluation")}
    for folder in sets.values():
        folder.mkdir()
    (fresh / "train").rename(sets["train"] / "train")
    (fresh / "evaluation.csv").rename(sets["evaluation"] / "evaluation.csv")
    digest = load(FolderSource(REPOSITORY), "HEAD").models["flight-delay"].contract_digest
    found = examined(declared(REPOSITORY, "flight-delay", digest=digest), sets)
    assert (found.breaches, found.leaked) == ((), 0)
    assert found.rows == {"train": 80_789, "evaluation": 29_425}


def test_every_kind_of_check_passes_what_is_right(fuller, good) -> None:
    candidate = as_if_trained_on(fuller, good)
    verdicts = fuller.judged(fuller.measure("contract", candidate), candidate)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {"contract": "pass", "leakage": "pass"}


def test_a_fault_of_each_kind_is_caught_and_its_row_and_column_named(fuller, good) -> None:
    faults = fuller.with_rows("train", lambda rows: faulty(rows[list(rows.columns[:66])]))
    candidate = as_if_trained_on(faults, good)
    evidence = faults.measure("contract", candidate)
    assert faults.judged(evidence, candidate)["contract"].verdict == "block"

    found = {(each["column"], each["check"]): each for each in report_of(evidence)["breaches"]}
    assert found.keys() == CAUGHT.keys()
    for which, rows in CAUGHT.items():
        if rows is not None:
            assert [place["row"] for place in found[which]["first"]] == rows, which
    assert found["pixel_03", "range"]["first"][0]["value"] == "17"
    assert found["writer", "pattern"]["first"][0].get("value") is None
    assert "Lovelace" not in json.dumps([report_of(evidence), evidence.model_dump(mode="json")])


def test_nothing_is_trained_on_rows_that_break_the_contract(digits, good) -> None:
    broken = digits.with_rows("train", lambda rows: rows.assign(pixel_03=rows["pixel_03"].replace(0, 99)))
    before = len(digits.registry.sweep().models["digits"].versions)
    run = broken.tried()
    assert run.phase == "Failed"
    assert run.message.startswith(
        "contract: Error (exit code 1): the rows break the contract: train: pixel_03 range"
    )
    assert "train.csv row " in run.message
    logs = dict(digits.engine.logs(run.name))
    assert not [task for task in logs if task.startswith(("train", "register"))]
    assert len(digits.registry.sweep().models["digits"].versions) == before


def test_rows_that_are_in_both_are_caught(digits, good) -> None:
    held_out = pd.read_csv(digits.rows("evaluation"))
    leaking = digits.with_rows("train", lambda rows: pd.concat([rows, held_out[10:13]]))
    candidate = as_if_trained_on(leaking, good)
    evidence = leaking.measure("contract", candidate)
    verdicts = leaking.judged(evidence, candidate)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {"contract": "pass", "leakage": "block"}
    assert [place["row"] for place in report_of(evidence)["leaks"]] == [11, 12, 13]


def test_keys_that_are_in_both_are_caught_though_the_rows_differ(fuller, good) -> None:
    """The same scan, cleaned of its noise."""
    shared = fuller.with_rows("train", lambda rows: rows.assign(scan=["s5003", *rows["scan"][1:]]))
    candidate = as_if_trained_on(shared, good)
    verdicts = shared.judged(shared.measure("contract", candidate), candidate)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {"contract": "pass", "leakage": "block"}


def test_a_suite_of_great_expectations_is_run_by_its_own_package(digits, good) -> None:
    pytest.importorskip("great_expectations")
    suite = [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "pixel_03", "max_value": 16}},
        {"expectation_type": "expect_column_values_to_not_be_null", "kwargs": {"column": "label"}},
    ]

    def theirs(folder: Path) -> None:
        told(folder)
        text = (folder / "model.yaml").read_text()
        text = text.replace(TOLD, "\n  contract: {engine: great-expectations, suite: suite.json}\n")
        (folder / "model.yaml").write_text(text)
        (folder / "suite.json").write_text(json.dumps({"name": "digits", "expectations": suite}))

    bench = digits.edited(theirs)
    verdicts = bench.judged(bench.measure("contract", good), good)
    assert {gate: said.verdict for gate, said in verdicts.items()} == {"contract": "pass", "leakage": "pass"}

    def smudge(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[3, "pixel_03"] = 17
        return rows

    smudged = bench.with_rows("evaluation", smudge)
    evidence = smudged.measure("contract", good)
    assert smudged.judged(evidence, good)["contract"].verdict == "block"
    (breach,) = report_of(evidence)["breaches"]
    assert (breach["column"], breach["check"], breach["first"][0]["row"]) == ("pixel_03", "be_between", 4)


MEMORY = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from reconciler.core.contract import Contract
from workflows.steps.rules import examine

columns = {"id": {"type": "integer", "unique": True}, "n_{00..17}": {"type": "number", "min": -9, "max": 9}}
contract = Contract.model_validate({"columns": {**columns, "kind": {"type": "text", "values": ["a", "b"]}}})
sets = {name: Path(sys.argv[1]) for name in ("train", "evaluation")}
found = examine(contract, "kind", sets, datetime.now(UTC))
assert (found.rows["train"], found.violations, found.leaked) == (1_000_000, 0, 1_000_000), found
"""


def test_a_million_rows_of_twenty_columns_stay_within_memory(tmp_path: Path) -> None:
    """Whole rows are compared, one column is unique: what is kept of each row is kept twice, of two sets."""
    import numpy as np

    folder = tmp_path / "rows"
    folder.mkdir()
    random = np.random.default_rng(0)
    with (folder / "rows.csv").open("w") as file:
        for part in range(10):
            numbers = random.normal(size=(100_000, 18)).round(3).clip(-9, 9)
            frame = pd.DataFrame(numbers, columns=[f"n_{i:02d}" for i in range(18)])
            frame.insert(0, "id", range(part * 100_000, (part + 1) * 100_000))
            frame["kind"] = random.choice(["a", "b"], 100_000)
            frame.to_csv(file, index=False, header=part == 0)
    subprocess.run([sys.executable, "-c", MEMORY, str(folder)], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, of the largest child of this process
    assert peak < 1_500_000, f"{peak / 1000:.0f} MB"
