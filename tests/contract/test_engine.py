"""What every workflow engine does (EngineReader and EngineWriter), and what the embedded one does beside it.

A second adapter is one more parameter of :func:`bench`, with a Bench of its own. Phases, messages and nodes are
in the words that a real Argo Workflows controller (4.0.10) was seen to use for the same cases. The Argo engine
is tried on a real API server, where tests/servers/argo_driver.py plays the controller.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from ruamel.yaml import YAML

from reconciler.adapters.embedded.engine import COOKIE, EmbeddedEngine, Status, kill_orphans, read_status
from reconciler.adapters.embedded.workflow_fields import HONOURED, IGNORED, REFUSED, read_fields
from reconciler.adapters.kubernetes.argo_engine import WORKFLOW, ArgoEngine
from reconciler.adapters.kubernetes.client import KubernetesClient, connect
from reconciler.core.errors import Terminal
from reconciler.core.observed import WorkflowRun
from reconciler.ports import Blob, EngineReader, EngineWriter
from tests.servers.argo_driver import ArgoDriver, install
from tests.servers.cluster import Cluster

RENDERED = Path(__file__).parents[2] / "workflows" / "rendered"
COMMIT = "c" * 40
LABELS = {"app.kubernetes.io/managed-by": "trueup", "trueup.dev/kind": "train"}
Doc = dict[str, Any]
T = TypeVar("T")


# --- templates, in few words ------------------------------------------------------------------------------


def template(tasks: list[Doc], *templates: Doc, parameters: tuple[Doc, ...] = (), **spec: Any) -> Doc:
    main = {"name": "main", "dag": {"tasks": tasks}}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": "t-v1", "annotations": {"trueup.dev/recipe": "1"}},
        "spec": {
            "entrypoint": "main",
            "arguments": {"parameters": list(parameters)},
            "templates": [main, *templates],
            **spec,
        },
    }


def task(name: str, **fields: Any) -> Doc:
    return {"name": name, "template": name, **fields}


def sh(name: str, script: str, **fields: Any) -> Doc:
    return {"name": name, "container": {"command": ["sh", "-euc"], "args": [script]}, **fields}


def gives(*names: str, **more: Any) -> Doc:
    """Outputs of the whole run, read from /trueup/out."""
    parameters = [
        {"name": name, "globalName": name, "valueFrom": {"path": f"/trueup/out/{name}"}} for name in names
    ]
    return {"parameters": parameters, **more}


def until(look: Callable[[], T | None], seconds: float = 20) -> T:
    """The first answer that is neither None nor False; a failure after ``seconds``."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if answer := look():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"nothing after {seconds} s")


# --- the benches ------------------------------------------------------------------------------------------


class Engine(EngineReader, EngineWriter, Protocol):
    pass


class Bench(Protocol):
    """An engine on its own, and the repository from which it takes templates."""

    @property
    def engine(self) -> Engine: ...

    def another(self) -> Engine:
        """The engine as another process sees it: nothing is shared but what is kept."""

    def publish(self, doc: Doc, name: str = "t-v1") -> None: ...

    def nodes(self, name: str) -> dict[str, tuple[str, str, str]]:
        """Display name -> (type, phase, message)."""


class EmbeddedBench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = self.another()

    def another(self) -> EmbeddedEngine:
        env = {"PATH": os.environ["PATH"], "FROM_THE_ENGINE": "yes", "BENCH": str(self.folder)}
        return EmbeddedEngine(home=self.folder / "home", checkout=self.checkout, env=env, grace=0.2)

    def checkout(self, commit: str, destination: Path) -> None:
        if commit != COMMIT:
            raise Terminal(f"no commit {commit}")
        rendered = destination / "workflows" / "rendered"
        rendered.mkdir(parents=True)
        for path in (self.folder / "published").glob("*.yaml"):
            (rendered / path.name).write_text(path.read_text())

    def publish(self, doc: Doc, name: str = "t-v1") -> None:
        (self.folder / "published").mkdir(exist_ok=True)
        (self.folder / "published" / f"{name}.yaml").write_text(json.dumps(doc))

    def run(self, name: str) -> Path:
        return self.folder / "home" / "engine" / "runs" / name

    def status(self, name: str) -> Status:
        status = read_status(self.run(name))
        assert status is not None
        return status

    def nodes(self, name: str) -> dict[str, tuple[str, str, str]]:
        return {title: (n.type, n.phase, n.message) for title, n in self.status(name).nodes.items()}


class ArgoBench:
    """The templates of COMMIT in memory, a namespace of a real API server, and a controller that is played."""

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.published: dict[str, bytes] = {}
        self.engine = self.another()

    def another(self) -> ArgoEngine:
        repository = "https://git.example/team/models.git"
        return ArgoEngine(self.client, self.namespace, source=self, repository=repository)  # type: ignore[arg-type]

    def files(self, commit: str) -> dict[str, Blob]:
        if commit != COMMIT:
            raise Terminal(f"no commit {commit}")
        return {f"workflows/rendered/{name}.yaml": Blob("100644", name) for name in self.published}

    def read(self, oids: Iterable[str]) -> dict[str, bytes]:
        return {oid: self.published[oid] for oid in oids}

    def publish(self, doc: Doc, name: str = "t-v1") -> None:
        self.published[name] = json.dumps(doc).encode()

    def nodes(self, name: str) -> dict[str, tuple[str, str, str]]:
        workflow = self.client.get(WORKFLOW, self.namespace, name)
        assert workflow is not None
        nodes = (workflow["status"].get("nodes") or {}).values()
        return {
            node["displayName"]: (node["type"], node["phase"], node.get("message", ""))
            for node in sorted(nodes, key=lambda node: node["startedAt"])
            if node["type"] != "DAG"
        }


@pytest.fixture
def argo(cluster: Cluster, tmp_path: Path) -> Iterator[ArgoBench]:
    install(cluster)
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    try:
        client = connect()
        env = {"PATH": os.environ["PATH"], "BENCH": str(tmp_path)}
        with cluster.namespace() as name, ArgoDriver(client, name, home=tmp_path / "home", env=env):
            yield ArgoBench(client, name)
    finally:
        del os.environ["KUBECONFIG"]


@pytest.fixture(params=["embedded", pytest.param("argo", marks=pytest.mark.cluster)])
def bench(request: pytest.FixtureRequest) -> Bench:
    bench: Bench = request.getfixturevalue(request.param)
    return bench


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedBench]:
    bench = EmbeddedBench(tmp_path)
    yield bench
    bench.engine.stop_all()


def submit(
    engine: Engine,
    name: str = "train-digits-1",
    *,
    deadline: int = 60,
    parallelism: int | None = None,
    **parameters: str,
) -> bool:
    return engine.submit(
        name=name,
        template="t-v1",
        commit=COMMIT,
        parameters=parameters,
        labels=LABELS,
        deadline=deadline,
        parallelism=parallelism,
    )


