"""Step `search`: draws the trials of a search; and once their results are there, says which go on.

Run before the trials and after each stage of them. What it says is a function of its arguments: all trials are
drawn at once, by their numbers, before the first one runs, and a stage is judged when all of it has ended.

- grid: every point, the last name of the space counting fastest.
- random: drawn by optuna's RandomSampler, in one stream for the seed: more trials begin with the same ones.
- successive-halving (Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter
  Optimization, 2016, algorithm 1): drawn likewise; then the best 1/eta of a stage go on. optuna's own
  SuccessiveHalvingPruner is asynchronous: it judges a trial against those that happened to report before it, so
  that another order of pods would give another model. Each stage trains anew, because what a training does in
  its first epochs may depend on how many there are to be; by construction, stages cost about the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.search import Dimension, Scalar, Search
from workflows.steps.recording import write_outputs
from workflows.steps.trials import Record, Result, Trial, read_record, write_record

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--search", type=Search.model_validate_json, required=True, help="the model's search (JSON)"
    )
    parser.add_argument("--hyperparameters", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--record", type=Path, required=True, help="what this step wrote last, if it did")
    parser.add_argument(
        "--results", type=json.loads, required=True, help="of the last stage's trials (JSON list)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the record goes to OUT/search, the next trials to OUT/trials"
    )


def run(options: argparse.Namespace) -> None:
    if not options.record.is_file():
        record = plan(options.search, options.hyperparameters, options.seed)
        log.info("%d trials, by %s", len(record.trials), record.search.method)
    else:
        results = tuple(Result.model_validate(result) for result in options.results)
        record = read_record(options.record).after(results)
        for trial in record.ranked:
            log.info(
                "trial %d: %s %.6g, %s",
                trial.number,
                record.search.metric.name,
                record.value(trial),
                json.dumps(trial.hyperparameters),
            )
        for trial in record.trials:
            if record.status(trial) == "FAILED":
                log.info("trial %d failed: %s", trial.number, trial.last.message)
    write_record(record, options.out / "search")
    write_outputs(options.out, trials=json.dumps(record.stages[-1]))


def plan(search: Search, hyperparameters: dict[str, Scalar], seed: int) -> Record:
    """The record before the first stage."""
    points = _grid(search) if search.method == "grid" else _drawn(search, seed)
    trials = tuple(Trial(number=number, hyperparameters=point) for number, point in enumerate(points))
    stages = (tuple(trial.number for trial in trials),)
    return Record(search=search, hyperparameters=hyperparameters, trials=trials, stages=stages)


def _grid(search: Search) -> list[dict[str, Scalar]]:
    names = sorted(search.space)
    values = [search.space[name].values or () for name in names]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]


def _drawn(search: Search, seed: int) -> list[dict[str, Scalar]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    space = {name: _distribution(search.space[name]) for name in sorted(search.space)}
    drawn = [study.ask(space).params for _ in range(search.number)]
    return [{name: _tidy(value) for name, value in point.items()} for point in drawn]


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choice:
        return CategoricalDistribution(dimension.choice)
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.whole:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return IntDistribution(low, high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _tidy(value: Scalar) -> Scalar:
    """Twelve digits of a number with a fraction: 0.3 is no longer 0.30000000000000004."""
    return float(f"{value:.12g}") if isinstance(value, float) else value
