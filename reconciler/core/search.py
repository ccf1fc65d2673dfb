"""A search for hyperparameters: ``training.search`` of a Model, and what can be said of it before it runs.

Pure. Part of :mod:`reconciler.core.documents`; the planner hands a search to the training's workflow, where
:mod:`workflows.steps.search` reads it again and draws the trials.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reconciler.core.base import Frozen

Scalar = str | int | float | bool

MOST_TRIALS = 100
"""Their results go back to the workflow as one argument of one step."""
MOST_RUNGS = 3
"""The stages of trials that the stock template has."""


class Dimension(Frozen):
    """The values that one hyperparameter may take: some that are listed, or a range with both ends in it."""

    choice: tuple[Scalar, ...] = ()
    low: int | float | None = None
    high: int | float | None = None
    log: bool = Field(default=False, description="Even in the logarithm, as learning rates want it.")
    step: int | float | None = Field(default=None, description="Only low, low + step, and so on.")
    whole: bool = Field(default=False, alias="int", description="Whole numbers only.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        ranged = (self.low, self.high, self.step) != (None, None, None) or self.log or self.whole
        if bool(self.choice) == ranged:
            raise ValueError(
                "needs either choice, or low and high; write {choice: [16, 32]} or {low: 1, high: 9}"
            )
        if self.choice:
            if len({(type(value), value) for value in self.choice}) < max(2, len(self.choice)):
                raise ValueError(
                    "needs at least two different values in choice; set it in hyperparameters instead"
                )
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs both low and high; or list the values: {choice: [16, 32]}")
        given = [value for value in (self.low, self.high, self.step) if value is not None]
        if not all(math.isfinite(value) for value in given) or self.low >= self.high:
            raise ValueError("needs a low that is less than its high; both ends are in the range")
        if self.whole and not all(float(value).is_integer() for value in given):
            raise ValueError(
                "is of whole numbers and has an end or a step that is none; remove int, or round them"
            )
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(
                "cannot be log with a low of 0 or less, or with a step; raise low, or remove one of them"
            )
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError("needs a step above 0 that fits between low and high; or remove it")
        return self

    @property
    def values(self) -> tuple[Scalar, ...] | None:
        """All of them, in order; None where a range has no step, so that nobody could try all."""
        if self.choice:
            return self.choice
        assert self.low is not None
        assert self.high is not None
        if self.step is None and (self.log or not self.whole):
            return None
        low, high, step = (Decimal(str(value)) for value in (self.low, self.high, self.step or 1))
        number = int((high - low) / step) + 1
        kind = int if self.whole else float
        return tuple(kind(low + step * index) for index in range(min(number, MOST_TRIALS + 1)))


class Objective(Frozen):
    """The number by which trials are compared: one that the model's ``train`` returns."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]
    goal: Literal["min", "max"]

    def order(self, value: float) -> float:
        """Less is better."""
        return value if self.goal == "min" else -value


class Halving(Frozen):
    """All trials with little of a resource, then the best 1/eta of them with eta times as much, and so on."""

    resource: str = Field(
        description="The hyperparameter that is given out, as in epochs. Its value in "
        "`hyperparameters` is what the last trials and the training itself get."
    )
    min: Annotated[int, Field(ge=1)] = Field(description="What the first trials get, at least.")
    eta: Annotated[int, Field(ge=2, le=10)] = 3

    def rungs(self, most: int) -> tuple[int, ...]:
        """The resource of each stage, rising to ``most``: divided by eta as often as it stays at least min."""
        stages = [most]
        while most // self.eta ** len(stages) >= self.min:
            stages.append(most // self.eta ** len(stages))
        return tuple(reversed(stages))


class Search(Frozen):
    """How hyperparameters are chosen before the training. Trials see `data.train`, never the evaluation."""

    method: Literal["grid", "random", "successive-halving"]
    space: Annotated[dict[str, Dimension], Field(min_length=1, max_length=20)]
    metric: Objective
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = Field(
        default=None, description="How many; a grid has as many as it has points."
    )
    parallelism: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="Trials at once. Not part of the training key: it changes no result."
    )
    validation: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.2,
        description="Share of the training rows that trials are measured on, and do not learn from.",
    )
    halving: Halving | None = None

    @model_validator(mode="after")
    def _of_its_method(self) -> Self:
        if (self.halving is not None) != (self.method == "successive-halving"):
            raise ValueError(
                "needs halving if and only if its method is successive-halving; add or remove halving"
            )
        if self.method != "grid":
            if self.trials is None:
                raise ValueError("has no trials; say how many are drawn, as in trials: 12")
            if self.halving is not None and self.trials < self.halving.eta:
                raise ValueError(
                    f"halves {self.trials} trials by {self.halving.eta}; use more trials, or a smaller eta"
                )
            return self
        endless = [name for name, dimension in self.space.items() if dimension.values is None]
        if endless:
            raise ValueError(
                f"is a grid over a range without steps: {', '.join(endless)}; use choice, int or step"
            )
        points = math.prod(len(dimension.values or ()) for dimension in self.space.values())
        if points > MOST_TRIALS:
            raise ValueError(
                f"is a grid of more than {MOST_TRIALS} points; use fewer values, or method: random"
            )
        if self.trials not in (None, points):
            raise ValueError(f"has trials: {self.trials}, and its grid {points} points; remove trials")
        return self

    @property
    def number(self) -> int:
        """Of trials."""
        return self.trials or math.prod(len(dimension.values or ()) for dimension in self.space.values())

    def held_out(self, rows: int) -> int:
        """How many of the training rows trials are measured on."""
        return max(1, round(self.validation * rows))

    @property
    def deciding(self) -> Search:
        """Without what changes no result."""
        return self.model_copy(update={"parallelism": Search.model_fields["parallelism"].default})

    def rungs(self, hyperparameters: dict[str, Scalar]) -> tuple[int, ...]:
        """The resource of each stage of trials; one stage of 0 where there is no halving."""
        return self.halving.rungs(int(hyperparameters[self.halving.resource])) if self.halving else (0,)

    def against(self, hyperparameters: dict[str, Scalar]) -> None:
        """Raises ValueError where the search does not go with what the model sets itself."""
        both = sorted(self.space.keys() & hyperparameters.keys())
        if both:
            raise ValueError(
                f"searches {', '.join(both)} and sets it; remove it from hyperparameters or search.space"
            )
        if self.halving is None:
            return
        resource, most = self.halving.resource, hyperparameters.get(self.halving.resource)
        if not isinstance(most, int) or isinstance(most, bool):
            raise ValueError(f"gives out {resource}, which is no whole number; set hyperparameters.{resource}")
        stages = self.halving.rungs(most)
        if not 2 <= len(stages) <= MOST_RUNGS:
            low, high = (most // self.halving.eta**power for power in (MOST_RUNGS, 1))
            other = f"a search.halving.min from {low + 1} to {high}" if high > low else f"more {resource}"
            raise ValueError(
                f"has {len(stages)} stages from {resource} {self.halving.min} to {most}, and there are 2 or "
                f"{MOST_RUNGS}; use {other}, or another eta"
            )
