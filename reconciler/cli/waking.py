"""What wakes `reconcile --watch`: a call from the engine or the forge. Waking only: the tick looks for itself.

A call is one POST to ``/wake``, by who knows the Platform's ``engine.wake.token``: as a bearer token, or as the
key of a signature over the body, as GitHub and Gitea sign their webhooks. What a body says is never looked at.
Nothing is lost with a call that does not come: the next tick finds what has happened all the same.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

ECHOES = (1.0, 5.0, 15.0)
"""Seconds from a call to the ticks that follow it: an engine calls before it says that the run has ended."""
LARGEST = 25 * 1024 * 1024
"""Bytes of a body that is signed: GitHub's own limit. It is not kept."""
PORT = 8484


class Alarm:
    """Sleeping that a call may end. Any number of calls while nobody sleeps are one."""

    def __init__(self) -> None:
        self._called = threading.Event()
        self._echoes: list[float] = []

    def call(self) -> None:
        self._called.set()

    def sleep(self, seconds: float) -> None:
        """Until a call, or an echo of the last one, or ``seconds`` have passed."""
        now = time.monotonic()
        due = min([now + seconds, *self._echoes])
        if self._called.wait(max(due - now, 0)):
            self._called.clear()
            self._echoes = [time.monotonic() + echo for echo in ECHOES]
        self._echoes = [echo for echo in self._echoes if echo > time.monotonic()]


def receiver(token: Callable[[], str], call: Callable[[], None]) -> Starlette:
    """``POST /wake``: 202 and a ``call``, or 401. ``token`` is read each time: a file may be renewed."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def wake(request: Request) -> Response:
        if not await _known(request, token().encode()):
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        call()
        return Response(status_code=202)

    return Starlette(routes=[Route("/wake", wake, methods=["POST"])])


async def _known(request: Request, token: bytes) -> bool:
    """Whether the caller knows the token. Compared in a time that tells nothing of it."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return hmac.compare_digest(given.strip().encode(), token)
    signed = request.headers.get("x-hub-signature-256") or request.headers.get("x-gitea-signature")
    if signed is None:
        return False
    digest, size = hmac.new(token, digestmod=hashlib.sha256), 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            return False
        digest.update(part)
    return hmac.compare_digest(signed.removeprefix("sha256=").encode(), digest.hexdigest().encode())


def address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``HOST`` or ``PORT``. Without a host it is this machine alone. Else Terminal."""
    from reconciler.core.errors import Terminal

    host, colon, port = ("", ":", text) if text.isdigit() else text.rpartition(":")
    if not colon:
        host, port = text, str(PORT)
    if not port.isdigit() or int(port) > 65535:
        hint = f"write it as in 127.0.0.1:{PORT}, or 0.0.0.0:{PORT} where others are to reach it"
        raise Terminal(f"{text!r} is not HOST:PORT", where="--listen", hint=hint)
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def listening(app: Starlette, host: str, port: int) -> Iterator[str]:
    """Serve in a thread while inside; the address, of which the port may have been a free one."""
    import uvicorn

    from reconciler.cli.listening import bound
    from reconciler.core.errors import Terminal

    socket = bound(host, port, "--listen")
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        limit_concurrency=32,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True, name="wake")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise Terminal("the receiver did not start", where="--listen")
            time.sleep(0.01)
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{socket.getsockname()[1]}/wake"
    finally:
        server.should_exit = True
        thread.join(5)