def finished(bench: Bench, name: str = "train-digits-1") -> WorkflowRun:
    def look() -> WorkflowRun | None:
        run = bench.engine.sweep().runs[name]
        return run if run.done else None

    return until(look)


def ran(
    bench: Bench, doc: Doc, *, deadline: int = 60, parallelism: int | None = None, **parameters: str
) -> WorkflowRun:
    bench.publish(doc)
    assert submit(bench.engine, deadline=deadline, parallelism=parallelism, **parameters)
    return finished(bench)


# --- every engine: how a run ends -------------------------------------------------------------------------


def test_an_empty_engine_has_no_runs(bench: Bench) -> None:
    assert bench.engine.sweep().runs == {}


def test_success_gives_outputs_labels_and_parameters(bench: Bench) -> None:
    size = {"name": "size", "value": "{{tasks.make.outputs.parameters.size}}"}
    run = ran(
        bench,
        template(
            [task("make"), task("use", depends="make", arguments={"parameters": [size]})],
            sh("make", "echo 42 > /trueup/out/size", outputs=gives("size")),
            sh(
                "use",
                "printf '%s of {{workflow.parameters.model}}' '{{inputs.parameters.size}}' > /trueup/out/text",
                inputs={"parameters": [{"name": "size"}]},
                outputs=gives("text"),
            ),
            parameters=({"name": "model"}, {"name": "seed", "value": "7"}),
        ),
        model="digits",
    )
    assert (run.phase, run.message, run.progress) == ("Succeeded", "", "2/2")
    assert run.outputs == {"size": "42", "text": "42 of digits"}
    assert run.labels == LABELS
    assert run.parameters["model"] == "digits"
    assert run.started is not None
    assert run.finished is not None
    assert run.started <= run.finished


def test_a_task_that_exits_with_3(bench: Bench) -> None:
    run = ran(
        bench,
        template(
            [task("train"), task("register", depends="train")], sh("train", "exit 3"), sh("register", "true")
        ),
    )
    assert (run.phase, run.message, run.progress) == ("Failed", "train: Error (exit code 3)", "0/2")
    assert bench.nodes(run.name) == {
        "train": ("Pod", "Failed", "main: Error (exit code 3)"),
        "register": ("Skipped", "Omitted", "omitted: depends condition not met"),
    }


def test_when_false_skips_and_the_run_succeeds(bench: Bench) -> None:
    gate = "{{tasks.score.outputs.parameters.accuracy}} >= 0.9"
    run = ran(
        bench,
        template(
            [task("score"), task("publish", depends="score", when=gate), task("after", depends="publish")],
            sh("score", "echo 0.5 > /trueup/out/accuracy", outputs=gives("accuracy")),
            sh("publish", "exit 1"),
            sh("after", "true"),
        ),
    )
    assert (run.phase, run.message) == ("Succeeded", "")
    nodes = bench.nodes(run.name)
    assert nodes["publish"] == ("Skipped", "Skipped", "when '0.5 >= 0.9' evaluated false")
    assert nodes["after"][:2] == ("Pod", "Succeeded")


def test_depends_runs_what_its_condition_allows(bench: Bench) -> None:
    run = ran(
        bench,
        template(
            [
                task("good"),
                task("bad"),
                task("either", depends="good.Failed || bad.Failed"),
                task("both", depends="good && bad"),
                task("rescue", depends="!(bad.Succeeded) && (both.Omitted || both.Skipped)"),
            ],
            *(sh(name, "true") for name in ("good", "either", "both", "rescue")),
            sh("bad", "exit 1"),
        ),
    )
    phases = {name: phase for name, (_, phase, _) in bench.nodes(run.name).items()}
    assert phases == {
        "good": "Succeeded",
        "bad": "Failed",
        "either": "Succeeded",
        "both": "Omitted",
        "rescue": "Succeeded",
    }
    # Only the last tasks count, and each of them ran: the failure was provided for.
    assert (run.phase, run.message) == ("Succeeded", "")


def test_a_retried_task_succeeds(bench: Bench) -> None:
    attempts = "echo {{retries}} >> $BENCH/attempts; test {{retries}} = 2"
    retry = {"limit": "2", "backoff": {"duration": "20ms", "factor": "2", "maxDuration": "1m"}}
    run = ran(bench, template([task("train")], sh("train", attempts, retryStrategy=retry)))
    assert (run.phase, run.message, run.progress) == ("Succeeded", "", "1/1")
    nodes = bench.nodes(run.name)
    assert {name: node[:2] for name, node in nodes.items()} == {
        "train": ("Retry", "Succeeded"),
        "train(0)": ("Pod", "Failed"),
        "train(1)": ("Pod", "Failed"),
        "train(2)": ("Pod", "Succeeded"),
    }


@pytest.mark.parametrize(
    ("retry", "attempts", "message"),
    [
        ({"limit": 1}, 2, "No more retries left"),
        ({"limit": 5, "retryPolicy": "OnError"}, 1, "main: Error (exit code 3)"),
        (
            {"limit": 5, "expression": "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) == 75"},
            1,
            "retryStrategy.expression evaluated to false",
        ),
        (
            {"limit": 5, "backoff": {"duration": "2s", "maxDuration": "1s"}},
            1,
            "Backoff would exceed max duration limit",
        ),
    ],
    ids=["limit", "policy", "expression", "max-duration"],
)
def test_a_task_is_not_retried_for_ever(bench: Bench, retry: Doc, attempts: int, message: str) -> None:
    run = ran(bench, template([task("train")], sh("train", "exit 3", retryStrategy=retry)))
    # the message of the task, not that of the retrying
    assert (run.phase, run.message) == ("Failed", "train: Error (exit code 3)")
    nodes = bench.nodes(run.name)
    assert nodes["train"] == ("Retry", "Failed", message)
    assert len(nodes) == 1 + attempts


def test_a_run_ends_at_its_deadline(bench: Bench) -> None:
    # deaf to SIGTERM, with a child
    deaf = sh("train", "trap '' TERM; sleep 60 & wait")
    run = ran(
        bench, template([task("train"), task("later", depends="train")], deaf, sh("later", "true")), deadline=1
    )
    assert (run.phase, run.message) == ("Failed", "Step exceeded its deadline")
    assert bench.nodes(run.name) == {"train": ("Pod", "Failed", "Step exceeded its deadline")}


def test_a_task_ends_at_its_own_deadline(bench: Bench) -> None:
    run = ran(bench, template([task("train")], sh("train", "exec sleep 60", activeDeadlineSeconds=1)))
    message = "Pod was active on the node longer than the specified deadline"
    assert (run.phase, run.message) == ("Failed", f"train: {message}")


