"""A person's CSV file: every way in which it is no good is said, and the same rows are always held out."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from reconciler.cli import table
from reconciler.cli.options import Task
from reconciler.core import documents
from reconciler.core.errors import Terminal
from workflows.steps.metrics import scores

ROWS = [[f"c{i}", f"{i / 2}", "yes" if i % 3 else "no"] for i in range(400)]
HEADER = ["customer", "spend", "churned"]


def write(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (b"", "", "is empty"),
        (b"a,b\n1,caf\xe9\n", "", "is not UTF-8: it has the byte 0xe9"),
        (b"a,b\n1,2\n3,4,5\n", ":3", "has 3 fields, and the first line names 2 columns"),
        (b'a,b\n1,"x\ny"\n3\n', ":4", "has 1 fields, and the first line names 2 columns"),
        (b'a,b\n1,"x"y\n', ":2", "is not CSV: ',' expected after '\"'"),
        (b",b\n1,2\n", ":1", "column 1 has no name"),
        (b"a,b,a\n1,2,3\n", ":1", "names a column twice: a"),
        (b"a;b\n1;2\n", ":1", "has the one column 'a;b'"),
    ],
)
def test_what_is_no_table_is_said_with_its_line(content: bytes, where: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(Terminal) as refusal:
        table.read(path)
    assert refusal.value.what == what
    assert refusal.value.where == f"{path}{where}"


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="No such file"):
        table.read(tmp_path / "nothing.csv")
    with pytest.raises(Terminal, match=r"is not called \*\.csv"):
        table.read(tmp_path / "rows.parquet")


def test_a_byte_order_mark_blank_lines_and_quoted_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n1,"x\r\ny"\r\n2,\r\n')
    frame = table.read(path)
    assert list(frame) == ["a", "b"]
    assert frame["a"].tolist() == [1, 2]
    assert table.columns(frame) == {
        "a": {"kind": "number", "missing": False},
        "b": {"kind": "text", "missing": True},
    }


@pytest.mark.parametrize(
    ("values", "asked", "task"),
    [
        (["yes", "no"] * 20, None, Task.binary),
        ([True, False] * 20, None, Task.binary),
        (["yes", "no"] * 20, Task.classification, Task.classification),
        (["yes", "no", "maybe"] * 20, None, Task.classification),
        ([0, 1, 2, 3] * 10, None, Task.classification),
        ([0, 1, 2, 3] * 10, Task.regression, Task.regression),
        ([i / 7 for i in range(40)], None, Task.regression),
        (list(range(40)), None, Task.regression),
    ],
)
def test_the_task_is_what_the_values_are_unless_said(
    values: list[object], asked: Task | None, task: Task
) -> None:
    assert table.check_target(pd.DataFrame({"y": values}), "y", asked, Path("rows.csv")) is task


@pytest.mark.parametrize(
    ("values", "asked", "what"),
    [
        (["a"] * 40, None, "every row has the y 'a', so there is nothing to predict"),
        (["a", None] * 20, None, "20 of 40 rows have no y"),
        ([f"t{i}" for i in range(40)], None, "y has 40 different values in 40 rows; these are no classes"),
        (["a", "b", "c"] * 20, Task.binary, "y has 3 different values, not two"),
        (["1", "many"] * 20, Task.regression, "y has values that are no numbers, as 'many'"),
        ([True, False] * 20, Task.regression, "y has values that are no numbers, as 'True'"),
    ],
)
def test_a_target_that_cannot_be_predicted(values: list[object], asked: Task | None, what: str) -> None:
    with pytest.raises(Terminal) as refusal:
        table.check_target(pd.DataFrame({"y": values}), "y", asked, Path("rows.csv"))
    assert refusal.value.what == what


def test_the_nearest_column_is_named() -> None:
    with pytest.raises(Terminal, match="has no column 'churn' to predict") as refusal:
        table.check_target(pd.DataFrame({"churned": [1], "spend": [2]}), "churn", None, Path("rows.csv"))
    assert refusal.value.hint == "did you mean churned?"


def held_out(path: Path, folder: Path) -> set[tuple[str, ...]]:
    table.split(path, 0.25, folder / "train.csv", folder / "evaluation.csv")
    train, evaluation = (
        list(csv.reader((folder / f"{name}.csv").open(newline=""))) for name in ("train", "evaluation")
    )
    assert train[0] == evaluation[0] == HEADER
    assert sorted(train[1:] + evaluation[1:]) == sorted(list(csv.reader(path.open(newline="")))[1:])
    return {tuple(row) for row in evaluation[1:]}


def test_a_row_is_held_out_for_what_is_in_it(tmp_path: Path) -> None:
    chosen = held_out(write(tmp_path / "rows.csv", ROWS), tmp_path)
    assert 0.2 < len(chosen) / len(ROWS) < 0.3
    assert held_out(write(tmp_path / "rows.csv", ROWS[::-1]), tmp_path) == chosen
    assert held_out(write(tmp_path / "rows.csv", ROWS[:100]), tmp_path) == {
        row for row in chosen if list(row) in ROWS[:100]
    }
    doubled = held_out(write(tmp_path / "rows.csv", [*ROWS, *ROWS]), tmp_path)
    assert doubled == chosen


def test_baselines_are_what_no_model_is_needed_for() -> None:
    train = pd.DataFrame({"y": ["a", "a", "b"], "z": [1.0, 2.0, 3.0]})
    evaluation = pd.DataFrame({"y": ["a", "b", "b", "b"], "z": [2.0, 2.0, 4.0, 0.0]})
    two = {"accuracy": 0.25, "f1-macro": 0.2, "auc": 0.5}
    assert table.baseline(train, evaluation, "y", Task.binary) == two
    assert table.baseline(train, evaluation, "y", Task.classification).keys() == {"accuracy", "f1-macro"}
    assert table.baseline(train, evaluation, "z", Task.regression) == {"r2": 0.0, "mae": 1.0}


def test_baselines_are_the_metrics_of_the_evaluation() -> None:
    """The mean of the training rows explains a little less than nothing of other rows: 0 is the promise."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"y": random.choice(["a", "b", "b"], 3000), "z": random.normal(size=3000)})
    train, evaluation = frame[:2000], frame[2000:].reset_index(drop=True)
    always = pd.DataFrame({"prediction": ["b"] * 1000, "probability_a": 0.4, "probability_b": 0.6})
    mean = pd.DataFrame({"prediction": [train["z"].mean()] * 1000})
    for task, target, given in ((Task.binary, "y", always), (Task.regression, "z", mean)):
        measured = scores(task.value, evaluation[target], given, None)
        for metric, value in table.baseline(train, evaluation, target, task).items():
            near = 0.01 if metric == "r2" else 0
            assert measured[metric].candidate.value == pytest.approx(value, rel=1e-3, abs=near)


def test_the_command_line_knows_every_task() -> None:
    assert {task.value for task in Task} == set(get_args(documents.Task))


def test_what_is_odd_about_the_rows_is_remarked() -> None:
    train = pd.DataFrame({"id": ["a", "b", "c", "d"], "same": 1, "none": [None] * 4, "y": ["p", "q", "p", "q"]})
    evaluation = pd.DataFrame({"id": ["e", "d"], "same": 1, "none": [None] * 2, "y": ["r", "q"]})
    assert list(table.remarks(train, evaluation, "y", Task.classification)) == [
        "y 'r' is only in rows to measure on; it cannot be learned",
        "1 of the rows to measure on are among those to learn from; that flatters the model",
        "column id has a text of its own in most rows; nothing is learned from such",
        "column same has the same value in every row",
        "column none has no values",
    ]
