"""Step `drift`: how far an environment's present requests are from what the candidate learned on.

The training rows are not loaded: their counts came with the candidate (``reference.json``). The requests are
what the release's servers recorded (workflows/server/recorded.py), each of them asked in turn and counted in
chunks. Numbers, no judgement; of too few rows there are none.
"""

from __future__ import annotations

import argparse
import json
import logging
import socket
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from reconciler.core.digests import short
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.steps import drift_report, measuring
from workflows.steps.bootstrap import estimate
from workflows.steps.distances import FALSE_DISCOVERIES, compared, corrected
from workflows.steps.predict import load
from workflows.steps.reference import FILE, Numbers, Reference, Texts, psi, read_reference, resampled_psi

if TYPE_CHECKING:
    import pandas as pd

    from workflows.steps.reference import Counts

    Predict = Callable[[pd.DataFrame], pd.Series | str]

log = logging.getLogger(__name__)

FEWEST = 100
"""Rows of which a PSI is said at all: ten bins of fewer are mostly chance. A gate asks for more."""
MOST = 1_000_000
"""Rows of all servers together, the newest of each."""
CHUNK = 10_000
MOST_FEATURES = 100
"""That are in the evidence one by one: those that drifted most."""
SECONDS = 60.0
METRICS = ("psi-max", "psi-prediction", "ks-max", "rejected-features")


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, rows=False)
    parser.add_argument("--recorded", required=True, help="where servers are asked for what they recorded")
    parser.add_argument("--report", default="no", help="yes: with a page for people, by Evidently")


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("drift", options.inputs, key=options.key)
    with tempfile.TemporaryDirectory() as folder:
        model = measuring.fetched_candidate(inputs, options, Path(folder))
        reference = read_reference(model)
        sampled = drift_report.ROWS if options.report == "yes" else 0
        recorded = read_recorded(options.recorded, str(inputs["traffic"]), sampled=sampled)
        counted = count(reference, recorded, predicting(model, reference))
    attached = {}
    if sampled:
        page = drift_report.report(recorded.older, recorded.newer)
        if isinstance(page, str):
            log.warning("%s", page)
        else:
            attached[f"drift-{options.key}-report.html"] = page
    measuring.publish("drift", measure(reference, counted), inputs, options, attached=attached)


