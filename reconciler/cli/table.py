"""A person's CSV file: what is wrong with it, what its columns are, and which of its rows are held out.

`reconcile new-model` calls it. A file is read as the step `train` will read it, by pandas with its defaults.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reconciler.cli.options import Task
from reconciler.core.errors import Terminal
from reconciler.core.validation import nearest

if TYPE_CHECKING:
    import pandas as pd

FEWEST_ROWS = 20
"""In the training rows and the held out ones together: with fewer there is nothing to split."""
MOST_CLASSES = 20
"""Different whole numbers up to which they are taken for classes, where nobody said what they are."""


def read(path: Path) -> pd.DataFrame:
    """The rows. Terminal, with the line where there is one, for what would not be read as it is meant."""
    import pandas as pd

    if path.suffix.lower() != ".csv":
        raise Terminal("is not called *.csv", where=str(path), hint="a first model is made from a CSV file")
    for line, fields, header in records(path):
        if fields is header:
            _check_header(path, header)
        elif len(fields) != len(header):
            raise Terminal(
                f"has {len(fields)} fields, and the first line names {len(header)} columns",
                where=f"{path}:{line}",
                hint="write a text with commas in it in double quotes",
            )
    try:
        frame: pd.DataFrame = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise Terminal(f"is not readable: {error}", where=str(path)) from error
    return frame


def records(path: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    """(last line, fields, header) of each record that is not empty, the header first."""
    try:
        with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
            reader = csv.reader(file, strict=True)
            header: list[str] = []
            for fields in reader:
                if fields:
                    header = header or fields
                    yield reader.line_num, fields, header
            if not header:
                raise Terminal("is empty", where=str(path), hint="its first line names the columns")
    except UnicodeDecodeError as error:
        raise Terminal(
            f"is not UTF-8: it has the byte {error.object[error.start]:#04x}",
            where=str(path),
            hint=f"if it is Latin-1: iconv -f LATIN1 -t UTF-8 {path.name} > utf-8.csv",
        ) from error
    except csv.Error as error:
        raise Terminal(f"is not CSV: {error}", where=f"{path}:{reader.line_num}") from error
    except OSError as error:
        raise Terminal(error.strerror or "cannot be read", where=str(path)) from error


def _check_header(path: Path, header: list[str]) -> None:
    where = f"{path}:1"
    unnamed = [str(place) for place, name in enumerate(header, start=1) if not name.strip()]
    if unnamed:
        hint = "name it, or leave it out: pandas writes row numbers unless told index=False"
        raise Terminal(f"column {', '.join(unnamed)} has no name", where=where, hint=hint)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise Terminal(f"names a column twice: {', '.join(twice)}", where=where)
    if len(header) == 1:
        seen = next((mark for mark in ";\t|" if mark in header[0]), None)
        hint = f"its columns seem to be separated by {seen!r}; write commas" if seen else ""
        raise Terminal(f"has the one column {header[0]!r}", where=where, hint=hint)


def check_target(frame: pd.DataFrame, target: str, task: Task | None, where: Path) -> Task:
    """The task: as said, or by the target's values. Terminal where they are not fit for it."""
    if target not in frame.columns:
        hint = nearest(target, map(str, frame.columns))
        raise Terminal(f"has no column {target!r} to predict", where=str(where), hint=hint)
    values = frame[target]
    missing = int(values.isna().sum())
    if missing:
        what = f"{missing} of {len(frame)} rows have no {target}"
        raise Terminal(
            what, where=str(where), hint="leave them out: nothing can be learned or measured on them"
        )
    if values.nunique() < 2:
        what = f"every row has the {target} {values.iloc[0]!r}, so there is nothing to predict"
        raise Terminal(what, where=str(where))
    kind = kind_of(values)
    if task is None:
        few = kind != "number" or ((values % 1 == 0).all() and values.nunique() <= MOST_CLASSES)
        task = Task.regression if not few else Task.binary if values.nunique() == 2 else Task.classification
    if task is Task.regression and kind != "number":
        example = values[~values.map(_is_number)].iloc[0] if kind == "text" else values.iloc[0]
        what = f"{target} has values that are no numbers, as {str(example)!r}"
        raise Terminal(what, where=str(where), hint="correct them, or: --task classification")
    if task is Task.binary and values.nunique() != 2:
        what = f"{target} has {values.nunique()} different values, not two"
        raise Terminal(what, where=str(where), hint="--task classification is for more")
    if task is Task.classification and values.nunique() > len(frame) / 2:
        what = f"{target} has {values.nunique()} different values in {len(frame)} rows; these are no classes"
        hint = "--task regression" if kind == "number" else "name another column as --target"
        raise Terminal(what, where=str(where), hint=hint)
    return task


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def kind_of(values: pd.Series) -> Literal["number", "flag", "text"]:
    import pandas as pd

    if pd.api.types.is_bool_dtype(values):
        return "flag"
    return "number" if pd.api.types.is_numeric_dtype(values) else "text"


