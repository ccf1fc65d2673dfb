"""Step `register`: make a trained model folder a version in the registry, with its identity as tags.

The tags are part of the call that creates the version, so no reader ever sees a version without them. A step
that is tried again finds what its first try left: the run by the workflow's name, the version by its digest.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.digests import canonical_json
from reconciler.core.errors import Terminal
from reconciler.core.observed import TAG_DIGEST, TAG_INPUTS, TAG_KEY, TAG_SEARCH
from workflows.environment import read_installed
from workflows.model_files import fetch_model, folder_digest, registry_errors
from workflows.steps.recording import run_of, write_outputs
from workflows.steps.trial_runs import outcome, record_trials
from workflows.steps.trials import Record, latest_record, record_arguments

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the MLflow model that `train` wrote")
    parser.add_argument("--metrics", type=Path, required=True, help="the metrics that `train` wrote")
    parser.add_argument("--registered-name", required=True)
    parser.add_argument("--training-key", required=True)
    parser.add_argument("--training-inputs", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--hyperparameters", type=json.loads, required=True, help="JSON object")
    record_arguments(parser)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--workflow", required=True, help="this workflow's name")
    parser.add_argument("--out", type=Path, required=True, help="the outputs go to OUT/version and OUT/digest")


def run(options: argparse.Namespace) -> None:
    import mlflow

    if not (options.folder / "MLmodel").is_file():
        raise Terminal("is not an MLflow model: it has no MLmodel file", where=str(options.folder))
    digest = folder_digest(options.folder)
    lineage = {
        TAG_KEY: options.training_key,
        TAG_DIGEST: digest,
        TAG_INPUTS: canonical_json(options.training_inputs),
    }
    installed, searched = read_installed(options.folder), latest_record(options.search)
    if searched is not None:
        lineage[TAG_SEARCH] = canonical_json(outcome(searched))
    with registry_errors(options.registered_name):
        client = mlflow.MlflowClient()
        record = run_of(
            client,
            workflow=options.workflow,
            experiment=options.registered_name,
            tags={
                **lineage,
                "trueup.model": options.model,
                "trueup.image": options.image,
                **({"trueup.environment": installed.digest} if installed else {}),
                "trueup.data-md5": str(options.training_inputs.get("data", "")),
                "mlflow.source.git.commit": options.commit,
            },
        )
        version = _existing(client, options.registered_name, digest, options.training_key, record)
        if version is not None:
            log.info("version %s of %s is already registered", version.version, options.registered_name)
        else:
            if searched is not None:
                record_trials(client, record, searched, seed=options.seed)
            _upload(client, record, options, searched, digest)
            version = _create(client, options.registered_name, record, lineage)
            log.info("registered version %s of %s (%s)", version.version, options.registered_name, digest)
    write_outputs(options.out, version=str(version.version), digest=version.tags[TAG_DIGEST])


def _existing(client: MlflowClient, name: str, digest: str, key: str, record: Run) -> ModelVersion | None:
    """A version of this key and digest, or of this workflow's run."""
    for version in client.search_model_versions(f"name = '{name}' and tags.`{TAG_KEY}` = '{key}'"):
        if version.tags.get(TAG_DIGEST) == digest or version.run_id == record.info.run_id:
            return version
    return None


def _upload(
    client: MlflowClient, record: Run, options: argparse.Namespace, searched: Record | None, digest: str
) -> None:
    run_id = record.info.run_id
    used = searched.settings(searched.chosen.number) if searched else options.hyperparameters
    for name, value in {**used, "seed": options.seed}.items():
        client.log_param(run_id, name, value)
    for name, value in json.loads(options.metrics.read_text()).items():
        client.log_metric(run_id, name, value)
    client.log_artifacts(run_id, str(options.folder), "model")
    with tempfile.TemporaryDirectory() as folder:
        fetch_model(f"runs:/{run_id}/model", digest=digest, destination=Path(folder))
    client.set_terminated(run_id)


def _create(client: MlflowClient, name: str, record: Run, tags: dict[str, str]) -> ModelVersion:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    source = f"{record.info.artifact_uri}/model"
    return client.create_model_version(name, source, run_id=record.info.run_id, tags=tags)
