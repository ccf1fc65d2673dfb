"""Requests of another world than the training rows: PSI as shipped, and the tests of one's own policy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from reconciler.core.desired import Policy
from reconciler.core.documents import Gate
from reconciler.planning.judge import judge
from workflows.steps.reference import psi, read_reference

pytestmark = pytest.mark.gates

RELEASE = f"sha256:{'e' * 64}"
FEATURE = "pixel_20"
ROWS = 2000
LIMIT = 1.5e9
"""Bytes that a step may take for a million rows of twenty columns."""


@contextmanager
def recorded(lines: list[bytes]) -> Iterator[str]:
    """The address of a server that answers as workflows/server/recorded.py does, each time as another one."""
    asked = count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            head = {"recording": {"release": RELEASE, "id": str(next(asked))}}
            self.wfile.write(json.dumps(head).encode() + b"\n")
            self.wfile.writelines(lines)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def lines_of(rows: pd.DataFrame) -> list[bytes]:
    return [json.dumps({"row": row}).encode() + b"\n" for row in rows.to_dict("records")]


@pytest.fixture(scope="module")
def recording_bench(digits):
    def record(folder: Path) -> None:
        with (folder / "model.yaml").open("a") as document:
            document.write("monitoring:\n  record: {sample: 1, rows: 20000}\n")

    return digits.edited(record)


@pytest.fixture(scope="module")
def serving(digits, good):
    """What the requests were sent to: another version than the candidate."""
    return digits.planted(good, lambda files: (files / "README.md").write_text("an earlier one\n"))


@pytest.fixture(scope="module")
def traffic(digits) -> pd.DataFrame:
    """Requests like the rows that trained."""
    rows = pd.read_csv(digits.rows("train")).drop(columns=["ink", "label"])
    return rows.sample(ROWS, replace=True, random_state=1, ignore_index=True)


def shifted(traffic: pd.DataFrame, model: Path, wanted: float) -> pd.DataFrame:
    """The requests with so much ink in one pixel that its PSI is what is wanted."""
    reference = read_reference(model)
    assert reference is not None
    column = reference.features[FEATURE]
    order = np.random.default_rng(2).permutation(len(traffic))

    def darker(rows: int) -> pd.DataFrame:
        return traffic.assign(**{FEATURE: traffic[FEATURE].where(~np.isin(order, np.arange(rows)), 16)})

    def of(rows: int) -> float:
        return float(psi(column.bins, column.count(darker(rows)[FEATURE])))

    enough = next(rows for rows in range(0, len(traffic), 10) if of(rows) >= wanted)
    assert of(enough) == pytest.approx(wanted, abs=0.02)
    return darker(enough)


NO_FEATURE = Gate(
    name="no-feature",
    metric="drift.rejected-features",
    op="<=",
    threshold=0,
    min_samples=1000,
    on_fail="review",
)
NO_DISTANCE = Gate(
    name="no-distance", metric="drift.ks-max", op="<=", threshold=0.1, slices=("feature",), on_fail="review"
)


def answers(bench, version, champion, rows: pd.DataFrame):
    """Gate -> verdict, of the shipped policy and of two gates of one's own; and the evidence."""
    with recorded(lines_of(rows)) as address:
        evidence = bench.measure("drift", version, champion, recorded=address, traffic=RELEASE)
    shipped = bench.judged(evidence, version, champion, traffic=RELEASE)
    own = Policy(name="own", gates=(NO_FEATURE, NO_DISTANCE))
    case = bench.case(version, champion, traffic=RELEASE)
    verdicts = judge(own, {"drift": evidence}, case, datetime.now(UTC))
    return shipped | {each.gate: each for each in verdicts}, evidence


def test_requests_like_the_training_rows_pass(recording_bench, good, serving, traffic) -> None:
    said, evidence = answers(recording_bench, good, serving, traffic)
    assert {gate: each.verdict for gate, each in said.items()} == dict.fromkeys(
        ("drift", "no-feature", "no-distance"), "pass"
    )
    assert evidence.metrics["psi-prediction"].overall.candidate.usable


