"""A workflow engine in memory: a run goes on until :meth:`MemoryEngine.finish` says how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from reconciler.core.errors import Terminal
from reconciler.core.observed import EngineSweep, Phase, WorkflowRun


class MemoryEngine:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.runs: dict[str, WorkflowRun] = {}

    def running(self) -> tuple[WorkflowRun, ...]:
        return tuple(run for run in self.runs.values() if not run.done)

    def finish(
        self, name: str, phase: Phase, outputs: Mapping[str, str] | None = None, message: str = ""
    ) -> None:
        ended = {
            "phase": phase,
            "outputs": dict(outputs or {}),
            "message": message,
            "finished": self.clock(),
            "progress": "1/1",
        }
        self.runs[name] = self.runs[name].model_copy(update=ended)

    # --- the ports ----------------------------------------------------------------------------------------

    def sweep(self) -> EngineSweep:
        return EngineSweep(runs=dict(self.runs))

    def run(self, name: str) -> WorkflowRun:
        if name not in self.runs:
            raise Terminal(f"there is no run {name}")
        return self.runs[name]

    def logs(self, name: str, *, latest: bool = False) -> Iterable[tuple[str, str]]:
        run = self.run(name)
        return [] if latest and run.done else [("main", run.message)]

    def submit(
        self,
        *,
        name: str,
        template: str,
        commit: str,
        parameters: Mapping[str, str],
        labels: Mapping[str, str],
        deadline: int,
        priority: int = 0,
        reason: str = "",
        asked_by: str = "",
        parallelism: int | None = None,
    ) -> bool:
        if name in self.runs:
            return False
        self.runs[name] = WorkflowRun(
            name=name,
            phase="Running",
            labels=dict(labels),
            parameters=dict(parameters),
            started=self.clock(),
            progress="0/1",
            reason=reason,
            asked_by=asked_by,
        )
        return True

    def stop(self, name: str, *, reason: str, by: str = "") -> None:
        if name in self.runs and not self.runs[name].done:
            word = {"stopped": reason, "stopped_by": by}
            self.runs[name] = self.runs[name].model_copy(update=word)
            self.finish(name, "Failed", message="Stopped with strategy 'Terminate'")

    def delete(self, name: str) -> None:
        if name in self.runs and not self.runs[name].done:
            raise Terminal(f"{name} is running")
        self.runs.pop(name, None)
