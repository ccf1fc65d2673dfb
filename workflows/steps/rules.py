"""Rows against the contract of their model, with pandera. Steps `check` and `contract` call :func:`examine`.

Files are read in chunks of which nothing is kept but counts, the first FIRST places of what fails, and 64-bit
hashes where rows are compared with each other. Two values of a million have the same hash with p < 1e-7.
"""

from __future__ import annotations

import bisect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reconciler.core.base import Frozen, format_instant
from reconciler.core.contract import Bounds, Column, Comparison, Contract
from workflows.steps.rows import files, read_chunks

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from pandera.errors import SchemaError

    Flags = NDArray[np.bool_]
    Hashes = NDArray[np.uint64]

FIRST = 10
"""Places of what fails that are named; all are counted."""
LONGEST_VALUE = 40
TRAIN, EVALUATION = "train", "evaluation"


class Place(Frozen):
    """``row`` 1 is the first below a CSV file's header; 0 is the file. No value where it may be personal."""

    file: str
    row: int
    value: str | None = None

    def __str__(self) -> str:
        return f"{self.file} row {self.row}" if self.row else self.file


class Breach(Frozen):
    """One thing that the contract asks, and how often it is not so. ``column`` is empty for whole rows."""

    rows: str
    column: str
    check: str
    asked: str
    count: int
    first: tuple[Place, ...] = ()

    def __str__(self) -> str:
        """Without a value: it goes where more people read than may read the rows."""
        what = " ".join(filter(None, [self.column, self.check]))
        places = ", ".join(map(str, self.first[:3])) + (", ..." if self.count > 3 and self.first else "")
        return f"{self.rows}: {what} ({self.asked}): {self.count}{' in ' if places else ''}{places}"


class Examined(Frozen):
    """What became of the rows. ``leaked``: evaluation rows that are among the training rows; None unless both
    were there, with their keys. ``allowed``: how many of them the contract allows."""

    rows: dict[str, int]
    breaches: tuple[Breach, ...]
    leaked: int | None = None
    allowed: int = 0
    leaks: tuple[Place, ...] = ()

    @property
    def violations(self) -> int:
        return sum(breach.count for breach in self.breaches)


def examine(contract: Contract, target: str, sets: Mapping[str, Path], at: datetime) -> Examined:
    """``sets``: `train`, `evaluation` or both, as the step `data` leaves them. Terminal where one is no table.

    ``at``: the instant of the check.
    """
    seen = {name: _Seen(name, contract, target, at) for name in sets}
    for name, folder in sets.items():
        for path in files(folder):
            seen[name].begin(path)
            for chunk in read_chunks(folder, path, seen[name].texts):
                seen[name].add(chunk)
    rows = {name: each.rows for name, each in seen.items()}
    breaches = [breach for each in seen.values() for breach in each.breaches()]
    if not {TRAIN, EVALUATION} <= seen.keys() or any(each.without_keys for each in seen.values()):
        return Examined(rows=rows, breaches=tuple(breaches))
    of_train, of_evaluation = seen[TRAIN], seen[EVALUATION]
    (known, _), (hashes, numbers) = of_train.identities.all(), of_evaluation.identities.all()
    found = numbers[np.isin(hashes, known)]
    return Examined(
        rows=rows,
        breaches=tuple(breaches),
        leaked=len(found),
        allowed=int(contract.shared * of_evaluation.rows),
        leaks=tuple(of_evaluation.place(int(number)) for number in found[:FIRST]),
    )


class _Hashes:
    """64 bits of each row that has a value, and the rows' numbers: sixteen bytes a row."""

    def __init__(self) -> None:
        self._hashes: list[Hashes] = []
        self._numbers: list[NDArray[np.int64]] = []

    def add(self, rows: pd.DataFrame, present: Flags) -> None:
        import pandas as pd

        hashes = pd.util.hash_pandas_object(rows, index=False).to_numpy()
        self._hashes.append(hashes[present])
        self._numbers.append(rows.index.to_numpy()[present])

    def all(self) -> tuple[Hashes, NDArray[np.int64]]:
        if not self._hashes:
            return np.array([], np.uint64), np.array([], np.int64)
        self._hashes, self._numbers = [np.concatenate(self._hashes)], [np.concatenate(self._numbers)]
        return self._hashes[0], self._numbers[0]

    def repeated(self) -> NDArray[np.int64]:
        """The numbers of rows whose value another row before them has."""
        hashes, numbers = self.all()
        order = np.argsort(hashes, kind="stable")
        again = np.zeros(len(hashes), bool)
        again[order[1:]] = hashes[order[1:]] == hashes[order[:-1]]
        return np.sort(numbers[again])


