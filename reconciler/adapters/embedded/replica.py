"""One replica of a Deployment on this machine: a process, started again when it ends, and its probes.

:mod:`reconciler.adapters.embedded.run_deployment` steps replicas; nothing here waits. Probes, thresholds and
back-off are those of the kubelet (Kubernetes ``pkg/kubelet/prober`` and ``kuberuntime``). Only the standard
library is imported: a supervisor stays alive for every workload.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypedDict

BACK_OFF = (0, 10, 20, 40, 80, 160, 300)
"""Seconds before the first, second, ... restart; forgotten after RESET_AFTER seconds of running (kubelet)."""
RESET_AFTER = 600
LOG_LIMIT = 10 * 1024 * 1024
LAUNCH = 'echo $$ >process.pid && exec "$@"'
"""The process writes its own id before it becomes the container, so that no crash of ours can lose it."""


Check = Literal["httpGet", "tcpSocket", "exec"]


class ProbeSpec(TypedDict):
    """A probe with its defaults filled in; times in Kubernetes seconds."""

    check: Check
    path: str
    command: list[str]
    delay: int
    period: int
    timeout: int
    successes: int
    failures: int


class PodSpec(TypedDict):
    """What of a pod template is run. A variable without a value gets it from ``values.json``.

    ``recorded``: whether it has a second port, for what it recorded.
    """

    template: str
    release: str
    command: list[str]
    recorded: bool
    env: dict[str, str | None]
    probes: dict[str, ProbeSpec]
    grace: int
    min_ready: int
    deadline: int


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if there is none, or it is none: then we did not write it."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Replace a JSON file whole: a reader, and a crash, sees the old or the new one."""
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as stream:
        json.dump(value, stream, indent=1)
    part.replace(path)


