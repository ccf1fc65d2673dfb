"""Asks a server at a steady rate, and says how each request went: the process of the step `load`.

``python -m workflows.steps.asking ADDRESS BODIES RATE TIMEOUT``, ended by SIGTERM. A process of its own,
because Locust replaces what Python waits with (gevent) as soon as it is imported. Each request is a JSON line
on stdout: when it began (monotonic seconds, the same clock in all processes of a machine), the milliseconds
that it took, and what was wrong with it, if anything.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from itertools import count, cycle
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, task
from locust.env import Environment

FEWEST_USERS = 10


def main(address: str, bodies: str, rate: str, timeout: str) -> None:
    """Ask until SIGTERM; then wait for the answers that are due, TIMEOUT seconds at most.

    Locust's users ask again only once they were answered, so there are as many as ask within a second: the rate
    is kept while an answer takes no longer than that. Each keeps to its own place in the second; Locust's
    pacing would have all of them ask at once, because it counts from when a user was made.
    """
    requests, places = cycle(Path(bodies).read_text().splitlines()), count()
    users = max(FEWEST_USERS, int(rate))

    class Caller(FastHttpUser):
        host = address
        network_timeout = connection_timeout = float(timeout)

        def on_start(self) -> None:
            self.due = time.monotonic() + next(places) / int(rate)
            gevent.sleep(self.due - time.monotonic())

        def wait_time(self) -> float:
            self.due += users / int(rate)
            return max(0.0, self.due - time.monotonic())

        @task
        def ask(self) -> None:
            self.client.post("/invocations", data=next(requests), headers={"Content-Type": "application/json"})

    def say(response_time: float, exception: BaseException | None, **_: Any) -> None:
        began = time.monotonic() - response_time / 1000
        said = {"began": began, "took": response_time, "wrong": str(exception) if exception else ""}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    environment = Environment(user_classes=[Caller], stop_timeout=float(timeout))
    environment.events.request.add_listener(say)  # type: ignore[no-untyped-call]
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    gevent.signal_handler(signal.SIGTERM, runner.quit)
    runner.greenlet.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