def test_an_unknown_entrypoint_is_an_invalid_spec(bench: Bench) -> None:
    run = ran(bench, template([task("train")], sh("train", "true"), entrypoint="nope"))
    assert (run.phase, run.message) == ("Failed", "invalid spec: template name 'nope' undefined")
    assert bench.nodes(run.name) == {}


def test_a_missing_parameter_is_an_invalid_spec(bench: Bench) -> None:
    doc = template([task("train")], sh("train", "{{workflow.parameters.seed}}"), parameters=({"name": "seed"},))
    run = ran(bench, doc, other="1")
    why = "spec.arguments.seed.value or spec.arguments.seed.valueFrom is required"
    assert (run.phase, run.message) == ("Failed", f"invalid spec: {why}")


def test_an_output_that_was_not_written(bench: Bench) -> None:
    outputs = gives("version")
    outputs["parameters"].append(
        {"name": "note", "globalName": "note", "valueFrom": {"path": "/trueup/out/note"}}
    )
    outputs["parameters"][1]["valueFrom"]["default"] = "none"
    run = ran(
        bench,
        template(
            [task("one"), task("two")],
            sh("one", "echo 3 > /trueup/out/version", outputs=outputs),
            sh("two", "true", outputs=gives("digest")),
        ),
    )
    assert run.phase == "Error"
    assert run.outputs == {"version": "3", "note": "none"}
    assert run.message == "two: output parameter digest was not left at its path"


def test_artifacts_go_from_task_to_task_by_copy(bench: Bench) -> None:
    model = {"name": "model", "from": "{{tasks.train.outputs.artifacts.model}}"}
    taken: Doc = {"artifacts": [{"name": "model", "path": "/trueup/in/model"}]}
    source = {
        "name": "source",
        "path": "/trueup/src",
        "git": {"repo": "https://example.invalid/repo", "revision": "{{workflow.parameters.commit}}"},
    }
    run = ran(
        bench,
        template(
            [
                task("train"),
                task("spoil", depends="train", arguments={"artifacts": [model]}),
                task("read", depends="spoil", arguments={"artifacts": [model]}),
            ],
            sh(
                "train",
                "mkdir -p /trueup/out/model/deep; ls /trueup/src/workflows > /trueup/out/model/deep/weights",
                inputs={"artifacts": [source]},
                outputs={"artifacts": [{"name": "model", "path": "/trueup/out/model"}]},
            ),
            sh("spoil", "echo changed > /trueup/in/model/deep/weights", inputs=taken),
            sh(
                "read",
                "cp /trueup/in/model/deep/weights /trueup/out/weights",
                inputs=taken,
                outputs=gives("weights"),
            ),
            parameters=({"name": "commit"},),
        ),
        commit=COMMIT,
    )
    assert (run.phase, run.outputs) == ("Succeeded", {"weights": "rendered"})


def test_independent_tasks_run_side_by_side(bench: Bench) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor: one task at a time")
    meet = "touch $BENCH/{me}; until test -e $BENCH/{other}; do sleep 0.02; done"
    run = ran(
        bench,
        template(
            [task("a"), task("b")],
            sh("a", meet.format(me="a", other="b")),
            sh("b", meet.format(me="b", other="a")),
        ),
        deadline=10,
    )
    assert run.phase == "Succeeded"


def test_logs_are_by_task_in_order(embedded: EmbeddedBench) -> None:
    run = ran(
        embedded,
        template(
            [task("one"), task("two", depends="one")], sh("one", "echo first"), sh("two", "echo no >&2; exit 1")
        ),
    )
    assert run.phase == "Failed"
    assert list(embedded.engine.logs(run.name)) == [("one", "first\n"), ("two", "no\n")]


def test_while_it_runs_the_latest_logs_are_of_what_goes_on(bench: Bench, tmp_path: Path) -> None:
    first = sh("first", "echo over")
    second = sh("second", "echo begun; touch $BENCH/begun; until test -e $BENCH/end; do sleep 0.02; done")
    bench.publish(template([task("first"), task("second", depends="first")], first, second))
    assert submit(bench.engine)
    try:
        until((tmp_path / "begun").exists)
        until(lambda: bench.engine.run("train-digits-1").phase == "Running")  # Argo says so in its own time
        if isinstance(bench, EmbeddedBench):  # the driver that plays Argo has no pods, so no logs
            assert dict(bench.engine.logs("train-digits-1", latest=True)) == {"second": "begun\n"}
            assert dict(bench.engine.logs("train-digits-1")) == {"first": "over\n", "second": "begun\n"}
    finally:
        (tmp_path / "end").touch()
    assert finished(bench).phase == "Succeeded"
    assert bench.engine.run("train-digits-1") == bench.engine.sweep().runs["train-digits-1"]
    assert list(bench.engine.logs("train-digits-1", latest=True)) == []


def test_the_latest_of_a_long_log_is_its_end(embedded: EmbeddedBench) -> None:
    hold = "touch $BENCH/begun; until test -e $BENCH/end; do sleep 0.02; done"
    long = sh("long", f"seq 100000; echo last; {hold}")
    embedded.publish(template([task("long")], long))
    assert submit(embedded.engine)
    until((embedded.folder / "begun").exists)
    ((_, text),) = embedded.engine.logs("train-digits-1", latest=True)
    (embedded.folder / "end").touch()
    assert len(text) < 70_000
    assert text.endswith("100000\nlast\n")
    assert finished(embedded).phase == "Succeeded"


def test_a_run_that_is_not_there_is_refused_however_it_is_read(bench: Bench) -> None:
    with pytest.raises(Terminal, match="no run is named 'train-nothing-1'"):
        bench.engine.run("train-nothing-1")
    with pytest.raises(Terminal, match="no run is named 'train-nothing-1'"):
        list(bench.engine.logs("train-nothing-1", latest=True))


def test_logs_of_no_run_name_those_that_there_are(bench: Bench) -> None:
    with pytest.raises(Terminal, match=r"no run is named 'train-nothing-1'.*there is no run yet"):
        list(bench.engine.logs("train-nothing-1"))
    run = ran(bench, template([task("train")], sh("train", "true")))
    with pytest.raises(Terminal, match=f"there is {run.name};"):
        list(bench.engine.logs("train-nothing-1"))


def test_a_recording_task_that_was_skipped_is_no_success(bench: Bench) -> None:
    run = ran(
        bench,
        template(
            [task("train"), task("register", depends="train", when="0.5 >= 0.9")],
            sh("train", "true"),
            sh("register", "echo 1 > /trueup/out/version", outputs=gives("version")),
        ),
    )
    assert (run.phase, run.outputs) == ("Failed", {})
    assert run.message == "ended without register, which was to record its outcome and did not run"
    assert bench.nodes(run.name)["register"][:2] == ("Skipped", "Skipped")


# --- every engine: a task for each item -----------------------------------------------------------------------


