"""What the PSI of a million rows costs: trueup's, plain numpy's on the same bins, and Evidently's on the same data."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median

import numpy as np
import pandas as pd

from workflows.steps.reference import Numbers, Reference, psi

TITLE = "PSI of a million rows"
ROWS, TRAINING, COLUMNS, CHUNK = 1_000_000, 100_000, 20, 10_000
RUNS = 5
METHOD = f"""\
{ROWS:,} recorded rows of {COLUMNS} numbers in memory, normally distributed, against {TRAINING:,} training rows: seconds until the PSI of
every column is there. trueup and numpy have the deciles of the training rows, as `reference.json` has them, and make the same counts, which is
checked. *Plain numpy* is `bincount(searchsorted(edges, column))`, the quickest way of its own that was tried (`histogram` takes twice as
long). trueup counts in chunks of {CHUNK:,} rows, missing values apart. Evidently gets both tables, because it makes its bins anew, with
`DataDriftPreset(method="psi")` and without making HTML of it. Medians of {RUNS} runs in turn after one that is not counted, of Evidently
of one run; imports are not counted. Peak memory is that of a process that makes the tables and does this alone, once."""


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training rows and recorded rows, of which the last column is shifted."""
    random = np.random.default_rng(20260301)
    names = [f"f{i:02d}" for i in range(COLUMNS)]
    then = pd.DataFrame(random.normal(0, 1, (TRAINING, COLUMNS)), columns=names)
    now = pd.DataFrame(random.normal(0, 1, (ROWS, COLUMNS)), columns=names)
    return then, now.assign(f19=now["f19"] + 0.5)


def trueups(reference: Reference, now: pd.DataFrame) -> dict[str, float]:
    total = dict.fromkeys(reference.features, 0)
    for start in range(0, len(now), CHUNK):
        for name, counts in reference.count(now[start : start + CHUNK]).items():
            total[name] = total[name] + counts
    return {name: float(psi(column.bins, total[name])) for name, column in reference.features.items()}


def plain(reference: Reference, now: pd.DataFrame) -> dict[str, float]:
    found = {}
    for name, column in reference.features.items():
        assert isinstance(column, Numbers)
        bins = np.bincount(np.searchsorted(column.edges, now[name].to_numpy()), minlength=len(column.counts))
        found[name] = float(psi(column.bins, np.append(bins, 0)))
    return found


def evidentlys(then: pd.DataFrame, now: pd.DataFrame) -> None:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    Report([DataDriftPreset(method="psi")]).run(now, then).dict()


def measure() -> str:
    """The table. Evidently runs in a process of its own, as its memory is measured too."""
    then, now = tables()
    reference = Reference.of(then, "none", "regression")
    assert trueups(reference, now) == plain(reference, now)
    times: dict[str, list[float]] = {"trueup": [], "plain numpy": []}
    for _ in range(RUNS + 1):
        times["trueup"].append(seconds(lambda: trueups(reference, now)))
        times["plain numpy"].append(seconds(lambda: plain(reference, now)))
    taken = {name: median(each[1:]) for name, each in times.items()}
    base = taken["plain numpy"]
    rows = ["| | seconds | of plain numpy's | peak memory of the process |", "|---|---|---|---|"]
    peaks = {name: alone(name) for name in ("trueup", "plain numpy", "Evidently")}
    taken["Evidently"] = peaks["Evidently"][0]
    labels = {"Evidently": f"Evidently {version('evidently')}"}
    for name, took in taken.items():
        peak = f"{peaks[name][1] / 1e6:.0f} MB"
        rows.append(f"| {labels.get(name, name)} | {took:.2f} | **{took / base:.2f}** | {peak} |")
        print(rows[-1], file=sys.stderr)
    return "\n".join(rows)


def seconds(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def alone(name: str) -> tuple[float, int]:
    """Seconds and the largest resident set in bytes, of a process that makes the tables and does this once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.drift", name],
        env=os.environ | {"DO_NOT_TRACK": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    took, peak = done.stdout.split()[-2:]
    return float(took), int(peak)


if __name__ == "__main__":
    training, recorded = tables()
    made = Reference.of(training, "none", "regression")
    ways: dict[str, Callable[[], object]] = {
        "trueup": lambda: trueups(made, recorded),
        "plain numpy": lambda: plain(made, recorded),
        "Evidently": lambda: evidentlys(training, recorded),
    }
    if sys.argv[1] == "Evidently":
        __import__("evidently.presets")
    print(seconds(ways[sys.argv[1]]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
