"""Step `speed`: how long the candidate takes for 1,000 records, and the champion for the same ones.

Each is loaded in a process of its own, and they take turns: what slows the machine down for a while slows both.
A library that became slower shows here, where it travels with the model (its own code, its own wheels) and
whether or not anybody meant to change it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reconciler.core.errors import Terminal
from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.steps import measuring
from workflows.steps.bootstrap import estimated, quantile
from workflows.steps.rows import read_rows, split_target
from workflows.steps.timed import MIB, Timed, Turn

RECORDS = 1000
SIZE = 10
"""Records of a call. With one, most of the time would be MLflow's, which checks the types of each request's
columns and takes as long for both."""
ROUNDS, CALLS = 20, 5
"""CALLS of a round, and then one with all records. Where the data end, they begin anew."""


class Times(NamedTuple):
    """What one version took, by round: calls with a few records, and one with all of them."""

    calls: list[Turn]
    batches: list[Turn]

    @property
    def peak(self) -> int:
        return self.batches[-1].peak


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, champion=True)


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("speed", options.inputs, key=options.key)
    versions = measuring.versions(inputs, options)
    features, _ = split_target(read_rows(options.data), str(inputs["target"]))
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.parquet"
        features.head(RECORDS).to_parquet(rows)
        models = measuring.fetched(versions, inputs, options, Path(folder))
        candidate, champion = take_turns(models["candidate"], models.get("champion"), rows)
    measuring.publish("speed", measure(candidate, champion, min(RECORDS, len(features))), inputs, options)


def take_turns(candidate: Path, champion: Path | None, rows: Path) -> tuple[Times, Times | str | None]:
    """Both versions' times, in rounds of a turn each; who begins alternates.

    The champion's are None where there is none, and a sentence where it does not predict.
    """
    with ExitStack() as stack:
        ours = stack.enter_context(Timed(candidate, rows, SIZE))
        theirs = stack.enter_context(Timed(champion, rows, SIZE)) if champion else None
        _warm_up(ours)
        why = None
        if theirs is not None:
            try:
                _warm_up(theirs)
            except Terminal as error:  # an old version that no longer runs does not hide the new one's numbers
                theirs, why = None, error.what
        both = [ours, theirs] if theirs else [ours]
        times = {each: Times([], []) for each in both}
        for place in range(ROUNDS):
            for each in both:
                times[each].calls.append(each.turn(f"{place * CALLS} {(place + 1) * CALLS}"))
                times[each].batches.append(each.turn("all"))
            both.reverse()
        return times[ours], times[theirs] if theirs else why


def _warm_up(version: Timed) -> None:
    """A first call loads and allocates what later ones find: `load` has that, in the time to be ready."""
    version.loaded()
    version.turn(f"0 {CALLS}")
    version.turn("all")


def measure(candidate: Times, champion: Times | str | None, records: int) -> dict[str, Metric]:
    """Percentiles of the calls, throughput, memory, and how many times as long the candidate takes.

    ``ratio`` is of the processor's time in calls with a few records, ``batch-ratio`` in one call with all of
    them; ``elapsed-ratio`` also sees waiting, and what else the machine does. ``champion`` is None where there
    is none, and a sentence where it does not predict.
    """
    theirs = champion if isinstance(champion, Times) else None
    why = champion if isinstance(champion, str) else "there is no champion"
    nothing = Estimate(value=None, n=records, note=why)

    def of_each(value: Callable[[Times], float]) -> Scores:
        ours, *other = (
            Estimate(value=value(times), n=records, note="on one thread") if times else nothing
            for times in ((candidate,) if champion is None else (candidate, theirs))
        )
        return Scores(candidate=ours, champion=other[0] if other else None)

    def of_both(value: Callable[[Times], Sequence[float]]) -> Scores:
        return Scores(candidate=_ratio(value(candidate), value(theirs), records) if theirs else nothing)

    scores = {
        "p50-ms": of_each(lambda times: float(np.quantile(_elapsed(times), 0.5))),
        "p95-ms": of_each(lambda times: float(np.quantile(_elapsed(times), 0.95))),
        "rows-per-second": of_each(
            lambda times: 1000 * records / float(np.median([turn.elapsed for turn in times.batches]))
        ),
        "memory-mib": of_each(lambda times: times.peak / MIB),
        "ratio": of_both(lambda times: [float(np.median(turn.busy)) for turn in times.calls]),
        "batch-ratio": of_both(lambda times: [turn.busy[0] for turn in times.batches]),
        "elapsed-ratio": of_both(lambda times: [float(np.median(turn.elapsed)) for turn in times.calls]),
    }
    return {name: Metric(overall=each) for name, each in scores.items()}


def _elapsed(times: Times) -> list[float]:
    return [took for turn in times.calls for took in turn.elapsed]


def _ratio(ours: Sequence[float], theirs: Sequence[float], n: int) -> Estimate:
    """The median over rounds of a round's ratio, with its bootstrap interval over rounds.

    Both turns of a round are moments apart, so their ratio is free of what changes more slowly than that; the
    median does not move when a few rounds were disturbed.
    """
    ratios = np.asarray(ours) / np.asarray(theirs)
    found = estimated(quantile(ratios, 0.5), len(ratios), n)
    return found.model_copy(update={"note": f"on one thread; median and interval of {len(ratios)} rounds"})
