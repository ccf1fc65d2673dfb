"""What the rows of a model must be before anything is learned from them: ``data.contract`` of its document.

A closed shape, no expression language. The steps `check` and `contract` run it (workflows/steps/rules.py); its
digest is an input of that measurement's key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reconciler.core.base import Duration, Frozen, Instant, Name, RelativePath
from reconciler.core.digests import digest_of
from reconciler.core.search import Scalar

MOST_COLUMNS = 5000

ColumnType = Literal["integer", "number", "text", "boolean", "instant"]
_ORDERED = ("integer", "number", "instant")
_NUMBERS = ("integer", "number")


class Column(Frozen):
    """What each value of a column is. What is missing is no value: `nulls` alone is about that."""

    type: ColumnType = Field(description="`instant`: ISO 8601, in UTC where it names no zone.")
    min: float | None = None
    max: float | None = None
    nulls: Annotated[float, Field(ge=0, le=1)] = Field(default=0, description="Share of rows without a value.")
    unique: bool = False
    values: tuple[Scalar, ...] = Field(default=(), description="The only ones.")
    pattern: str = Field(default="", description="A regular expression that the whole text matches.")
    personal: bool = Field(
        default=False, description="The report says which rows fail, never with which value."
    )

    @model_validator(mode="after")
    def _of_its_type(self) -> Self:
        if (self.min is not None or self.max is not None) and self.type not in _NUMBERS:
            raise ValueError(f"has min or max, and its values are of the type {self.type}; number has a range")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("has a min above its max")
        if self.pattern and self.type != "text":
            raise ValueError(f"has a pattern, and its values are of the type {self.type}; text has a pattern")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"has a pattern that is no regular expression: {error}") from error
        wrong = [value for value in self.values if not self._may_be(value)]
        if wrong or (self.values and self.type == "instant"):
            shown = ", ".join(map(repr, wrong[:3])) or "values"
            raise ValueError(f"lists {shown}, which a column of the type {self.type} does not hold")
        return self

    def _may_be(self, value: Scalar) -> bool:
        match self.type:
            case "text":
                return isinstance(value, str)
            case "boolean":
                return isinstance(value, bool)
            case "integer":
                return isinstance(value, int) and not isinstance(value, bool)
        return isinstance(value, int | float) and not isinstance(value, bool)


class Bounds(Frozen):
    """From min to max, both allowed."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("has a min above its max")
        return self

    def allow(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        ends = ((">=", self.min), ("<=", self.max))
        return " and ".join(f"{op} {end:g}" for op, end in ends if end is not None)


class Comparison(Frozen):
    """A column compared with another one, or with a value. Rows without one of the two are not asked."""

    column: str
    op: Literal["<", "<=", "==", "!=", ">=", ">"]
    other: str | None = Field(default=None, description="Another column.")
    value: Scalar | None = None

    @model_validator(mode="after")
    def _one_right_side(self) -> Self:
        if (self.other is None) == (self.value is None):
            raise ValueError("needs exactly one of other (a column) and value")
        return self

    def __str__(self) -> str:
        return f"{self.column} {self.op} {self.other if self.value is None else self.value}"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,) if self.other is None else (self.column, self.other)


class Rule(Comparison):
    """A comparison that holds in every row, or in those where `when` holds."""

    name: Name
    when: Comparison | None = None

    def __str__(self) -> str:
        said = super().__str__()
        return said if self.when is None else f"{said} when {self.when}"


