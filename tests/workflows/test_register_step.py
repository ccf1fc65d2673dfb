"""Step `register`: identity, tags, and that trying again makes no second version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.core.errors import Terminal
from reconciler.core.search import Dimension, Objective, Search
from workflows.environment import read_installed
from workflows.model_files import fetch_model, folder_digest
from workflows.steps.search import plan
from workflows.steps.trials import Result, write_record


@pytest.fixture
def client():
    import mlflow

    return mlflow.MlflowClient()


def test_version_has_its_identity_as_tags_and_its_lineage_on_the_run(versions, trained, client) -> None:
    good = client.get_model_version("centroids", versions["centroids"].number)
    assert good.tags == {
        "trueup.training-key": "0123456789ab",
        "trueup.digest": versions["centroids"].digest,
        "trueup.training-inputs": json.dumps(
            {"data": "bae58a8c19aea75e8d300369b56120a3"}, separators=(",", ":")
        ),
    }
    run = client.get_run(good.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "train-centroids-0123456789ab-1"
    assert run.data.params == {"sharpness": "1", "seed": "0"}
    assert run.data.metrics == {"classes": 10.0}
    assert run.data.tags["mlflow.source.git.commit"] == "1" * 40
    assert run.data.tags["trueup.data-md5"] == "bae58a8c19aea75e8d300369b56120a3"
    installed = read_installed(trained["centroids"] / "model")
    assert installed is not None
    assert run.data.tags["trueup.environment"] == installed.digest


def test_digest_is_that_of_what_anyone_downloads(versions, trained, tmp_path) -> None:
    number, digest = versions["centroids"]
    assert digest == folder_digest(trained["centroids"] / "model")
    fetched = fetch_model(f"models:/centroids/{number}", digest=digest, destination=tmp_path)
    assert folder_digest(fetched) == digest


def test_artifacts_are_beside_the_embedded_database(versions, environment, client) -> None:
    uri = client.get_model_version_download_uri("centroids", versions["centroids"].number)
    assert uri.startswith(f"file://{environment['TRUEUP_HOME']}/artifacts/centroids/")


@pytest.mark.parametrize("workflow", ["train-centroids-0123456789ab-1", "train-centroids-0123456789ab-2"])
def test_trying_again_finds_the_version(
    workflow, versions, trained, step, registration, tmp_path, client
) -> None:
    before = len(client.search_model_versions("name = 'centroids'"))
    options = registration(trained["centroids"], tmp_path, workflow=workflow)
    assert step("register", **options) == 0
    assert (tmp_path / "version").read_text() == versions["centroids"].number
    assert (tmp_path / "digest").read_text() == versions["centroids"].digest
    assert len(client.search_model_versions("name = 'centroids'")) == before


def test_ended_before_the_version_was_made_it_goes_on_with_the_same_run(
    trained, step, registration, tmp_path, client, monkeypatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    options = registration(trained["centroids"], tmp_path, registered_name="interrupted", workflow="train-x-1")

    def away(*_: object, **__: object) -> None:
        raise MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "create_model_version", away)
        assert step("register", **options) == 75
    assert client.search_model_versions("name = 'interrupted'") == []
    assert step("register", **options) == 0
    (version,) = client.search_model_versions("name = 'interrupted'")
    experiment = client.get_experiment_by_name("interrupted")
    (run,) = client.search_runs([experiment.experiment_id])
    assert version.run_id == run.info.run_id


def test_trials_are_nested_runs_and_trying_again_makes_no_second_one(
    trained, step, registration, tmp_path, client, monkeypatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    space = {"sharpness": Dimension(choice=(1, 2, 3))}
    goal = Objective(name="loss", goal="min")
    record = plan(Search(method="grid", space=space, metric=goal), {"depth": 4}, 0).after(
        (
            Result(trial=0, status="FINISHED", metrics={"loss": 0.5}, started=1000, finished=2000),
            Result(trial=1, status="FAILED", message="the loss is nan", started=1000, finished=3000),
            Result(trial=2, status="FINISHED", metrics={"loss": 0.25}, started=2000, finished=4000),
        )
    )
    write_record(record, tmp_path / "search-1")
    options = registration(trained["centroids"], tmp_path, registered_name="searched", workflow="train-s-1")
    options |= {"search": tmp_path / "search-1", "hyperparameters": json.dumps({"depth": 4})}

    # told to go in the middle of the second trial
    wrote: list[str] = []
    end = mlflow.MlflowClient.set_terminated

    def away(self, run_id: str, *rest: object, **more: object) -> None:
        wrote.append(run_id)
        if len(wrote) == 2:
            raise MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE)
        end(self, run_id, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_terminated", away)
        assert step("register", **options) == 75
        assert len(wrote) == 2
    assert step("register", **options) == 0

    (version,) = client.search_model_versions("name = 'searched'")
    assert json.loads(version.tags["trueup.search"]) == {
        "method": "grid",
        "trial": 2,
        "trials": 3,
        "metric": "loss",
        "value": 0.25,
        "hyperparameters": {"sharpness": 3},
    }
    experiment = client.get_experiment_by_name("searched").experiment_id
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{version.run_id}'")
    found = {
        run.info.run_name: (run.info.status, run.info.start_time, run.info.end_time, run.data.params)
        for run in runs
    }
    assert len(runs) == 3
    given = {"depth": "4", "seed": "0"}
    assert found == {
        "trial 0": ("FINISHED", 1000, 2000, {"sharpness": "1", **given}),
        "trial 1": ("FAILED", 1000, 3000, {"sharpness": "2", **given}),
        "trial 2": ("FINISHED", 2000, 4000, {"sharpness": "3", **given}),
    }
    assert client.get_run(version.run_id).data.params == {"sharpness": "3", **given}


def test_changed_files_are_not_loaded(versions, tmp_path, client) -> None:
    number, digest = versions["centroids"]
    with pytest.raises(Terminal, match=f"its files have digest {digest}, expected sha256:0"):
        fetch_model(f"models:/centroids/{number}", digest="sha256:" + "0" * 64, destination=tmp_path)


def test_digest_sees_every_byte_name_and_file(trained, tmp_path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(trained["centroids"] / "model", folder)
    original = folder_digest(folder)
    (folder / "extra").write_text("")
    assert folder_digest(folder) != original
    (folder / "extra").unlink()
    assert folder_digest(folder) == original
    (folder / "MLmodel").rename(folder / "mlmodel")
    assert folder_digest(folder) != original


def test_a_version_that_is_not_there_is_terminal(versions, tmp_path) -> None:
    with pytest.raises(Terminal, match="999"):
        fetch_model("models:/centroids/999", digest="sha256:" + "0" * 64, destination=tmp_path)


def test_a_folder_that_is_no_model_is_refused(step, registration, tmp_path, capsys) -> None:
    (tmp_path / "model").mkdir()
    assert step("register", **registration(Path(tmp_path), tmp_path)) == 1
    assert "is not an MLflow model" in capsys.readouterr().err


def test_without_a_registry_it_says_so(step, trained, registration, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert step("register", **registration(trained["centroids"], tmp_path)) == 1
    assert "MLFLOW_TRACKING_URI is not set" in capsys.readouterr().err


def test_a_registry_that_is_away_may_be_tried_again(
    step, trained, registration, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert step("register", **registration(trained["centroids"], tmp_path)) == 75
    assert "the registry did not answer" in capsys.readouterr().err
