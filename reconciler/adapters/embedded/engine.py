"""The embedded workflow engine: Argo WorkflowTemplates as processes of this machine. It is not a second Argo.

Made by :mod:`reconciler.bootstrap`. Each run is a folder ``engine/runs/NAME`` with a process of its own
(:mod:`.run_workflow`), which outlives the reconciler that submitted it::

    run.json     what was submitted          lock        held by the runner for as long as it lives; its pid
    status.json  where it is now, atomic     stopped.json  who ends it, and why: the first who did
    src/         the repository at the commit of the submission
    logs/        one file a node             tasks/      what each attempt sees as /trueup

A run is made by one rename, and started by whoever holds its lock while it has no status: there is never a
second run of a name and never a second runner, whoever is killed when. No process id is trusted across a
restart: the lock says whether the runner lives, and a cookie in the environment finds what a dead one left.
:mod:`.workflow_fields` is the table of what is honoured, ignored and refused.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from reconciler.core.base import Frozen, Instant
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import EngineSweep, WorkflowRun

# --- the files of a run ---------------------------------------------------------------------------------------

COOKIE = "TRUEUP_RUN"
"""Environment variable of every task, its value the run's folder: it finds the orphans of a killed runner."""

KERNEL_THREAD = 0x200000
"""``PF_KTHREAD`` among the flags of a process, from Linux' ``include/linux/sched.h``."""

END = 64 * 1024
"""Bytes that are read of a log where only its end is asked for."""

SUGGESTED = 5
"""Runs named to somebody who asked for one that is not there."""


Kept = TypeVar("Kept", bound=Frozen)


class Submission(Frozen):
    """``run.json``: what was asked for. ``grace``: seconds from SIGTERM to SIGKILL where a task is ended."""

    name: str
    template: str
    commit: str
    parameters: dict[str, str]
    labels: dict[str, str]
    deadline: float
    grace: float
    reason: str = ""
    asked_by: str = ""
    parallelism: int | None = None

    def run(self) -> WorkflowRun:
        return WorkflowRun(
            name=self.name,
            phase="Pending",
            labels=self.labels,
            parameters=self.parameters,
            reason=self.reason,
            asked_by=self.asked_by,
        )


class Word(Frozen):
    """``stopped.json``: why the run is ended, and by whom where a person ends it. The first one counts."""

    stopped: str
    stopped_by: str

    def write(self, folder: Path) -> None:
        new = folder / f"stopped.json.{os.getpid()}"
        new.write_text(self.model_dump_json())
        with suppress(FileExistsError):
            os.link(new, folder / "stopped.json")
        new.unlink()


def last_word(folder: Path) -> dict[str, str]:
    """What was said to end the run, as fields of it; empty where nobody did."""
    try:
        return _read(folder / "stopped.json", Word).model_dump(by_alias=False)
    except FileNotFoundError:
        return {}


class Node(Frozen):
    """A task, or one attempt of a task that may be retried, with Argo's types, phases and messages."""

    type: str
    phase: str
    message: str = ""
    started: Instant
    finished: Instant | None = None
    exit_code: int | None = None
    outputs: dict[str, str] = Field(default_factory=dict)


class Status(Frozen):
    """``status.json``. ``nodes`` by display name, in the order in which they began; ``ignored`` by path."""

    run: WorkflowRun
    nodes: dict[str, Node] = Field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Atomic: a reader sees the whole of one status."""
        new = folder / "status.json.new"
        new.write_text(self.model_dump_json(exclude_defaults=True))
        new.replace(folder / "status.json")


def read_status(folder: Path) -> Status | None:
    """Where the run was last said to be; None before its runner spoke. Terminal if the file is broken."""
    try:
        return _read(folder / "status.json", Status)
    except FileNotFoundError:
        return None


def read_submission(folder: Path) -> Submission:
    return _read(folder / "run.json", Submission)


def _read(path: Path, kind: type[Kept]) -> Kept:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        what = f"is not what this engine wrote: {error.errors()[0]['msg']}"
        raise Terminal(what, where=str(path), hint=f"remove {path.parent} to forget the run") from error


@contextmanager
def _claim(folder: Path) -> Iterator[int | None]:
    """The run's lock as a file descriptor, or None where a runner or, just now, another reconciler has it."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield lock  # a runner that inherited it keeps the lock when this descriptor closes
    finally:
        os.close(lock)


_children: list[subprocess.Popen[bytes]] = []
"""Runners that this process started. Nobody waits for them: they are reaped in passing, by any engine."""


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


# --- the port -------------------------------------------------------------------------------------------------


