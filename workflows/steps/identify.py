"""Step `identify`: give a version that was registered elsewhere the tag that says what it is.

trueup pins artifact digests, and knows a version by the tag ``trueup.digest``. A version that another system
trained carries none; whoever may write to the registry runs this once for it.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from reconciler.core.errors import Terminal
from reconciler.core.observed import TAG_DIGEST
from workflows.model_files import download_model, folder_digest, registry_errors

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registered-name", required=True)
    parser.add_argument("--version", required=True)


def run(options: argparse.Namespace) -> None:
    """Tag the version with the digest of its files. Terminal if it is tagged with another one already."""
    import mlflow

    name, number = options.registered_name, options.version
    with tempfile.TemporaryDirectory() as folder:
        digest = folder_digest(download_model(f"models:/{name}/{number}", Path(folder)))
    with registry_errors(f"{name}/{number}"):
        client = mlflow.MlflowClient()
        said = client.get_model_version(name, number).tags.get(TAG_DIGEST, digest)
        if said != digest:
            raise Terminal(
                f"is tagged {said}, and its files have {digest}",
                where=f"{name}/{number}",
                hint="they changed after registration; register them as a new version",
            )
        client.set_model_version_tag(name, number, TAG_DIGEST, digest)
    log.info("version %s of %s is %s", number, name, digest)
