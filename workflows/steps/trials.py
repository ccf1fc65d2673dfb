"""The trials of a search: what each was given, what came of it, and which goes on.

Pure. The record is one JSON file that the steps `search`, `trial`, `train` and `register` hand on. What is
concluded from it depends on the numbers of trials and on their values, never on the order in which they ended.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from reconciler.core.base import Frozen
from reconciler.core.errors import Terminal
from reconciler.core.search import Scalar, Search

WORDLESS = "ended without a word: it was killed, or had too little memory"
MOST_METRICS = 8
"""That a result carries beside the one that is searched by: all results together are one argument of a step."""
LONGEST_MESSAGE = 200


class Result(Frozen):
    """What one trial came to in one stage. ``started`` and ``finished`` in milliseconds since 1970."""

    trial: int
    stage: int = 0
    status: Literal["FINISHED", "FAILED"]
    metrics: dict[str, float] = Field(default_factory=dict)
    message: str = ""
    started: int | None = None
    finished: int | None = None


class Trial(Frozen):
    """``results`` of the stages that it was in."""

    number: int
    hyperparameters: dict[str, Scalar]
    results: tuple[Result, ...] = ()

    @property
    def last(self) -> Result:
        return self.results[-1]

    def then(self, result: Result, stage: int) -> Trial:
        return self.model_copy(update={"results": (*self.results, result.model_copy(update={"stage": stage}))})


class Record(Frozen):
    """A search from its plan to its choice. ``stages``: the numbers of the trials that each stage was for."""

    search: Search
    hyperparameters: dict[str, Scalar]
    trials: tuple[Trial, ...]
    stages: tuple[tuple[int, ...], ...]

    @property
    def rungs(self) -> tuple[int, ...]:
        return self.search.rungs(self.hyperparameters)

    def settings(self, number: int, *, stage: int | None = None) -> dict[str, Scalar]:
        """The hyperparameters of a trial: in one stage, or those that it stands for."""
        chosen = {**self.hyperparameters, **self.trials[number].hyperparameters}
        if self.search.halving is not None and stage is not None:
            chosen[self.search.halving.resource] = self.rungs[stage]
        return chosen

    def value(self, trial: Trial) -> float:
        return trial.last.metrics[self.search.metric.name]

    def status(self, trial: Trial) -> Literal["FINISHED", "FAILED", "KILLED"]:
        """In MLflow's words; what was pruned is KILLED."""
        if trial.results and trial.last.status == "FAILED":
            return "FAILED"
        return "FINISHED" if trial.number in self.stages[-1] else "KILLED"

    def after(self, results: tuple[Result, ...]) -> Record:
        """With the results of the last stage; and the next stage, where there is one more.

        Terminal where no trial has a value: the training cannot begin, and the reasons are said.
        """
        planned, stage = self.stages[-1], len(self.stages) - 1
        said = {number: Result(trial=number, status="FAILED", message=WORDLESS) for number in planned}
        said |= {result.trial: result for result in results}
        trials = tuple(
            trial.then(said[trial.number], stage) if trial.number in planned else trial for trial in self.trials
        )
        record = self.model_copy(update={"trials": trials})
        ranked = record.ranked
        if not ranked:
            reasons = [f"trial {trial.number}: {trial.last.message}" for trial in trials if trial.results]
            shown = "; ".join(dict.fromkeys(reasons[:3]))
            raise Terminal(f"all {len(reasons)} trials failed: {shown}", hint="see the logs of the trials")
        if len(self.stages) == len(self.rungs):
            return record
        assert self.search.halving is not None
        finished = [trial for trial in ranked if trial.number in planned] or ranked
        best = finished[: max(1, len(planned) // self.search.halving.eta)]
        goes_on = tuple(sorted(trial.number for trial in best))
        return record.model_copy(update={"stages": (*self.stages, goes_on)})

    @property
    def ranked(self) -> list[Trial]:
        """The trials that have a value, best first: by how far they came, then by value, then by number."""
        able = [trial for trial in self.trials if trial.results and trial.last.status == "FINISHED"]
        order = self.search.metric.order
        return sorted(able, key=lambda trial: (-trial.last.stage, order(self.value(trial)), trial.number))

    @property
    def chosen(self) -> Trial:
        return self.ranked[0]


def read_record(path: Path) -> Record:
    """Terminal if it is not one that :func:`write_record` wrote."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Terminal("is not the record of a search", where=str(path)) from error


def write_record(record: Record, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json())


def record_arguments(parser: argparse.ArgumentParser) -> None:
    """What a step is told that comes after a search, or after none: see :func:`latest_record`."""
    where = "where a search's record would be, by stage"
    parser.add_argument("--search", type=Path, action="append", default=[], help=where)


def latest_record(paths: list[Path]) -> Record | None:
    """That of the last stage that there was, of the places where each would be; None without a search."""
    there = [path for path in paths if path.is_file()]
    return read_record(there[-1]) if there else None


def brief(metrics: dict[str, Any], name: str) -> dict[str, float]:
    """The metric called ``name``, and some of the others."""
    others = [other for other in sorted(metrics) if other != name][:MOST_METRICS]
    return {key: float(metrics[key]) for key in (name, *others)}