class _Failing(NamedTuple):
    """Of one check on one column: how many rows, and the first of them."""

    asked: str
    times: int
    first: tuple[Place, ...]

    def more(self, times: int, places: Iterable[Place]) -> _Failing:
        return _Failing(self.asked, self.times + times, (*self.first, *places)[:FIRST])


class _Seen:
    """One set of rows as it goes by."""

    def __init__(self, name: str, contract: Contract, target: str, at: datetime) -> None:
        self.name, self.contract, self.target = name, contract, target
        fresh = contract.freshness
        self._as_of = at if fresh is None or fresh.as_of == "check" else fresh.as_of
        self.columns = contract.each
        compared = {name for name, column in self.columns.items() if column.unique} | set(contract.keys)
        self.texts: dict[str, type] = {  # as it stands in the file: 007 is not 7, and 2**53 + 1 not 2**53
            name: str
            for name, column in self.columns.items()
            if column.type in ("text", "instant") or name in compared
        }
        self.rows = 0
        self.identities = _Hashes()
        self.without_keys = False
        self._unique = {name: _Hashes() for name, column in self.columns.items() if column.unique}
        self._starts: list[tuple[int, str]] = []  # number of its first row, and the file
        self._failing: dict[tuple[str, str], _Failing] = {}
        self._nulls: dict[str, _Failing] = {}
        self._classes: dict[str, int] = {}
        self._sum, self._numbers = 0.0, 0
        self._newest: datetime | None = None
        self._stale = _Failing("", 0, ())
        self._schema = _schema(contract) if self.columns else None

    def begin(self, path: str) -> None:
        self._starts.append((self.rows, path))

    def place(self, number: int, value: Any = None) -> Place:
        start, path = self._starts[bisect.bisect(self._starts, number, key=lambda each: each[0]) - 1]
        shown = None if value is None else str(value)[:LONGEST_VALUE]
        return Place(file=path, row=number - start + 1, value=shown)

    def add(self, chunk: pd.DataFrame) -> None:
        import pandas as pd

        chunk.index = pd.RangeIndex(self.rows, self.rows + len(chunk))
        self.rows += len(chunk)
        typed = chunk.copy(deep=False)
        for name, column in self.columns.items():
            if name not in chunk:
                continue
            values, wrong = _typed(chunk[name], column)
            typed[name] = values
            if wrong.any():
                self._fail(name, "type", column.type, wrong, chunk)
            missing = chunk[name].isna().to_numpy()
            if missing.any():
                known = self._nulls.get(name, _Failing("", 0, ()))
                places = map(self.place, chunk.index[missing][:FIRST].tolist())
                self._nulls[name] = known.more(int(missing.sum()), places)
            if column.unique:
                self._unique[name].add(chunk[[name]], ~missing)
        if self._schema is not None:
            self._validate(typed, chunk)
        self._identify(chunk, typed)
        self._count(typed)

    def _fail(self, column: str, check: str, asked: str, wrong: Flags, chunk: pd.DataFrame) -> None:
        declared = self.columns.get(column)
        shown = declared is not None and not declared.personal
        places = [
            self.place(number, chunk[column][number] if shown else None)
            for number in chunk.index[wrong][:FIRST].tolist()
        ]
        known = self._failing.get((column, check), _Failing(asked, 0, ()))
        self._failing[column, check] = known.more(int(wrong.sum()), places)

    def _validate(self, typed: pd.DataFrame, chunk: pd.DataFrame) -> None:
        """What pandera finds, all of it, by row."""
        from pandera.errors import SchemaErrors

        try:
            self._schema.validate(typed, lazy=True)  # type: ignore[union-attr]
        except SchemaErrors as errors:
            for error in errors.schema_errors:
                self._found(error, typed, chunk)

    def _found(self, error: SchemaError, typed: pd.DataFrame, chunk: pd.DataFrame) -> None:
        from pandera.errors import SchemaErrorReason as Reason

        absent = error.reason_code is Reason.COLUMN_NOT_IN_DATAFRAME
        if absent or error.reason_code is Reason.COLUMN_NOT_IN_SCHEMA:
            asked = "is there" if absent else "is no other"
            place, name = Place(file=self._starts[-1][1], row=0), str(error.failure_cases)
            known = self._failing.get((name, "column"), _Failing(asked, 0, ()))
            if place not in known.first:  # each chunk of a file tells it
                self._failing[name, "column"] = known.more(1, [place])
            return
        output = error.check_output
        if output is None:
            raise error  # a check that could not be run: a fault of ours
        wrong = np.isin(typed.index, output.index[~output.to_numpy(bool)])
        column = str(error.schema.name or "") if error.column_name is None else str(error.column_name)
        self._fail(
            column if column in self.columns else "",
            str(error.check.name),
            str(error.check.title),
            wrong,
            chunk,
        )

    def _identify(self, chunk: pd.DataFrame, typed: pd.DataFrame) -> None:
        """By its keys; a row that lacks one is nobody's. Without keys by all its values."""
        keys = list(self.contract.keys)
        if keys and not all(name in chunk for name in keys):
            self.without_keys = True
            return
        if keys:
            self.identities.add(chunk[keys].astype(str), chunk[keys].notna().all(axis=1).to_numpy())
            return
        rows = typed[sorted(map(str, typed.columns))]
        self.identities.add(rows.apply(_comparable), np.ones(len(rows), bool))

    def _count(self, typed: pd.DataFrame) -> None:
        asked, fresh = self.contract.target, self.contract.freshness
        if asked and self.target in typed:
            values = typed[self.target].dropna()
            for value, n in values.value_counts().items() if asked.shares or asked.each else ():
                self._classes[_class(value)] = self._classes.get(_class(value), 0) + int(n)
            if asked.mean:
                numbers = _floats(values)
                self._sum, self._numbers = self._sum + float(np.nansum(numbers)), self._numbers + len(numbers)
        if fresh and self.name == TRAIN and fresh.column in typed:
            instants = typed[fresh.column].dropna()
            if len(instants):
                newest = instants.max().to_pydatetime()
                self._newest = newest if self._newest is None else max(newest, self._newest)
            if fresh.oldest is not None:
                limit = self._as_of - fresh.oldest
                stale = instants.index[(instants < limit).to_numpy()]
                self._stale = self._stale.more(len(stale), map(self.place, stale[:FIRST].tolist()))

    # --- the whole ----------------------------------------------------------------------------------------

    def breaches(self) -> Iterator[Breach]:
        """Those of the rows, most rows first; then those of the whole set."""
        found = dict(self._failing)
        for name, hashes in self._unique.items():
            again = hashes.repeated()
            if len(again):
                places = tuple(map(self.place, again[:FIRST].tolist()))
                found[name, "unique"] = _Failing("no value twice", len(again), places)
        for name, nulls in self._nulls.items():
            share = self.columns[name].nulls
            if nulls.times > share * self.rows:
                asked = f"in at most {share:.4g} of the rows" if share else "in no row"
                found[name, "nulls"] = nulls._replace(asked=asked)
        for (column, check), failing in sorted(found.items(), key=lambda item: (-item[1].times, item[0])):
            yield self._breach(column, check, failing)
        for column, check, asked in self._of_the_whole():
            yield self._breach(column, check, _Failing(asked, 1, ()))
        fresh = self.contract.freshness
        if self._stale.times and fresh and fresh.oldest is not None:
            yield self._breach(fresh.column, "oldest", self._stale._replace(asked=self._since(fresh.oldest)))

    def _breach(self, column: str, check: str, failing: _Failing) -> Breach:
        return Breach(
            rows=self.name,
            column=column,
            check=check,
            asked=failing.asked,
            count=failing.times,
            first=failing.first,
        )

    def _of_the_whole(self) -> Iterator[tuple[str, str, str]]:
        contract = self.contract
        if contract.rows and not contract.rows.allow(self.rows):
            yield "", "rows", f"{contract.rows}, and there are {self.rows}"
        fresh = contract.freshness
        if fresh and fresh.newest is not None and self.name == TRAIN and self._older_than(fresh.newest):
            newest = format_instant(self._newest) if self._newest else "none"
            yield fresh.column, "newest", f"{self._since(fresh.newest)}, and is {newest}"
        for name, bounds in self._asked_shares().items():
            share = self._classes.get(name, 0) / max(self.rows, 1)
            if not bounds.allow(share):
                yield self.target, "share", f"{name} in {bounds} of the rows, and is in {share:.4g}"
        if contract.target and contract.target.mean:
            mean = self._sum / self._numbers if self._numbers else float("nan")
            if not contract.target.mean.allow(mean):
                yield self.target, "mean", f"{contract.target.mean}, and is {mean:.4g}"

    def _asked_shares(self) -> dict[str, Bounds]:
        target = self.contract.target
        if target is None or target.each is None:
            return target.shares if target else {}
        column = self.columns.get(self.target)
        listed = map(_class, column.values) if column else ()
        return {**dict.fromkeys(sorted({*listed, *self._classes}), target.each), **target.shares}

    def _older_than(self, age: timedelta) -> bool:
        return self._newest is None or self._newest < self._as_of - age

    def _since(self, age: timedelta) -> str:
        return f"not before {format_instant(self._as_of - age)}"