class EmbeddedEngine:
    """EngineReader and EngineWriter over ``home/engine``. One machine, one user; any number of processes.

    ``checkout`` writes the files of a commit to a new folder. ``env`` is the whole environment of every step
    (secrets too: they are on no command line and in no file); this Python's own folder goes first in its PATH.
    """

    def __init__(
        self,
        *,
        home: Path,
        checkout: Callable[[str, Path], None],
        env: Mapping[str, str],
        grace: float = 10.0,
    ) -> None:
        self._runs = home.resolve() / "engine" / "runs"
        self._staging = home.resolve() / "engine" / "staging"
        self._checkout = checkout
        path = os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", os.defpath)))
        self._env = {**env, "PATH": path}
        self._grace = grace
        self._finished: dict[str, tuple[int, WorkflowRun]] = {}

    def submit(
        self,
        *,
        name: str,
        template: str,
        commit: str,
        parameters: Mapping[str, str],
        labels: Mapping[str, str],
        deadline: int,
        priority: int = 0,  # noqa: ARG002 - every run begins at once
        reason: str = "",
        asked_by: str = "",
        parallelism: int | None = None,
    ) -> bool:
        for what, text in (("run", name), ("template", template)):
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?", text):
                raise Terminal(f"{text!r} cannot be the name of a {what}", hint="use a-z, 0-9 and '-'")
        folder = self._runs / name
        if folder.exists():
            self._look(folder)
            return False
        stage = self._stage()
        try:
            self._checkout(commit, stage / "src")
            submission = Submission(
                name=name,
                template=template,
                commit=commit,
                parameters=dict(parameters),
                labels=dict(labels),
                deadline=deadline,
                grace=self._grace,
                reason=reason,
                asked_by=asked_by,
                parallelism=parallelism,
            )
            (stage / "run.json").write_text(submission.model_dump_json())
            # The one step that makes the run. It fails where the name is taken: that folder is not empty.
            stage.rename(folder)
        except OSError as error:
            if folder.exists():
                return False
            raise Retryable(f"the run cannot be written: {error}", where=str(folder)) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        self._look(folder)
        return True

    def sweep(self) -> EngineSweep:
        """As the port says. It also starts a run whose submitter was killed, and ends one whose runner was."""
        _reap()
        return EngineSweep(runs={folder.name: self._look(folder) for folder in self._folders()})

    def run(self, name: str) -> WorkflowRun:
        return self._look(self._known(name))

    def logs(self, name: str, *, latest: bool = False) -> Iterator[tuple[str, str]]:
        folder = self._known(name)
        status = read_status(folder)
        for title, node in status.nodes.items() if status else ():
            log = folder / "logs" / f"{title}.log"
            if log.exists() and not (latest and node.finished):
                yield title, _end(log) if latest else log.read_text(errors="replace")
        own = folder / "runner.log"
        if own.exists() and own.stat().st_size and not latest:
            yield "runner", own.read_text(errors="replace")

    def _known(self, name: str) -> Path:
        """The folder of a run. Terminal if there is none, with those that there are."""
        folder = self._runs / name
        if not re.fullmatch(r"[-a-z0-9]+", name) or not folder.is_dir():
            newest = sorted(self._folders(), key=lambda folder: -folder.stat().st_mtime)[:SUGGESTED]
            known = ", ".join(folder.name for folder in newest) or "no run yet"
            raise Terminal(
                f"no run is named {name!r}",
                where=str(self._runs),
                hint=f"there is {known}; for what serves: reconcile logs ENV/MODEL",
            )
        return folder

    def stop(self, name: str, *, reason: str, by: str = "") -> None:
        """As by Argo's Terminate. The runner ends its tasks; this waits for neither.

        A runner that has not said its pid reads the word itself, before it runs anything.
        """
        folder = self._runs / name
        if (folder / "run.json").exists() and not self._at_rest(folder):
            Word(stopped=reason, stopped_by=by).write(folder)
            if pid := _pid(folder):
                _signal(pid, signal.SIGTERM)

    def delete(self, name: str) -> None:
        folder = self._runs / name
        if not (folder / "run.json").exists():
            return
        if not self._look(folder).done:
            raise Terminal("the run is not finished", where=name, hint="stop it first")
        grave = self._stage() / "run"
        with suppress(FileNotFoundError):
            folder.rename(grave)
        shutil.rmtree(grave.parent, ignore_errors=True)

    def stop_all(self) -> None:
        """End every runner and task under this home. Runs that were going on end as by Argo's Terminate."""
        give_up = time.monotonic() + self._grace + 5
        told: set[int] = set()
        while live := [folder for folder in self._folders() if not self._at_rest(folder)]:
            if time.monotonic() > give_up + 10:
                raise Retryable("a runner does not end", where=str(live[0]))
            for pid in filter(None, map(_pid, live)):
                if time.monotonic() > give_up:
                    _signal(pid, signal.SIGKILL)
                elif pid not in told:
                    _signal(pid, signal.SIGTERM)
                    told.add(pid)
            time.sleep(0.02)
        _reap()

    def _folders(self) -> list[Path]:
        return sorted(path.parent for path in self._runs.glob("*/run.json"))

    def _look(self, folder: Path) -> WorkflowRun:
        """Where a run is now. Only the holder of its lock starts it, or says that its runner is dead."""
        if (known := self._done(folder)) is not None:
            return known
        with _claim(folder) as lock:
            status = read_status(folder)
            if status is not None and status.run.done:
                return status.run
            if lock is None:
                run = status.run if status else read_submission(folder).run()
                return run.model_copy(update=last_word(folder))
            if status is not None:
                return _bury(folder, status, "it was killed, or the machine restarted")
            status = Status(run=read_submission(folder).run())
            if said := _last_words(folder):
                return _bury(folder, status, said)
            self._start(folder, lock)
            return status.run

    def _done(self, folder: Path) -> WorkflowRun | None:
        """A finished run never changes: read once, and then known by the time of its file."""
        with suppress(FileNotFoundError):
            changed = (folder / "status.json").stat().st_mtime_ns
            seen = self._finished.get(folder.name)
            if seen is not None and seen[0] == changed:
                return seen[1]
            status = read_status(folder)
            if status is not None and status.run.done:
                self._finished[folder.name] = (changed, status.run)
                return status.run
        return None

    def _start(self, folder: Path, lock: int) -> None:
        """A runner in a session of its own. It inherits the lock: at no instant has nobody got it."""
        os.ftruncate(lock, 0)
        try:
            with (folder / "runner.log").open("ab") as log:
                runner = subprocess.Popen(
                    [sys.executable, "-P", "-m", "reconciler.adapters.embedded.run_workflow", str(folder)],
                    env=self._env,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        except OSError as error:
            raise Retryable(f"the runner cannot be started: {error}", where=str(folder)) from error
        _children.append(runner)

    def _at_rest(self, folder: Path) -> bool:
        """Whether no runner lives; if one was killed, then after its orphans are gone."""
        with _claim(folder) as lock:
            with suppress(Terminal):  # a broken file is no reason to leave the others running
                if lock is not None and (status := read_status(folder)) and not status.run.done:
                    _bury(folder, status, "it was killed")
            return lock is not None

    def _stage(self) -> Path:
        """A new folder to prepare a run in. What killed submitters left there goes after an hour."""
        self._staging.mkdir(parents=True, exist_ok=True)
        self._runs.mkdir(exist_ok=True)
        for stage in self._staging.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - stage.stat().st_mtime > 3600:
                    shutil.rmtree(stage, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._staging))


