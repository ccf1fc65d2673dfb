"""A site of `reconcile web` over a World, really served on loopback: its pages are tested over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from socket import socket
from typing import Any

import uvicorn

from reconciler.cli.site import create_site
from reconciler.core.errors import Retryable
from reconciler.ports import Readers
from tests.doubles.calls import Call
from tests.doubles.world import World
from tests.laws.stories import rolling_back


@cache
def _story() -> World:
    """Version 1 and 2 went to production; 2 fails there, and is for long enough to be rolled back."""
    world = rolling_back()
    world.wait(timedelta(minutes=2))
    return world


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Site:
    """The site of a World where version 2 fails in production, its clock, and how often it swept.

    ``broken``: what every call to Git fails with.
    """

    def __init__(self) -> None:
        self.world, self.clock, self.sweeps, self.broken = _story().copy(), Clock(), 0, ""
        self.address = ""
        self.app = create_site(self._connect, self.world.clock, name="models", patience=10, clock=self.clock)

    def _connect(self) -> Readers:
        return self.world.readers(self._counted)

    def _counted(self, call: Call, make: Callable[[], Any]) -> Any:
        if self.broken and call.port == "source":
            raise Retryable(self.broken, where="origin", hint="see whether it is up")
        self.sweeps += (call.port, call.method) == ("engine", "sweep")
        return make()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its address, for as long as it is served."""
        bound = socket()
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(self.app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            self.address = f"http://127.0.0.1:{bound.getsockname()[1]}"
            yield self.address
        finally:
            server.should_exit = True
            thread.join()
