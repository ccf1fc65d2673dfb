"""The checks of a contract, one by one, on rows small enough to read; and what becomes of the numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reconciler.core.contract import Contract, spread
from reconciler.core.errors import Terminal
from workflows.steps import rows as rows_module
from workflows.steps.check import run as check
from workflows.steps.contract import measure
from workflows.steps.contracts import declared
from workflows.steps.rules import Breach, Examined, examine

AT = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = {
    "id": ["a", "b", "c", "d"],
    "n": [1, 2, 3, 4],
    "x": [0.5, 1.5, None, 3.5],
    "ok": [True, False, True, False],
    "day": ["2026-02-26", "2026-02-27", "2026-02-28", "2026-02-28T12:00:00+02:00"],
}
COLUMNS: dict[str, dict[str, Any]] = {
    "id": {"type": "text"},
    "n": {"type": "integer"},
    "x": {"type": "number", "nulls": 0.25},
    "ok": {"type": "boolean"},
    "day": {"type": "instant"},
}


def contract(columns: dict[str, dict[str, Any]] | None = None, **more: Any) -> Contract:
    merged = {name: {**column, **(columns or {}).get(name, {})} for name, column in COLUMNS.items()}
    return Contract.model_validate({"columns": merged, **more})


def write(folder: Path, name: str, **columns: Any) -> Path:
    frame = pd.DataFrame({**ROWS, **columns})
    (folder / name).mkdir(parents=True)
    frame.drop(columns=[each for each, values in columns.items() if values is None]).to_csv(
        folder / name / f"{name}.csv", index=False
    )
    return folder / name


def found(folder: Path, asked: Contract, **columns: Any) -> Examined:
    return examine(asked, "n", {"train": write(folder, "train", **columns)}, AT)


def told(examined: Examined) -> list[tuple[str, str, int, list[int]]]:
    return [(b.column, b.check, b.count, [place.row for place in b.first]) for b in examined.breaches]


def test_rows_that_keep_it_break_nothing(tmp_path: Path) -> None:
    assert told(found(tmp_path, contract(rows={"min": 4, "max": 4}))) == []


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str, int, list[int]]]] = {
    # the contract, beside the columns; the rows; what is told
    "a word among whole numbers": ({}, {"n": [1, "two", 3, 4]}, ("n", "type", 1, [2])),
    "a fraction among whole numbers": ({}, {"n": [1, 2, 3, 4.5]}, ("n", "type", 1, [4])),
    "an infinite number": ({}, {"x": [1, "inf", 2, 3]}, ("x", "type", 1, [2])),
    "a word among flags": ({}, {"ok": [True, "maybe", False, True]}, ("ok", "type", 1, [2])),
    "numbers for flags": ({}, {"ok": [1, 0, 1, 0]}, ("ok", "type", 4, [1, 2, 3, 4])),
    "no instant": ({}, {"day": ["2026-02-26", "soon", "2026-02-28", "2026-02-28"]}, ("day", "type", 1, [2])),
    "below its range": ({"n": {"min": 2}}, {}, ("n", "range", 1, [1])),
    "above its range": ({"x": {"max": 1}}, {}, ("x", "range", 2, [2, 4])),
    "another category": ({"id": {"values": ["a", "b", "c"]}}, {}, ("id", "values", 1, [4])),
    "another number": ({"n": {"values": [1, 2, 3]}}, {}, ("n", "values", 1, [4])),
    "another pattern": ({"id": {"pattern": "[a-c]"}}, {}, ("id", "pattern", 1, [4])),
    "more than the pattern": (
        {"id": {"pattern": "[a-d]"}},
        {"id": ["a", "bb", "c", "d"]},
        ("id", "pattern", 1, [2]),
    ),
    "a value twice": ({"id": {"unique": True}}, {"id": ["a", "b", "a", "a"]}, ("id", "unique", 2, [3, 4])),
    "a value missing": ({}, {"id": ["a", None, "c", "d"]}, ("id", "nulls", 1, [2])),
    "too many missing": ({}, {"x": [None, None, 2, 3]}, ("x", "nulls", 2, [1, 2])),
    "too few rows": ({"rows": {"min": 5}}, {}, ("", "rows", 1, [])),
    "too many rows": ({"rows": {"max": 3}}, {}, ("", "rows", 1, [])),
    "a column gone": ({}, {"x": None}, ("x", "column", 1, [0])),
    "a text column gone": ({}, {"id": None}, ("id", "column", 1, [0])),
    "a column more": ({}, {"guess": [1, 2, 3, 4]}, ("guess", "column", 1, [0])),
    "a rule between columns": (
        {"rules": [{"name": "x-below-n", "column": "x", "op": "<", "other": "n"}]},
        {"x": [0.5, 2.5, None, 3.5]},
        ("", "x-below-n", 1, [2]),
    ),
    "a rule where it is asked": (
        {
            "rules": [
                {
                    "name": "few",
                    "column": "n",
                    "op": "<",
                    "value": 3,
                    "when": {"column": "ok", "op": "==", "value": True},
                }
            ]
        },
        {},
        ("", "few", 1, [3]),
    ),
    "no new row": (
        {"freshness": {"column": "day", "newest": "1d", "asOf": "2026-03-02T00:00:00Z"}},
        {},
        ("day", "newest", 1, []),
    ),
    "an old row, as of the check": (
        {"freshness": {"column": "day", "oldest": "2d"}},
        {},
        ("day", "oldest", 1, [1]),
    ),
    "a class too frequent": ({"target": {"shares": {"1": {"max": 0.2}}}}, {}, ("n", "share", 1, [])),
    "a class that is not there": (
        {"n": {"values": [1, 2, 3, 4, 5]}, "target": {"each": {"min": 0.1}}},
        {},
        ("n", "share", 1, []),
    ),
    "another mean": ({"target": {"mean": {"max": 2}}}, {}, ("n", "mean", 1, [])),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_told_by_column_check_and_row(case: str, tmp_path: Path) -> None:
    asked, rows, expected = CASES[case]
    columns = {name: value for name, value in asked.items() if name in COLUMNS}
    more = {name: value for name, value in asked.items() if name not in COLUMNS}
    assert told(found(tmp_path, contract(columns, **more), **rows)) == [expected]


def test_columns_that_are_not_named_may_be_allowed(tmp_path: Path) -> None:
    assert told(found(tmp_path, contract(others="allow"), guess=[1, 2, 3, 4])) == []


def test_chunks_and_files_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder each row is told by its file; a value twice is one though a chunk lies between."""
    asked = contract({"id": {"unique": True}, "n": {"max": 3}})
    whole = tmp_path / "train" / "parts"
    whole.mkdir(parents=True)
    pd.DataFrame(ROWS).to_csv(whole / "1.csv", index=False)
    pd.DataFrame({**ROWS, "id": ["e", "f", "a", "g"]}).to_parquet(whole / "2.parquet")
    for size in (1, 3, 100):
        monkeypatch.setattr(rows_module, "CHUNK", size)
        examined = examine(asked, "n", {"train": tmp_path / "train"}, AT)
        assert [(b.column, b.check, [str(place) for place in b.first]) for b in examined.breaches] == [
            ("n", "range", ["parts/1.csv row 4", "parts/2.parquet row 4"]),
            ("id", "unique", ["parts/2.parquet row 3"]),
        ]