def _end(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - END))
        return file.read().decode(errors="replace")


def _bury(folder: Path, status: Status, why: str) -> WorkflowRun:
    """End what a dead runner left, and record an Error. Called with the run's lock held."""
    kill_orphans(folder)
    now = datetime.now(UTC)
    nodes = {
        name: node.model_copy(update={"phase": "Error", "message": "pod deleted", "finished": now})
        if node.finished is None
        else node
        for name, node in status.nodes.items()
    }
    message = f"the runner ended without a result: {why}"
    ended = {"phase": "Error", "message": message, "finished": now, **last_word(folder)}
    run = status.run.model_copy(update=ended)
    status.model_copy(update={"run": run, "nodes": nodes}).write(folder)
    return run


def _last_words(folder: Path) -> str:
    """Why a runner died before its first status; empty if none was ever started, and then one may be."""
    log = folder / "runner.log"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "")


def kill_orphans(folder: Path) -> None:
    """Kill every process that carries the run's cookie, until there is none. Without /proc it does nothing."""
    cookie = f"{COOKIE}={folder}".encode()
    start = time.monotonic()
    while (waited := time.monotonic() - start) < 5:
        environments = {pid: _environment(pid) for pid in _processes()}
        found = [pid for pid, text in environments.items() if text and cookie in text.split(b"\0")]
        for pid in found:
            _signal(pid, signal.SIGKILL)
        starting = (pid for pid, text in environments.items() if text == b"" and _may_be_starting(pid))
        if not found and (waited > 1 or not any(starting)):
            return
        time.sleep(0.01)


def _processes() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _environment(pid: int) -> bytes | None:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or not ours
        return None


def _may_be_starting(pid: int) -> bool:
    """Whether a process without variables may get some: in the middle of ``execve`` they are not there yet.

    Kernel threads and zombies never get any. Fields as in proc_pid_stat(5).
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return state not in "ZX" and not int(fields[5]) & KERNEL_THREAD


def _pid(folder: Path) -> int:
    """The runner's own word, to be believed only while its lock is held; 0 before it has spoken."""
    text = (folder / "lock").read_text()
    return int(text) if text.isdigit() else 0


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
