"""`reconcile web`: what there is to see, as pages for a browser on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import console
from reconciler.cli.session import Session

HOST, PORT = "127.0.0.1", 8383


def web(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = PORT,
    refresh: Annotated[
        int, typer.Option("--refresh", metavar="SECONDS", min=1, help="How old what is shown may be.")
    ] = 15,
) -> None:
    """Show status, explain and history as pages, here.

    Read-only: no page changes anything, and nobody else reaches them. Ctrl-C ends.
    """
    import uvicorn

    from reconciler.bootstrap.process import now
    from reconciler.cli.listening import bound
    from reconciler.cli.site import create_site

    name = Session.of(context).repository.origin.rstrip("/").rpartition("/")[2].removesuffix(".git")
    site = create_site(lambda: Session.of(context).readers, now, name=name, patience=refresh)
    socket = bound(HOST, port, "--port")
    console.write(f"http://{HOST}:{socket.getsockname()[1]}/\n")
    config = uvicorn.Config(site, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[socket])
