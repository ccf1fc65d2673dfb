"""MLflow servers, the embedded stack's database, and what is kept of the evidence that they serve."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reconciler.bootstrap.process import PLATFORM, cache
from reconciler.bootstrap.repository import Repository
from reconciler.core.errors import Terminal
from reconciler.core.platform import Platform

if TYPE_CHECKING:
    from reconciler.adapters.evidence_folder import EvidenceFolder
    from reconciler.adapters.mlflow_registry import MlflowRegistry


def kept_evidence() -> EvidenceFolder:
    """For who reads all that there ever was, and again with the next edit of a policy."""
    from reconciler.adapters.evidence_folder import EvidenceFolder

    return EvidenceFolder(cache() / "evidence")


def connect_registries(repository: Repository, platform: Platform) -> dict[str, MlflowRegistry]:
    """The registries alone, for who judges and does nothing."""
    from reconciler.adapters.mlflow_registry import MlflowRegistry

    return {name: MlflowRegistry(uri) for name, uri in tracking_uris(repository, platform).items()}


def tracking_uris(repository: Repository, platform: Platform) -> dict[str, str]:
    """Registry -> MLflow tracking URI. The Platform names variables, never addresses with credentials."""
    uris = {}
    for name, registry in platform.registries.items():
        variable = registry.tracking_uri_env
        uris[name] = os.environ.get(variable, "") if variable else f"sqlite:///{repository.home}/mlflow.db"
        if not uris[name]:
            raise Terminal(
                f"the registry {name} has its tracking URI in ${variable}, which is not set",
                where=PLATFORM,
                hint=f"export {variable}=https://YOUR-MLFLOW",
            )
    return uris
