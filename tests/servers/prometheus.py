"""What Argo Rollouts needs of a Prometheus: an endpoint of which the test says the answers, on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

PATIENCE = 60.0


class Prometheus:
    """Answers every query with ``values``: one vector, whatever is asked for.

    ``asked`` are the queries so far. While ``answering`` is not set, who asks waits.
    """

    def __init__(self) -> None:
        self.values: list[str] = ["0.001"]
        self.asked: set[str] = set()
        self.answering = Event()
        self.answering.set()
        prometheus = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                prometheus.asked.add(form)
                prometheus.answering.wait(PATIENCE)
                result = [{"metric": {}, "value": [0, value]} for value in prometheus.values]
                data = {"resultType": "vector", "result": result}
                body = json.dumps({"status": "success", "data": data}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def running() -> Iterator[Prometheus]:
    made = Prometheus()
    Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield made
    finally:
        made.answering.set()
        made.server.shutdown()
        made.server.server_close()
