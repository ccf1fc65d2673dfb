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
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from reconciler.core.digests import short
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.model_files import fetch_model
from workflows.steps import measuring
from workflows.steps.bootstrap import estimate
from workflows.steps.predict import predict
from workflows.steps.reference import FILE, Numbers, Reference, Texts, psi, read_reference, resampled_psi

if TYPE_CHECKING:
    import pandas as pd

    from workflows.steps.reference import Counts

log = logging.getLogger(__name__)

FEWEST = 100
"""Rows of which a PSI is said at all: ten bins of fewer are mostly chance. A gate asks for more."""
MOST = 200_000
"""Rows of all servers together, the newest of each."""
CHUNK = 10_000
MOST_FEATURES = 100
"""That are in the evidence one by one: those that drifted most."""
SECONDS = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, rows=False)
    parser.add_argument("--recorded", required=True, help="where servers are asked for what they recorded")


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("drift", options.inputs, key=options.key)
    uri = f"models:/{options.registered_name}/{options.candidate_version}"
    recorded = read_recorded(options.recorded, str(inputs["traffic"]))
    with tempfile.TemporaryDirectory() as folder:
        model = fetch_model(uri, digest=str(inputs["candidate"]), destination=Path(folder))
        reference = read_reference(model)
        metrics = measure(reference, recorded, _predicted(model, reference, recorded))
    measuring.publish("drift", metrics, inputs, options)


class Recorded(NamedTuple):
    """Raw rows, in chunks; ``said`` tells how many there are, whose, and how many servers were asked."""

    chunks: list[pd.DataFrame]
    said: str

    @property
    def rows(self) -> int:
        return sum(map(len, self.chunks))


def read_recorded(address: str, release: str) -> Recorded:
    """The rows that every server recorded of ``release``, as :func:`recorded_lines` reads them."""
    lines, said = recorded_lines(address, release, MOST)
    try:
        return Recorded([frame for of_server in lines for frame in _frames(of_server)], said)
    except (ValueError, KeyError, TypeError) as error:
        raise Terminal("did not answer with a recording", where=f"{address}/recorded") from error


def recorded_lines(address: str, release: str, most: int) -> tuple[list[deque[str]], str]:
    """What every server behind ``address`` recorded of ``release``: lines, a row each, the newest ``most`` in
    all; and in words how many there are, whose, and how many servers were asked.

    The host may stand for several servers, as the name of a headless Service does. One that serves another
    release, as in a canary, counts as none. Retryable if the name or a server does not answer, Terminal if what
    answers is no recording.
    """
    import httpx

    url = urlsplit(address)
    hosts = _hosts(url.hostname or "", url.port or 80)
    found: list[deque[str]] = []
    seen: set[str] = set()  # one server may have two addresses
    for host in hosts:
        try:
            with httpx.stream("GET", f"http://{host}/recorded", timeout=SECONDS, trust_env=False) as response:
                if response.status_code != httpx.codes.OK:
                    raise Retryable(f"answered {response.status_code}", where=f"{address}/recorded")
                lines = response.iter_lines()
                recording = json.loads(next(lines))["recording"]
                if recording["release"] != release or recording["id"] in seen:
                    continue
                seen.add(recording["id"])
                found.append(deque(lines, maxlen=max(1, most // len(hosts))))
        except httpx.HTTPError as error:
            raise Retryable(f"did not answer: {type(error).__name__}: {error}", where=address) from error
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise Terminal("did not answer with a recording", where=f"{address}/recorded") from error
    rows = sum(map(len, found))
    said = f"{rows} rows of release {short(release)}, recorded by {len(seen)} of {len(hosts)} servers"
    log.info("%s", said)
    return found, said


def measure(reference: Reference | None, recorded: Recorded, predictions: pd.Series | str) -> dict[str, Metric]:
    """``psi-max``: the PSI of the feature that drifted most, and by feature. ``psi-prediction``: of what the
    candidate predicts for the recorded rows, against what it predicted for its training rows.

    Intervals are bootstrapped over the recorded rows. ``predictions`` is a sentence where there are none.
    """
    n = recorded.rows
    if reference is None or n < FEWEST:
        why = f"the version has no {FILE}, which the step `train` writes" if reference is None else ""
        nothing = _nothing(n, why or f"{recorded.said}: a PSI needs {FEWEST} at least")
        return {"psi-max": Metric(overall=nothing), "psi-prediction": Metric(overall=nothing)}
    total: dict[str, Counts] = {}
    for chunk in recorded.chunks:
        counted = reference.count(chunk)
        total = {name: total[name] + counts if total else counts for name, counts in counted.items()}
    values = {name: _psi(column, total[name]) for name, column in reference.features.items()}
    ranked = sorted(values, key=lambda name: (-(values[name].value or 0), name))
    left_out = {name: why for name, why in reference.left_out.items() if name != "prediction"}
    notes = [f"worst: {', '.join(f'{name} {values[name].value:.3g}' for name in ranked[:3])}", recorded.said]
    notes += [f"not compared: {name}, which {why}" for name, why in sorted(left_out.items())[:3]]
    worst = values[ranked[0]].model_copy(update={"note": "; ".join(notes)}) if ranked else None
    by_feature = {name: Scores(candidate=values[name]) for name in ranked[:MOST_FEATURES]}
    return {
        "psi-max": Metric(
            overall=Scores(candidate=worst) if worst else _nothing(n, "no feature can be compared"),
            slices={"feature": by_feature} if by_feature else {},
        ),
        "psi-prediction": Metric(overall=_of_predictions(reference, predictions, n)),
    }


def _of_predictions(reference: Reference, predictions: pd.Series | str, n: int) -> Scores:
    if reference.prediction is None:
        return _nothing(n, reference.left_out.get("prediction", "no predictions came with the version"))
    if isinstance(predictions, str):
        return _nothing(n, predictions)
    return Scores(candidate=_psi(reference.prediction, reference.prediction.count(predictions)))


def _psi(column: Numbers | Texts, actual: Counts) -> Estimate:
    return estimate(float(psi(column.bins, actual)), resampled_psi(column.bins, actual), int(actual.sum()))


def _nothing(n: int, why: str) -> Scores:
    return Scores(candidate=Estimate(value=None, n=n, note=why))


def _predicted(model: Path, reference: Reference | None, recorded: Recorded) -> pd.Series | str:
    """What the candidate predicts for the recorded rows. A sentence where it refuses one, as it may although
    its predecessor took it; without the model's own words, because these may repeat the row."""
    import pandas as pd

    if reference is None or reference.prediction is None or recorded.rows < FEWEST:
        return "there is nothing to compare"
    try:
        return predict(model, pd.concat(recorded.chunks, ignore_index=True))["prediction"]
    except Terminal:
        return "the candidate does not predict every recorded row; the log of the step says why"


def _frames(lines: deque[str]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    while lines:
        taken = [lines.popleft() for _ in range(min(CHUNK, len(lines)))]
        yield pd.DataFrame([json.loads(line)["row"] for line in taken])


def _hosts(name: str, port: int) -> list[str]:
    """HOST:PORT of every address that the name stands for."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Retryable(f"has no address: {error.strerror}", where=name) from error
    addresses = sorted({str(each[4][0]) for each in found})
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in addresses]
