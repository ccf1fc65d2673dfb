"""Step `load`: how the really started server answers at a stated rate, and what it needs for that.

What else a machine does only adds to a time. So the step waits until others leave a core free, and takes the
percentiles of the seconds in which they did. Which seconds those are is asked of the machine and not of the
times: picking the best times would hide a server that is slow now and then. Where it never gets quiet, the step
measures all the same, and says so.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from reconciler.core.errors import Terminal
from reconciler.core.evidence import Estimate, Metric, Scores
from reconciler.core.serving import Load
from workflows.steps import measuring, parity
from workflows.steps.bootstrap import estimated, quantile
from workflows.steps.rows import read_rows, split_target
from workflows.steps.timed import MIB, peak_memory

log = logging.getLogger(__name__)

ROWS = 1000
WAIT = 30
"""Seconds for which it waits at most until the machine is quiet; nobody is asked meanwhile."""
LONGER = 2
"""Times as long as the model says that it asks at most, to find enough quiet seconds."""
TIMEOUT = 10
"""Seconds after which a request has failed."""


class Request(NamedTuple):
    """``began`` in monotonic seconds, ``took`` in milliseconds; ``wrong`` is empty where it was answered."""

    began: float
    took: float
    wrong: str


class Second(NamedTuple):
    """A second of asking: from when to when, the cores that others used, the server's bytes, and its most."""

    began: float
    ended: float
    others: float
    memory: int
    peak: int


class Asked(NamedTuple):
    """Everything that was seen. ``ready``: seconds from the server's start until it was ready."""

    ready: float
    seconds: Sequence[Second]
    requests: Sequence[Request]


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser)


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("load", options.inputs, key=options.key)
    load = Load.model_validate_json(str(inputs["load"]))
    features, _ = split_target(read_rows(options.data), str(inputs["target"]))
    rows = features.head(ROWS)
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies"
        starts = range(0, len(rows), load.rows)
        bodies.write_text("\n".join(parity.request(rows[start : start + load.rows]) for start in starts))
        wait_until_quiet()
        began = time.monotonic()
        with parity.running_server(parity.served(options, inputs)) as address:
            asked = ask(address, bodies, load, time.monotonic() - began)
    measuring.publish("load", measure(load, asked), inputs, options)


def ask(address: str, bodies: Path, load: Load, ready: float) -> Asked:
    """Have the server asked until there are enough quiet seconds, or it was long enough, or it has ended."""
    (server,) = psutil.Process().children()
    answers = bodies.with_name("answers")
    with answers.open("w") as out:
        command = [sys.executable, "-P", "-m", "workflows.steps.asking", address, str(bodies)]
        asking = subprocess.Popen([*command, str(load.rate), str(TIMEOUT)], stdout=out)
        seconds: list[Second] = []
        try:
            _begun(asking, answers)
            while len(quiet(seconds)) < load.seconds and len(seconds) < LONGER * load.seconds:
                seconds.append(_watched(server, psutil.Process(asking.pid)))
        except psutil.Error:
            log.info("the server ended while it was asked")
        finally:
            asking.terminate()
            asking.wait(timeout=2 * TIMEOUT)
    requests = [Request(**json.loads(line)) for line in answers.read_text().splitlines()]
    for wrong in dict.fromkeys(each.wrong for each in requests if each.wrong):
        log.info("not answered: %s", wrong)
    return Asked(ready, seconds, requests)


def wait_until_quiet() -> None:
    """Until others leave a core free for a second, or WAIT is over."""
    for waited in range(WAIT):
        used, began = _used(), time.monotonic()
        time.sleep(1)
        if _quiet((_used() - used) / (time.monotonic() - began)):
            log.info("quiet after %d seconds", waited + 1)
            return
    log.info("the machine was never quiet within %d seconds", WAIT)


def _begun(asking: subprocess.Popen[bytes], answers: Path) -> None:
    """Wait for its first answer. Terminal where there is none."""
    give_up = time.monotonic() + parity.READY_SECONDS
    while not answers.stat().st_size:
        if asking.poll() is not None or time.monotonic() > give_up:
            raise Terminal("nothing was asked; what Locust wrote is in this step's log")
        time.sleep(0.1)


def _watched(server: psutil.Process, asking: psutil.Process) -> Second:
    """Let a second pass."""
    began, used = time.monotonic(), _used() - _used_by(server, asking)
    time.sleep(1)
    ended = time.monotonic()
    others = (_used() - _used_by(server, asking) - used) / (ended - began)
    return Second(began, ended, others, server.memory_info().rss, peak_memory(str(server.pid)))


def _used() -> float:
    """Seconds of processor time that this machine has spent on anything, also as a guest of another."""
    times = psutil.cpu_times()._asdict()
    return float(sum(spent for name, spent in times.items() if name not in NOT_SPENT))


NOT_SPENT = ("idle", "iowait", "guest", "guest_nice")  # user and nice have the guests' in them


def _used_by(*processes: psutil.Process) -> float:
    """That of these, and of their children."""
    family = [each for process in processes for each in (process, *process.children(recursive=True))]
    return sum(sum(each.cpu_times()[:2]) for each in family)


def quiet(seconds: Sequence[Second]) -> list[Second]:
    """Those in which others left a core free."""
    return [each for each in seconds if _quiet(each.others)]


def _quiet(others: float) -> bool:
    """Whether this leaves a core free; of the only one, three quarters."""
    cores = psutil.cpu_count() or 1
    return others <= max(cores - 1, cores / 4)


def measure(load: Load, asked: Asked) -> dict[str, Metric]:
    """Percentiles and throughput of the quietest seconds; errors of all requests; time to start, and memory."""
    kept = sorted(asked.seconds, key=lambda second: second.others)[: load.seconds]
    counted = [
        each for each in asked.requests if any(second.began <= each.began < second.ended for second in kept)
    ]
    times = np.array([each.took for each in counted if not each.wrong])
    made = len(asked.requests)
    others = sum(second.others for second in kept) / max(len(kept), 1)
    note = f"in {len(kept)} of {len(asked.seconds)} seconds, when others used {others:.1f} cores"
    memory = [second.memory for second in asked.seconds]
    peak = max((second.peak for second in asked.seconds), default=0)

    def percentile(share: float) -> Estimate:
        if not len(times):
            return Estimate(value=None, n=0, note="no request was answered")
        found = estimated(quantile(times, share), len(times), len(times))
        return found.model_copy(update={"note": "; ".join(filter(None, (found.note, note)))})

    def plain(value: float | None, n: int, why: str) -> Estimate:
        return Estimate(value=value, n=n, note=why)

    found = {
        "p50-ms": percentile(0.5),
        "p95-ms": percentile(0.95),
        "p99-ms": percentile(0.99),
        "error-share": (
            plain(sum(bool(each.wrong) for each in asked.requests) / made, made, "every request was counted")
            if made
            else plain(None, 0, "no request was made")
        ),
        "requests-per-second": (
            plain(len(times) / sum(second.ended - second.began for second in kept), len(times), note)
            if kept
            else plain(None, 0, "the server ended within the first second")
        ),
        "start-seconds": plain(asked.ready, 1, "of one start, beside whatever else ran then"),
    }
    if memory:
        most = f"of {made} requests"
        found |= {
            "memory-mib": plain(peak / MIB, made, most),
            "memory-share": plain(peak / load.memory_bytes, made, f"{most}, in {load.memory}"),
            "growth-mib": plain((memory[-1] - memory[0]) / MIB, made, f"{most}, after the first second"),
        }
    return {name: Metric(overall=Scores(candidate=each)) for name, each in found.items()}