class Recorded:
    """Raw rows, in chunks, oldest first of each server, to be read once. ``said`` then tells how many,
    whose, and how many servers were asked. ``older`` and ``newer`` are then a sample of the lines."""

    def __init__(self, chunks: Iterator[pd.DataFrame], said: Callable[[], str]) -> None:
        self.chunks, self._said = chunks, said
        self.older: list[str] = []
        self.newer: list[str] = []

    def sample(self, lines: Sequence[str], at_most: int) -> None:
        """Of one server's lines, oldest first: as many of each half, evenly."""
        half = len(lines) // 2
        every = max(1, -(-len(lines) // at_most))
        self.older += islice(lines, 0, half, every)
        self.newer += islice(lines, half, None, every)

    @property
    def said(self) -> str:
        return self._said()


def read_recorded(address: str, release: str, *, sampled: int = 0) -> Recorded:
    """The rows that every server recorded of ``release``, as :func:`recordings` reads them; each server is
    asked when its rows are read. ``sampled`` lines are kept as they are."""
    seen: dict[str, int] = {}
    hosts = _hosts_of(address)

    def chunks() -> Iterator[pd.DataFrame]:
        for identity, lines in recordings(address, hosts, release, MOST):
            seen[identity] = 0
            if sampled:
                recorded.sample(lines, max(1, sampled // len(hosts)))
            for chunk in _frames(lines, where=f"{address}/recorded"):
                seen[identity] += len(chunk)
                yield chunk

    recorded = Recorded(chunks(), lambda: _said(release, seen, hosts))
    return recorded


def recorded_lines(address: str, release: str, most: int) -> tuple[list[deque[str]], str]:
    """The same as lines, a row each, the newest ``most`` in all; and in words how many there are, whose, and
    how many servers were asked."""
    hosts = _hosts_of(address)
    found = dict(recordings(address, hosts, release, most))
    return list(found.values()), _said(release, {name: len(lines) for name, lines in found.items()}, hosts)


def recordings(address: str, hosts: Sequence[str], release: str, most: int) -> Iterator[tuple[str, deque[str]]]:
    """What each of the servers behind ``address`` recorded of ``release``: its id, and its newest lines.

    The host may stand for several servers, as the name of a headless Service does, and one server may have two
    addresses. One that serves another release, as in a canary, counts as none. Retryable if a server does not
    answer, Terminal if what answers is no recording.
    """
    seen = set()
    for host in hosts:
        identity, lines = _ask(host, address, release, at_most=max(1, most // len(hosts)))
        if identity is not None and identity not in seen:
            seen.add(identity)
            yield identity, lines


def _said(release: str, rows: Mapping[str, int], hosts: Sequence[str]) -> str:
    whose = f"recorded by {len(rows)} of {len(hosts)} servers"
    return f"{sum(rows.values())} rows of release {short(release)}, {whose}"


def _hosts_of(address: str) -> list[str]:
    url = urlsplit(address)
    return _hosts(url.hostname or "", url.port or 80)


def _ask(host: str, address: str, release: str, *, at_most: int) -> tuple[str | None, deque[str]]:
    """A server's recording, by its id, and its newest lines; None where it is of another release."""
    import httpx

    try:
        with httpx.stream("GET", f"http://{host}/recorded", timeout=SECONDS, trust_env=False) as response:
            if response.status_code != httpx.codes.OK:
                raise Retryable(f"answered {response.status_code}", where=f"{address}/recorded")
            lines = response.iter_lines()
            recording = json.loads(next(lines))["recording"]
            if recording["release"] != release:
                return None, deque()
            return str(recording["id"]), deque(lines, maxlen=at_most)
    except httpx.HTTPError as error:
        raise Retryable(f"did not answer: {type(error).__name__}: {error}", where=address) from error
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise Terminal("did not answer with a recording", where=f"{address}/recorded") from error


class Counted(NamedTuple):
    """Recorded rows in the reference's bins; ``predictions`` likewise, or a sentence where there are none."""

    rows: int
    said: str
    features: dict[str, Counts]
    predictions: Counts | str


def count(reference: Reference | None, recorded: Recorded, predict: Predict | str) -> Counted:
    """Counts one chunk after the other, so that no more than one is ever held."""
    rows = 0
    features: dict[str, Counts] = {}
    predictions: Counts | str | None = predict if isinstance(predict, str) else None
    for chunk in recorded.chunks:
        rows += len(chunk)
        if reference is None:
            continue
        counted = reference.count(chunk)
        features = {name: features[name] + found if features else found for name, found in counted.items()}
        if isinstance(predict, str) or isinstance(predictions, str) or reference.prediction is None:
            continue
        answers = predict(chunk)
        if isinstance(answers, str):
            predictions = answers
            continue
        found = reference.prediction.count(answers)
        predictions = found if predictions is None else predictions + found
    log.info("%s", recorded.said)
    return Counted(rows, recorded.said, features, NOTHING if predictions is None else predictions)


def predicting(model: Path, reference: Reference | None) -> Predict | str:
    """What the candidate predicts for recorded rows. A sentence where it refuses one, as it may although its
    predecessor took it; without the model's own words, because these may repeat the row."""
    if reference is None or reference.prediction is None:
        return NOTHING
    answer = load(model)

    def predict(rows: pd.DataFrame) -> pd.Series | str:
        try:
            predictions = answer(rows)["prediction"]
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return _REFUSED
        return predictions if len(predictions) == len(rows) else _REFUSED

    return predict


NOTHING = "there is nothing to compare"
_REFUSED = "the candidate does not predict every recorded row; the log of the step says why"


def measure(reference: Reference | None, counted: Counted) -> dict[str, Metric]:
    """What drifted, by how much, and whether chance would do that.

    ``psi-max``: the PSI of the feature that drifted most, and by feature, with intervals bootstrapped over the
    recorded rows. ``psi-prediction``: of what the candidate predicts for the recorded rows, against what it
    predicted for its training rows. ``ks-max``: the largest distance of any number, and by feature.
    ``rejected-features``: of how many features chance does not explain the difference (see distances.py).
    """
    n = counted.rows
    if reference is None or n < FEWEST:
        why = f"the version has no {FILE}, which the step `train` writes" if reference is None else ""
        nothing = _nothing(n, why or f"{counted.said}: a PSI needs {FEWEST} at least")
        return {name: Metric(overall=nothing) for name in METRICS}
    values = {name: _psi(column, counted.features[name]) for name, column in reference.features.items()}
    ranked = sorted(values, key=lambda name: (-(values[name].value or 0), name))
    left_out = {name: why for name, why in reference.left_out.items() if name != "prediction"}
    notes = [f"worst: {', '.join(f'{name} {values[name].value:.3g}' for name in ranked[:3])}", counted.said]
    notes += [f"not compared: {name}, which {why}" for name, why in sorted(left_out.items())[:3]]
    if not ranked:
        nothing = _nothing(n, "no feature can be compared")
        found = {name: Metric(overall=nothing) for name in METRICS}
    else:
        worst = values[ranked[0]].model_copy(update={"note": "; ".join(notes)})
        found = {"psi-max": Metric(overall=Scores(candidate=worst), slices=_by_feature(values, ranked))}
        found |= _tested(reference, counted)
    return {**found, "psi-prediction": Metric(overall=_of_predictions(reference, counted.predictions, n))}


def _tested(reference: Reference, counted: Counted) -> dict[str, Metric]:
    """The tests of all features at once, because one of many is always unlikely."""
    tests = corrected(
        {name: compared(column, counted.features[name]) for name, column in reference.features.items()}
    )
    n = counted.rows
    distances = {
        name: Estimate(value=test.statistic, n=n, note=str(test))
        for name, test in tests.items()
        if test.ordered
    }
    ranked = sorted(distances, key=lambda name: (-(distances[name].value or 0), name))
    largest = _nothing(n, "no feature is a number")
    if ranked:
        named = "; ".join(f"{name} {tests[name]}" for name in ranked[:3])
        note = f"worst: {named}; of binned values, so the distance is this at least, and p this at most"
        largest = Scores(candidate=distances[ranked[0]].model_copy(update={"note": note}))
    by_p = sorted(tests, key=lambda name: (tests[name].adjusted, name))
    rejected = [name for name in by_p if tests[name].adjusted <= FALSE_DISCOVERIES]
    named = "; ".join(f"{name} {tests[name]}" for name in rejected[:3])
    note = f"of {len(tests)}, at a false discovery rate of {FALSE_DISCOVERIES}"
    total = Estimate(value=len(rejected), n=n, note=f"{note}: {named}" if named else note)
    each = {name: Estimate(value=float(name in rejected), n=n, note=str(test)) for name, test in tests.items()}
    return {
        "ks-max": Metric(overall=largest, slices=_by_feature(distances, ranked)),
        "rejected-features": Metric(overall=Scores(candidate=total), slices=_by_feature(each, by_p)),
    }


def _by_feature(values: dict[str, Estimate], ranked: list[str]) -> dict[str, dict[str, Scores]]:
    shown = {name: Scores(candidate=values[name]) for name in ranked[:MOST_FEATURES]}
    return {"feature": shown} if shown else {}


def _of_predictions(reference: Reference, predictions: Counts | str, n: int) -> Scores:
    if reference.prediction is None:
        return _nothing(n, reference.left_out.get("prediction", "no predictions came with the version"))
    if isinstance(predictions, str):
        return _nothing(n, predictions)
    return Scores(candidate=_psi(reference.prediction, predictions))


def _psi(column: Numbers | Texts, actual: Counts) -> Estimate:
    return estimate(float(psi(column.bins, actual)), resampled_psi(column.bins, actual), int(actual.sum()))


def _nothing(n: int, why: str) -> Scores:
    return Scores(candidate=Estimate(value=None, n=n, note=why))


def _frames(lines: deque[str], *, where: str) -> Iterator[pd.DataFrame]:
    import pandas as pd

    while lines:
        taken = [lines.popleft() for _ in range(min(CHUNK, len(lines)))]
        try:
            rows = [json.loads(line)["row"] for line in taken]
        except (ValueError, KeyError, TypeError) as error:
            raise Terminal("did not answer with a recording", where=where) from error
        yield pd.DataFrame(rows)


def _hosts(name: str, port: int) -> list[str]:
    """HOST:PORT of every address that the name stands for."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Retryable(f"has no address: {error.strerror}", where=name) from error
    addresses = sorted({str(each[4][0]) for each in found})
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in addresses]