def test_what_is_personal_is_never_shown(tmp_path: Path) -> None:
    asked = contract({"id": {"pattern": "[a-c]", "personal": True}, "n": {"max": 3}})
    breaches = found(tmp_path, asked, id=["a", "b", "c", "Ada"]).breaches
    assert {b.column: b.first[0].value for b in breaches} == {"n": "4", "id": None}
    assert "Ada" not in "".join(map(str, breaches))


def test_keys_in_both_are_leaks_and_as_many_as_are_allowed_are_none(tmp_path: Path) -> None:
    sets = {
        "train": write(tmp_path, "train"),
        "evaluation": write(tmp_path, "evaluation", id=["x", "b", "y", None]),
    }
    examined = examine(contract({"id": {"nulls": 1}}, keys=["id"]), "n", sets, AT)
    assert (examined.leaked, [place.row for place in examined.leaks]) == (1, [2])
    assert measure(examined)["leaked-rows"].overall.candidate.value == 1
    allowed = examine(contract({"id": {"nulls": 1}}, keys=["id"], shared=0.25), "n", sets, AT)
    leaks = measure(allowed)["leaked-rows"].overall.candidate
    assert (leaks.value, leaks.note.partition(";")[0]) == (0, "1 of 4: evaluation.csv row 2")


def test_without_the_column_of_its_keys_nothing_is_known_of_leaks(tmp_path: Path) -> None:
    sets = {"train": write(tmp_path, "train"), "evaluation": write(tmp_path, "evaluation", id=None)}
    leaked = measure(examine(contract(keys=["id"]), "n", sets, AT))["leaked-rows"].overall.candidate
    assert (leaked.value, leaked.note) == (None, "a file has no column of the keys")


