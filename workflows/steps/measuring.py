"""What all measurements share: their command line, the versions they are asked about, and their evidence."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reconciler.core.digests import evidence_key, sha256, short
from reconciler.core.errors import Terminal
from reconciler.core.evidence import CATALOGUE, Evidence, MeasuredOn, Metric
from workflows.model_files import fetch_model, registry_errors
from workflows.steps.recording import run_of, upload, write_outputs

log = logging.getLogger(__name__)

NO_CHAMPION = "none"

Inputs = Mapping[str, str | tuple[str, ...]]


def arguments(parser: argparse.ArgumentParser, *, rows: bool = True, champion: bool = False) -> None:
    """``rows``: whether it is measured on the evaluation data; ``champion``: whether beside the champion."""
    parser.add_argument("--model", required=True)
    if rows:
        parser.add_argument("--data", type=Path, required=True, help="folder with the evaluation rows")
    parser.add_argument("--registered-name", required=True)
    parser.add_argument("--candidate-version", required=True)
    if champion:
        parser.add_argument("--champion-version", required=True, help="empty where there is no champion")
    parser.add_argument("--key", required=True, help="the evidence key")
    parser.add_argument("--inputs", required=True, help="JSON object: exactly what the catalogue declares")
    parser.add_argument("--commit", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--workflow", required=True, help="this workflow's name")
    parser.add_argument("--out", type=Path, required=True, help="OUT/evidence-uri and OUT/evidence-sha256")


def parse_inputs(measurement: str, text: str, *, key: str) -> Inputs:
    """The inputs, if they are those that the catalogue declares and make this key; else Terminal."""
    declared = CATALOGUE[measurement]
    try:
        inputs = TypeAdapter(dict[str, str | tuple[str, ...]]).validate_json(text)
    except ValidationError as error:
        raise Terminal(
            f"is not a JSON object of texts: {error.errors()[0]['msg']}", where="--inputs"
        ) from error
    if set(inputs) != set(declared.inputs):
        raise Terminal(
            f"has {', '.join(sorted(inputs))}; {measurement} declares {', '.join(sorted(declared.inputs))}",
            where="--inputs",
        )
    if evidence_key(measurement, declared.recipe, inputs) != key:
        raise Terminal(
            f"does not make the key {key}",
            where="--inputs",
            hint="the reconciler that asked and the image that measures have different catalogues",
        )
    return inputs


def versions(inputs: Inputs, options: argparse.Namespace) -> dict[str, str]:
    """Role -> version, of the candidate and, where ``inputs`` name one, of the champion; else Terminal."""
    if (inputs["champion"] == NO_CHAMPION) != (options.champion_version == ""):
        raise Terminal(
            f"is {options.champion_version!r}, but --inputs say otherwise", where="--champion-version"
        )
    there = {"champion": options.champion_version} if options.champion_version else {}
    return {"candidate": options.candidate_version, **there}


def fetched(
    versions: Mapping[str, str], inputs: Inputs, options: argparse.Namespace, folder: Path
) -> dict[str, Path]:
    """Role -> the files of its version, below ``folder``; they are those that ``inputs`` name, or Terminal."""
    return {
        role: fetch_model(
            f"models:/{options.registered_name}/{version}", digest=str(inputs[role]), destination=folder / role
        )
        for role, version in versions.items()
    }


def fetched_candidate(inputs: Inputs, options: argparse.Namespace, folder: Path) -> Path:
    """The candidate's files, where it is measured alone."""
    return fetched({"candidate": options.candidate_version}, inputs, options, folder)["candidate"]


def publish(
    measurement: str,
    metrics: Mapping[str, Metric],
    inputs: Inputs,
    options: argparse.Namespace,
    *,
    attached: Mapping[str, bytes] | None = None,
) -> None:
    """Upload the evidence to this workflow's MLflow run, and write where it is and its SHA-256.

    ``attached``: file name -> content, put beside it for people. Nothing judges by these.
    """
    import mlflow

    with registry_errors(options.registered_name):
        client = mlflow.MlflowClient()
        record = run_of(
            client,
            workflow=options.workflow,
            experiment=options.registered_name,
            tags={
                "trueup.model": options.model,
                "trueup.measurement": measurement,
                "trueup.candidate": f"{options.registered_name}/{options.candidate_version}",
                "mlflow.source.git.commit": options.commit,
            },
        )
        evidence = Evidence(
            measurement=measurement,
            recipe=CATALOGUE[measurement].recipe,
            key=options.key,
            inputs=dict(inputs),
            measured_on=MeasuredOn(image=options.image, commit=options.commit, run=record.info.run_id),
            at=datetime.now(UTC).replace(microsecond=0),
            metrics=dict(metrics),
        )
        content = evidence.to_bytes()
        # By its content: a workflow's name may come again once its run was collected, and marks are for ever.
        name = f"{measurement}-{options.key}-{short(evidence.digest)}.json"
        uri = upload(client, record, path=f"evidence/{name}", content=content)
        for file, about in (attached or {}).items():
            upload(client, record, path=f"evidence/{file}", content=about)
        for name, metric in metrics.items():
            if (value := metric.overall.candidate.value) is not None:
                client.log_metric(record.info.run_id, f"{measurement}.{name}", value)
        client.set_terminated(record.info.run_id)
    write_outputs(options.out, evidence_uri=uri, evidence_sha256=sha256(content))
    for name, metric in metrics.items():
        log.info("%s.%s: %s", measurement, name, metric.overall.model_dump_json(exclude_defaults=True))
