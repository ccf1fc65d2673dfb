"""One attempt of one task: its folder, its inputs, its process, its outputs.

What an Argo pod is to a container, for :mod:`.run_workflow`. The container sees its folder as ``/trueup``.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reconciler.core.argo import substitute

OUTPUT_LIMIT = 256 * 1024
"""Bytes of one output parameter, as in Argo, which keeps them in the workflow object."""

_ROOT = re.compile(r"(?<![-\w./~})])/trueup(?=/|$)")
_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_][-\w.]*)\))")


class TaskError(Exception):
    """A node ends as Error with this text: what in Argo the init or the wait container reports."""


def render(value: Any, values: Mapping[str, str], root: Path | None = None) -> Any:
    """``value`` with its references replaced; given ``root``, with the author's ``/trueup`` as that folder.

    What a reference brings in is data: a ``/trueup`` in it stays.
    """
    if isinstance(value, str):
        return substitute(_ROOT.sub(lambda _: str(root), value) if root else value, values)
    if isinstance(value, dict):
        return {key: render(item, values, root) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, values, root) for item in value]
    return value


class Pod:
    """A rendered container template. ``limit``: seconds that it may run; ``grace``: from SIGTERM to SIGKILL."""

    def __init__(
        self,
        template: Mapping[str, Any],
        *,
        root: Path,
        log: Path,
        environment: Mapping[str, str],
        limit: float | None,
        grace: float,
    ) -> None:
        self._container: Mapping[str, Any] = template["container"]
        self._inputs = (template.get("inputs") or {}).get("artifacts") or ()
        outputs = template.get("outputs") or {}
        self._parameters = outputs.get("parameters") or ()
        self._artifacts = outputs.get("artifacts") or ()
        self._root = root
        self._log = log
        self._environment = environment
        self._limit = limit
        self._grace = grace

    async def stage(self, sources: Mapping[str, Path | None]) -> None:
        """Make the folder, copy the input artifacts into it, and make the folders of outputs."""
        self._root.mkdir(parents=True)
        for artifact in self._inputs:
            source = sources.get(artifact["name"])
            if source is not None:
                await asyncio.to_thread(_copy, source, self._inside(artifact["path"]))
            elif not artifact.get("optional"):
                raise TaskError(f"artifact {artifact['name']} was not supplied")
        for path in (
            *(p["valueFrom"]["path"] for p in self._parameters),
            *(a["path"] for a in self._artifacts),
        ):
            self._inside(path).parent.mkdir(parents=True, exist_ok=True)

    async def run(self) -> int | None:
        """The exit code of the command, 128 + N for signal N; None past the limit."""
        own = self._variables()
        arguments = (*self._container["command"], *(self._container.get("args") or ()))
        command = [_expand(str(word), own) for word in arguments]
        cwd = self._inside(self._container.get("workingDir") or str(self._root))
        cwd.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("wb") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=cwd,
                    env={**self._environment, **own},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:  # what a shell says where there is no such command
                log.write(f"{command[0]}: {error.strerror}\n".encode())
                return 127
        try:
            async with asyncio.timeout(self._limit):
                code = await process.wait()
        except TimeoutError:
            await self._end(process)
            return None
        except asyncio.CancelledError:
            await self._end(process)
            raise
        _signal_group(process.pid, signal.SIGKILL)  # a container ends with its first process
        return code if code >= 0 else 128 - code

    def artifacts(self) -> dict[str, Path]:
        """Where each output artifact was left."""
        left = {artifact["name"]: self._inside(artifact["path"]) for artifact in self._artifacts}
        for artifact in self._artifacts:
            if not left[artifact["name"]].exists():
                if not artifact.get("optional"):
                    raise TaskError(f"artifact {artifact['name']} was not left at its path")
                del left[artifact["name"]]
        return left

    def parameters(self) -> dict[str, str]:
        """The text of each output parameter without its last newline, as in Argo."""
        return {parameter["name"]: self._parameter(parameter) for parameter in self._parameters}

    def _parameter(self, parameter: Mapping[str, Any]) -> str:
        name, source = parameter["name"], parameter["valueFrom"]
        try:
            data = self._inside(source["path"]).read_bytes()
        except FileNotFoundError:
            if source.get("default") is None:
                raise TaskError(f"output parameter {name} was not left at its path") from None
            return str(source["default"])
        if len(data) > OUTPUT_LIMIT:
            raise TaskError(f"output parameter {name} is larger than {OUTPUT_LIMIT // 1024} KiB")
        return data.decode().removesuffix("\n")

    def _variables(self) -> dict[str, str]:
        """The container's own variables; what a cluster takes from elsewhere comes from the environment."""
        own: dict[str, str] = {}
        for item in self._container.get("env") or ():
            name = item["name"]
            if not item.get("valueFrom"):
                own[name] = _expand(str(item.get("value") or ""), own)
                continue
            ((kind, reference),) = item["valueFrom"].items()
            if name in self._environment:
                own[name] = self._environment[name]
            elif not reference.get("optional"):
                raise TaskError(f"environment variable {name} ({kind}) is not set where the reconciler runs")
        return own

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self._grace)
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()

    def _inside(self, text: str) -> Path:
        path = Path(os.path.normpath(text))
        if not path.is_relative_to(self._root):
            raise TaskError(f"{text} is not below /trueup")
        return path


def _copy(source: Path, target: Path) -> None:
    """A copy, not a link: what a task does to its inputs is seen by no other task."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' ``$(NAME)``: a variable of this container, ``$$`` for one ``$``, anything else as it is."""
    return _VARIABLE.sub(lambda m: "$" if m[1] == "$" else variables.get(m[2], m[0]), text)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
