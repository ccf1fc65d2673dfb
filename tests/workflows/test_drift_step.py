"""Step `drift`, against really started servers and the requests that they answered."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from reconciler.adapters.embedded.cluster import EmbeddedCluster
from reconciler.core.digests import canonical_json, evidence_key
from reconciler.core.documents import Admission, Environment, Model, Pin, Release
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, Metric, parse_evidence
from reconciler.planning.renderers import render
from workflows.model_files import registry_errors
from workflows.steps import drift
from workflows.steps.drift import Recorded, count
from workflows.steps.parity import ask, running_server
from workflows.steps.reference import Reference

RELEASE = "sha256:" + "4" * 64
PIXELS = [f"pixel_{i:02d}" for i in range(64)]


@pytest.fixture(scope="module")
def raw(rows: dict[str, Path]) -> pd.DataFrame:
    return pd.read_csv(rows["train"] / "train.csv")[PIXELS]


@contextmanager
def recording(version: Any, release: str = RELEASE) -> Iterator[tuple[str, str]]:
    """(address, address of the recording) of a server that records every row."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "TRUEUP_MODEL_NAME": "centroids",
        "TRUEUP_MODEL_VERSION": version.number,
        "TRUEUP_MODEL_DIGEST": version.digest,
        "TRUEUP_MODEL_URI": f"models:/centroids/{version.number}",
        "TRUEUP_RECORD_SAMPLE": "1",
        "TRUEUP_RECORD_ROWS": "5000",
        "TRUEUP_RELEASE": release,
        "RECORDED_PORT": str(port),
    }
    with running_server(settings) as address:
        yield address, f"http://127.0.0.1:{port}"


def wait_for(address: str, rows: int) -> None:
    deadline = time.monotonic() + 30
    while len(httpx.get(f"{address}/recorded", trust_env=False).text.splitlines()) - 1 < rows:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def measured(step, versions, tmp_path):
    """``measured(ADDRESS)``: the evidence of the step for the version `centroids`."""

    def run(address: str, release: str = RELEASE) -> Evidence:
        inputs = {"candidate": versions["centroids"].digest, "traffic": release, "environment": "production"}
        key = evidence_key("drift", CATALOGUE["drift"].recipe, inputs)
        out = tmp_path / "out"
        done = step(
            "drift",
            model="centroids",
            registered_name="centroids",
            candidate_version=versions["centroids"].number,
            key=key,
            inputs=canonical_json(inputs),
            commit="1" * 40,
            image="trueup/steps",
            workflow=f"measure-drift-centroids-{key}-1",
            recorded=address,
            out=out,
        )
        assert done == 0
        import mlflow

        with registry_errors("evidence"):
            uri = (out / "evidence-uri").read_text()
            path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path / "read"))
        return parse_evidence(Path(path).read_bytes(), where=uri)

    return run


def values(evidence: Evidence) -> dict[str, Estimate]:
    return {name: metric.overall.candidate for name, metric in evidence.metrics.items()}


def test_requests_like_the_training_rows_have_a_small_psi_and_shifted_ones_a_large_one(
    versions, raw, measured
) -> None:
    with recording(versions["coarse"]) as (address, recorded):
        assert isinstance(ask(address, raw.sample(600, random_state=1)), pd.DataFrame)
        wait_for(recorded, 600)
        same = measured(recorded)
        darker = raw.sample(600, random_state=2)
        darker["pixel_20"] = (darker["pixel_20"] + 8).clip(upper=16)
        assert isinstance(ask(address, darker), pd.DataFrame)
        wait_for(recorded, 1200)
        shifted = measured(recorded)
    found = values(same)
    assert found["psi-max"].value == pytest.approx(0, abs=0.1)
    assert found["psi-max"].n == 600
    assert found["psi-prediction"].value == pytest.approx(0, abs=0.05)
    assert same.metrics["psi-max"].slices["feature"].keys() == set(PIXELS)
    worst = values(shifted)["psi-max"]
    assert worst.value is not None
    assert worst.value > 0.2
    assert worst.low is not None
    assert worst.high is not None
    assert worst.low <= worst.value <= worst.high
    assert (worst.n, worst.confidence) == (1200, 0.95)
    assert worst.note.startswith("worst: pixel_20 ")
    assert "1200 rows of release 444444444444, recorded by 1 of 1 servers" in worst.note
    assert shifted.inputs == {
        "candidate": versions["centroids"].digest,
        "traffic": RELEASE,
        "environment": "production",
    }


