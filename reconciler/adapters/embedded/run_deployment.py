"""The detached supervisor of one workload: what a Deployment controller does, on one machine.

Started by :meth:`reconciler.adapters.embedded.cluster.EmbeddedCluster.apply`, which hands over a lock that is
held until this process ends, so there is never a second one. It reads ``desired.json`` of its folder and
writes ``status.json``.

A new pod template starts a new replica. Once that is available the endpoint moves to it, and the old one is
stopped. A Kubernetes second lasts ``tick`` seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypedDict

from reconciler.adapters.embedded.replica import PodSpec, Replica, end_group, read_json, write_json

DRAIN = 1.0
"""Real seconds between moving the endpoint and stopping the old process: who just read it is still answered."""


class Desired(TypedDict):
    """``desired.json``: what was applied. ``generation`` grows with every change."""

    environment: str
    model: str
    namespace: str
    generation: int
    applied: str
    release: str
    rendered: str
    objects: list[str]
    files: dict[str, str]
    notes: list[str]
    tick: float
    pod: PodSpec | None


class Status(TypedDict):
    """``status.json``: ``since`` is the instant of the transition into ``health``; its mtime is a heartbeat."""

    generation: int
    health: Literal["Progressing", "Healthy", "Degraded"]
    since: str
    message: str
    serving: str
    endpoint: str
    recorded: str
    pids: dict[str, int]


def instant() -> str:
    """Now, in UTC."""
    return datetime.now(UTC).isoformat()


class Supervisor:
    """Brings the replicas of one folder to its ``desired.json``, until that is gone or SIGTERM comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ending = False
        self._pool = ThreadPoolExecutor(max_workers=8)
        self._seen: tuple[int, int] | None = None
        self._desired: Desired | None = None
        # The one of the desired template; the one that serves until that is available; those being stopped.
        self._target: Replica | None = None
        self._previous: Replica | None = None
        self._stopping: list[Replica] = []
        self._rolled_out = False
        self._deadline = 0.0
        self._health_of = ("", "")
        self._status: Status | None = None
        self._beat = 0.0

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        with suppress(FileNotFoundError):  # somebody removed the folder: what runs in it ends all the same
            while not self._ending:
                now = time.monotonic()
                if not self._look(now):
                    break
                self._step(now)
                self._report(now)
                tick = self._desired["tick"] if self._desired else 1.0
                time.sleep(max(0.02, min(0.2, 0.2 * tick)))
        self._stop_everything()
        self._pool.shutdown()

    def _end(self, *_: object) -> None:
        self._ending = True

    def _look(self, now: float) -> bool:
        """Take in a new ``desired.json``; False if there is none any more."""
        try:
            stat = (self._folder / "desired.json").stat()
        except FileNotFoundError:
            return False
        if (stat.st_ino, stat.st_mtime_ns) != self._seen:
            desired: Desired | None = read_json(self._folder / "desired.json")
            if desired is None or desired["pod"] is None:
                return False
            self._seen = (stat.st_ino, stat.st_mtime_ns)
            if self._desired is None:
                self._adopt(desired["pod"]["template"], desired["tick"], now)
            self._desired = desired
            self._roll(desired["pod"], desired["tick"], now)
        return True

    def _adopt(self, template: str, tick: float, now: float) -> None:
        """Take over what an earlier supervisor, that was killed, left running."""
        status: Status | None = read_json(self._folder / "status.json")
        served = status["pids"].get("serving") if status else None
        for folder in sorted((self._folder / "pods").glob("*")):
            replica = Replica.adopt(folder, tick, now)
            if replica is None:
                end_group(folder, signal.SIGKILL)
                shutil.rmtree(folder, ignore_errors=True)
            elif replica.spec["template"] == template and self._target is None:
                self._target, self._deadline = replica, now + replica.spec["deadline"] * tick
            elif replica.pid == served:
                self._previous = replica
            else:
                self._retire(replica, now)

    def _roll(self, spec: PodSpec, tick: float, now: float) -> None:
        """Make the replica of ``spec`` the target: the one that is, the one before it, or a new one."""
        if self._target is not None and self._target.spec["template"] == spec["template"]:
            self._target.spec = spec
            return
        if self._previous is not None and self._previous.spec["template"] == spec["template"]:
            self._retire(self._target, now)
            self._target, self._previous = self._previous, None
        else:
            if self._rolled_out:
                self._previous = self._target
            else:
                self._retire(self._target, now)
            numbers = [int(folder.name) for folder in (self._folder / "pods").glob("*")]
            self._target = Replica(self._folder / "pods" / str(max(numbers, default=0) + 1), spec, tick)
        self._rolled_out = False
        self._deadline = now + spec["deadline"] * tick

    def _retire(self, replica: Replica | None, at: float) -> None:
        if replica is not None:
            replica.stop(at)
            self._stopping.append(replica)

    def _step(self, now: float) -> None:
        for replica in (self._target, self._previous, *self._stopping):
            if replica is not None:
                replica.step(now, self._pool)
        self._stopping = [replica for replica in self._stopping if not replica.gone]
        if not self._rolled_out and self._target is not None and self._target.available(now):
            self._rolled_out = True
            self._report(now)  # the endpoint moves before the old process hears of it
            self._retire(self._previous, now + DRAIN)
            self._previous = None

    def _report(self, now: float) -> None:
        """Write ``status.json`` if anything in it changed, and a heartbeat once a second."""
        desired, target = self._desired, self._target
        if desired is None or target is None:
            return
        health, message = self._health(target, now)
        serving = self._previous if self._previous is not None and not self._rolled_out else target
        if serving is not target and not serving.ready:
            message = f"{message}; the release before it does not answer either: {serving.message}"
        status: Status = {
            "generation": desired["generation"],
            "health": health,
            "since": self._status["since"] if self._status else desired["applied"],
            "message": message,
            "serving": serving.spec["release"] if serving.ready else "",
            "endpoint": serving.url,
            "recorded": serving.recorded if serving.ready else "",
            "pids": {"supervisor": os.getpid(), "serving": serving.pid}
            | ({"starting": target.pid} if target is not serving else {}),
        }
        health_of = (health, target.spec["template"])
        if health_of != self._health_of:
            self._health_of = health_of
            status["since"] = desired["applied"] if health == "Progressing" else instant()
        if status != self._status:
            write_json(self._folder / "status.json", status)
            self._status = status
        elif now - self._beat >= 1:
            self._beat = now
            os.utime(self._folder / "status.json")
            for replica in filter(None, (self._target, self._previous)):
                replica.trim_log()

    def _health(self, target: Replica, now: float) -> tuple[Literal["Progressing", "Healthy", "Degraded"], str]:
        if target.available(now):
            return "Healthy", ""
        if target.ready:
            return ("Degraded" if self._rolled_out else "Progressing"), "ready, but not for minReadySeconds yet"
        if self._rolled_out:
            return "Degraded", target.message
        if now >= self._deadline:
            seconds = target.spec["deadline"]
            return "Degraded", f"ProgressDeadlineExceeded: not ready within {seconds}s, {target.message}"
        return "Progressing", target.message

    def _stop_everything(self) -> None:
        if self._status is not None:
            stopped = {
                "health": "Degraded",
                "since": instant(),
                "message": "it is being stopped",
                "serving": "",
                "recorded": "",
            }
            with suppress(FileNotFoundError):
                write_json(self._folder / "status.json", {**self._status, **stopped})
        pods = [replica for replica in (self._target, self._previous, *self._stopping) if replica is not None]
        for replica in pods:
            replica.stop(time.monotonic())
        while not all(replica.gone for replica in pods):
            for replica in pods:
                replica.step(time.monotonic(), self._pool)
            time.sleep(0.02)


def main() -> None:
    """``run_deployment FOLDER``. The lock is inherited, open; the caller gave a session of its own."""
    folder = Path(sys.argv[1])
    if os.fork():
        os._exit(0)
    (folder / "supervisor.pid").write_text(str(os.getpid()))
    Supervisor(folder).run()


if __name__ == "__main__":
    main()