def plan(items: str) -> Doc:
    """A task that gives a list of items."""
    outputs = {"parameters": [{"name": "items", "valueFrom": {"path": "/trueup/out/items"}}]}
    return sh("plan", f"echo '{items}' > /trueup/out/items", outputs=outputs)


def each(script: str, **fields: Any) -> tuple[Doc, Doc]:
    """A task that runs once for each item of the plan, and its template."""
    loop = task(
        "each",
        withParam="{{tasks.plan.outputs.parameters.items}}",
        arguments={"parameters": [{"name": "item", "value": "{{item}}"}]},
        **{"depends": "plan", **fields},
    )
    body = sh(
        "each",
        script,
        inputs={"parameters": [{"name": "item"}]},
        outputs={"parameters": [{"name": "result", "valueFrom": {"path": "/trueup/out/result"}}]},
    )
    return loop, body


def gather(depends: str) -> tuple[Doc, Doc]:
    """A task that takes the results of all items as one text, and its template."""
    results = {"name": "results", "value": "{{tasks.each.outputs.parameters.result}}"}
    return (
        task("gather", depends=depends, arguments={"parameters": [results]}),
        sh(
            "gather",
            "printf %s '{{inputs.parameters.results}}' > /trueup/out/all",
            inputs={"parameters": [{"name": "results"}]},
            outputs=gives("all"),
        ),
    )


def test_a_task_runs_once_for_each_item_and_its_results_come_in_their_order(bench: Bench) -> None:
    # the first one ends last, where there is room for two
    wait = "i={{inputs.parameters.item}}; test $i != 7 || sleep 0.2; "
    loop, body = each(wait + 'printf \'{"of": "%s"}\' $i > /trueup/out/result')
    last, all_of_them = gather("each")
    run = ran(bench, template([task("plan"), loop, last], plan('[7, "b", 9]'), body, all_of_them))
    assert (run.phase, run.message, run.progress) == ("Succeeded", "", "5/5")
    assert json.loads(run.outputs["all"]) == [{"of": "7"}, {"of": "b"}, {"of": "9"}]
    nodes = {title: node[:2] for title, node in bench.nodes(run.name).items()}
    assert nodes["each"] == ("TaskGroup", "Succeeded")
    assert {title for title in nodes if title.startswith("each(")} == {"each(0:7)", "each(1:b)", "each(2:9)"}


def test_no_more_tasks_at_once_than_the_submission_allows(bench: Bench, tmp_path: Path) -> None:
    i = "{{inputs.parameters.item}}"
    loop, body = each(
        f"echo begin {i} >> $BENCH/marks; sleep 0.05; echo end {i} >> $BENCH/marks; touch out/result"
    )
    doc = template([task("plan"), loop], plan("[0, 1, 2, 3]"), body)
    assert ran(bench, doc, parallelism=1).phase == "Succeeded"
    marks = [line.split() for line in (tmp_path / "marks").read_text().splitlines()]
    assert [mark for mark, _ in marks] == ["begin", "end"] * 4
    assert all(begun == ended for (_, begun), (_, ended) in zip(marks[::2], marks[1::2], strict=True))
    assert sorted(item for _, item in marks[::2]) == ["0", "1", "2", "3"]


def test_an_item_that_fails_leaves_the_results_of_the_others(bench: Bench) -> None:
    loop, body = each(
        "test {{inputs.parameters.item}} != 1; echo {{inputs.parameters.item}} > /trueup/out/result"
    )
    last, all_of_them = gather("each.AnySucceeded")
    never = task("never", depends="each.AllFailed || each.Succeeded")
    doc = template([task("plan"), loop, last, never], plan("[0, 1, 2]"), body, all_of_them, sh("never", "true"))
    run = ran(bench, doc)
    assert run.outputs == {"all": '["0","2"]'}
    nodes = bench.nodes(run.name)
    assert nodes["each(1:1)"] == ("Pod", "Failed", "main: Error (exit code 1)")
    assert nodes["each"][:2] == ("TaskGroup", "Failed")
    assert nodes["gather"][1] == "Succeeded"
    # an omitted last task has the phase of what came before it
    assert nodes["never"][1] == "Omitted"
    assert (run.phase, run.message) == ("Failed", "each(1:1): Error (exit code 1)")


def test_where_all_items_fail_nothing_is_gathered(bench: Bench) -> None:
    loop, body = each("exit {{inputs.parameters.item}}")
    last, all_of_them = gather("each.AnySucceeded")
    tell = task("tell", depends="each.AllFailed")
    doc = template([task("plan"), loop, last, tell], plan("[3, 3]"), body, all_of_them, sh("tell", "true"))
    run = ran(bench, doc)
    assert run.phase == "Failed"
    assert run.message.endswith("Error (exit code 3)")
    nodes = bench.nodes(run.name)
    assert (nodes["gather"][1], nodes["tell"][1]) == ("Omitted", "Succeeded")


def test_items_of_a_task_that_was_skipped_are_none(bench: Bench) -> None:
    """What is not wanted is skipped with all that would follow, and the rest goes on without its artifacts."""
    unwanted = {"when": "{{workflow.parameters.number}} > 0"}
    loop, body = each("true", **unwanted)
    found = {"name": "found", "from": "{{tasks.choose.outputs.artifacts.found}}", "optional": True}
    doc = template(
        [
            task("plan", **unwanted),
            loop,
            task("choose", depends="each.AnySucceeded || each.Skipped", **unwanted),
            task("train", depends="choose", arguments={"artifacts": [found]}),
        ],
        plan("[1]"),
        body,
        sh("choose", "true", outputs={"artifacts": [{"name": "found", "path": "/trueup/out/found"}]}),
        sh(
            "train",
            "test ! -e /trueup/in/found && echo 1 > /trueup/out/version",
            inputs={"artifacts": [{"name": "found", "path": "/trueup/in/found", "optional": True}]},
            outputs=gives("version"),
        ),
        parameters=({"name": "number", "value": "0"},),
    )
    run = ran(bench, doc)
    assert (run.phase, run.message, run.progress) == ("Succeeded", "", "1/1")
    assert run.outputs == {"version": "1"}
    skipped = "when '0 > 0' evaluated false"
    assert {title: node[1:] for title, node in bench.nodes(run.name).items()} == {
        "plan": ("Skipped", skipped),
        "each": ("Skipped", "Skipped, empty params"),
        "choose": ("Skipped", skipped),
        "train": ("Succeeded", ""),
    }


def test_when_may_ask_about_the_item(bench: Bench) -> None:
    loop, body = each("echo {{inputs.parameters.item}} > /trueup/out/result", when="{{item}} > 1")
    last, all_of_them = gather("each")
    run = ran(bench, template([task("plan"), loop, last], plan("[1, 2]"), body, all_of_them))
    assert (run.phase, run.outputs) == ("Succeeded", {"all": '["2"]'})
    assert bench.nodes(run.name)["each(0:1)"] == ("Skipped", "Skipped", "when '1 > 1' evaluated false")


