"""What steps write to MLflow: one run a workflow, its artifacts; and the outputs that engines read."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.argo import TERMINATION_LOG
from reconciler.core.errors import Terminal
from workflows.model_files import registry_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TAG_WORKFLOW = "trueup.workflow"


def run_of(client: MlflowClient, *, workflow: str, experiment: str, tags: dict[str, str]) -> Run:
    """The MLflow run named after this workflow; a step that is tried again finds the run of its first try."""
    with registry_errors(experiment):
        experiment_id = _experiment(client, experiment)
        found = client.search_runs(
            [experiment_id], filter_string=f"tags.`{TAG_WORKFLOW}` = '{workflow}'", max_results=1
        )
        if found:
            return found[0]
        return client.create_run(experiment_id, run_name=workflow, tags={TAG_WORKFLOW: workflow, **tags})


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(name)))
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            found = client.get_experiment_by_name(name)  # another workflow was quicker
    if found is None or found.lifecycle_stage != "active":
        raise Terminal(
            "the experiment was deleted", where=name, hint="restore it: `mlflow experiments restore`"
        )
    return str(found.experiment_id)


def _artifact_location(experiment: str) -> str | None:
    """Beside the embedded database, whatever folder the step runs in; an MLflow server decides for itself."""
    home = os.environ.get("TRUEUP_HOME")
    if os.environ["MLFLOW_TRACKING_URI"].startswith("sqlite:") and home:
        return (Path(home).absolute() / "artifacts" / experiment).as_uri()
    return None


def upload(client: MlflowClient, run: Run, *, path: str, content: bytes) -> str:
    """Store ``content`` as an artifact of ``run``; its URI."""
    folder, _, name = path.rpartition("/")
    with tempfile.TemporaryDirectory() as local, registry_errors(path):
        file = Path(local) / name
        file.write_bytes(content)
        client.log_artifact(run.info.run_id, str(file), folder or None)
    return f"runs:/{run.info.run_id}/{path}"


def write_outputs(out: Path, **values: str) -> None:
    """One file an output parameter: ``evidence_uri`` goes to ``OUT/evidence-uri``."""
    out.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (out / name.replace("_", "-")).write_text(value)


def tell_engine(why: str) -> None:
    """Have the engine say this beside the exit code: in the node's message, where people look first.

    It is Kubernetes' termination message (at most 4 KiB; ``terminationMessagePath`` of a container), so what is
    in it is read by whoever may see the cluster: no value of a row.
    """
    file = Path(os.environ.get(TERMINATION_LOG, "/dev/termination-log"))
    if file.exists():
        with suppress(OSError):
            file.write_text(why[:1000])
