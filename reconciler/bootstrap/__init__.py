"""From a Platform document to Readers and Writers: the only layer that names concrete adapters.

The commands call it. Who looks for something in here:

================  =============================================================================================
repository        the GitOps repository around a folder, its clone, and who works in it
sources           what is read of it: from its origin, by whose credentials, from the clone, from the folder
registries        MLflow
forges            pull requests, as trueup or as a person
clusters          what runs: the engine, the clusters, the lease, and what their processes get
notifiers         who is told
process           the clock, the environment and the secrets, which nothing else reads
================  =============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reconciler.bootstrap.clusters import connect_cluster, connect_engine, connect_lease
from reconciler.bootstrap.forges import connect_forge
from reconciler.bootstrap.notifiers import connect_notifiers
from reconciler.bootstrap.process import Clock, now
from reconciler.bootstrap.registries import connect_registries
from reconciler.core.platform import Platform
from reconciler.ports import Readers, Source, Writers

if TYPE_CHECKING:
    from reconciler.bootstrap.repository import Repository


def connect(
    repository: Repository,
    platform: Platform,
    source: Source,
    *,
    tell: Callable[[str], None],
    clock: Clock = now,
) -> tuple[Readers, Writers]:
    """Everything the Platform names. Nothing is contacted yet. ``tell`` shows a message to who is there."""
    registries = connect_registries(repository, platform)
    engine = connect_engine(repository, platform, source)
    forge = connect_forge(repository, platform.forge, clock)
    clusters = {name: connect_cluster(repository, platform, name) for name in platform.clusters}
    readers = Readers(source, registries, engine, forge, clusters)
    notifiers = connect_notifiers(platform, tell, clock)
    lease = connect_lease(repository, platform, clock)
    return readers, Writers(registries, engine, forge, clusters, notifiers, lease)
