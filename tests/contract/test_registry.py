"""What every registry must do. Another one, or another way to reach one, is one more parameter of `place`."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import create_engine, text

from reconciler.adapters.mlflow_registry import MAX_EVIDENCE, MlflowRegistry
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import PRUNED, Pruned, RegistryRun, RegistrySweep
from tests.servers.mlflow import mlflow_server, postgresql
from tests.servers.programs import or_skipped

pytest.importorskip("mlflow")

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


class Place(NamedTuple):
    """A registry, and MLflow's own client to arrange it with."""

    uri: str
    client: Any
    experiment: str
    database: str

    @property
    def registry(self) -> MlflowRegistry:
        return MlflowRegistry(self.uri)

    def register(self, name: str, versions: int = 1) -> None:
        self.client.create_registered_model(name)
        for _ in range(versions):
            self.client.create_model_version(name, f"s3://models/{name}")

    def put(self, name: str, content: bytes, folder: Path) -> str:
        """An artifact of a new run; its URI."""
        run = self.client.create_run(self.experiment).info.run_id
        (folder / name).write_bytes(content)
        self.client.log_artifact(run, str(folder / name), "evidence")
        return f"runs:/{run}/evidence/{name}"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making its tables takes seconds, so it is made once and copied."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(
    scope="module", params=["sqlite", "http", pytest.param("postgresql", marks=pytest.mark.platform)]
)
def place(
    request: pytest.FixtureRequest, database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp(request.param)
    copy = Path(shutil.copy(database, folder / "mlflow.db"))
    uri = f"sqlite:///{copy}"
    artifacts = str(folder / "artifacts")
    if request.param == "sqlite":
        client = MlflowClient(uri, uri)
        yield Place(uri, client, client.create_experiment("contract", artifact_location=artifacts), uri)
        return
    with ExitStack() as stack:
        if request.param == "postgresql":
            uri = stack.enter_context(or_skipped(postgresql()))
        address = stack.enter_context(mlflow_server(uri, artifacts, folder / "server.log"))
        client = MlflowClient(address, address)
        yield Place(address, client, client.create_experiment("contract"), uri)


# --- sweep ------------------------------------------------------------------------------------------------


def test_a_sweep_has_models_versions_aliases_and_our_tags(place: Place) -> None:
    place.register("sweep-a", versions=11)
    place.register("sweep-b", versions=1)
    place.client.create_registered_model("sweep-c")
    registry = place.registry
    registry.set_alias("sweep-a", "champion", "10")
    registry.set_alias("sweep-a", "staging", "2")
    registry.set_tag("sweep-a", "2", "trueup.digest", "sha256:" + "a" * 64)
    place.client.set_model_version_tag("sweep-a", "2", "team", "not ours")

    models = registry.sweep().models

    assert models["sweep-a"].aliases == {"champion": "10", "staging": "2"}
    assert [v.version for v in models["sweep-a"].versions] == [str(n) for n in range(1, 12)]
    second = models["sweep-a"].version("2")
    assert second is not None
    assert second.tags == {"trueup.digest": "sha256:" + "a" * 64}
    assert second.ready
    assert second.created.tzinfo is not None
    assert models["sweep-b"].aliases == {}
    assert models["sweep-c"].versions == ()


def test_a_server_says_that_it_is_as_new_as_the_client(place: Place) -> None:
    from mlflow.version import VERSION

    found = [(each.state, each.what) for each in place.registry.diagnose(())]
    told = [("ok", f"MLflow {VERSION} on the server, as here")]
    assert found == (told if place.uri.startswith("http") else [])


def test_a_version_that_is_not_ready_says_so(place: Place) -> None:
    place.register("pending")
    with create_engine(place.database).begin() as database:  # MLflow has no call for it
        database.execute(
            text("UPDATE model_versions SET status = 'PENDING_REGISTRATION' WHERE name = 'pending'")
        )
    assert [v.ready for v in place.registry.sweep().models["pending"].versions] == [False]


def test_a_sweep_makes_one_call_a_page_and_none_a_model(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    for index in range(5):
        place.register(f"paged-{index}", versions=2)
    whole = place.registry.sweep()
    models, versions = len(whole.models), sum(len(m.versions) for m in whole.models.values())
    calls: Counter[str] = Counter()

    def counting(name: str, method: Any) -> Any:
        def counted(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return method(self, *args, **kwargs)

        return counted

    for name, method in vars(MlflowClient).items():
        if callable(method) and not name.startswith("_"):
            monkeypatch.setattr(MlflowClient, name, counting(name, method))

    paged = MlflowRegistry(place.uri, model_page=2, version_page=3).sweep()

    assert paged == whole
    assert calls == {"search_registered_models": -(-models // 2), "search_model_versions": -(-versions // 3)}


# --- writes -----------------------------------------------------------------------------------------------


def test_an_alias_moves_and_goes_and_doing_so_again_changes_nothing(place: Place) -> None:
    place.register("alias", versions=2)
    registry = place.registry
    for version in ("1", "2", "2"):
        registry.set_alias("alias", "champion", version)
        assert registry.sweep().models["alias"].aliases == {"champion": version}
    for _ in range(2):
        registry.delete_alias("alias", "champion")
        assert registry.sweep().models["alias"].aliases == {}
    registry.delete_alias("no-such-model", "champion")


def test_a_tag_of_5000_characters_survives_and_is_replaced(place: Place) -> None:
    place.register("tag")
    registry = place.registry
    long = "ä" + "x" * 4999
    for value in (long, long, "short"):
        registry.set_tag("tag", "1", "trueup.training-inputs", value)
        assert registry.sweep().models["tag"].versions[0].tags == {"trueup.training-inputs": value}
    with pytest.raises(Terminal, match="exceeds the maximum length"):
        registry.set_tag("tag", "1", "trueup.training-inputs", "x" * 200_000)


@pytest.mark.parametrize(("name", "version"), [("known", "9"), ("unknown", "1")])
def test_a_write_to_what_is_not_there_is_terminal(place: Place, name: str, version: str) -> None:
    if "known" not in place.registry.sweep().models:
        place.register("known")
    with pytest.raises(Terminal, match="not found"):
        place.registry.set_alias(name, "champion", version)
    with pytest.raises(Terminal, match="not found"):
        place.registry.set_tag(name, version, "trueup.told.staging", "x")


def test_a_deleted_version_is_gone_with_its_aliases_and_its_number_is_not_given_again(place: Place) -> None:
    place.register("pruned", versions=3)
    registry = place.registry
    registry.set_alias("pruned", "last", "3")
    for _ in range(2):
        registry.delete_version("pruned", "3")
    registry.delete_version("pruned", "99")
    registry.delete_version("no-such-model", "1")
    model = registry.sweep().models["pruned"]
    assert ([v.version for v in model.versions], model.aliases) == (["1", "2"], {})
    assert place.client.create_model_version("pruned", "s3://models/pruned").version in ("4", 4)


def test_what_was_deleted_is_logged_on_the_model_and_read_by_the_sweep(place: Place) -> None:
    place.register("logged")
    registry = place.registry
    said = Pruned(at=datetime(2026, 3, 1, tzinfo=UTC), by="Ada", listed="sha256:" + "a" * 64, run="r")
    for _ in range(2):
        registry.log("logged", f"{PRUNED}7", str(said))
    registry.log("logged", f"{PRUNED}8", "not of ours")
    assert registry.sweep().models["logged"].pruned == {"7": said}
    with pytest.raises(Terminal, match="not found"):
        registry.log("no-such-model", f"{PRUNED}7", str(said))


def test_our_runs_are_read_by_page_and_deleted_once(place: Place, tmp_path: Path) -> None:
    """Trials have only their own tag; what others logged there is not ours."""
    experiment = place.client.create_experiment("runs", artifact_location=None)
    trained, theirs = (
        place.client.create_run(experiment, run_name=name, tags=tags).info.run_id
        for name, tags in (("train-1", {"trueup.workflow": "train-1"}), ("a notebook", {"team": "theirs"}))
    )
    trial = {"mlflow.parentRunId": trained, "trueup.trial": "1"}
    measured = {"trueup.workflow": "measure-1", "trueup.candidate": "runs/1"}
    nested = place.client.create_run(experiment, run_name="trial 1", tags=trial).info.run_id
    about = place.client.create_run(experiment, run_name="measure-1", tags=measured).info.run_id
    registry = MlflowRegistry(place.uri, model_page=2)
    found = {run.run_id: run for run in registry.runs("runs")}
    assert found == {
        trained: RegistryRun(run_id=trained, name="train-1"),
        nested: RegistryRun(run_id=nested, name="trial 1", parent=trained),
        about: RegistryRun(run_id=about, name="measure-1", candidate="runs/1"),
    }
    for _ in range(2):
        registry.delete_run(trained)
    registry.delete_run("0" * 32)
    assert {run.run_id for run in registry.runs("runs")} == {nested, about}
    assert place.client.get_run(theirs).info.lifecycle_stage == "active"
    assert place.client.get_run(trained).info.lifecycle_stage == "deleted"  # until `mlflow gc`
    assert registry.runs("no-such-model") == ()


# --- evidence ---------------------------------------------------------------------------------------------


def test_evidence_comes_back_byte_for_byte(place: Place, tmp_path: Path) -> None:
    content = b'{"a":1}\n\x00\xff'
    assert place.registry.evidence(place.put("evaluate.json", content, tmp_path)) == content


def test_missing_evidence_is_terminal(place: Place, tmp_path: Path) -> None:
    there = place.put("evaluate.json", b"{}", tmp_path)
    with pytest.raises(Terminal, match="there is no evidence at"):
        place.registry.evidence(there.replace("evaluate.json", "parity.json"))
    with pytest.raises(Terminal, match="not found"):
        place.registry.evidence(f"runs:/{'0' * 32}/evidence/evaluate.json")


def test_evidence_that_is_too_large_is_not_fetched(place: Place, tmp_path: Path) -> None:
    uri = place.put("evaluate.json", b"x" * (MAX_EVIDENCE + 1), tmp_path)
    with pytest.raises(Terminal, match=f"has {MAX_EVIDENCE + 1} bytes; the limit is {MAX_EVIDENCE}"):
        place.registry.evidence(uri)


@pytest.mark.parametrize(
    "uri", ["file:///etc/hostname", "/etc/hostname", "http://127.0.0.1/x", "runs:/a/../b", "runs:/a/"]
)
def test_evidence_is_only_read_from_artifact_stores(place: Place, uri: str) -> None:
    with pytest.raises(Terminal, match="is not a place for evidence"):
        place.registry.evidence(uri)


def test_nothing_is_printed_or_logged(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    registry = place.registry
    registry.sweep()
    with pytest.raises(Terminal):
        registry.set_alias("unknown", "champion", "1")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# --- when it is not there ---------------------------------------------------------------------------------


def test_a_server_that_does_not_answer_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound, never listening: every connection is refused
        registry = MlflowRegistry(f"http://user:s3cret@127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Retryable, match="the sweep of the registry failed: connection refused") as raised:
            registry.sweep()
    assert "s3cret" not in str(raised.value)
    assert "hint: check that the registry is up" in str(raised.value)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, Retryable), (503, Retryable), (429, Retryable), (401, Terminal), (403, Terminal)]
)
def test_what_a_server_answers_decides_whether_to_try_again(
    status: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            registry = MlflowRegistry(f"http://127.0.0.1:{server.server_port}")
            with pytest.raises(kind):
                registry.sweep()
            with pytest.raises(kind):
                registry.set_tag("digits", "1", "trueup.told.staging", "x")
        finally:
            server.shutdown()


def test_a_sqlite_registry_that_is_not_there_is_empty_and_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "home" / "mlflow.db"
    registry = MlflowRegistry(f"sqlite:///{file}")
    assert registry.sweep() == RegistrySweep()
    registry.delete_alias("digits", "champion")
    with pytest.raises(Terminal, match="the registry is empty"):
        registry.set_alias("digits", "champion", "1")
    with pytest.raises(Terminal, match="the registry is empty"):
        registry.evidence("runs:/0/evidence/evaluate.json")
    assert not file.parent.exists()


def test_a_file_that_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_text("not a database at all")
    with pytest.raises(Terminal, match=re.escape(f"{file}: is not a SQLite database")):
        MlflowRegistry(f"sqlite:///{file}").sweep()
