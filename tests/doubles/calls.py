"""Puts a function around every call of a port: to log it, to fail it, to end the process at it.

One mechanism for all laws, so that a port or a method that is added later is covered without a word here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from reconciler.ports import Readers, Writers


class Call(NamedTuple):
    """One call of a port's method; ``port`` is as in ``registry default``."""

    port: str
    method: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]

    def __str__(self) -> str:
        shown = [*map(str, self.arguments), *(f"{k}={v}" for k, v in sorted(self.named.items()))]
        return f"{self.port} {self.method} {' '.join(shown)}"


Around = Callable[[Call, Callable[[], Any]], Any]
"""Gets a call and the function that makes it; what it returns is what the caller gets."""


class _Wrapped:
    def __init__(self, port: str, target: Any, around: Around) -> None:
        self._port, self._target, self._around = port, target, around

    def __getattr__(self, method: str) -> Any:
        inner = getattr(self._target, method)

        def called(*arguments: Any, **named: Any) -> Any:
            call = Call(self._port, method, arguments, named)
            return self._around(call, lambda: inner(*arguments, **named))

        return called


def around_readers(readers: Readers, around: Around) -> Readers:
    return Readers(**_wrapped(readers, around))


def around_writers(writers: Writers, around: Around) -> Writers:
    return Writers(**_wrapped(writers, around))


def _wrapped(ports: Readers | Writers, around: Around) -> dict[str, Any]:
    """The fields of ``ports``, each port or mapping to ports with ``around`` at every call."""
    kinds = {"registries": "registry", "clusters": "cluster", "notifiers": "notifier"}
    return {
        field: {name: _Wrapped(f"{kinds[field]} {name}", one, around) for name, one in port.items()}
        if isinstance(port, dict)
        else _Wrapped(field, port, around)
        for field, port in ports._asdict().items()
    }
