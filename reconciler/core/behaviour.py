"""The document `Behaviour`: what a model must do on rows of which the answer is known without a label.

Three kinds of test, as in M. T. Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList (ACL 2020), for tables: :class:`Invariance`, :class:`Direction`, :class:`Minimum`. It is a kind like
the others in :mod:`reconciler.core.documents`; the step `behaviour` reads it and asks the model.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reconciler.core.base import Document, Frozen, Name
from reconciler.core.search import Scalar

Seed = Annotated[int, Field(ge=0, lt=2**31)]
MOST_ROWS = 10_000


class Rows(Frozen):
    """Rows of the evaluation data, or rows that are written here.

    ``sample`` rows are drawn without replacement from those where every column of ``where`` has one of the
    values listed; all of them, if there are no more. ``literal`` rows name their columns; those they do not
    name get ``fill``.
    """

    sample: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None
    where: dict[str, tuple[Scalar, ...]] = Field(
        default_factory=dict, description="Column -> the values that it may have; also of the target."
    )
    seed: Seed = 0
    literal: tuple[dict[str, Scalar | None], ...] = Field(
        default=(), max_length=100, description="Rows as column -> value; null is a missing value."
    )
    fill: Scalar | None = None

    @model_validator(mode="after")
    def _drawn_or_written(self) -> Self:
        if (self.sample is None) == (not self.literal):
            raise ValueError("needs exactly one of sample and literal")
        if self.literal and (self.where or self.seed):
            raise ValueError("has literal rows, and where and seed are of a sample; remove them")
        if self.fill is not None and not self.literal:
            raise ValueError("has fill, which is for literal rows; remove it")
        return self


class Change(Frozen):
    """How rows are changed before the model is asked again: in each of ``columns``, one of these."""

    columns: tuple[str, ...] = Field(min_length=1, description="Names; `pixel_*` is all that begin so.")
    set: Scalar | None = Field(default=None, description="This value.")
    missing: bool = Field(default=False, description="No value.")
    add: float | None = Field(default=None, description="So much more.")
    scale: float | None = Field(default=None, description="So many times as much.")
    noise: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Up to so much more or less, each amount as likely; whole amounts for whole numbers.",
    )
    swap: tuple[Scalar, ...] = Field(
        default=(), description="Another one of these values, each as likely; rows with none of them stay."
    )
    at_least: float | None = Field(default=None, description="Numbers that would be less become this.")
    at_most: float | None = Field(default=None, description="Numbers that would be more become this.")

    @model_validator(mode="after")
    def _one_change(self) -> Self:
        said = [name for name in ("set", "add", "scale", "noise") if getattr(self, name) is not None]
        said += [name for name in ("missing", "swap") if getattr(self, name)]
        if len(said) != 1:
            raise ValueError("needs exactly one of set, missing, add, scale, noise and swap")
        if self.swap and len(set(self.swap)) < 2:
            raise ValueError("needs at least two values in swap")
        bounded = self.at_least is not None or self.at_most is not None
        if bounded and said[0] not in ("add", "scale", "noise"):
            raise ValueError("has atLeast or atMost, which are for add, scale and noise; remove them")
        return self


class _Test(Frozen):
    name: Name
    about: str = Field(default="", description="Why it has to be so, for people.")
    rows: Rows
    seed: Seed = Field(default=0, description="Of noise and swap.")
    pass_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="The share of its cases that the model promises to pass."
    )


class _ChangedTest(_Test):
    change: tuple[Change, ...]

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.change:
            raise ValueError("changes nothing, and so would always pass; add to change")
        return self


class Invariance(_ChangedTest):
    """What makes no difference: the answer for the changed row is that for the row itself."""

    type: Literal["invariance"]
    output: str = Field(default="prediction", description="A column of the model's answer.")
    tolerance: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="By how much a number may differ and still be the same."
    )


class Direction(_ChangedTest):
    """What makes a known difference: a number of the answer rises or falls with the change."""

    type: Literal["direction"]
    output: str
    expect: Literal["rises", "falls", "not-rises", "not-falls"]
    tolerance: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="A difference of so much counts as none."
    )


class Minimum(_Test):
    """What every version must be able to do: the answer for these rows is known."""

    type: Literal["minimum"]
    change: tuple[Change, ...] = ()
    output: str = Field(default="prediction", description="A column of the model's answer.")
    equals: Scalar | None = None
    from_: float | None = Field(default=None, alias="from")
    to: float | None = None

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if (self.equals is None) == (self.from_ is None and self.to is None):
            raise ValueError("needs either equals, or from or to or both")
        return self


BehaviourTest = Annotated[Invariance | Direction | Minimum, Field(discriminator="type")]


class Behaviour(Document):
    """Tests of a model's behaviour, measured on every candidate. Besides, pytest runs `behaviour/test_*.py`."""

    kind: Literal["Behaviour"]
    tests: tuple[BehaviourTest, ...] = Field(max_length=50)

    @model_validator(mode="after")
    def _some_and_by_unique_names(self) -> Self:
        if not self.tests:
            raise ValueError("has no test; write one, or remove the file")
        names = [test.name for test in self.tests]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names a test twice: {', '.join(twice)}")
        return self
