"""One look over everything: O(pages) reads, however many models there are. Called once a tick by the loop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from reconciler.core.errors import Retryable, TrueupError
from reconciler.core.observed import Gap, Swept
from reconciler.ports import Readers

_Seen = TypeVar("_Seen")


def sweep(readers: Readers, at: datetime) -> Swept:
    """What each system says; a system that does not answer is a Gap, and the others are asked all the same."""
    return Swept(
        at=at,
        registries={
            name: seen(f"registry {name}", reader.sweep) for name, reader in readers.registries.items()
        },
        engine=seen("engine", readers.engine.sweep),
        forge=seen("forge", readers.forge.sweep),
        clusters={name: seen(f"cluster {name}", reader.sweep) for name, reader in readers.clusters.items()},
    )


def seen(source: str, read: Callable[[], _Seen]) -> _Seen | Gap:
    """What ``read`` returns, or the Gap that its failure leaves."""
    try:
        return read()
    except TrueupError as error:
        return Gap(source=source, error=str(error), retryable=isinstance(error, Retryable))
