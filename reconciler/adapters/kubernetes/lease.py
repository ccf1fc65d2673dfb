"""The port ``Lease`` in a cluster: one coordination.k8s.io/v1 Lease, taken and given back by compare-and-swap.

:mod:`reconciler.bootstrap` makes it where the Platform names a Kubernetes cluster. Every write names the
resourceVersion that was read, so of two at once the server refuses the later. A thread renews it while it is
held. A holder that died is succeeded when its last renewal is older than the lease's duration: machines' clocks
are compared; where they differ by more, two reconcilers may work at once, which costs work and nothing else.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from reconciler.adapters.kubernetes import rights
from reconciler.adapters.kubernetes.client import AlreadyThere, Changed, Kind, KubernetesClient, Object
from reconciler.core.base import format_instant
from reconciler.core.documents import Environment
from reconciler.core.errors import Retryable, TrueupError
from reconciler.core.finding import Finding

LEASES = Kind("coordination.k8s.io/v1", "Lease", "leases")
NAME = "trueup"
DURATION = timedelta(seconds=60)


class KubernetesLease:
    """The Lease ``trueup`` of a namespace. ``duration`` is in whole seconds; renewed thrice in that time."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        clock: Callable[[], datetime],
        *,
        duration: timedelta = DURATION,
    ) -> None:
        self._client, self._namespace, self._clock, self._duration = client, namespace, clock, duration

    def diagnose(self, _environments: Sequence[Environment], /) -> Iterator[Finding]:
        yield from rights.diagnose(self._client, self._namespace, rights.LEASE)

    @contextmanager
    def hold(self) -> Iterator[None]:
        holder = f"{socket.gethostname()} process {os.getpid()} since {format_instant(self._clock())}"
        version = self._take(holder)
        ended = threading.Event()
        versions = [version]
        renewing = threading.Thread(target=self._renew, args=(versions, ended), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            with suppress(TrueupError):  # it runs out by itself, or is another's by now
                self._write(versions[-1], {"holderIdentity": None, "renewTime": None})

    def _take(self, holder: str) -> str:
        """Become its holder; the resourceVersion of that."""
        there = self._client.get(LEASES, self._namespace, NAME)
        spec = (there or {}).get("spec") or {}
        if spec.get("holderIdentity") and self._alive(spec):
            self._refuse(str(spec["holderIdentity"]))
        now = _micro(self._clock())
        wanted = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(self._duration.total_seconds()),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
        }
        try:
            if there is None:
                made = self._client.create(
                    LEASES, self._namespace, {"metadata": {"name": NAME}, "spec": wanted}
                )
                return _version(made)
            return self._write(_version(there), wanted)
        except (AlreadyThere, Changed):
            return self._refuse("another process, which was quicker,")
        except Retryable:
            # Unclear whether it was written: look.
            there = self._client.get(LEASES, self._namespace, NAME) or {}
            if there.get("spec", {}).get("holderIdentity") != holder:
                raise
            return _version(there)

    def _renew(self, versions: list[str], ended: threading.Event) -> None:
        while not ended.wait(self._duration.total_seconds() / 3):
            try:
                versions.append(self._write(versions[-1], {"renewTime": _micro(self._clock())}))
            except Changed:
                return  # it ran out, and another has it
            except TrueupError:
                continue  # tried again before it runs out

    def _write(self, version: str, spec: Object) -> str:
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        return _version(self._client.patch(LEASES, self._namespace, NAME, body))

    def _alive(self, spec: Object) -> bool:
        renewed = datetime.fromisoformat(
            spec.get("renewTime") or spec.get("acquireTime") or "1970-01-01T00:00Z"
        )
        lasts = timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0))
        return self._clock() < renewed + lasts

    def _refuse(self, holder: str) -> str:
        where = f"Lease {NAME} in namespace {self._namespace} of {self._client.where}"
        hint = "wait for it to end; the next tick tries again"
        raise Retryable(f"{holder} reconciles now", where=where, hint=hint)


def _version(lease: Object) -> str:
    return str(lease["metadata"]["resourceVersion"])


def _micro(at: datetime) -> str:
    """A MicroTime: always six digits of a second."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