def test_items_that_are_no_list_are_an_error(bench: Bench) -> None:
    loop, body = each("true")
    run = ran(bench, template([task("plan"), loop], plan("7"), body))
    assert run.phase == "Error"
    assert bench.nodes(run.name)["each"][2].startswith("withParam value could not be parsed as a JSON list: 7")


def test_a_run_goes_on_after_a_task_that_may_fail(bench: Bench) -> None:
    allowed = {"continueOn": {"failed": True}}
    run = ran(
        bench,
        template(
            [
                task("tidy", **allowed),
                task("train", dependencies=["tidy"]),
                task("strict", dependencies=["broken"]),
                task("broken"),
                task("last", dependencies=["train"], **allowed),
            ],
            *(sh(name, "exit 1") for name in ("tidy", "broken", "last")),
            *(sh(name, "true") for name in ("train", "strict")),
        ),
    )
    phases = {name: phase for name, (_, phase, _) in bench.nodes(run.name).items()}
    assert (phases["train"], phases["strict"], phases["last"]) == ("Succeeded", "Omitted", "Failed")
    assert run.phase == "Failed"  # for what was not allowed to
    only = [task("tidy", **allowed), task("last", dependencies=["tidy"], **allowed)]
    bench.publish(template(only, sh("tidy", "exit 1"), sh("last", "exit 1")))
    assert submit(bench.engine, "train-digits-2")
    assert (finished(bench, "train-digits-2").phase, finished(bench, "train-digits-2").message) == (
        "Succeeded",
        "",
    )


# --- every engine: an end from outside ----------------------------------------------------------------------


def test_a_run_that_is_stopped_has_failed(bench: Bench, tmp_path: Path) -> None:
    bench.publish(template([task("train")], sh("train", "touch $BENCH/began; exec sleep 60")))
    submit(bench.engine)
    until((tmp_path / "began").exists)
    with pytest.raises(Terminal, match="not finished"):
        bench.engine.delete("train-digits-1")
    bench.another().stop("train-digits-1", reason="the data is wrong", by="Ada Lovelace")
    assert bench.engine.sweep().runs["train-digits-1"].stopped_by == "Ada Lovelace"
    bench.engine.stop("train-digits-1", reason="nothing asks for it")
    run = finished(bench)
    assert (run.phase, run.message) == ("Failed", "Stopped with strategy 'Terminate'")
    assert (run.stopped, run.stopped_by) == ("the data is wrong", "Ada Lovelace")
    bench.engine.stop("train-digits-1", reason="once more", by="Grace")
    bench.engine.stop("train-nothing-1", reason="once more")
    assert finished(bench) == run


def test_a_run_that_trueup_ends_says_why_and_names_nobody(bench: Bench, tmp_path: Path) -> None:
    bench.publish(template([task("train")], sh("train", "touch $BENCH/began; exec sleep 60")))
    submit(bench.engine)
    until((tmp_path / "began").exists)
    bench.engine.stop("train-digits-1", reason="nothing asks for its result any more")
    run = finished(bench)
    assert (run.stopped, run.stopped_by, run.superseded) == ("nothing asks for its result any more", "", True)


def test_a_run_keeps_why_it_was_submitted_and_who_asked(bench: Bench) -> None:
    bench.publish(template([task("train")], sh("train", "true")))
    bench.engine.submit(
        name="train-digits-1",
        template="t-v1",
        commit=COMMIT,
        parameters={},
        labels=LABELS,
        deadline=60,
        reason="labels of March are mended",
        asked_by="Ada Lovelace",
    )
    run = finished(bench)
    assert (run.phase, run.reason, run.asked_by) == ("Succeeded", "labels of March are mended", "Ada Lovelace")
    assert (run.stopped, run.superseded) == ("", False)
    bench.engine.stop("train-digits-1", reason="too late", by="Grace")
    assert bench.another().sweep().runs["train-digits-1"] == run


def test_a_run_that_is_stopped_before_it_began_runs_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.publish(template([task("train")], sh("train", "touch $BENCH/began; exec sleep 60")))
    submit(bench.engine)
    bench.engine.stop("train-digits-1", reason="a slip of the finger", by="Ada")
    run = finished(bench)
    assert (run.phase, run.stopped_by) == ("Failed", "Ada")


def test_a_run_that_is_deleted_leaves_its_name(bench: Bench) -> None:
    run = ran(bench, template([task("train")], sh("train", "true")))
    bench.another().delete(run.name)
    bench.engine.delete(run.name)
    assert bench.engine.sweep().runs == {}
    again = until(lambda: submit(bench.engine) or None)
    assert again
    assert finished(bench).phase == "Succeeded"


# --- every engine: what follows the end ---------------------------------------------------------------------

GOES_ON = {"failed": True, "error": True}


def exiting(tasks: list[Doc], *templates: Doc, script: str, when: str = "", **spec: Any) -> Doc:
    """A template whose onExit runs ``script``."""
    said = {"when": when} if when else {}
    leave = {"name": "exit", "dag": {"tasks": [task("notify", continueOn=GOES_ON, **said)]}}
    return template(tasks, *templates, leave, sh("notify", script), onExit="exit", **spec)


STATUS = 'echo "{{workflow.name}} {{workflow.status}}" >> $BENCH/told'


@pytest.mark.parametrize(
    ("script", "deadline", "phase", "message"),
    [
        ("true", 60, "Succeeded", ""),
        ("exit 3", 60, "Failed", "train: Error (exit code 3)"),
        ("exec sleep 60", 1, "Failed", "Step exceeded its deadline"),
    ],
    ids=["success", "failure", "deadline"],
)
def test_what_follows_the_end_knows_how_it_was(
    bench: Bench, tmp_path: Path, script: str, deadline: int, phase: str, message: str
) -> None:
    run = ran(bench, exiting([task("train")], sh("train", script), script=STATUS), deadline=deadline)
    assert (run.phase, run.message) == (phase, message)
    assert (tmp_path / "told").read_text() == f"train-digits-1 {phase}\n"


@pytest.mark.parametrize(
    "script", ["exit 1", "kill -9 $$", "echo gone; exit 75"], ids=["fails", "is killed", "gives up"]
)
def test_the_end_is_what_it_was_whatever_follows(bench: Bench, script: str) -> None:
    train = sh("train", "echo 7 > out/version", outputs=gives("version"))
    run = ran(bench, exiting([task("train")], train, script=script))
    assert (run.phase, run.message, run.outputs) == ("Succeeded", "", {"version": "7"})
    assert bench.nodes(run.name)["notify"][1] == "Failed"