def test_of_too_few_rows_there_is_no_number_and_of_another_releases_none_count(versions, raw, measured) -> None:
    with recording(versions["coarse"]) as (address, recorded):
        nothing = values(measured(recorded))
        assert isinstance(ask(address, raw.head(40)), pd.DataFrame)
        wait_for(recorded, 40)
        few, others = values(measured(recorded)), values(measured(recorded, "sha256:" + "5" * 64))
    for found, rows, servers in ((nothing, 0, 1), (few, 40, 1), (others, 0, 0)):
        for estimate in found.values():
            assert (estimate.value, estimate.n, estimate.usable) == (None, rows, False)
            assert f"{rows} rows of release" in estimate.note
            assert f"recorded by {servers} of 1 servers: a PSI needs 100 at least" in estimate.note


def test_what_a_candidate_refuses_is_not_repeated(versions, raw, measured, monkeypatch) -> None:
    """The prediction has no value then; the features have."""

    def refuse(rows: pd.DataFrame) -> pd.DataFrame:
        raise ValueError("no such person: Ada")

    monkeypatch.setattr("workflows.steps.drift.load", lambda model: refuse)
    with recording(versions["coarse"]) as (address, recorded):
        ask(address, raw.head(200))
        wait_for(recorded, 200)
        found = measured(recorded)
    assert values(found)["psi-prediction"].value is None
    assert values(found)["psi-max"].usable
    assert "Ada" not in found.model_dump_json()


@pytest.fixture
def step_options(versions, tmp_path) -> dict[str, object]:
    inputs = {"candidate": versions["centroids"].digest, "traffic": RELEASE, "environment": "production"}
    return {
        "model": "centroids",
        "registered_name": "centroids",
        "candidate_version": versions["centroids"].number,
        "key": evidence_key("drift", CATALOGUE["drift"].recipe, inputs),
        "inputs": canonical_json(inputs),
        "commit": "1" * 40,
        "image": "trueup/steps",
        "workflow": "w",
        "out": tmp_path / "out",
    }


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://nowhere.invalid:8081"])
def test_a_server_that_does_not_answer_is_asked_again_later(address, step, step_options, capsys) -> None:
    assert step("drift", recorded=address, **step_options) == 75
    assert "drift: " in capsys.readouterr().err
    assert not (step_options["out"]).exists()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "body", "code"), [(503, b"", 75), (200, b"", 1), (200, b"<html>", 1), (200, b'{"a": 1}\n', 1)]
)
def test_an_answer_that_is_no_recording(status, body, code, step, step_options) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert step("drift", recorded=f"http://127.0.0.1:{server.server_port}", **step_options) == code
    finally:
        server.shutdown()
        server.server_close()


def test_the_requests_of_a_release_in_the_embedded_cluster(versions, raw, measured, tmp_path) -> None:
    """From the model's document to the evidence: resolved, rendered, applied, asked, recorded, measured."""
    model = Model.model_validate_json(
        json.dumps(
            {
                "kind": "Model",
                "owner": "a-team",
                "task": "classification",
                "registeredName": "centroids",
                "data": {"evaluation": {"pointer": "data/evaluation.csv.dvc", "target": "label"}},
                "training": {"external": {"alias": "requested"}},
                "monitoring": {"record": {"sample": 1, "rows": 300}},
                "environments": ["production"],
            }
        )
    )
    environment = Environment(kind="Environment", policy="strict", alias="production", namespace="ml")
    coarse = versions["coarse"]
    release = Release(
        kind="Release",
        pin=Pin(registry="default", name="centroids", version=coarse.number, digest=coarse.digest),
        image="registry.example/server@sha256:" + "0" * 64,
        serving=model.serving_in("production", environment.runtime),
        renderer="deployment/v1",
        admission=Admission(grounds="promotion", judged_at="2026-03-01T12:00:00Z"),
    )
    manifests = render("production", environment, "centroids", release)
    cluster = EmbeddedCluster(tmp_path / "cluster", dict(os.environ), tick=0.2)
    cluster.apply(environment="production", model="centroids", namespace="ml", manifests=manifests)
    try:
        deadline = time.monotonic() + 120
        while (workload := cluster.sweep().workloads["production/centroids"]).health != "Healthy":
            assert time.monotonic() < deadline, workload
            time.sleep(0.1)
        assert "Service/centroids-recorded" in workload.objects
        assert workload.recorded.startswith("http://127.0.0.1:")
        assert workload.recorded != workload.endpoint
        assert isinstance(ask(workload.endpoint, raw.head(500)), pd.DataFrame)
        wait_for(workload.recorded, 300)
        found = values(measured(workload.recorded, release.digest))["psi-max"]
    finally:
        cluster.stop_all()
    assert (found.n, found.usable) == (300, True)
    assert cluster.sweep().workloads["production/centroids"].recorded == ""


# --- the numbers ------------------------------------------------------------------------------------------


def rows_of(n: int, seed: int, late: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "hour": random.integers(0, 24, n),
            "temperature": random.normal(10, 5, n),
            "carrier": random.choice(["UA", "AA", "B6"], n),
            "at": pd.Timestamp("2026-03-01"),
        }
    ).assign(temperature=lambda rows: rows["temperature"].where(random.random(n) >= late))


