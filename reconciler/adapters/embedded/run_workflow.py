"""The runner of one run: ``python -m reconciler.adapters.embedded.run_workflow FOLDER``.

Started by :mod:`.engine` in a session of its own, with the run's lock inherited; nobody else writes the run's
``status.json`` while it lives. It runs the DAG as Argo's controller would, and exits. SIGTERM ends the run as
Argo's Terminate does. Types, phases and messages of nodes are Argo's (dag.go and operator.go).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reconciler.adapters.embedded.argo_rules import (
    aggregate,
    back_off,
    give_up,
    inputs_of,
    items_of,
    text_of,
    unwanted,
)
from reconciler.adapters.embedded.engine import (
    COOKIE,
    Node,
    Status,
    kill_orphans,
    last_word,
    read_submission,
)
from reconciler.adapters.embedded.pod import Pod, TaskError, render
from reconciler.adapters.embedded.workflow_fields import read_fields
from reconciler.core.argo import (
    CHECKPOINT,
    TERMINATION_LOG,
    Condition,
    continues,
    references,
    seconds,
    start_condition,
    substitute,
    unrecorded,
)
from reconciler.core.lint import lint_template

_BAD = ("Failed", "Error")
TERMINATED = "Stopped with strategy 'Terminate'"
"""As Argo says it."""


class InvalidSpecError(Exception):
    """The run cannot start; the text is what Argo says after "invalid spec: "."""


class Call(NamedTuple):
    """What a task, or one item of it, gives to its template: values of inputs, and artifacts by input name."""

    task: str
    template: dict[str, Any]
    values: dict[str, str]
    artifacts: dict[str, Path | None]


class Run:
    """One run, from its ``run.json`` to its last status."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.submission = read_submission(folder)
        self.status = Status(run=self.submission.run().model_copy(update={"started": _now()}))
        self.tasks: dict[str, dict[str, Any]] = {}
        self.conditions: dict[str, Condition] = {}  # when each task starts
        self.items: dict[str, list[str]] = {}  # task with withParam -> the names of what it is run for
        self.templates: dict[str, dict[str, Any]] = {}
        self.secrets: set[str] = set()  # names of variables that only who asks for them gets
        self.values: dict[str, str] = {}  # of every reference that has one by now
        self.artifacts: dict[str, Path] = {}  # likewise
        self.ended: dict[str, asyncio.Event] = {}
        self.branch: dict[str, str] = {}  # task -> the last phase that something ended with on the way to it
        self.places = asyncio.Semaphore()
        self.ending = ""  # why everything is being ended, once it is

    # --- the run ------------------------------------------------------------------------------------------

    async def execute(self) -> None:
        loop = asyncio.get_running_loop()
        work: asyncio.Future[None] | None = None

        def end(why: str) -> None:
            self.ending = self.ending or why
            if work is not None:
                work.cancel()

        # In this order: who ends the run writes that down first, and then either finds the pid or is read.
        loop.add_signal_handler(signal.SIGTERM, end, TERMINATED)
        (self.folder / "lock").write_text(str(os.getpid()))
        if last_word(self.folder):
            return self.finish("Failed", TERMINATED)
        self._write(phase="Running")
        try:
            spec = self._spec()
            limit = min(self.submission.deadline, float(spec.get("activeDeadlineSeconds") or "inf"))
        except (InvalidSpecError, ValueError) as error:
            return self.finish("Failed", f"invalid spec: {error}")
        work = asyncio.ensure_future(self._dag())
        deadline = loop.call_later(limit, end, "Step exceeded its deadline")
        try:
            await work
        except asyncio.CancelledError:
            outcome = ("Failed", self.ending)
        else:
            outcome = self._outcome(spec)
        deadline.cancel()
        if spec.get("onExit") and self.ending != TERMINATED:
            work = asyncio.ensure_future(self._exit(spec, outcome[0]))
            with suppress(asyncio.CancelledError):
                await work
        return self.finish(*outcome)

    def _outcome(self, spec: Mapping[str, Any]) -> tuple[str, str]:
        """Phase and message of a DAG that came to its end."""
        waited = {before for condition in self.conditions.values() for before in condition.names}
        last = ((self.branch[name], task) for name, task in self.tasks.items() if name not in waited)
        phase = next((p for p, task in last if p in _BAD and p not in continues(task)), "Succeeded")
        if phase in _BAD:
            return phase, self._first_failure()
        ran = {
            str(task["template"])
            for name, task in self.tasks.items()
            if self.status.nodes[name].phase == "Succeeded"
        }
        missing = unrecorded(spec, ran)
        return ("Failed" if missing else phase), missing

    async def _exit(self, spec: Mapping[str, Any], phase: str) -> None:
        """onExit, as in Argo: after success, failure and the deadline, and not after Terminate.

        That no failure of its tasks is one of the run is checked before anything runs.
        """
        self.values["workflow.status"] = phase
        for task in self.templates[spec["onExit"]]["dag"]["tasks"]:
            await self._guarded(task["name"], self._task(task["name"], task, self.values))

    def _spec(self) -> dict[str, Any]:
        """The template at the submission's commit, checked; sets its tasks and the values of its parameters."""
        path = f"workflows/rendered/{self.submission.template}.yaml"
        try:
            doc = YAML(typ="safe").load((self.folder / "src" / path).read_text())
        except FileNotFoundError:
            raise InvalidSpecError(f"no {path} at commit {self.submission.commit}") from None
        except (YAMLError, UnicodeDecodeError) as error:
            raise InvalidSpecError(f"{path} is not YAML: {error}") from error
        for problem in lint_template(doc, path):
            if problem.severity == "error":
                raise InvalidSpecError(problem.what)
        support = read_fields(doc)
        if support.refused:
            raise InvalidSpecError(f"the embedded engine does not support {', '.join(support.refused)}")
        self.status = self.status.model_copy(update={"ignored": support.ignored})

        spec: dict[str, Any] = support.honoured["spec"]
        self.values["workflow.name"] = self.submission.name
        for parameter in (spec.get("arguments") or {}).get("parameters") or ():
            name = parameter["name"]
            value = self.submission.parameters.get(name, text_of(parameter))
            if value is None:
                raise InvalidSpecError(
                    f"spec.arguments.{name}.value or spec.arguments.{name}.valueFrom is required"
                )
            self.values[f"workflow.parameters.{name}"] = value
        self.templates = {template["name"]: template for template in spec["templates"]}
        self.secrets = {name for template in spec["templates"] for name in _secrets(template)}
        main = self.templates[spec["entrypoint"]]
        for name in inputs_of(main, "parameters"):
            self.values[f"inputs.parameters.{name}"] = self.values[f"workflow.parameters.{name}"]
        self.tasks = {task["name"]: task for task in main["dag"]["tasks"]}
        self.conditions = {name: start_condition(task, self.tasks) for name, task in self.tasks.items()}
        limits = (spec.get("parallelism"), self.submission.parallelism, os.cpu_count())
        self.places = asyncio.Semaphore(min((int(limit) for limit in limits if limit), default=1))
        return spec

    def finish(self, phase: str, message: str) -> None:
        """The last status. Ends what tasks left running; removes their files, unless a person may look."""
        kill_orphans(self.folder)
        for name, node in self.status.nodes.items():
            if node.finished is None:
                self._end(name, "Failed", self.ending or message)
        said = last_word(self.folder) if phase != "Succeeded" else {}
        self._write(phase=phase, message=message, finished=_now(), **said)
        if phase == "Succeeded":
            for used in ("src", "tasks", "checkpoints"):
                shutil.rmtree(self.folder / used, ignore_errors=True)

    def _first_failure(self) -> str:
        units = set(self._units())
        failed = [(node.finished, name) for name, node in self.status.nodes.items() if name in units]
        for _, name in sorted((at, name) for at, name in failed if at is not None):
            node = self.status.nodes[name]
            if node.phase in _BAD:
                attempts = [n for title, n in self.status.nodes.items() if title.startswith(f"{name}(")]
                message = attempts[-1].message if attempts else node.message
                return f"{name}: {message.removeprefix('main: ')}"
        return ""

    # --- the DAG ------------------------------------------------------------------------------------------

    async def _dag(self) -> None:
        self.ended = {name: asyncio.Event() for name in self.tasks}
        async with asyncio.TaskGroup() as group:
            for name in self.tasks:
                group.create_task(self._when_ready(name))

    async def _when_ready(self, name: str) -> None:
        task, condition = self.tasks[name], self.conditions[name]
        for before in condition.names:
            await self.ended[before].wait()
        if not condition.holds(self._phases(condition)):
            self._end(name, "Omitted", "omitted: depends condition not met")
        elif "withParam" in task:
            await self._guarded(name, self._loop(name, task))
        else:
            await self._guarded(name, self._task(name, task, self.values))
        phase = self.status.nodes[name].phase
        self.values[f"tasks.{name}.status"] = phase
        # As in Argo's assessDAGPhase: a task that did not run has the phase of what came before, bad first.
        above = [self.branch[before] for before in condition.names]
        inherited = next((phase for phase in above if phase in _BAD), "Succeeded")
        self.branch[name] = inherited if phase in ("Skipped", "Omitted") else phase
        self.ended[name].set()

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (TaskError, ValueError) as error:
            self._end(name, "Error", str(error))
        except Exception as error:  # a full disk, say: the failure of this task, not of the runner
            traceback.print_exc()
            self._end(name, "Error", f"{type(error).__name__}: {error}")

    def _phases(self, condition: Condition) -> dict[str, str]:
        """What a condition reads: phases by task, and those of the items of ``x`` at ``x(``."""
        phases = {before: self.status.nodes[before].phase for before in condition.names}
        of_items = {
            f"{x}(": " ".join(self.status.nodes[i].phase for i in self.items.get(x, ())) for x in phases
        }
        return {**of_items, **phases}

    async def _loop(self, name: str, task: Mapping[str, Any]) -> None:
        """The task once an item of the JSON list ``withParam``, side by side, as ``NAME(INDEX:ITEM)``.

        Each output parameter of those that succeeded comes as a list, in the order of the items.
        """
        skipped = "item" not in references(task.get("when")) and unwanted(task, self.values) is not None
        items = [] if skipped else items_of(substitute(str(task["withParam"]), self.values))
        if not items:
            self._end(name, "Skipped", "Skipped, empty params")
            return
        self._begin(name, "TaskGroup")
        self.items[name] = [f"{name}({index}:{item})" for index, item in enumerate(items)]
        async with asyncio.TaskGroup() as group:
            for title, item in zip(self.items[name], items, strict=True):
                group.create_task(self._guarded(title, self._task(title, task, {**self.values, "item": item})))
        ended = [self.status.nodes[title] for title in self.items[name]]
        outputs: dict[str, list[str]] = {}
        for node in ended:
            for key, value in node.outputs.items() if node.phase == "Succeeded" else ():
                outputs.setdefault(key, []).append(value)
        for key, found in outputs.items():
            self.values[f"tasks.{name}.outputs.parameters.{key}"] = aggregate(found)
        self._end(name, next((node.phase for node in reversed(ended) if node.phase in _BAD), "Succeeded"))

    async def _task(self, name: str, task: Mapping[str, Any], scope: Mapping[str, str]) -> None:
        if (reason := unwanted(task, scope)) is not None:
            self._end(name, "Skipped", reason)
            return
        template = self.templates[task["template"]]
        arguments = task.get("arguments") or {}
        given = {p["name"]: render(p, scope) for p in arguments.get("parameters") or ()}
        values = {key: value for key, value in self.values.items() if key.startswith("workflow.")}
        for item, parameter in inputs_of(template, "parameters").items():
            value = text_of(given.get(item, {}), text_of(render(parameter, values)))
            values[f"inputs.parameters.{item}"] = value or ""
        artifacts = {a["name"]: self._artifact(a) for a in arguments.get("artifacts") or ()}
        call = Call(name, template, values, artifacts)
        node = await (self._retry(call) if template.get("retryStrategy") else self._attempt(name, call, 0))
        for item, value in node.outputs.items():
            self.values[f"tasks.{name}.outputs.parameters.{item}"] = value

    def _artifact(self, argument: Mapping[str, Any]) -> Path | None:
        """What an earlier task left; None where it left nothing and ``optional`` allows for that."""
        source = argument["from"].strip("{} ")
        if source not in self.artifacts and not argument.get("optional"):
            raise TaskError(f"Unable to resolve: {{{{{source}}}}}")
        return self.artifacts.get(source)

    # --- attempts -----------------------------------------------------------------------------------------

    async def _retry(self, call: Call) -> Node:
        """Attempts ``task(0)``, ``task(1)``, ... under a node of type Retry, until Argo would give up."""
        retry = render(call.template["retryStrategy"], call.values)
        longest = seconds(retry.get("backoff", {}).get("maxDuration") or "365d")
        began = self._begin(call.task, "Retry").started
        for number in itertools.count():
            left = longest - (_now() - began).total_seconds() if number else None
            node = await self._attempt(f"{call.task}({number})", call, number, left)
            if node.phase == "Succeeded":
                return self._end(call.task, "Succeeded", outputs=node.outputs)
            wait = back_off(retry.get("backoff") or {}, number)
            message = give_up(retry, node, number, longest - (_now() - began).total_seconds(), wait)
            if message is not None:
                return self._end(call.task, node.phase, message)
            await asyncio.sleep(wait)
        raise AssertionError("count() ends")

    async def _attempt(self, title: str, call: Call, number: int, left: float | None = None) -> Node:
        async with self.places:
            self._begin(title, "Pod")
            try:
                return await self._pod(title, call, number, left)
            except (TaskError, ValueError, OSError) as error:
                return self._end(title, "Error", str(error))

    async def _pod(self, title: str, call: Call, number: int, left: float | None) -> Node:
        """One attempt in a folder of its own, which it sees as /trueup. ``left``: seconds that it may take."""
        root = self.folder / "tasks" / re.sub(r"[(:)]", ".", title)  # no sign that a shell reads otherwise
        template = render(call.template, {**call.values, "retries": str(number)}, root)
        limits = [float(limit) for limit in (template.get("activeDeadlineSeconds"), left) if limit is not None]
        sources = {
            name: self._repository(artifact["git"]) if "git" in artifact else call.artifacts.get(name)
            for name, artifact in inputs_of(template, "artifacts").items()
        }
        pod = Pod(
            template,
            root=root,
            log=self.folder / "logs" / f"{title}.log",
            environment={
                **self._environment(template),
                COOKIE: str(self.folder),
                TERMINATION_LOG: str(root / "termination-log"),
            },
            limit=min(limits, default=None),
            grace=self.submission.grace,
        )
        await pod.stage(sources)
        (root / "termination-log").touch()
        if any(m["mountPath"] == CHECKPOINT for m in call.template["container"].get("volumeMounts") or ()):
            kept = self.folder / "checkpoints" / call.task
            kept.mkdir(parents=True, exist_ok=True)
            (root / Path(CHECKPOINT).name).symlink_to(kept)
        code = await pod.run()
        if code is None:
            message = "Pod was active on the node longer than the specified deadline"
            return self._end(title, "Failed", message)
        if code:
            word = root / "termination-log"
            said = word.read_text(errors="replace").strip() if word.exists() else ""
            message = f"main: Error (exit code {code}){': ' if said else ''}{said}"
            return self._end(title, "Failed", message, exit_code=code)
        for name, product in pod.artifacts().items():
            self.artifacts[f"tasks.{call.task}.outputs.artifacts.{name}"] = product
        outputs = pod.parameters()
        for parameter in (template.get("outputs") or {}).get("parameters") or ():
            if parameter.get("globalName"):
                found = {parameter["globalName"]: outputs[parameter["name"]]}
                self._write(outputs={**self.status.run.outputs, **found})
        return self._end(title, "Succeeded", exit_code=0, outputs=outputs)

    def _environment(self, template: Mapping[str, Any]) -> dict[str, str]:
        """This process's, without what is a Secret to another container and not to this one."""
        hidden = self.secrets - set(_secrets(template))
        return {name: value for name, value in os.environ.items() if name not in hidden}

    def _repository(self, git: Mapping[str, Any]) -> Path:
        if git.get("revision") != self.submission.commit:
            raise TaskError(f"git revision {git.get('revision')!r} is not the commit of the submission")
        return self.folder / "src"

    # --- the status ---------------------------------------------------------------------------------------

    def _begin(self, title: str, kind: str) -> Node:
        return self._keep(title, Node(type=kind, phase="Running", started=_now()))

    def _end(self, title: str, phase: str, message: str = "", **details: Any) -> Node:
        node = self.status.nodes.get(title) or Node(type="Skipped", phase=phase, started=_now())
        changes = {"phase": phase, "message": message, "finished": _now(), **details}
        return self._keep(title, node.model_copy(update=changes))

    def _keep(self, title: str, node: Node) -> Node:
        self.status = self.status.model_copy(update={"nodes": {**self.status.nodes, title: node}})
        phases = [self.status.nodes[name].phase if name in self.status.nodes else "" for name in self._units()]
        self._write(progress=f"{phases.count('Succeeded')}/{len(phases) - phases.count('Skipped')}")
        return node

    def _units(self) -> list[str]:
        """What is run: tasks, and in the place of one with items, the items."""
        return [unit for name in self.tasks for unit in self.items.get(name, (name,))]

    def _write(self, **changes: Any) -> None:
        self.status = self.status.model_copy(update={"run": self.status.run.model_copy(update=changes)})
        self.status.write(self.folder)


def _now() -> datetime:
    return datetime.now(UTC)


def _secrets(template: Mapping[str, Any]) -> Iterator[str]:
    """Names of the variables that a container takes from Secrets."""
    for item in template.get("container", {}).get("env") or ():
        if "secretKeyRef" in (item.get("valueFrom") or {}):
            yield str(item["name"])


def main() -> None:
    folder = Path(sys.argv[1])
    run = Run(folder)
    try:
        asyncio.run(run.execute())
    except Exception as error:
        traceback.print_exc()
        run.finish("Error", f"the runner failed: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