class Freshness(Frozen):
    """How old the training rows may be; the evaluation rows are frozen, and are not asked."""

    column: str = Field(description="Of the type instant.")
    newest: Duration | None = Field(default=None, description="The newest row is not older.")
    oldest: Duration | None = Field(default=None, description="No row is older.")
    as_of: Instant | Literal["check"] = Field(
        default="check", description="Seen from when: an instant, or that of the check."
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.newest is None and self.oldest is None:
            raise ValueError("needs newest, oldest or both")
        return self


class Target(Frozen):
    """What is to be predicted, in the training rows and in the evaluation rows, each on their own."""

    shares: dict[str, Bounds] = Field(default_factory=dict, description="Class -> its share of the rows.")
    each: Bounds | None = Field(
        default=None, description="The share of every class that is there, or that the column's `values` list."
    )
    mean: Bounds | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.shares and self.each is None and self.mean is None:
            raise ValueError("needs shares, each or mean")
        return self


class Contract(Frozen):
    """Kept by the training rows before a training begins; of a candidate, by the evaluation rows too."""

    engine: Literal["pandera", "great-expectations"] = "pandera"
    suite: RelativePath | None = Field(
        default=None, description="A suite of Great Expectations (JSON) in the model's folder, for that engine."
    )
    columns: dict[str, Column] = Field(
        default_factory=dict, description="By name; `pixel_{00..63}` stands for 64 columns."
    )
    others: Literal["refuse", "allow"] = Field(
        default="refuse", description="Columns that are not named; a training may well learn from them."
    )
    rows: Bounds | None = Field(default=None, description="How many, in each of the two.")
    rules: tuple[Rule, ...] = ()
    freshness: Freshness | None = None
    target: Target | None = None
    keys: tuple[str, ...] = Field(
        default=(),
        description="Columns that say whom or what a row is about: none is in both, and by them rows are found "
        "again in other data. Without keys, whole rows are compared.",
    )
    shared: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0, description="Share of the evaluation rows whose keys may be among the training rows."
    )

    @model_validator(mode="after")
    def _of_one_engine(self) -> Self:
        theirs = self.engine == "great-expectations"
        if theirs != (self.suite is not None):
            raise ValueError("needs a suite if and only if its engine is great-expectations")
        ours = [name for name in ("columns", "rows", "rules", "freshness", "target") if getattr(self, name)]
        if theirs and ours:
            raise ValueError(f"has {', '.join(ours)}, which the suite says; remove one of the two")
        if not theirs and not self.columns:
            raise ValueError("names no columns")
        return self

    @model_validator(mode="after")
    def _names_what_is_there(self) -> Self:
        if self.engine != "pandera":
            return self
        names = [each for name in self.columns for each in spread(name)]
        if len(names) > MOST_COLUMNS:
            raise ValueError(f"names {len(names)} columns, more than {MOST_COLUMNS}")
        if (
            twice := sorted({name for name in names if names.count(name) > 1})
            if len(set(names)) < len(names)
            else []
        ):
            raise ValueError(f"names a column twice: {', '.join(twice[:5])}")
        named = [rule.name for rule in self.rules]
        if again := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"names a rule twice: {', '.join(again)}")
        columns = self.each
        for what, name in self._used():
            if name not in columns:
                raise ValueError(f"{what} names the column {name}, which is not among its columns")
        for compared in [*self.rules, *(rule.when for rule in self.rules if rule.when)]:
            _comparable(compared, columns)
        if self.freshness and columns[self.freshness.column].type != "instant":
            raise ValueError(f"freshness.column is {self.freshness.column}, whose type is not instant")
        return self

    def _used(self) -> Iterator[tuple[str, str]]:
        yield from (("keys", name) for name in self.keys)
        for rule in self.rules:
            yield from ((f"rule {rule.name}", name) for name in rule.columns)
            yield from ((f"rule {rule.name}", name) for name in (rule.when.columns if rule.when else ()))
        if self.freshness:
            yield "freshness", self.freshness.column

    def digest(self, suite: str) -> str:
        """``suite``: the Git blob id of the suite's content, or nothing."""
        return digest_of("contract", contract=self, suite=suite)

    @property
    def each(self) -> dict[str, Column]:
        """Every column by its own name."""
        return {name: column for names, column in self.columns.items() for name in spread(names)}


def spread(name: str) -> tuple[str, ...]:
    """``pixel_{00..63}`` as its 64 names, as a shell has it; any other name as it is."""
    found = re.fullmatch(r"(.*)\{(\d{1,6})\.\.(\d{1,6})\}(.*)", name)
    if found is None:
        return (name,)
    before, first, last, after = found.groups()
    width = len(first) if first.startswith("0") else 0
    return tuple(f"{before}{number:0{width}d}{after}" for number in range(int(first), int(last) + 1))


def _comparable(compared: Comparison, columns: dict[str, Column]) -> None:
    """Raises ValueError where the two sides never compare."""
    kind = columns[compared.column].type
    if compared.other is not None:
        other = columns[compared.other].type
        if kind != other and not (kind in _NUMBERS and other in _NUMBERS):
            raise ValueError(f"compares {compared.column} ({kind}) with {compared.other} ({other})")
    elif isinstance(compared.value, bool | str):
        if kind != ("boolean" if isinstance(compared.value, bool) else "text"):
            raise ValueError(f"compares {compared.column} ({kind}) with {compared.value!r}")
    elif kind not in _NUMBERS:
        raise ValueError(f"compares {compared.column} ({kind}) with the number {compared.value}")
    if compared.op not in ("==", "!=") and kind not in _ORDERED:
        raise ValueError(f"orders {compared.column}, whose values ({kind}) are only equal or not")
