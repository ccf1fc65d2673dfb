"""`reconcile prune` on a real repository and MLflow's own SQLite store; nothing is trained."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reconciler.adapters.mlflow_registry import MlflowRegistry
from reconciler.cli.main import run
from reconciler.core.documents import VerifiedPin
from reconciler.core.observed import (
    PRUNED,
    TAG_ARCHIVED,
    TAG_DIGEST,
    TAG_KEY,
    Pruned,
    VerifiedMark,
    evidence_tag,
    verified_tag,
)
from tests.unit.test_cli_repository import Clone, checked_out, release

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

Said = pytest.CaptureFixture[str]
DAYS = {number: datetime(2026, 1, 10 * int(number), 12, tzinfo=UTC) for number in "123"}
DIGESTS = {number: f"sha256:{number * 64}" for number in "123"}


class KilledError(BaseException):
    """The process ends here."""


class Models(NamedTuple):
    """A clone where version 3 follows version 2 and that version 1, and the registry's own client."""

    clone: Clone
    client: Any
    registry: MlflowRegistry
    runs: dict[str, list[str]]

    def versions(self) -> list[str]:
        return [v.version for v in self.registry.sweep().models["digits"].versions]

    def active(self) -> set[str]:
        return {run.run_id for run in self.registry.runs("digits")}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    from mlflow import MlflowClient

    clone = checked_out(tmp_path, monkeypatch)
    monkeypatch.setattr("reconciler.adapters.mlflow_registry.MlflowRegistry", MlflowRegistry)
    path = clone.root / "environments/staging/environment.yaml"
    path.write_text(f"{path.read_text().rstrip()}\nretention: {{for: 1d}}\n")
    champion: VerifiedPin | None = None
    pins = {}
    for number, at in DAYS.items():
        pins[number] = release(number, DIGESTS[number], champion=champion)
        clone.pin(pins[number])
        monkeypatch.setenv("GIT_COMMITTER_DATE", at.isoformat())
        clone.push(f"version {number} in staging")
        champion = VerifiedPin(version=number, digest=DIGESTS[number], release=pins[number].digest, at=at)
    monkeypatch.delenv("GIT_COMMITTER_DATE")
    (clone.root / ".trueup").mkdir()
    uri = f"sqlite:///{clone.root}/.trueup/mlflow.db"
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("digits", (tmp_path / "artifacts").as_uri())
    client.create_registered_model("digits")
    runs: dict[str, list[str]] = {}
    for number in "123":
        training = client.create_run(experiment, tags={"trueup.workflow": f"train-digits-{number}"}).info.run_id
        trial = client.create_run(experiment, tags={"mlflow.parentRunId": training, "trueup.trial": "0"})
        about = {"trueup.workflow": f"measure-{number}", "trueup.candidate": f"digits/{number}"}
        measured = client.create_run(experiment, tags=about)
        runs[number] = [training, trial.info.run_id, measured.info.run_id]
        mark = VerifiedMark(release=pins[number].digest, at=DAYS[number])
        tags = {
            TAG_DIGEST: DIGESTS[number],
            TAG_KEY: f"{int(number):012x}",
            verified_tag("staging"): str(mark),
            evidence_tag("evaluate", "0" * 12): f"runs:/{runs[number][2]}/evidence/e.json@{DIGESTS[number]}",
        }
        client.create_model_version("digits", f"runs:/{training}/model", run_id=training, tags=tags)
    return Models(clone, client, MlflowRegistry(uri), runs)


def test_from_the_mark_to_the_log_with_a_kill_in_the_middle(
    models: Models, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["prune"]) == 0
    assert "digits 1: it is not archived yet; the next tick does that" in capsys.readouterr().out
    assert run(["--dry-run", "--model", "digits", "--output", "json"]) == 0
    planned = json.loads(capsys.readouterr().out)["plan"]["actions"]
    (mark,) = (action for action in planned if action.get("tag") == TAG_ARCHIVED)
    assert (mark["version"], mark["subject"]["model"]) == ("1", "digits")
    models.registry.set_tag("digits", mark["version"], mark["tag"], mark["value"])

    assert run(["prune", "--output", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(each["version"], set(each["runs"])) for each in listed["removals"]] == [
        ("1", set(models.runs["1"]))
    ]
    kept = {each["version"]: " ".join(each["why"]) for each in listed["kept"]}
    assert "a rollback of staging/digits would go back to it" in kept["2"]
    assert "pinned in staging/digits" in kept["3"]

    assert run(["prune", "--delete", "--expect", "0" * 12]) == 1
    assert f"the list's digest is {listed['digest'][7:19]}, not 000000000000" in capsys.readouterr().err
    assert run(["prune", "--model", "digit"]) == 1
    assert "--model: main has no 'digit'" in capsys.readouterr().err
    assert models.versions() == ["1", "2", "3"]

    with monkeypatch.context() as cut:
        cut.setattr(MlflowRegistry, "delete_run", killed)
        with pytest.raises(KilledError):
            run(["prune", "--delete", "--expect", listed["digest"]])
    assert models.versions() == ["2", "3"]
    assert models.active() == {run for runs in models.runs.values() for run in runs}
    capsys.readouterr()

    assert run(["prune"]) == 0
    text = capsys.readouterr().out
    assert "Ada had it deleted at" in text
    command = text.splitlines()[-1].split()
    assert command[:4] == ["reconcile", "prune", "--delete", "--expect"]
    assert run(command[1:]) == 0
    assert capsys.readouterr().out == "deleted version 1 of digits and 3 runs\n"
    assert models.active() == {*models.runs["2"], *models.runs["3"]}
    logged = models.client.get_registered_model("digits").tags
    said = Pruned.parse(logged[f"{PRUNED}1"])
    assert said is not None
    assert (said.by, said.listed, said.run) == ("Ada", listed["digest"], models.runs["1"][0])

    assert run(["prune"]) == 0
    assert capsys.readouterr().out.startswith("Nothing can go.\n")


def killed(*_: object) -> None:
    raise KilledError