def test_what_follows_is_skipped_where_nobody_is_to_be_told(bench: Bench, tmp_path: Path) -> None:
    doc = exiting(
        [task("train")], sh("train", "true"), script=STATUS, when="'{{workflow.parameters.wake}}' != ''"
    )
    doc["spec"]["arguments"]["parameters"].append({"name": "wake", "value": ""})
    bench.publish(doc)
    submit(bench.engine)
    assert finished(bench).phase == "Succeeded"
    assert not (tmp_path / "told").exists()
    submit(bench.engine, "train-digits-2", wake="http://127.0.0.1:8484/wake")
    assert finished(bench, "train-digits-2").phase == "Succeeded"
    assert (tmp_path / "told").read_text() == "train-digits-2 Succeeded\n"


def test_nothing_follows_a_run_that_is_stopped(bench: Bench, tmp_path: Path) -> None:
    bench.publish(exiting([task("train")], sh("train", "touch $BENCH/began; exec sleep 60"), script=STATUS))
    submit(bench.engine)
    until((tmp_path / "began").exists)
    bench.engine.stop("train-digits-1", reason="done with", by="Ada")
    assert finished(bench).message == "Stopped with strategy 'Terminate'"
    assert not (tmp_path / "told").exists()


# --- every engine: names and crashes ----------------------------------------------------------------------

COUNT = template(
    [task("train")], sh("train", "echo x >> $BENCH/count; until test -e $BENCH/go; do sleep 0.02; done")
)


def test_a_name_is_run_once(bench: Bench, tmp_path: Path) -> None:
    bench.publish(COUNT)
    assert submit(bench.engine)
    assert submit(bench.engine) is False
    assert submit(bench.another()) is False
    (tmp_path / "go").touch()
    assert finished(bench).phase == "Succeeded"
    assert submit(bench.another()) is False
    assert (tmp_path / "count").read_text() == "x\n"


