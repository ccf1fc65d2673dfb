"""A socket to listen on, for `reconcile web` and `reconcile --watch --listen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket


def bound(host: str, port: int, option: str) -> socket:
    """Bound to this address and not listening yet. Terminal where that cannot be had."""
    import socket as sockets

    from reconciler.core.errors import Terminal

    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    made = sockets.socket(family)
    made.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise Terminal(
            f"port {port} cannot be had: {error.strerror}", where=option, hint="port 0 takes a free one"
        ) from error
    return made