def columns(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Name -> what a row may have there: its kind, and whether it may be missing."""
    return {
        str(name): {"kind": kind_of(frame[name]), "missing": bool(frame[name].isna().any())} for name in frame
    }


def contract(train: pd.DataFrame, evaluation: pd.DataFrame, target: str, task: Task) -> dict[str, Any]:
    """What these rows are, as the `data.contract` to begin with: the columns, and the share of rows in both.

    Twice as many gaps as now are allowed, in hundredths; the classes are the present ones.
    """
    import pandas as pd

    both = pd.concat([train, evaluation], ignore_index=True)
    found: dict[str, dict[str, Any]] = {}
    for name in both:
        values, types = both[name], {"flag": "boolean", "text": "text"}
        whole = pd.api.types.is_integer_dtype(values)
        missing = max(float(rows[name].isna().mean()) for rows in (train, evaluation))
        kind = types.get(kind_of(values), "integer" if whole else "number")
        classes = name == target and task is not Task.regression and kind in ("integer", "text")
        found[str(name)] = {
            "type": kind,
            "nulls": min(1.0, math.ceil(200 * missing) / 100),
            "values": sorted(values.unique().tolist()) if classes else [],
        }
    alike = len(evaluation.merge(train.drop_duplicates(), how="inner"))
    return {"columns": found, "shared": math.ceil(100 * alike / len(evaluation)) / 100}


def baseline(train: pd.DataFrame, evaluation: pd.DataFrame, target: str, task: Task) -> dict[str, float]:
    """What answering without a model gives: always the most frequent class, or always the mean."""
    if task is Task.regression:
        errors = (evaluation[target] - train[target].mean()).abs()
        return {"r2": 0.0, "mae": float(f"{errors.mean():.4g}")}
    share = float((evaluation[target] == train[target].value_counts().index[0]).mean())
    classes = evaluation[target].nunique()
    found = {"accuracy": round(share, 4), "f1-macro": round(2 * share / (1 + share) / classes, 4)}
    return found | ({"auc": 0.5} if task is Task.binary else {})


def remarks(train: pd.DataFrame, evaluation: pd.DataFrame, target: str, task: Task) -> Iterator[str]:
    """What a person should know of these rows and would find out late."""
    if task is not Task.regression:
        unlearned = sorted({*evaluation[target].unique().tolist()} - {*train[target].unique().tolist()})
        for label in unlearned:
            yield f"{target} {label!r} is only in rows to measure on; it cannot be learned"
    alike = len(evaluation.drop_duplicates().merge(train.drop_duplicates(), how="inner"))
    if alike:
        yield f"{alike} of the rows to measure on are among those to learn from; that flatters the model"
    for name in train.columns.drop(target):
        values = train[name].dropna()
        if values.empty:
            yield f"column {name} has no values"
        elif kind_of(values) == "text" and values.nunique() > len(values) / 2:
            yield f"column {name} has a text of its own in most rows; nothing is learned from such"
        elif values.nunique() == 1:
            yield f"column {name} has the same value in every row"


def is_held_out(fields: list[str], share: float) -> bool:
    """Whether a row is for the evaluation: by its own content, so that the same row is always on the same side.

    The first 8 bytes of the MD5 of its fields, separated by the character 0x1f, as a share of all such numbers.
    Rows that are alike are together, and which other rows there are, and in which order, changes nothing.
    """
    digest = hashlib.md5("\x1f".join(fields).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(path: Path, share: float, train: Path, evaluation: Path) -> None:
    """Write the rows that are held out (:func:`is_held_out`) to ``evaluation`` and the others to ``train``."""
    with (
        train.open("w", encoding="utf-8", newline="") as one,
        evaluation.open("w", encoding="utf-8", newline="") as other,
    ):
        writers = [csv.writer(file, lineterminator="\n") for file in (one, other)]
        for _, fields, header in records(path):
            if fields is header:
                for writer in writers:
                    writer.writerow(fields)
            else:
                writers[is_held_out(fields, share)].writerow(fields)
