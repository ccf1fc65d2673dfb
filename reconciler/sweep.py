"""One look over everything: O(pages) reads, however many models there are. Called once a tick by the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from reconciler.core.errors import Retryable, TrueupError
from reconciler.core.observed import Gap, RegistrySweep, Swept
from reconciler.ports import Readers, RegistryReader

_Seen = TypeVar("_Seen")


def sweep(readers: Readers, at: datetime) -> Swept:
    """What each system says; a system that does not answer is a Gap, and the others are asked all the same."""
    return Swept(
        at=at,
        registries=registry_sweeps(readers.registries),
        engine=seen("engine", readers.engine.sweep),
        forge=seen("forge", readers.forge.sweep),
        clusters={name: seen(f"cluster {name}", reader.sweep) for name, reader in readers.clusters.items()},
    )


def registry_sweeps(registries: Mapping[str, RegistryReader]) -> dict[str, RegistrySweep | Gap]:
    """Of every registry, by name: all that admission asks of the outside."""
    return {name: seen(f"registry {name}", reader.sweep) for name, reader in registries.items()}


def seen(source: str, read: Callable[[], _Seen]) -> _Seen | Gap:
    """What ``read`` returns, or the Gap that its failure leaves."""
    try:
        return read()
    except TrueupError as error:
        return Gap(source=source, error=str(error), retryable=isinstance(error, Retryable))
