"""What every test starts from: how long property tests search, a Ctrl-C that ends what a test started, servers.

Properties are searched briefly and always along the same path; for long with
``pytest tests/laws --hypothesis-profile=nightly``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import cluster as kubernetes
from tests.servers import gitea as forge
from tests.servers.programs import or_skipped

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "default", max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=_SLOW
)
settings.register_profile(
    "nightly", parent=settings.get_profile("default"), max_examples=3000, derandomize=False, print_blob=True
)
settings.load_profile("default")

# A shell starts what it puts in the background with Ctrl-C ignored, and every process below inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[forge.Gitea]:
    """A real forge with its administrator's token."""
    with or_skipped(forge.running(tmp_path_factory.mktemp("gitea") / "server")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kubernetes.Cluster]:
    """A Kubernetes control plane."""
    with or_skipped(kubernetes.running(tmp_path_factory.mktemp("cluster") / "servers")) as server:
        yield server