# --- values -------------------------------------------------------------------------------------------------


def _typed(values: pd.Series, column: Column) -> tuple[pd.Series, Flags]:
    """The values in the column's type, missing where they are not of it; and where that is."""
    import pandas as pd

    kind = pd.api.types
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    present = values.notna().to_numpy()
    match column.type:
        case "integer" | "number":
            if kind.is_bool_dtype(values) or kind.is_datetime64_any_dtype(values):
                return _none_of(values), present
            numbers = pd.to_numeric(values, errors="coerce").astype("float64")
            right = np.isfinite(numbers.to_numpy())
            if column.type == "integer":
                right &= np.mod(numbers.to_numpy(), 1, where=right, out=np.ones(len(numbers))) == 0
            return numbers.where(right), present & ~right
        case "text":
            if kind.is_string_dtype(values) and not kind.is_object_dtype(values):
                return values, np.zeros(len(values), bool)
            right = np.array([isinstance(value, str) for value in values], bool)
            return values.where(right), present & ~right
        case "boolean":
            if kind.is_bool_dtype(values):
                return values, np.zeros(len(values), bool)
            flags = {True: True, False: False, "True": True, "False": False, "true": True, "false": False}
            numeric = kind.is_numeric_dtype(values)
            known = _none_of(values) if numeric else values.astype(object).map(flags.get)
            return known, present & known.isna().to_numpy()
    if kind.is_numeric_dtype(values):
        return pd.Series(pd.NaT, values.index, dtype="datetime64[ns, UTC]"), present
    instants = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
    return instants, present & instants.isna().to_numpy()


