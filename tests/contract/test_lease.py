"""The contract of a Lease: one holder at a time, freed by leaving, by an error and by death."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reconciler.adapters.embedded.lease import EmbeddedLease
from reconciler.adapters.kubernetes.client import Answer, KubernetesClient, Request, connect
from reconciler.adapters.kubernetes.lease import KubernetesLease
from reconciler.core.errors import Retryable
from reconciler.ports import Lease
from tests.servers.cluster import Cluster

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

HOLDER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from reconciler.adapters.embedded.lease import EmbeddedLease
from reconciler.adapters.kubernetes.client import connect
from reconciler.adapters.kubernetes.lease import KubernetesLease
now = lambda: datetime.now(UTC)
kind, place = sys.argv[1:]
lease = {
    "embedded": lambda: EmbeddedLease(Path(place), now),
    "kubernetes": lambda: KubernetesLease(connect(), place, now, duration=timedelta(seconds=2)),
}[kind]()
with lease.hold():
    print("held", flush=True)
    sys.stdin.read()
"""


class Place(NamedTuple):
    """Where the leases of one repository are, and how to make one with a clock."""

    kind: str
    where: str
    lease: Callable[[Callable[[], datetime]], Lease]


@pytest.fixture(params=["embedded", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "embedded":
        home = tmp_path / "home"
        yield Place("embedded", str(home), lambda clock: EmbeddedLease(home, clock))
        return
    server: Cluster = request.getfixturevalue("cluster")
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    with server.namespace() as namespace:
        yield Place("kubernetes", namespace, lambda clock: KubernetesLease(connect(), namespace, clock))


@pytest.fixture
def lease(place: Place) -> Callable[[], Lease]:
    """Makes leases of one repository."""
    return lambda: place.lease(lambda: AT)


def test_a_second_holder_is_told_who_has_it(lease: Callable[[], Lease]) -> None:
    with lease().hold(), pytest.raises(Retryable, match=rf"process {os.getpid()} since 2026-03-01T12:00:00Z"):
        lease().hold().__enter__()


def test_it_is_free_after_leaving_and_after_an_error(lease: Callable[[], Lease]) -> None:
    with pytest.raises(ZeroDivisionError), lease().hold():
        _ = 1 / 0
    with lease().hold():
        pass
    with lease().hold():
        pass


def test_a_killed_holder_frees_it(place: Place) -> None:
    """On one machine at once; in a cluster when it has not been renewed for its duration."""
    lease = place.lease(lambda: datetime.now(UTC))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, place.kind, place.where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        time.sleep(2.5 if place.kind == "kubernetes" else 0)  # longer than its duration: it is renewed
        with pytest.raises(Retryable, match=f"process {holder.pid}"):
            lease.hold().__enter__()
    finally:
        holder.kill()
        holder.communicate()
    deadline = time.monotonic() + 20
    while True:
        try:
            with lease.hold():
                break
        except Retryable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("place", [pytest.param("kubernetes", marks=pytest.mark.cluster)], indirect=True)
def test_of_many_at_once_one_gets_it(place: Place) -> None:
    barrier, inside, refused = threading.Barrier(8), threading.Semaphore(1), []

    def run() -> None:
        lease = place.lease(lambda: AT)
        barrier.wait()
        try:
            with lease.hold():
                assert inside.acquire(blocking=False)
                held.append(1)
                done.wait(20)
        except Retryable as error:
            refused.append(str(error))
            if len(refused) == 7:
                done.set()

    held: list[int] = []
    done = threading.Event()
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    assert all("reconciles now" in text for text in refused)


class Leases:
    """A Lease object as the API server keeps it, and a write whose answer is lost on demand."""

    def __init__(self, spec: dict[str, Any] | None) -> None:
        self.version = 1
        self.spec = spec
        self.lost = False

    def __call__(self, request: Request) -> Answer:
        if request.method == "GET" and self.spec is None:
            gone = {"kind": "Status", "reason": "NotFound", "details": {"name": "trueup"}}
            return Answer(404, {}, json.dumps(gone).encode())
        if request.method != "GET":
            body = request.body or {}
            if self.spec is not None and body["metadata"]["resourceVersion"] != str(self.version):
                return Answer(409, {}, json.dumps({"kind": "Status", "reason": "Conflict"}).encode())
            merged = (self.spec or {}) | body["spec"]
            self.spec = {name: value for name, value in merged.items() if value is not None}
            self.version += 1
            if self.lost:
                self.lost = False
                raise Retryable("no answer")
        there = {"metadata": {"resourceVersion": str(self.version)}, "spec": self.spec}
        return Answer(200, {}, json.dumps(there).encode())

    def lease(self, at: datetime = AT) -> KubernetesLease:
        return KubernetesLease(KubernetesClient(self, where="test"), "ml", lambda: at)


def test_a_lease_that_ran_out_is_taken_over_and_counted() -> None:
    old = {"holderIdentity": "pod-1", "leaseDurationSeconds": 60, "renewTime": "2026-03-01T12:00:00.000000Z"}
    leases = Leases(dict(old, leaseTransitions=4))
    with pytest.raises(Retryable, match="pod-1 reconciles now"):
        leases.lease(AT + timedelta(seconds=59)).hold().__enter__()
    with leases.lease(AT + timedelta(seconds=60)).hold():
        assert leases.spec is not None
        assert leases.spec["leaseTransitions"] == 5
        assert leases.spec["renewTime"] == "2026-03-01T12:01:00.000000Z"
    assert "holderIdentity" not in leases.spec


def test_after_an_unclear_answer_it_is_looked_who_has_it() -> None:
    leases = Leases({})
    leases.lost = True
    with leases.lease().hold():
        assert leases.spec is not None
        assert f"process {os.getpid()}" in leases.spec["holderIdentity"]


def test_what_another_has_by_now_is_left_to_it() -> None:
    leases = Leases(None)
    with leases.lease().hold():
        leases.version += 1
        leases.spec = {"holderIdentity": "pod-2"}
    assert leases.spec == {"holderIdentity": "pod-2"}