def recorded_of(frame: pd.DataFrame) -> Recorded:
    return Recorded(iter([frame[start : start + 300] for start in range(0, len(frame), 300)]), lambda: "said")


def measure(reference: Reference | None, recorded: Recorded, predictions: pd.Series | str) -> dict[str, Metric]:
    """Of a model that gives these predictions for all the recorded rows, in their order."""
    if isinstance(predictions, str):
        return drift.measure(reference, count(reference, recorded, predictions))
    left = predictions

    def predict(rows: pd.DataFrame) -> pd.Series:
        nonlocal left
        answers, left = left[: len(rows)], left[len(rows) :]
        return answers

    return drift.measure(reference, count(reference, recorded, predict))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.of(rows_of(5000, 1), pd.Series(np.random.default_rng(2).normal(0, 1, 5000)), "regression")


def psi_by_feature(metrics: dict[str, Any]) -> dict[str, float]:
    by_feature = metrics["psi-max"].slices["feature"]
    return {name: scores.candidate.value for name, scores in by_feature.items()}


def test_unknown_categories_and_missing_values_are_drift(reference) -> None:
    clean = psi_by_feature(measure(reference, recorded_of(rows_of(2000, 3)), "none"))
    assert max(clean.values()) < 0.02
    assert clean.keys() == {"hour", "temperature", "carrier"}
    new = rows_of(2000, 4).assign(carrier=lambda rows: rows["carrier"].replace("B6", "a new one"))
    found = measure(reference, recorded_of(new), "none")
    assert psi_by_feature(found)["carrier"] > 0.5
    assert found["psi-max"].overall.candidate.note.startswith("worst: carrier ")
    rejected = found["rejected-features"].slices["feature"]
    assert {name: scores.candidate.value for name, scores in rejected.items()} == {
        "carrier": 1.0,
        "hour": 0.0,
        "temperature": 0.0,
    }
    assert rejected["carrier"].candidate.note.startswith("chi-square ")
    assert "not compared: at, which holds datetime64 values" in found["psi-max"].overall.candidate.note
    gone = measure(reference, recorded_of(rows_of(2000, 5, late=0.3)), "none")
    assert psi_by_feature(gone)["temperature"] > 0.5


def test_predictions_are_compared_with_those_of_the_training_rows(reference) -> None:
    for shift, drifted in ((0.0, False), (1.0, True)):
        predictions = pd.Series(np.random.default_rng(6).normal(shift, 1, 1000))
        found = measure(reference, recorded_of(rows_of(1000, 7)), predictions)["psi-prediction"]
        value = found.overall.candidate.value
        assert value is not None
        assert (value > 0.2) is drifted


def test_a_version_without_a_reference_says_so() -> None:
    found = measure(None, recorded_of(rows_of(500, 8)), "none")
    for metric in found.values():
        assert (metric.overall.candidate.value, metric.overall.candidate.n) == (None, 500)
        assert metric.overall.candidate.note.startswith("the version has no reference.json")


def test_the_evidence_names_the_worst_features_and_stays_small() -> None:
    random = np.random.default_rng(9)
    wide = pd.DataFrame({f"f{i:03d}": random.random(1000) for i in range(300)})
    moved = wide.assign(f150=lambda rows: rows["f150"] + 1)
    found = measure(Reference.of(wide, "none", "regression"), recorded_of(moved), "none")["psi-max"]
    assert len(found.slices["feature"]) == 100
    assert next(iter(found.slices["feature"])) == "f150"


def test_of_very_many_rows_the_newest_are_taken(monkeypatch) -> None:
    lines = deque(json.dumps({"row": {"a": n}}) for n in range(25_000))
    frames = list(drift._frames(lines, where="there"))
    assert [len(frame) for frame in frames] == [10_000, 10_000, 5_000]
    assert not lines
    assert frames[-1]["a"].iloc[-1] == 24_999


def test_the_address_may_stand_for_several_servers(versions, raw, monkeypatch) -> None:
    """Both are asked; one that serves another release, as in a canary, counts as none."""
    with (
        recording(versions["coarse"]) as (one, first),
        recording(versions["coarse"], "sha256:" + "6" * 64) as (
            two,
            second,
        ),
    ):
        for address, there in ((one, first), (two, second)):
            ask(address, raw.head(120))
            wait_for(there, 120)
        ports = [there.rpartition(":")[2] for there in (first, second)]
        monkeypatch.setattr(
            drift, "_hosts", lambda name, port: [f"127.0.0.1:{each}" for each in [*ports, ports[0]]]
        )
        found = drift.read_recorded("http://digits-recorded.production.svc:8081", RELEASE)
        assert sum(map(len, found.chunks)) == 120
    assert found.said == "120 rows of release 444444444444, recorded by 1 of 3 servers"