def test_flags_are_classes_as_a_contract_writes_them(tmp_path: Path) -> None:
    asked = contract(target={"shares": {"true": {"max": 0.4}}})
    (breach,) = examine(asked, "ok", {"train": write(tmp_path, "train")}, AT).breaches
    assert breach.asked == "true in <= 0.4 of the rows, and is in 0.5"


def test_without_keys_whole_rows_are_compared_whatever_their_columns_order(tmp_path: Path) -> None:
    sets = {"train": write(tmp_path, "train"), "evaluation": write(tmp_path, "evaluation", n=[1, 9, 9, 9])}
    file = sets["evaluation"] / "evaluation.csv"
    frame = pd.read_csv(file)
    frame[frame.columns[::-1]].to_csv(file, index=False)
    assert examine(contract(), "n", sets, AT).leaked == 1


def test_evidence_says_what_was_asked_and_what_was_not() -> None:
    breach = Breach(rows="evaluation", column="n", check="range", asked="0 to 3", count=2)
    metrics = measure(Examined(rows={"evaluation": 4}, breaches=(breach,)), "trained elsewhere")
    violations = metrics["violations"]
    assert (violations.overall.candidate.value, violations.overall.candidate.n) == (2, 4)
    assert violations.slices["column"]["n"].candidate.value == 2
    assert violations.slices["check"]["range"].candidate.value == 2
    assert violations.overall.candidate.note.startswith(
        "evaluation: n range (0 to 3): 2; only the evaluation rows"
    )
    leaked = metrics["leaked-rows"].overall.candidate
    assert (leaked.value, leaked.note) == (None, "only the evaluation rows: trained elsewhere")


def test_a_contract_of_another_digest_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "models/m"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL)
    with pytest.raises(Terminal, match="its contract is not sha256:00"):
        declared(tmp_path, "m", digest=f"sha256:{'0' * 64}")


def test_the_step_before_a_training_tells_the_engine_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import argparse

    folder, word = tmp_path / "models/m", tmp_path / "word"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL)
    word.touch()
    monkeypatch.setenv("TRUEUP_TERMINATION_LOG", str(word))
    digest = Contract.model_validate(
        {"columns": {"n": {"type": "integer", "max": 2}}, "others": "allow"}
    ).digest("")
    options = argparse.Namespace(source=tmp_path, model="m", contract=digest, data=write(tmp_path, "train"))
    with pytest.raises(Terminal, match="n range"):
        check(options)
    assert word.read_text() == (
        "the rows break the contract: train: n range (<= 2): 2 in train.csv row 3, train.csv row 4"
    )


MODEL = """\
apiVersion: trueup.dev/v1
kind: Model
owner: a-team
task: regression
registeredName: m
data:
  train: {pointer: data/train.csv.dvc}
  evaluation: {pointer: data/evaluation.csv.dvc, target: n}
  contract: {columns: {n: {type: integer, max: 2}}, others: allow}
training: {workflow: train-v1}
environments: []
"""


def test_a_range_of_names() -> None:
    assert spread("p_{08..11}") == ("p_08", "p_09", "p_10", "p_11")
    assert spread("p_{8..9}_x") == ("p_8_x", "p_9_x")
    assert spread("plain") == ("plain",)
