"""A model version's files: their digest, and how to get them from the registry without trusting it.

The steps and the server call this before they load or score anything.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from reconciler.core.base import Frozen
from reconciler.core.digests import artifact_digest
from reconciler.core.errors import Retryable, Terminal

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

Known = TypeVar("Known", bound=Frozen)


def folder_digest(folder: Path) -> str:
    """The artifact digest (:func:`reconciler.core.digests.artifact_digest`) of every file below ``folder``.

    Every file: one that was skipped here could be changed, and would still be loaded.
    """
    return artifact_digest(file_digests(folder).items())


def file_digests(folder: Path) -> dict[str, str]:
    """Path below ``folder`` -> SHA-256, of every file."""
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in folder.rglob("*") if path.is_file()}


def fetch_model(uri: str, *, digest: str, destination: Path) -> Path:
    """Download a model and verify its files. Terminal if the digest differs; nothing is loaded before."""
    folder = download_model(uri, destination)
    actual = folder_digest(folder)
    if actual != digest:
        raise Terminal(
            f"its files have digest {actual}, expected {digest}",
            where=uri,
            hint="they changed after registration; nothing was loaded",
        )
    return folder


def download_model(uri: str, destination: Path) -> Path:
    """The files at ``uri`` (``models:/NAME/VERSION``, or any artifact URI), below ``destination``.

    The version's own artifact location is read, because MLflow adds a file to what it downloads through
    ``models:/``. Terminal if there is no such version.
    """
    import mlflow

    with registry_errors(uri):
        client = mlflow.MlflowClient()
        source = uri
        if uri.startswith("models:/"):
            name, _, version = uri.removeprefix("models:/").rpartition("/")
            source = client.get_model_version_download_uri(name, version)
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(destination)))


def read_beside(model: Path, name: str, kind: type[Known]) -> Known | None:
    """What a JSON file among the version's files says; None where there is none. Terminal if damaged."""
    try:
        return kind.model_validate(json.loads((model / name).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        raise Terminal(f"is not readable: {str(error).splitlines()[0]}", where=name) from error


def load_model(folder: Path) -> PyFuncModel:
    """The MLflow model in ``folder``, importing from the wheels that its code brings."""
    import mlflow

    use_wheels(folder / "code")
    model: PyFuncModel = mlflow.pyfunc.load_model(str(folder))
    return model


def use_wheels(code: Path) -> None:
    """Make this process import from ``CODE/wheels/*.whl`` before what is installed. Terminal if one is broken.

    They are unpacked, as an installer does it (PEP 427: an archive's root is what goes to site-packages):
    Python imports no compiled module from an archive. What was imported before stays what it is.
    """
    wheels = sorted((code / "wheels").glob("*.whl"))
    if not wheels:
        return
    folder = tempfile.mkdtemp(prefix="trueup-wheels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        except (zipfile.BadZipFile, OSError) as error:
            raise Terminal(f"is not a wheel: {error}", where=f"wheels/{wheel.name}") from error
    sys.path.insert(0, folder)


@contextmanager
def registry_errors(where: str) -> Iterator[None]:
    """MLflow's exceptions as ours: Retryable where the server or the connection failed, else Terminal."""
    import requests
    from mlflow.exceptions import MlflowException

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise Terminal("MLFLOW_TRACKING_URI is not set", hint="it names the MLflow server or database")
    try:
        yield
    except MlflowException as error:
        transport = error.__cause__ or error.__context__
        away = isinstance(transport, (requests.RequestException, OSError)) and not isinstance(
            transport, FileNotFoundError
        )
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
        if away or status == HTTPStatus.TOO_MANY_REQUESTS or status > HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Retryable(f"the registry did not answer: {error.message}", where=where) from error
        raise Terminal(str(error.message), where=where) from error
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        raise Retryable(f"the registry did not answer: {error}", where=where) from error
    except OSError as error:
        raise Terminal(f"its files cannot be read: {error}", where=where) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