def test_a_psi_of_a_quarter_asks_a_person_and_names_the_feature(
    recording_bench, good, serving, traffic, tmp_path
) -> None:
    model = recording_bench.files(good, tmp_path / "model")
    said, evidence = answers(recording_bench, good, serving, shifted(traffic, model, 0.25))
    assert {gate: each.verdict for gate, each in said.items()} == dict.fromkeys(
        ("drift", "no-feature", "no-distance"), "review"
    )
    assert said["drift"].slice == f"feature={FEATURE}"
    assert said["drift"].value == pytest.approx(0.25, abs=0.02)
    assert said["no-feature"].value == 1
    assert f"{FEATURE} KS 0." in evidence.metrics["rejected-features"].overall.candidate.note


def test_a_small_shift_is_no_matter_of_chance_and_none_for_a_person(
    recording_bench, good, serving, traffic, tmp_path
) -> None:
    """PSI says how much, the test says whether chance would do it: a policy may ask either."""
    model = recording_bench.files(good, tmp_path / "model")
    said, _ = answers(recording_bench, good, serving, shifted(traffic, model, 0.1))
    assert {gate: each.verdict for gate, each in said.items()} == {
        "drift": "pass",
        "no-feature": "review",
        "no-distance": "review",
    }


def test_a_page_for_people_is_attached_where_the_model_asks_for_it(
    recording_bench, good, serving, traffic
) -> None:
    import mlflow

    def report(folder: Path) -> None:
        document = folder / "model.yaml"
        document.write_text(document.read_text().replace("monitoring:\n", "monitoring:\n  report: true\n"))

    bench = recording_bench.edited(report)
    _, evidence = answers(bench, good, serving, traffic)
    _, without = answers(recording_bench, good, serving, traffic)
    assert evidence.key == without.key  # what people look at is no other measurement
    uri = f"runs:/{evidence.measured_on.run}/evidence/drift-{evidence.key}-report.html"
    tracking = bench.environment["MLFLOW_TRACKING_URI"]
    page = Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=tracking)).read_text()
    assert FEATURE in page
    assert "Drift" in page
    client = mlflow.MlflowClient(tracking)
    beside = [item.path for item in client.list_artifacts(without.measured_on.run, "evidence")]
    assert not [path for path in beside if path.endswith(".html")]


MILLION = """
import resource, sys
import mlflow, pandas as pd, torch
import numpy as np
from workflows.steps import drift
from workflows.steps.reference import Reference

address, hosts, release = sys.argv[1], int(sys.argv[2]), sys.argv[3]
random = np.random.default_rng(0)
rows = pd.DataFrame(random.normal(0, 1, (5000, 20)), columns=[f"f{i:02d}" for i in range(20)])
reference = Reference.of(rows, rows["f00"], "regression")
drift._hosts = lambda name, port: [f"{name}:{port}"] * hosts
counted = drift.count(reference, drift.read_recorded(address, release), lambda chunk: chunk["f00"])
found = drift.measure(reference, counted)["psi-max"].overall.candidate
print(counted.rows, found.value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_a_million_rows_of_twenty_columns_take_less_than_a_gigabyte_and_a_half() -> None:
    """Twenty servers with nearly as much as one keeps; who asks has torch and MLflow loaded, as a step has."""
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.normal(0, 1, (50_000, 20)).round(6), columns=[f"f{i:02d}" for i in range(20)])
    lines = lines_of(rows)
    assert sum(map(len, lines)) < 32 * 1024 * 1024
    with recorded(lines) as address:
        done = subprocess.run(
            [sys.executable, "-c", MILLION, address, "20", RELEASE], capture_output=True, text=True, check=True
        )
    counted, value, peak = done.stdout.split()
    assert int(counted) == 1_000_000
    assert float(value) < 0.02
    assert float(peak) < LIMIT, f"{float(peak) / 1e6:.0f} MB"
