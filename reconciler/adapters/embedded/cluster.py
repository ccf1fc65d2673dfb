"""A cluster of one machine: the rendered Deployment's container as a local process with its probes.

:mod:`reconciler.bootstrap` makes one where a Platform names no real cluster. It is for trying out, development
and tests. :meth:`EmbeddedCluster.apply` records what is wanted and starts one detached supervisor a workload
(:mod:`reconciler.adapters.embedded.run_deployment`), which does the rest and outlives the reconciler.

    HOME/cluster/ENV/MODEL/
        manifests/N/     what was applied, byte for byte, at generation N; an edit by hand shows as drift
        desired.json     the same, checked and reduced to what is run
        values.json      values of configMapKeyRef and secretKeyRef variables, for the owner's eyes only
        status.json      what the supervisor sees
        pods/N/          one process: its log, its port, its temporary folder
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from reconciler.adapters.embedded.deployment_fields import read_manifests
from reconciler.adapters.embedded.replica import end_group, holder, read_json, take, write_json
from reconciler.adapters.embedded.run_deployment import Desired, Status, instant
from reconciler.core.base import DNS_1123
from reconciler.core.digests import sha256
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import ClusterSweep, Workload

PASSED = ("CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LC_ALL", "OMP_NUM_THREADS", "PATH", "TZ")
"""What of ``env`` a container sees undeclared, as if from an image; all else it must declare."""
LOG_TAIL = 256 * 1024


class EmbeddedCluster:
    """ClusterReader and ClusterWriter below ``home``.

    ``env`` has the values of configMapKeyRef and secretKeyRef variables, by the variable's name, and this
    machine's own few (:data:`PASSED`). A Kubernetes second lasts ``tick`` seconds.
    """

    def __init__(self, home: Path, env: Mapping[str, str], *, tick: float = 1.0) -> None:
        self._root = home / "cluster"
        self._env = dict(env)
        self._tick = tick

    # --- reading ------------------------------------------------------------------------------------------

    def sweep(self) -> ClusterSweep:
        """Every workload, from the files of its supervisor. Starts and heals nothing."""
        try:
            workloads = [found for folder in self._folders() if (found := self._workload(folder))]
        except OSError as error:
            raise Retryable(str(error), where="the embedded cluster") from error
        return ClusterSweep(workloads={f"{w.environment}/{w.model}": w for w in workloads})

    def logs(self, environment: str, model: str) -> str:
        """What is noted and ignored, then the last 256 KiB that each process printed."""
        folder = self._folder(environment, model)
        desired: Desired | None = read_json(folder / "desired.json")
        if desired is None:
            raise Terminal("nothing is deployed", where=f"{environment}/{model}")
        parts = [f"The embedded cluster ignores {', '.join(desired['notes'])}.\n"] if desired["notes"] else []
        for pod in self._pods(folder):
            record = read_json(pod / "pod.json")
            release = record["spec"]["release"] if record else "not started"
            parts.append(f"==> pod {pod.name}, release {release} <==\n")
            parts += [_tail(pod / name) for name in ("log.1", "log") if (pod / name).exists()]
        return "".join(parts)

    def _workload(self, folder: Path) -> Workload | None:
        desired: Desired | None = read_json(folder / "desired.json")
        if desired is None:
            return None
        drifted = tuple(_drift(folder, desired))
        if drifted and read_json(folder / "desired.json") != desired:
            return self._workload(folder)  # applied or pruned in between
        status: Status | None = read_json(folder / "status.json")
        seen = status is not None and status["generation"] == desired["generation"]
        serving, endpoint = (status["serving"], status["endpoint"]) if status else ("", "")
        recorded = status.get("recorded", "") if status else ""
        if holder(folder, "supervisor") is None:
            health, message = "Missing", "its supervisor is not running"
            since = max(_modified(folder / "status.json"), datetime.fromisoformat(desired["applied"]))
            if status is None or status["pids"]["serving"] not in map(_pid, self._pods(folder)):
                serving = ""
        elif status is not None and seen:
            health, message = status["health"], status["message"]
            since = datetime.fromisoformat(status["since"])
        else:
            health, message = "Progressing", "its supervisor has not seen it yet"
            since = datetime.fromisoformat(desired["applied"])
        return Workload.model_validate(
            {
                **{
                    name: desired[name] for name in ("environment", "model", "namespace", "release", "rendered")
                },
                "health": health,
                "since": since,
                "message": message,
                "serving": serving,
                "endpoint": endpoint,
                "recorded": recorded if serving else "",
                "objects": tuple(desired["objects"]),
                "drifted": drifted,
            }
        )

    # --- writing ------------------------------------------------------------------------------------------

    def apply(self, *, environment: str, model: str, namespace: str, manifests: Mapping[str, str]) -> bool:
        """Record what is wanted and see that the supervisor runs; False if both were so already.

        Unlike a server-side apply it replaces: an object that the manifests no longer name is gone. Terminal
        for a field that is refused or unknown, another subject's object, or a variable without a value.
        """
        folder = self._folder(environment, model)
        applied = read_manifests(manifests, environment, model, namespace)
        missing = [name for name, optional in applied.values.items() if not optional and name not in self._env]
        if missing:
            raise Terminal(
                f"the embedded cluster has no value for {', '.join(missing)}", where=f"{environment}/{model}"
            )
        with self._writing():
            self._refuse_others_objects(folder, namespace, applied.objects)
            folder.mkdir(parents=True, exist_ok=True)
            values = {name: self._env[name] for name in applied.values if name in self._env}
            if values != read_json(folder / "values.json"):
                write_json(folder / "values.json", values, mode=0o600)
            before: Desired | None = read_json(folder / "desired.json")
            desired: Desired = {
                "environment": environment,
                "model": model,
                "namespace": namespace,
                "generation": before["generation"] if before else 0,
                "applied": before["applied"] if before else "",
                "release": applied.release,
                "rendered": applied.rendered,
                "objects": applied.objects,
                "files": {name: sha256(text) for name, text in manifests.items()},
                "notes": applied.notes,
                "tick": self._tick,
                "pod": applied.pod,
            }
            lock = _take_from_readers(folder / "supervisor.lock")
            try:
                if before == desired and lock is None and not any(_drift(folder, desired)):
                    return False
                desired["generation"] += 1
                desired["applied"] = instant()
                written = folder / "manifests" / str(desired["generation"])
                shutil.rmtree(written, ignore_errors=True)
                written.mkdir(parents=True)
                for name, text in manifests.items():
                    (written / name).write_text(text)
                write_json(folder / "desired.json", desired)
                for older in set(written.parent.iterdir()) - {written}:
                    shutil.rmtree(older)
                if lock is not None:
                    _start_supervisor(folder, lock, self._env)
            finally:
                if lock is not None:
                    os.close(lock)
        return True

    def prune(self, *, environment: str, model: str, namespace: str, objects: tuple[str, ...]) -> None:
        """Delete these objects of this subject; what is not there is done already. Waits for processes to end.

        Terminal, before anything is deleted, for an object of another subject or in another namespace.
        """
        folder = self._folder(environment, model)
        with self._writing():
            self._refuse_others_objects(folder, namespace, objects)
            desired: Desired | None = read_json(folder / "desired.json")
            if desired is None:
                return
            if desired["namespace"] != namespace:
                raise Terminal(f"is in namespace {desired['namespace']}", where=f"{environment}/{model}")
            remaining = [name for name in desired["objects"] if name not in objects]
            if remaining == desired["objects"]:
                return
            if not any(name.startswith("Deployment/") for name in remaining):
                _stop(folder)
                desired["pod"] = None
            if not remaining:
                shutil.rmtree(folder)
                return
            write_json(folder / "desired.json", {**desired, "objects": remaining})

    def stop_all(self) -> None:
        """End every supervisor and process of this home; the next apply starts them again."""
        with self._writing():
            for folder in self._folders():
                _stop(folder)

    # --- folders ------------------------------------------------------------------------------------------

    def _folder(self, environment: str, model: str) -> Path:
        for name in (environment, model):
            if not re.fullmatch(DNS_1123, name):
                raise Terminal(f"{name!r} is not a name of an environment or a model")
        return self._root / environment / model

    def _folders(self) -> list[Path]:
        return sorted(path.parent for path in self._root.glob("*/*/desired.json"))

    def _pods(self, folder: Path) -> list[Path]:
        return sorted((folder / "pods").glob("*"), key=lambda path: int(path.name))

    def _refuse_others_objects(
        self, folder: Path, namespace: str, objects: tuple[str, ...] | list[str]
    ) -> None:
        for other in self._folders():
            desired: Desired | None = read_json(other / "desired.json")
            if other == folder or desired is None or desired["namespace"] != namespace:
                continue
            for name in set(objects) & set(desired["objects"]):
                owner = f"{desired['environment']}/{desired['model']}"
                raise Terminal(f"belongs to {owner}", where=f"{name} in namespace {namespace}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time. A full disk, or a folder that is not ours to write, is Retryable."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with (self._root / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise Retryable(str(error), where="the embedded cluster") from error


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime if path.exists() else 0, UTC)


def _pid(pod: Path) -> int | None:
    return holder(pod, "process")


def _tail(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LOG_TAIL))
        return stream.read().decode(errors="replace")


def _drift(folder: Path, desired: Desired) -> Iterator[str]:
    """The manifests on disk that are not what was applied."""
    there = folder / "manifests" / str(desired["generation"])
    found: set[str] = set()
    with suppress(FileNotFoundError):  # the next generation's apply removes it
        found = {path.name for path in there.iterdir()}
    for name in sorted(found | desired["files"].keys()):
        try:
            same = sha256((there / name).read_bytes()) == desired["files"].get(name)
        except FileNotFoundError:
            same = False
        if not same:
            yield name


def _take_from_readers(lock: Path) -> int | None:
    """The lock, unless a supervisor has it: a reader who only looks holds it for an instant."""
    for _ in range(5):
        descriptor = take(lock)
        if descriptor is not None:
            return descriptor
        time.sleep(0.005)
    return None


def _start_supervisor(folder: Path, lock: int, env: Mapping[str, str]) -> None:
    """Hand ``lock`` over to a new process that nobody waits for."""
    environment = {name: env[name] for name in PASSED if name in env}
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", os.defpath)))
    (folder / "supervisor.pid").unlink(missing_ok=True)
    with (folder / "supervisor.log").open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "reconciler.adapters.embedded.run_deployment", str(folder)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # who ends our process group does not mean the workload
            pass_fds=(lock,),
            check=False,
        )
    if done.returncode:
        raise Retryable("the supervisor did not start", where=str(folder), hint="read supervisor.log there")


def _stop(folder: Path) -> None:
    """End the supervisor, which ends its processes; then whatever an earlier one left."""
    desired: Desired | None = read_json(folder / "desired.json")
    grace = desired["pod"]["grace"] * desired["tick"] if desired and desired["pod"] else 0
    patience = time.monotonic() + grace + 10
    while (pid := holder(folder, "supervisor")) is not None:
        if pid:
            with suppress(ProcessLookupError):  # it ended since its lock was seen
                os.kill(pid, signal.SIGTERM if time.monotonic() < patience else signal.SIGKILL)
        time.sleep(0.02)
    for pod in (folder / "pods").glob("*"):
        while holder(pod, "process") is not None:
            end_group(pod, signal.SIGKILL)
            time.sleep(0.02)
