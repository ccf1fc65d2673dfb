"""The registry port on MLflow: a server (http, https) or the embedded store (SQLite), through MLflow's client.

Made by bootstrap, one for each registry of the Platform. A sweep is ceil(N/1000) + ceil(V/10000) calls and none
for each model: MLflow gives aliases with the registered models and tags with the versions.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from reconciler.core.documents import Environment
from reconciler.core.errors import Retryable, Terminal, TrueupError
from reconciler.core.finding import Finding, State
from reconciler.core.observed import (
    PRUNED,
    ModelVersion,
    Pruned,
    RegisteredModel,
    RegistryRun,
    RegistrySweep,
)

if TYPE_CHECKING:
    from mlflow.entities import FileInfo
    from mlflow.tracking import MlflowClient

OURS: Final = "trueup."
MAX_EVIDENCE: Final = 4 * 1024 * 1024
EVIDENCE_SCHEMES: Final = frozenset({"runs", "mlflow-artifacts", "s3", "gs", "wasbs", "abfss"})
"""Where evidence may be. Not ``file`` or ``http``: a mark must not make the reconciler read its own machine."""

_DEFAULTS: Final = {
    # MLflow's own are 120 s and 7 retries: ten minutes of one tick for a server that is away.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "DO_NOT_TRACK": "1",
}


class MlflowRegistry:
    """RegistryReader and RegistryWriter over ``tracking_uri``, which also serves the artifacts.

    A SQLite file that does not exist yet is an empty registry and is not made by reading it. Raises Retryable
    for what may pass (no answer, 5xx, 429, a locked database) and Terminal for what MLflow refuses. The page
    sizes are arguments so that tests can count calls.
    """

    def __init__(self, tracking_uri: str, *, model_page: int = 1000, version_page: int = 10_000) -> None:
        self._uri = tracking_uri
        self._shown = _without_secrets(tracking_uri)
        self._model_page = model_page
        self._version_page = version_page
        self._made: MlflowClient | None = None

    # --- reads ---

    def sweep(self) -> RegistrySweep:
        if self._file is not None and not self._file.exists():
            return RegistrySweep()
        with self._asking("the sweep of the registry"):
            client = self._client()
            models = list(
                _pages(
                    lambda token: client.search_registered_models(
                        max_results=self._model_page, order_by=["name ASC"], page_token=token
                    )
                )
            )
            aliases = {model.name: dict(model.aliases) for model in models}
            pruned = {model.name: _pruned(model.tags) for model in models}
            versions: dict[str, list[ModelVersion]] = {name: [] for name in aliases}
            for version in _pages(
                lambda token: client.search_model_versions(
                    max_results=self._version_page,
                    order_by=["name ASC", "version_number ASC"],
                    page_token=token,
                )
            ):
                # A model that was registered between the two searches has its aliases in the next sweep.
                versions.setdefault(version.name, []).append(_model_version(version))
        return RegistrySweep(
            models={
                name: RegisteredModel(
                    aliases={alias: str(number) for alias, number in aliases.get(name, {}).items()},
                    versions=tuple(sorted(found, key=lambda version: int(version.version))),
                    pruned=pruned.get(name, {}),
                )
                for name, found in versions.items()
            }
        )

    def evidence(self, uri: str) -> bytes:
        parts = urlsplit(uri)
        folder, _, name = uri.rpartition("/")
        if parts.scheme not in EVIDENCE_SCHEMES or not name or ".." in uri.split("/"):
            raise Terminal(
                f"{_without_secrets(uri)} is not a place for evidence",
                where=self._shown,
                hint=f"evidence is an artifact of a run; the schemes are {', '.join(sorted(EVIDENCE_SCHEMES))}",
            )
        self._refuse_absent(f"reading {uri}")
        with self._asking(f"reading {uri}"), tempfile.TemporaryDirectory(prefix="trueup-evidence-") as place:
            self._client()
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            repository: Any = get_artifact_repository(folder, tracking_uri=self._uri)
            size = _size_of(repository.list_artifacts(), name)
            if size is None:
                raise Terminal(
                    f"there is no evidence at {_without_secrets(uri)}",
                    where=self._shown,
                    hint="delete its mark to measure again",
                )
            if size > MAX_EVIDENCE:
                raise Terminal(
                    f"the evidence at {_without_secrets(uri)} has {size} bytes; the limit is {MAX_EVIDENCE}",
                    where=self._shown,
                    hint="evidence is numbers; keep predictions and plots beside it",
                )
            return Path(repository.download_artifacts(name, dst_path=place)).read_bytes()

    def runs(self, name: str) -> tuple[RegistryRun, ...]:
        if self._file is not None and not self._file.exists():
            return ()
        with self._asking(f"reading the runs of {name}"):
            client = self._client()
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                return ()
            found = _pages(
                lambda token: client.search_runs(
                    [experiment.experiment_id], max_results=self._model_page, page_token=token
                )
            )
            return tuple(_run(each) for each in found if any(tag.startswith(OURS) for tag in each.data.tags))

    def diagnose(self, _environments: Sequence[Environment], /) -> Iterator[Finding]:
        """The server's version against that of the client here: MLflow keeps a client to servers as new."""
        if self._file is not None:
            return
        with self._asking("asking for the version of the server"):
            self._client()
            from mlflow.utils.credentials import get_default_host_creds
            from mlflow.utils.rest_utils import http_request
            from mlflow.version import VERSION

            ask: Any = http_request
            credentials: Any = get_default_host_creds
            answer = ask(credentials(self._uri), "/version", "GET")
        there = re.fullmatch(r"(\d+)\.(\d+)[\w.]{0,30}", answer.text.strip()) if answer.ok else None
        ours = ".".join(VERSION.split(".")[:2])
        if there is None:
            yield self._versions("warn", "the server does not tell its version", f"it has to be MLflow {ours}")
        elif f"{there[1]}.{there[2]}" == ours:
            yield self._versions("ok", f"MLflow {there[0]} on the server, as here")
        elif (int(there[1]), int(there[2])) > tuple(map(int, ours.split("."))):
            what = f"MLflow {there[0]} on the server is newer than {VERSION} here"
            yield self._versions("warn", what, f"trueup is tested with {ours}; look for a newer trueup")
        else:
            what = f"MLflow {there[0]} on the server is older than {VERSION} here"
            yield self._versions("fail", what, f"upgrade the server to MLflow {ours}")

    def _versions(self, state: State, what: str, hint: str = "") -> Finding:
        return Finding(check="version", state=state, what=what, where=self._shown, hint=hint)

    # --- writes ---

    def set_tag(self, name: str, version: str, tag: str, value: str) -> None:
        self._refuse_absent(f"tagging {name} version {version}")
        with self._asking(f"setting the tag {tag} of {name} version {version}"):
            self._client().set_model_version_tag(name, version, tag, value)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self._refuse_absent(f"moving the alias {alias} of {name}")
        with self._asking(f"moving the alias {alias} of {name} to version {version}"):
            self._client().set_registered_model_alias(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        self._delete(
            f"removing the alias {alias} of {name}",
            lambda client: client.delete_registered_model_alias(name, alias),
        )

    def log(self, name: str, tag: str, value: str) -> None:
        self._refuse_absent(f"tagging {name}")
        with self._asking(f"setting the tag {tag} of {name}"):
            self._client().set_registered_model_tag(name, tag, value)

    def delete_version(self, name: str, version: str) -> None:
        self._delete(
            f"deleting version {version} of {name}", lambda client: client.delete_model_version(name, version)
        )

    def delete_run(self, run: str) -> None:
        """It is hidden at once, and is gone with its artifacts when somebody runs ``mlflow gc``."""
        self._delete(f"deleting the run {run}", lambda client: client.delete_run(run))

    def _delete(self, what: str, delete: Callable[[MlflowClient], None]) -> None:
        """What is not there is deleted."""
        if self._file is not None and not self._file.exists():
            return
        with self._asking(what):
            from mlflow.exceptions import MlflowException
            from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

            try:
                delete(self._client())
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                    raise

    # --- MLflow ---

    @property
    def _file(self) -> Path | None:
        """The SQLite file, where the registry is one."""
        return Path(self._uri.removeprefix("sqlite:///")) if self._uri.startswith("sqlite:///") else None

    def _refuse_absent(self, what: str) -> None:
        if self._file is not None and not self._file.exists():
            raise Terminal(
                f"{what} failed: the registry is empty", where=self._shown, hint="its first training makes it"
            )

    def _client(self) -> MlflowClient:
        if self._made is None:
            self._refuse_other_files()
            for name, value in _DEFAULTS.items():
                os.environ.setdefault(name, value)
            from mlflow.tracking import MlflowClient

            self._made = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._made

    def _refuse_other_files(self) -> None:
        """MLflow would take the file for a database that is starting, and wait for it for minutes."""
        if self._file is not None and self._file.stat().st_size and not _is_sqlite(self._file):
            raise Terminal(
                "is not a SQLite database",
                where=str(self._file),
                hint="move it away, or restore it from a backup",
            )

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Keeps MLflow quiet, and tells its failures in our two words."""
        with _quiet():
            try:
                yield
            except TrueupError:
                raise
            except Exception as error:
                raise self._translated(error, _without_secrets(what)) from error

    def _translated(self, error: Exception, what: str) -> TrueupError:
        from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException
        from requests.exceptions import HTTPError, RequestException
        from sqlalchemy.exc import SQLAlchemyError

        told = f"{what} failed: {_first_line(error)}"
        status = 0
        if isinstance(error, MlflowException):
            status = ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)
        elif isinstance(error, HTTPError) and error.response is not None:
            status = error.response.status_code
        elif isinstance(error, RequestException | SQLAlchemyError | ConnectionError | TimeoutError):
            status = 503
        if status in (401, 403):
            hint = "check the credentials of the registry and what they may do"
            return Terminal(told, where=self._shown, hint=hint)
        if status >= 500 or status in _PASSING:
            hint = "check that the registry is up and can be reached from here"
            return Retryable(told, where=self._shown, hint=hint)
        hint = "look at the name and the version in the registry" if status == 404 else ""
        return Terminal(told, where=self._shown, hint=hint)


_PASSING: Final = frozenset({408, 409, 425, 429, 499})


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Every entity of a paged search."""
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _model_version(found: Any) -> ModelVersion:
    return ModelVersion(
        version=str(found.version),
        run_id=found.run_id or "",
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        ready=found.status == "READY",
        tags={key: value for key, value in found.tags.items() if key.startswith(OURS)},
    )


def _run(found: Any) -> RegistryRun:
    tags = found.data.tags
    return RegistryRun(
        run_id=found.info.run_id,
        name=found.info.run_name or "",
        parent=tags.get("mlflow.parentRunId", ""),
        candidate=tags.get("trueup.candidate", ""),
    )


def _pruned(tags: dict[str, str]) -> dict[str, Pruned]:
    """The log of a registered model, by version."""
    read = ((tag.removeprefix(PRUNED), Pruned.parse(tags[tag])) for tag in tags if tag.startswith(PRUNED))
    return {version: said for version, said in read if said is not None}


def _size_of(files: list[FileInfo], name: str) -> int | None:
    """Bytes of a file in a listing, None if it is not there or is a folder."""
    return next((f.file_size or 0 for f in files if f.path == name and not f.is_dir), None)


def _is_sqlite(file: Path) -> bool:
    """By the header string of the format (sqlite.org/fileformat.html, 1.3)."""
    with file.open("rb") as content:
        return content.read(16) == b"SQLite format 3\0"


def _without_secrets(text: str) -> str:
    """User names and passwords cut out of every URI in a text."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def _first_line(error: Exception) -> str:
    """What it says; where no connection was made, what the system said, which four libraries wrap in theirs."""
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    cause = error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror) and cause.strerror:
            text = cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return _without_secrets(text if len(text) <= 300 else text[:300] + "...")


@contextmanager
def _quiet() -> Iterator[None]:
    """No log line or warning meanwhile: MLflow and alembic set their own levels, and errors become ours."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