def take(lock: Path) -> int | None:
    """A descriptor that holds ``lock`` (flock: until the last process that has it ends), or None."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def holder(folder: Path, name: str) -> int | None:
    """The id of the living process that holds ``NAME.lock``; 0 if it did not say yet; None if nobody does.

    A held lock proves that the id in ``NAME.pid`` is not another process's by now.
    """
    try:
        descriptor = os.open(folder / f"{name}.lock", os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return int((folder / f"{name}.pid").read_text().strip() or 0)
        except FileNotFoundError:
            return 0
    finally:
        os.close(descriptor)
    return None


def end_group(folder: Path, number: int) -> None:
    """Send a signal to a replica's whole process group, if any of it lives."""
    pid = holder(folder, "process")
    if pid:
        with suppress(ProcessLookupError):
            os.killpg(pid, number)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Probe:
    """One probe's schedule and streak. ``passed`` changes only after a threshold of equal results."""

    def __init__(self, spec: ProbeSpec, replica: Replica, *, passed: bool | None, now: float) -> None:
        self.passed = passed
        self.reason = ""
        self._spec = spec
        self._replica = replica
        self._last: bool | None = None
        self._streak = 0
        self._next = now + spec["delay"] * replica.tick
        self._running: Future[str] | None = None

    def poll(self, now: float, pool: ThreadPoolExecutor) -> None:
        """Take the result of a check that ended, and begin one that is due."""
        if self._running is not None:
            if self._running.done():
                self._record(self._running.result())
                self._running = None
        elif now >= self._next:
            self._next = now + self._spec["period"] * self._replica.tick
            self._running = pool.submit(self._check)

    def _record(self, reason: str) -> None:
        good = not reason
        self._streak = self._streak + 1 if good == self._last else 1
        self._last, self.reason = good, reason
        if self._streak >= self._spec["successes" if good else "failures"]:
            self.passed = good

    def _check(self) -> str:
        """Why the container fails this check; empty if it passes. Runs in a thread."""
        timeout = self._spec["timeout"] * self._replica.tick
        try:
            match self._spec["check"]:
                case "httpGet":
                    return self._get(timeout)
                case "tcpSocket":
                    socket.create_connection(("127.0.0.1", self._replica.port), timeout).close()
                    return ""
                case "exec":
                    return self._execute(timeout)
        except (TimeoutError, subprocess.TimeoutExpired):
            return f"no answer within {self._spec['timeout']}s"
        except (OSError, ValueError, http.client.HTTPException) as error:
            return getattr(error, "strerror", None) or type(error).__name__

    def _get(self, timeout: float) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._replica.port, timeout=timeout)
        try:
            connection.request("GET", self._spec["path"], headers={"Connection": "close"})
            code = connection.getresponse().status
        finally:
            connection.close()
        return "" if 200 <= code < 400 else f"{self._spec['path']} answered {code}"

    def _execute(self, timeout: float) -> str:
        done = subprocess.run(
            self._spec["command"],
            cwd=self._replica.folder,
            env=self._replica.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return f"its command exited with code {done.returncode}" if done.returncode else ""


class Replica:
    """One run of a pod template in a folder of its own. Times are seconds of ``time.monotonic()``."""

    def __init__(self, folder: Path, spec: PodSpec, tick: float) -> None:
        self.folder = folder
        self.spec = spec
        self.tick = tick
        self.port = self.recorded_port = 0
        self.message = "starting"
        self.gone = False
        self._process: subprocess.Popen[bytes] | None = None
        self._probes: dict[str, Probe] = {}
        self._started: float | None = None
        self._ready_at: float | None = None
        self._restarts = 0
        self._start_at = 0.0
        # The way out: SIGTERM from term_at, SIGKILL from kill_at; leaving for good or to be started again.
        self._leaving = False
        self._term_at: float | None = None
        self._kill_at: float | None = None

    @classmethod
    def adopt(cls, folder: Path, tick: float, now: float) -> Replica | None:
        """The one that an earlier supervisor left running there, its readiness yet to be seen; or None."""
        record = read_json(folder / "pod.json")
        if record is None or not holder(folder, "process"):
            return None
        replica = cls(folder, record["spec"], tick)
        replica.port, replica.recorded_port = record["port"], record.get("recorded", 0)
        replica._begin(now)
        return replica

    @property
    def pid(self) -> int:
        """0 while no process runs."""
        if self._process is not None and self._process.returncode is None:
            return self._process.pid
        return holder(self.folder, "process") or 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" if self.port else ""

    @property
    def recorded(self) -> str:
        """Where it is asked for what it recorded; empty if nowhere."""
        return f"http://127.0.0.1:{self.recorded_port}" if self.recorded_port else ""

    @property
    def ready(self) -> bool:
        return self._ready_at is not None

    def available(self, now: float) -> bool:
        """Ready for minReadySeconds."""
        return self._ready_at is not None and now - self._ready_at >= self.spec["min_ready"] * self.tick

    def stop(self, at: float) -> None:
        """From then on: SIGTERM, SIGKILL after the grace period, and never again."""
        self._leaving = True
        if self._term_at is None and self._kill_at is None:
            self._term_at = at

    def step(self, now: float, pool: ThreadPoolExecutor) -> None:
        """Do what is due."""
        if not self._alive():
            if self._started is not None:
                self._exited(now)
            if self._leaving:
                self.gone = True
                shutil.rmtree(self.folder, ignore_errors=True)
            elif now >= self._start_at:
                self._start(now)
        elif self._kill_at is not None:
            if now >= self._kill_at:
                self._signal(signal.SIGKILL)
        elif self._term_at is not None:
            if now >= self._term_at:
                self._term_at, self._kill_at = None, now + self.spec["grace"] * self.tick
                self._signal(signal.SIGTERM)
        else:
            self._probe(now, pool)

    def environment(self) -> dict[str, str]:
        """This machine's few variables, the container's own, and where it really listens."""
        values = read_json(self.folder.parent.parent / "values.json") or {}
        declared = {
            name: values.get(name) if value is None else value for name, value in self.spec["env"].items()
        }
        return {
            **os.environ,
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
            **{name: value for name, value in declared.items() if value is not None},
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            **({"RECORDED_PORT": str(self.recorded_port)} if self.recorded_port else {}),
        }

    def trim_log(self) -> None:
        """Keep about the last LOG_LIMIT bytes, in two files; the process appends, so it goes on writing."""
        log = self.folder / "log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, self.folder / "log.1")
            os.truncate(log, 0)

    def _alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return holder(self.folder, "process") is not None

    def _signal(self, number: int) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _start(self, now: float) -> None:
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        lock = take(self.folder / "process.lock")
        if lock is None:  # what the last process left behind still ends
            return
        try:
            (self.folder / "process.pid").unlink(missing_ok=True)
            self.port = free_port()
            self.recorded_port = free_port() if self.spec.get("recorded") else 0
            ports = {"port": self.port, "recorded": self.recorded_port}
            write_json(self.folder / "pod.json", {"spec": self.spec, **ports})
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", LAUNCH, "sh", *self.spec["command"]],
                    cwd=self.folder,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._started = now
        first: dict[str, bool | None] = {"startup": None, "readiness": False, "liveness": True}
        self._probes = {
            name: Probe(spec, self, passed=first[name], now=now) for name, spec in self.spec["probes"].items()
        }

    def _probe(self, now: float, pool: ThreadPoolExecutor) -> None:
        startup, readiness, liveness = (self._probes.get(n) for n in ("startup", "readiness", "liveness"))
        if startup is not None and not startup.passed:
            startup.poll(now, pool)
            if startup.passed is False:
                self._restart(f"its startup probe failed: {startup.reason}", now)
            return
        for probe in (readiness, liveness):
            if probe is not None:
                probe.poll(now, pool)
        if readiness is None or readiness.passed:
            self._ready_at = now if self._ready_at is None else self._ready_at
            self.message = ""
        else:
            self._ready_at = None
            if readiness.reason:
                self.message = f"its readiness probe fails: {readiness.reason}"
        if liveness is not None and not liveness.passed:
            self._restart(f"its liveness probe failed: {liveness.reason}", now)

    def _restart(self, why: str, now: float) -> None:
        self.message = f"restarted, {why}"
        self._ready_at, self._term_at = None, now

    def _exited(self, now: float) -> None:
        """Note that the process ended, and when the next one may start."""
        assert self._started is not None
        end_group(self.folder, signal.SIGKILL)  # its children
        if self._kill_at is None:
            self.message = f"its process {_ending(self._process)}"
        if now - self._started >= RESET_AFTER * self.tick:
            self._restarts = 0
        delay = BACK_OFF[min(self._restarts, len(BACK_OFF) - 1)] * self.tick
        if delay:
            again = datetime.fromtimestamp(time.time() + delay, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.message = f"CrashLoopBackOff until {again}: {self.message}"
        self._start_at = now + delay
        self._restarts += 1
        self._process = self._started = self._ready_at = self._term_at = self._kill_at = None


def _ending(process: subprocess.Popen[bytes] | None) -> str:
    code = None if process is None else process.returncode
    if code is None:
        return "ended"
    return f"exited with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
