"""Step `replay`: the requests that an environment's present release recorded, asked of the candidate's server.

Each row is sent as it was recorded, to the real server, started for the purpose. Counted are the rows that it
does not answer, and those that it answers as the release did: the recorded answers are the champion's. Evidence
names no values of rows and repeats no message that may: requests may hold personal data, and it goes to Git.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.core.errors import Terminal
from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.steps import measuring
from workflows.steps.bootstrap import wilson
from workflows.steps.drift import recorded_lines
from workflows.steps.parity import REQUEST_SECONDS, TOLERANCE, running_server, served

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

MOST = 2000
"""Rows of all servers together, the newest of each."""
BATCH = 100

Row = Mapping[str, Any]


class Asked(NamedTuple):
    """A recorded row, and what the release answered."""

    row: Row
    prediction: Row


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser, rows=False)
    parser.add_argument("--recorded", required=True, help="where servers are asked for what they recorded")


def run(options: argparse.Namespace) -> None:
    import httpx

    inputs = measuring.parse_inputs("replay", options.inputs, key=options.key)
    asked, said = read_asked(options.recorded, str(inputs["traffic"]))
    answers: list[Row | str] = []
    if asked:
        with (
            running_server(served(options, inputs)) as address,
            httpx.Client(base_url=address, timeout=REQUEST_SECONDS, trust_env=False) as client,
        ):
            rows = [each.row for each in asked]
            for start in range(0, len(rows), BATCH):
                answers += replay(client, rows[start : start + BATCH])
    measuring.publish("replay", measure(asked, answers, said), inputs, options)


def read_asked(address: str, release: str) -> tuple[list[Asked], str]:
    """The newest rows with their answers; errors as of :func:`recorded_lines`."""
    lines, said = recorded_lines(address, release, MOST)
    try:
        found = [json.loads(line) for of_server in lines for line in of_server]
        return [Asked(each["row"], each["prediction"]) for each in found], said
    except (ValueError, KeyError, TypeError) as error:
        raise Terminal("did not answer with a recording", where=f"{address}/recorded") from error


def replay(client: httpx.Client, rows: Sequence[Row]) -> Iterator[Row | str]:
    """An answer a row, or the status, or the error's name, where there is none. What is refused is asked again
    by halves, so that a row does not answer for its neighbours."""
    import httpx

    try:
        response = client.post("/invocations", json={"dataframe_records": rows})
    except httpx.HTTPError as error:
        why = type(error).__name__
    else:
        if response.status_code == httpx.codes.OK:
            answers = response.json()["predictions"]
            if len(answers) == len(rows):
                yield from answers
                return
        why = str(response.status_code)
        if len(rows) == 1:
            log.info("answered %s: %s", why, response.text[:300])
    if len(rows) == 1:
        yield why
        return
    half = len(rows) // 2
    yield from replay(client, rows[:half])
    yield from replay(client, rows[half:])


def measure(asked: Sequence[Asked], answers: Sequence[Row | str], said: str) -> dict[str, Metric]:
    """``errors``: the share of rows that are not answered. ``agreement``: of those that are, the share with the
    same prediction; of a regression's, the same within :data:`parity.TOLERANCE`."""
    n = len(asked)
    if not n:
        nothing = Metric(overall=Scores(candidate=Estimate(value=None, n=0, note=said)))
        return {"errors": nothing, "agreement": nothing}
    failed = Counter(answer for answer in answers if isinstance(answer, str))
    why = "; ".join(f"{count} x {text}" for text, count in failed.most_common(3))
    why += ", see the step's log" if failed else ""
    pairs = [
        (each.prediction, answer)
        for each, answer in zip(asked, answers, strict=True)
        if not isinstance(answer, str)
    ]
    equal = sum(_equal(before, now) for before, now in pairs)
    changes = Counter(
        f"{before['prediction']} -> {now.get('prediction')}"
        for before, now in pairs
        if _categorical(before) and not _equal(before, now)
    )
    changed = "; ".join(f"{count} x {text}" for text, count in changes.most_common(3))
    return {
        "errors": _metric(wilson(failed.total(), n, "; ".join(filter(None, (why, said))))),
        "agreement": _metric(
            wilson(equal, len(pairs), "; ".join(filter(None, (changed, said))))
            if pairs
            else Estimate(value=None, n=0, note=f"no row was answered: {why}")
        ),
    }


def _equal(before: Row, now: Row) -> bool:
    old, new = before["prediction"], now.get("prediction")
    if _categorical(before) or not all(isinstance(value, (int, float)) for value in (old, new)):
        return bool(old == new)
    return math.isclose(float(old), float(new or 0), rel_tol=TOLERANCE)


def _categorical(prediction: Row) -> bool:
    return any(name.startswith("probability_") for name in prediction)


def _metric(estimate: Estimate) -> Metric:
    return Metric(overall=Scores(candidate=estimate))