def _none_of(values: pd.Series) -> pd.Series:
    import pandas as pd

    return pd.Series(np.nan, values.index)


def _comparable(values: pd.Series) -> pd.Series:
    """Numbers as floats and all else as text: a chunk's own types say nothing."""
    from pandas.api.types import is_numeric_dtype

    return values.astype("float64") if is_numeric_dtype(values) else values.astype(str).fillna("")


def _floats(values: pd.Series) -> NDArray[np.float64]:
    import pandas as pd

    return np.asarray(pd.to_numeric(values, errors="coerce").astype("float64"))


def _class(value: Any) -> str:
    """A class as the contract writes it: true, and 1 where pandas has 1.0."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# --- pandera ------------------------------------------------------------------------------------------------

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


def _schema(contract: Contract) -> Any:
    """What pandera can say of one chunk. Types, gaps and what is unique are for :class:`_Seen`: after a wrong
    type pandera would ask nothing more of the column, and of the others it would know only the chunk."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {
            name: pa.Column(nullable=True, checks=list(_checks(column)))
            for name, column in contract.each.items()
        },
        checks=[
            pa.Check(
                lambda frame, rule=rule: _holds(rule, rule.when, frame),
                name=rule.name,
                title=str(rule),
                ignore_na=False,
                n_failure_cases=FIRST,
            )
            for rule in contract.rules
        ],
        strict=contract.others == "refuse",
    )


def _checks(column: Column) -> Iterator[Any]:
    import pandera.pandas as pa

    few: dict[str, Any] = {"n_failure_cases": FIRST}
    if column.min is not None or column.max is not None:
        low = -np.inf if column.min is None else column.min
        high = np.inf if column.max is None else column.max
        yield pa.Check.in_range(
            low, high, name="range", title=str(Bounds(min=column.min, max=column.max)), **few
        )
    if column.values:
        listed = ", ".join(map(str, column.values[:5])) + (", ..." if len(column.values) > 5 else "")
        yield pa.Check.isin(list(column.values), name="values", title=f"one of {listed}", **few)
    if column.pattern:
        yield pa.Check(
            lambda texts: texts.astype(str).str.fullmatch(column.pattern),
            name="pattern",
            title=column.pattern,
            **few,
        )


def _holds(rule: Comparison, when: Comparison | None, frame: pd.DataFrame) -> pd.Series:
    """Where the rule holds, or is not asked."""
    asked = _compared(when, frame)[0] if when else True
    answer, known = _compared(rule, frame)
    return answer | ~known | ~(asked & known)


def _compared(compared: Comparison, frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Where it is so, and where both sides have a value."""
    import pandas as pd

    if any(name not in frame for name in compared.columns):
        nowhere = pd.Series(False, frame.index)
        return nowhere, nowhere
    left = frame[compared.column]
    right = frame[compared.other] if compared.other is not None else compared.value
    known = left.notna() & (right.notna() if isinstance(right, pd.Series) else True)
    answer = _OPERATORS[compared.op](left, right).fillna(False).astype(bool) & known
    return answer, known