def test_submissions_at_once_make_one_run(bench: Bench, tmp_path: Path) -> None:
    bench.publish(COUNT)
    (tmp_path / "go").touch()
    barrier, answers = threading.Barrier(6), []

    def race(engine: Engine) -> None:
        barrier.wait()
        answers.append(submit(engine))

    threads = [threading.Thread(target=race, args=(bench.another(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 5 + [True]
    assert finished(bench).phase == "Succeeded"
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_commit_that_is_not_there_makes_no_run(bench: Bench) -> None:
    with pytest.raises(Terminal):
        bench.engine.submit(
            name="train-digits-1", template="t-v1", commit="d" * 40, parameters={}, labels=LABELS, deadline=5
        )
    assert bench.engine.sweep().runs == {}


# --- the embedded engine: processes -----------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def pid_in(path: Path) -> int:
    return until(lambda: int(path.read_text() or 0) if path.exists() else None)


SUBMITTER = """
import sys, time
from pathlib import Path
from tests.contract.test_engine import EmbeddedBench, submit
bench = EmbeddedBench(Path(sys.argv[1]))
submit(bench.engine)
print("submitted", flush=True)
time.sleep(60)
"""


def test_a_run_outlives_the_killed_submitter(embedded: EmbeddedBench, tmp_path: Path) -> None:
    embedded.publish(COUNT)
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert submitter.stdout is not None
    assert submitter.stdout.readline() == b"submitted\n"
    until((tmp_path / "count").exists)
    submitter.kill()
    submitter.wait()
    submitter.stdout.close()
    assert embedded.engine.sweep().runs["train-digits-1"].phase == "Running"
    (tmp_path / "go").touch()
    assert finished(embedded).phase == "Succeeded"
    assert (tmp_path / "count").read_text() == "x\n"


@pytest.mark.parametrize("finder", ["sweep", "submit"])
def test_a_run_whose_submitter_was_killed_before_it_started_is_started(
    embedded: EmbeddedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finder: str
) -> None:
    embedded.publish(COUNT)
    (tmp_path / "go").touch()
    with monkeypatch.context() as killed:

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        killed.setattr(EmbeddedEngine, "_start", die)
        with pytest.raises(KeyboardInterrupt):
            submit(embedded.engine)
    if finder == "submit":
        assert submit(embedded.another()) is False
    assert finished(embedded).phase == "Succeeded"
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_killed_runner_is_an_error_and_leaves_no_child(embedded: EmbeddedBench, tmp_path: Path) -> None:
    # $$$$ is the shell's $$; the second process is in a session of its own, as a daemon would be
    script = "echo $$$$ > $BENCH/first; setsid sh -c 'echo $$$$ > $BENCH/second; sleep 60'; true"
    embedded.publish(template([task("train")], sh("train", script)))
    submit(embedded.engine)
    children = [pid_in(tmp_path / "first"), pid_in(tmp_path / "second")]
    assert all(alive(pid) for pid in children)
    os.kill(pid_in(embedded.run("train-digits-1") / "lock"), signal.SIGKILL)
    run = finished(embedded)
    assert run.phase == "Error"
    assert run.message == "the runner ended without a result: it was killed, or the machine restarted"
    assert embedded.nodes(run.name) == {"train": ("Pod", "Error", "pod deleted")}
    assert not any(alive(pid) for pid in children)
    # it stays so, and the name stays taken
    assert submit(embedded.another()) is False
    assert embedded.another().sweep().runs[run.name] == run


def test_a_runner_that_cannot_start_is_an_error(embedded: EmbeddedBench, tmp_path: Path) -> None:
    embedded.publish(COUNT)
    env = {"PYTHONHOME": str(tmp_path / "nowhere")}
    engine = EmbeddedEngine(home=tmp_path / "home", checkout=embedded.checkout, env=env)
    submit(engine)
    run = finished(embedded)
    assert run.phase == "Error"
    assert run.message.startswith("the runner ended without a result: ")
    assert "Python" in dict(embedded.engine.logs(run.name))["runner"]


def test_a_broken_file_is_said_and_not_guessed_at(embedded: EmbeddedBench) -> None:
    run = ran(embedded, template([task("train")], sh("train", "true")))
    (embedded.run(run.name) / "status.json").write_text("{")
    with pytest.raises(Terminal, match="is not what this engine wrote"):
        embedded.another().sweep()


def test_what_a_killed_submitter_staged_is_not_a_run_and_goes(embedded: EmbeddedBench, tmp_path: Path) -> None:
    left = [tmp_path / "home" / "engine" / "staging" / name for name in ("old", "new")]
    for stage in left:
        (stage / "src").mkdir(parents=True)
    os.utime(left[0], (0, 0))
    assert embedded.engine.sweep().runs == {}
    assert ran(embedded, template([task("train")], sh("train", "true"))).phase == "Succeeded"
    assert [stage.exists() for stage in left] == [False, True]


def test_stop_all_ends_runs_as_terminate_does(embedded: EmbeddedBench, tmp_path: Path) -> None:
    embedded.publish(template([task("train")], sh("train", "echo $$$$ > $BENCH/pid; exec sleep 60")))
    submit(embedded.engine)
    child = pid_in(tmp_path / "pid")
    embedded.another().stop_all()
    assert not alive(child)
    run = embedded.engine.sweep().runs["train-digits-1"]
    assert (run.phase, run.message) == ("Failed", "Stopped with strategy 'Terminate'")


def test_a_task_leaves_no_process_behind(embedded: EmbeddedBench, tmp_path: Path) -> None:
    script = "sleep 60 & echo $! > $BENCH/group; setsid sleep 60 & echo $! > $BENCH/session"
    run = ran(embedded, template([task("train")], sh("train", script)))
    assert run.phase == "Succeeded"
    assert not any(alive(pid_in(tmp_path / name)) for name in ("group", "session"))


def test_a_process_that_is_only_starting_is_ended_as_well(tmp_path: Path) -> None:
    for _ in range(100):  # without a second look some escape: their variables are not there yet
        command = ["sh", "-c", "exec env env env sleep 60"]
        started = subprocess.Popen(command, env={**os.environ, COOKIE: str(tmp_path)})
        kill_orphans(tmp_path)
        assert started.wait(timeout=30) == -signal.SIGKILL


# --- the embedded engine: what a task sees ----------------------------------------------------------------


def test_the_environment_and_the_folder_of_a_task(embedded: EmbeddedBench) -> None:
    script = """
    echo '$(NAME)|$$(NAME)|$(OTHER)|{{workflow.parameters.text}}'"|$FROM_THE_ENGINE|$PLACE|${PWD##*/}" \\
        > /trueup/out/seen
    echo "$PLACE" > /trueup/out/place
    """
    container = {
        "command": ["sh", "-euc"],
        "args": [script],
        "workingDir": "/trueup/work",
        "env": [
            {"name": "NAME", "value": "x"},
            {"name": "PLACE", "value": "/trueup/in;s3://bucket/trueup/in"},
            {"name": "FROM_THE_ENGINE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "NOWHERE", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k", "optional": True}}},
        ],
    }
    train = {"name": "train", "container": container, "outputs": gives("seen", "place")}
    run = ran(embedded, template([task("train")], train, parameters=({"name": "text"},)), text="/trueup/in")
    assert run.phase == "Succeeded", run.message
    place = run.outputs["place"]
    # a path of the author's is that of the task; text that a parameter brings is data
    assert place == f"{embedded.run(run.name)}/tasks/train/in;s3://bucket/trueup/in"
    assert run.outputs["seen"] == f"x|$(NAME)|$(OTHER)|/trueup/in|yes|{place}|work"


def test_a_secret_is_for_the_task_that_names_it(embedded: EmbeddedBench) -> None:
    look = 'echo "${FROM_THE_ENGINE:-nothing}"'
    named = {"name": "FROM_THE_ENGINE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    register = sh("register", look)
    register["container"]["env"] = [named]
    run = ran(
        embedded, template([task("train"), task("register", depends="train")], sh("train", look), register)
    )
    assert list(embedded.engine.logs(run.name)) == [("train", "nothing\n"), ("register", "yes\n")]


def test_a_variable_from_the_cluster_that_the_engine_has_not(embedded: EmbeddedBench) -> None:
    reference = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    train = sh("train", "true")
    train["container"]["env"] = [reference]
    run = ran(embedded, template([task("train")], train))
    assert run.phase == "Error"
    assert (
        run.message == "train: environment variable TOKEN (secretKeyRef) is not set where the reconciler runs"
    )


def test_a_command_that_is_not_there(embedded: EmbeddedBench) -> None:
    train = {"name": "train", "container": {"command": ["no-such-command"]}}
    run = ran(embedded, template([task("train")], train))
    assert (run.phase, run.message) == ("Failed", "train: Error (exit code 127)")
    assert list(embedded.engine.logs(run.name)) == [("train", "no-such-command: No such file or directory\n")]


def test_the_last_words_of_a_container_are_in_the_message(embedded: EmbeddedBench) -> None:
    """As Argo has it, which takes them from Kubernetes' termination message."""
    train = sh("train", 'echo "no rows" > "$TRUEUP_TERMINATION_LOG"; exit 1')
    run = ran(embedded, template([task("train")], train))
    assert (run.phase, run.message) == ("Failed", "train: Error (exit code 1): no rows")


@pytest.mark.parametrize("path", ["/etc/out", "/trueup/../../out"])
def test_a_path_outside_of_the_folder(embedded: EmbeddedBench, path: str) -> None:
    outputs = {"artifacts": [{"name": "out", "path": path}]}
    run = ran(embedded, template([task("train")], sh("train", "true", outputs=outputs)))
    assert run.phase == "Error"
    assert run.message.endswith("is not below /trueup")


def test_another_revision_than_the_one_submitted(embedded: EmbeddedBench) -> None:
    source = {"name": "source", "path": "/trueup/src", "git": {"repo": "r", "revision": "main"}}
    run = ran(embedded, template([task("train")], sh("train", "true", inputs={"artifacts": [source]})))
    assert (run.phase, run.message) == (
        "Error",
        "train: git revision 'main' is not the commit of the submission",
    )


def test_a_checkpoint_outlives_an_attempt_and_no_other_task_sees_it(embedded: EmbeddedBench) -> None:
    script = "cd checkpoint; if test -e half; then mv half whole; else touch half; exit 75; fi"
    mount = {"volumeMounts": [{"name": "checkpoint", "mountPath": "/trueup/checkpoint"}]}
    train = {**sh("train", script), "retryStrategy": {"limit": 1}}
    other = sh("other", 'test -z "$(ls checkpoint)"')
    for each in (train, other):
        each["container"].update(mount)
    run = ran(embedded, template([task("train"), task("other", depends="train")], train, other))
    assert (run.phase, run.message) == ("Succeeded", "")
    assert embedded.nodes(run.name)["train(0)"][1] == "Failed"


def test_a_finished_run_keeps_its_logs_and_not_its_files(embedded: EmbeddedBench) -> None:
    run = ran(embedded, template([task("train")], sh("train", "echo done")))
    until(
        lambda: (
            sorted(p.name for p in embedded.run(run.name).iterdir())
            == ["lock", "logs", "run.json", "runner.log", "status.json"]
        )
    )
    assert list(embedded.engine.logs(run.name)) == [("train", "done\n")]


@pytest.mark.parametrize("name", ["", "Train", "a/b", "..", "a" * 300])
def test_a_name_that_is_no_name(embedded: EmbeddedBench, name: str) -> None:
    with pytest.raises(Terminal, match="cannot be the name of a run"):
        submit(embedded.engine, name)
    with pytest.raises(Terminal):
        list(embedded.engine.logs(name))


# --- the embedded engine: its table -----------------------------------------------------------------------

EVERYTHING = template(
    [
        task("a", when="true", dependencies=[], continueOn={"failed": True, "error": True}),
        task(
            "b",
            depends="a",
            withParam="[1]",
            arguments={
                "parameters": [{"name": "x", "value": "{{item}}"}],
                "artifacts": [{"name": "i", "from": "{{tasks.a.outputs.artifacts.o}}", "optional": True}],
            },
        ),
    ],
    {
        "name": "b",
        "activeDeadlineSeconds": 60,
        "inputs": {
            "parameters": [{"name": "x", "value": "1", "default": "1"}],
            "artifacts": [{"name": "i", "path": "/trueup/in", "optional": True, "git": {"revision": "r"}}],
        },
        "outputs": {
            "parameters": [
                {"name": "p", "globalName": "p", "valueFrom": {"path": "/trueup/p", "default": "1"}}
            ],
            "artifacts": [{"name": "o", "path": "/trueup/o", "optional": True}],
        },
        "retryStrategy": {
            "limit": 1,
            "retryPolicy": "Always",
            "expression": "true",
            "backoff": {"duration": "1s", "factor": 1, "maxDuration": "1m", "cap": "1m"},
        },
        "container": {
            "command": ["true"],
            "args": ["{{retries}}"],
            "workingDir": "/trueup",
            "volumeMounts": [{"name": "trueup", "mountPath": "/trueup"}],
            "env": [
                {"name": "V", "value": "1"},
                *({"name": k, "valueFrom": {k: {}}} for k in ("configMapKeyRef", "secretKeyRef", "fieldRef")),
            ],
        },
    },
    {
        "name": "exit",
        "dag": {"tasks": [task("c", template="b", continueOn={"failed": True, "error": True})]},
    },
    parameters=({"name": "m", "value": "1", "default": "1"},),
    onExit="exit",
    activeDeadlineSeconds=60,
    parallelism=1,
)
"""A template that has every honoured field and no other but ``metadata``."""


def with_field(path: str) -> Doc:
    """EVERYTHING and the field at ``path``; in a list, of its first entry that has what is above the field."""
    doc: Doc = json.loads(json.dumps(EVERYTHING))
    *above, last = path.split(".")
    place: Any = doc
    for key in above:
        if isinstance(place, list):
            place = next((item for item in place if key in item), place[0])
        place = place.setdefault(key, {})
    if isinstance(place, list):
        place = place[-1]
    place[last] = "x"
    return doc


def paths_of(value: Any, path: str = "") -> Iterator[str]:
    yield path
    if isinstance(value, list):
        for item in value:
            yield from paths_of(item, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from paths_of(item, f"{path}.{key}" if path else key)


def test_every_honoured_field_is_honoured() -> None:
    support = read_fields(EVERYTHING)
    assert support.refused == ()
    assert support.ignored == ("metadata",)
    assert set(HONOURED) == {path for path in paths_of(EVERYTHING) if path in HONOURED}
    without_metadata = {key: value for key, value in EVERYTHING.items() if key != "metadata"}
    assert {k: v for k, v in support.honoured.items() if v is not None} == without_metadata


@pytest.mark.parametrize("path", IGNORED)
def test_every_ignored_field_is_noted_and_not_there(path: str) -> None:
    support = read_fields(with_field(path))
    assert path in support.ignored
    assert support.refused == ()
    assert path not in set(paths_of(support.honoured)) - {"metadata"}


@pytest.mark.parametrize(
    "path",
    [*REFUSED, "status", "spec.newField", "spec.templates.newField", "spec.templates.container.newField"],
)
def test_every_refused_and_every_unknown_field_is_refused_by_name(path: str) -> None:
    assert path in read_fields(with_field(path)).refused


@pytest.mark.parametrize("path", sorted(RENDERED.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_templates_that_are_shipped_are_supported(path: Path) -> None:
    assert read_fields(YAML(typ="safe").load(path.read_text())).refused == ()


def test_the_three_tables_do_not_overlap() -> None:
    assert len({*HONOURED, *IGNORED, *REFUSED}) == len(HONOURED) + len(IGNORED) + len(REFUSED)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (
            {"retryStrategy": {"retryPolicy": "OnTransientError"}},
            "template 'train': retryPolicy OnTransientError",
        ),
        (
            {"retryStrategy": {"expression": "lastRetry.weather == 'fine'"}},
            "template 'train': retryStrategy.expression 'lastRetry.weather' is unknown in an expression",
        ),
        ({"container": {"image": "busybox"}}, "template 'train': a container without command"),
        (
            {"container": {"command": ["true"], "volumeMounts": [{"name": "etc", "mountPath": "/etc"}]}},
            "template 'train': a volume at /etc, and not at /tmp, /trueup, /trueup/checkpoint",
        ),
        (
            {"container": {"command": ["{{pod.name}}"]}},
            "spec.templates.container.command with {{pod.name}}",
        ),
    ],
)
def test_what_no_field_shows_alone(change: Doc, refused: str) -> None:
    (found,) = read_fields(template([task("train")], {**sh("train", "true"), **change})).refused
    assert found.startswith(refused)


@pytest.mark.parametrize("item", ["a/b", "{}", "../../x", ""])
def test_items_that_could_not_be_names_of_files(embedded: EmbeddedBench, item: str) -> None:
    loop, body = each("true")
    run = ran(embedded, template([task("plan"), loop], plan(json.dumps([item])), body))
    assert (run.phase, run.message) == (
        "Error",
        f"each: the embedded engine takes plain words as items of withParam, not {item}",
    )


@pytest.mark.parametrize(
    "leaving",
    [{}, {"continueOn": {"failed": True}}, {"continueOn": GOES_ON, "withParam": '["a"]'}],
    ids=["it does not go on", "it goes on after a failure alone", "it is many"],
)
def test_what_follows_may_not_fail_the_run(leaving: Doc) -> None:
    leave = {"name": "exit", "dag": {"tasks": [task("notify", **leaving)]}}
    doc = template([task("train")], sh("train", "true"), sh("notify", "true"), leave, onExit="exit")
    (found,) = read_fields(doc).refused
    assert found.startswith("task 'notify' of onExit")


def test_a_refused_field_fails_the_run_before_anything_runs(embedded: EmbeddedBench, tmp_path: Path) -> None:
    loop = task("train", withItems=["a", "b"])
    run = ran(embedded, template([loop], sh("train", "touch $BENCH/ran")))
    assert run.phase == "Failed"
    assert run.message == (
        "invalid spec: the embedded engine does not support spec.templates.dag.tasks.withItems"
    )
    assert not (tmp_path / "ran").exists()


def test_what_is_ignored_is_in_the_status(embedded: EmbeddedBench) -> None:
    train = sh("train", "true", nodeSelector={"pool": "gpu"}, tolerations=[{"key": "spot"}])
    run = ran(embedded, template([task("train")], train, priority=5))
    assert run.phase == "Succeeded"
    ignored = embedded.status(run.name).ignored
    assert {"spec.priority", "spec.templates.nodeSelector", "spec.templates.tolerations"} <= set(ignored)
