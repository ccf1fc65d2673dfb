"""Step `identify`: a version from elsewhere gets the digest of its files, and never another one."""

from __future__ import annotations

from collections.abc import Iterator

import mlflow
import pytest


@pytest.fixture
def elsewhere(trained, tmp_path) -> Iterator[str]:
    """A version that another system registered: no tag of ours."""
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("elsewhere", artifact_location=tmp_path.as_uri()))
    client.log_artifacts(run.info.run_id, str(trained["centroids"] / "model"), "model")
    client.create_registered_model("elsewhere")
    yield str(client.create_model_version("elsewhere", f"{run.info.artifact_uri}/model").version)
    client.delete_registered_model("elsewhere")
    client.delete_experiment(run.info.experiment_id)


def test_tags_the_digest_and_refuses_files_that_changed_since(elsewhere, versions, step, capsys) -> None:
    client = mlflow.MlflowClient()
    options = {"registered_name": "elsewhere", "version": elsewhere}
    assert step("identify", **options) == 0
    digest = client.get_model_version("elsewhere", elsewhere).tags["trueup.digest"]
    assert digest == versions["centroids"].digest
    assert step("identify", **options) == 0

    client.set_model_version_tag("elsewhere", elsewhere, "trueup.digest", "sha256:" + "0" * 64)
    assert step("identify", **options) == 1
    assert f"and its files have {digest}" in capsys.readouterr().err
    assert client.get_model_version("elsewhere", elsewhere).tags["trueup.digest"] == "sha256:" + "0" * 64


def test_a_version_that_is_not_there_is_said(versions, step, capsys) -> None:
    assert step("identify", registered_name="centroids", version="99") == 1
    assert "models:/centroids/99" in capsys.readouterr().err
