"""Step `parity`: does the real server, asked over HTTP, give the predictions that are evaluated?

Raw rows go as JSON through the server's own process, and straight into the model; a difference is a fault of
serialisation, of the server, or of code that behaves differently there.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from reconciler.core.errors import Terminal
from reconciler.core.evidence import Estimate, Metric, Scores
from workflows.steps import measuring
from workflows.steps.predict import predict
from workflows.steps.rows import read_rows, split_target

if TYPE_CHECKING:
    import pandas as pd

ROWS = 1000
BATCH = 100
READY_SECONDS = 300.0
REQUEST_SECONDS = 60.0
TOLERANCE = 1e-6
"""Of a regression's predictions, relative: another batch size may round differently."""


def arguments(parser: argparse.ArgumentParser) -> None:
    measuring.arguments(parser)


def run(options: argparse.Namespace) -> None:
    inputs = measuring.parse_inputs("parity", options.inputs, key=options.key)
    features, _ = split_target(read_rows(options.data), str(inputs["target"]))
    rows = features.head(ROWS)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        model = measuring.fetched_candidate(inputs, options, Path(folder))
        expected = pool.submit(predict, model, rows)  # while the server starts
        with running_server(served(options, inputs)) as address:
            answers = ask(address, rows)
        metrics = compare(expected.result(), answers)
    measuring.publish("parity", metrics, inputs, options)


def compare(expected: pd.DataFrame, answers: pd.DataFrame | str) -> dict[str, Metric]:
    """Share of equal predictions, and the largest difference of any number of a prediction.

    ``answers`` is a sentence where the server did not answer; then nothing was measured.
    """
    import numpy as np

    n = len(expected)
    if isinstance(answers, str) or sorted(answers.columns) != sorted(expected.columns):
        why = answers if isinstance(answers, str) else f"the server answers with {', '.join(answers.columns)}"
        nothing = Metric(overall=Scores(candidate=Estimate(value=None, n=n, note=why)))
        return {"agreement": nothing, "max-difference": nothing}
    numbers = expected.select_dtypes("number").columns
    categorical = any(str(name).startswith("probability_") for name in numbers)
    ours, theirs = expected["prediction"].to_numpy(), answers["prediction"].to_numpy()
    equal = ours == theirs if categorical else np.isclose(ours, theirs, rtol=TOLERANCE, atol=0.0)
    compared = [name for name in numbers if not (categorical and name == "prediction")]
    if not compared:
        largest = Estimate(value=None, n=n, note="the predictions carry no numbers")
    else:
        difference = np.abs(expected[compared].to_numpy(float) - answers[compared].to_numpy(float))
        largest = Estimate(value=float(difference.max()), n=n, note="every row was compared: no interval")
    share = Estimate(value=float(np.mean(equal)), n=n, note="every row was compared: no interval")
    return {
        "agreement": Metric(overall=Scores(candidate=share)),
        "max-difference": Metric(overall=Scores(candidate=largest)),
    }


def ask(address: str, rows: pd.DataFrame) -> pd.DataFrame | str:
    """The server's predictions for raw rows, sent as JSON in batches; or what it said instead."""
    import httpx
    import pandas as pd

    answers: list[dict[str, Any]] = []
    with httpx.Client(base_url=address, timeout=REQUEST_SECONDS, trust_env=False) as client:
        for start in range(0, len(rows), BATCH):
            try:
                response = client.post("/invocations", content=request(rows[start : start + BATCH]))
            except httpx.HTTPError as error:
                return f"the server did not answer: {type(error).__name__}: {error}"
            if response.status_code != httpx.codes.OK:
                return f"the server answered {response.status_code}: {response.text[:300]}"
            answers += response.json()["predictions"]
    return pd.DataFrame(answers)


def request(rows: pd.DataFrame) -> str:
    """The body that asks the server about raw rows."""
    return json.dumps({"dataframe_split": _split(rows)}, default=_plain)


def _split(rows: pd.DataFrame) -> dict[str, Any]:
    """Columns and data, null where a value is missing; every number with all its digits."""
    split: dict[str, Any] = rows.astype(object).where(rows.notna(), None).to_dict("split", index=False)
    return split


def _plain(value: Any) -> Any:
    """numpy's scalars as Python's, instants as ISO 8601."""
    return value.isoformat() if hasattr(value, "isoformat") else value.item()


def served(options: argparse.Namespace, inputs: measuring.Inputs) -> dict[str, str]:
    """The environment of a server of the candidate."""
    return {
        "TRUEUP_MODEL_NAME": options.registered_name,
        "TRUEUP_MODEL_VERSION": options.candidate_version,
        "TRUEUP_MODEL_DIGEST": str(inputs["candidate"]),
        "TRUEUP_MODEL_URI": f"models:/{options.registered_name}/{options.candidate_version}",
    }


@contextmanager
def running_server(environment: dict[str, str]) -> Iterator[str]:
    """The address of a ready ``reconcile-server`` on a free port of this machine, ended afterwards.

    Terminal if it ends, or is not ready in time; what it wrote is on this step's log.
    """
    command = shutil.which(
        "reconcile-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if command is None:
        raise Terminal("reconcile-server is not installed here")
    process = subprocess.Popen(
        [command],
        env={**os.environ, **environment, "HOST": "127.0.0.1", "PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield _ready_address(process, process.stdout, time.monotonic() + READY_SECONDS)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready_address(process: subprocess.Popen[str], stdout: IO[str], deadline: float) -> str:
    import httpx

    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        address = lines.get(timeout=max(0.0, deadline - time.monotonic())).strip()
    except queue.Empty:
        address = ""
    while address and process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/ready", trust_env=False).status_code == httpx.codes.OK:
                return address
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    ended = process.poll()
    how = f"ended with {ended}" if ended is not None else f"was not ready after {READY_SECONDS:.0f} seconds"
    raise Terminal(f"reconcile-server {how}; its last words are in this step's log")
