"""The WorkflowTemplates that trueup ships; ``python -m workflows.templates`` renders them.

A template's name carries its version: a change of what a template does is a new function here, a new name, or
at least a new recipe. An engine runs what the submission's commit says, whatever is edited meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hera.workflows import Parameter, Task, WorkflowTemplate

from reconciler.core.argo import CHECKPOINT
from reconciler.core.search import MOST_RUNGS
from reconciler.core.serving import READS_RECORDED
from workflows.templates.parts import IN, OUT, SOURCE, Step, artifact, chain, dag, output, step
from workflows.templates.parts import workflow_parameter as parameter

TRAINER = "trueup-train"
"""Reads code and data, and has no credentials for the registry: model code runs here."""
RECORDER = "trueup-record"
"""May write runs, versions and evidence to the registry."""


def train_v1() -> WorkflowTemplate:
    """Fetch the training data, search if that is asked for, train, register. Gives the version and its digest.

    Where the model has a contract, nothing begins on rows that break it: what follows waits for `contract`.

    A search is a plan, and up to MOST_RUNGS stages of trials with a choice after each. What of it is not asked
    for is skipped by ``when``; what follows takes optional artifacts of it, because Argo has no value for an
    output parameter of a task that was skipped. How many trials run at once the submission says (`parallelism`
    of the Workflow): Argo takes no parameter there, and a semaphore is one more thing to set up by hand.
    """
    data = _data("train-pointer", f"--md5={parameter('train-md5')}", account=TRAINER)
    check = step(
        "check",
        f"--source={SOURCE}",
        f"--model={parameter('model')}",
        f"--contract={parameter('contract')}",
        f"--data={IN}/data",
        account=TRAINER,
        source=True,
        takes=("data",),
    )
    search = step(
        "search",
        f"--search={parameter('search')}",
        f"--hyperparameters={parameter('hyperparameters')}",
        f"--seed={parameter('seed')}",
        f"--record={IN}/search",
        "--results={{inputs.parameters.results}}",
        f"--out={OUT}",
        account=TRAINER,
        may_take=("search",),
        leaves=("search",),
        asks={"results": "[]"},
        gives=("trials",),
    )
    trial = step(
        "trial",
        *_what_is_trained(),
        f"--search={IN}/search",
        "--trial={{inputs.parameters.trial}}",
        account=TRAINER,
        source=True,
        takes=("data", "search"),
        asks={"trial": None},
        gives=("result",),
        **_WHERE_IT_TRAINS,
    )
    train = step(
        "train",
        *_what_is_trained(),
        f"--task={parameter('task')}",
        f"--hyperparameters={parameter('hyperparameters')}",
        *(f"--search={IN}/{record}" for record in _RECORDS.values()),
        account=TRAINER,
        source=True,
        takes=("data",),
        may_take=tuple(_RECORDS.values()),
        leaves=("model", "metrics"),
        **_WHERE_IT_TRAINS,
    )
    register = step(
        "register",
        f"--model={parameter('model')}",
        f"--folder={IN}/model",
        f"--metrics={IN}/metrics",
        f"--registered-name={parameter('registered-name')}",
        f"--training-key={parameter('training-key')}",
        f"--training-inputs={parameter('training-inputs')}",
        f"--hyperparameters={parameter('hyperparameters')}",
        *(f"--search={IN}/{record}" for record in _RECORDS.values()),
        f"--seed={parameter('seed')}",
        f"--commit={parameter('commit')}",
        f"--image={parameter('image')}",
        "--workflow={{workflow.name}}",
        f"--out={OUT}",
        account=RECORDER,
        takes=("model", "metrics"),
        may_take=tuple(_RECORDS.values()),
        outputs=("version", "digest"),
        registry=True,
    )
    parameters = {
        **dict.fromkeys(
            (
                "model",
                "commit",
                "registered-name",
                "training-key",
                "training-inputs",
                "hyperparameters",
                "seed",
                "device",
                "pod",
                "restarts",
                "train-pointer",
                "train-md5",
                "target",
                "task",
            )
        ),
        "contract": "",
        "search": "{}",
        "stages": "0",
    }
    alone = f"train-{parameter('model')}"
    with dag(
        "train-v1", parameters, data, check, search, trial, train, register, one_at_a_time=alone
    ) as template:
        Task(name="data", template="data")
        Task(
            name="contract",
            template="check",
            depends="data",
            when=f"'{parameter('contract')}' != ''",
            arguments=[artifact("data", "data")],
        )
        Task(name="plan", template="search", when=_asked(1))
        before = "plan"
        for stage, choose in enumerate(_RECORDS, start=1):
            trials = choose.replace("choose", "trials")
            Task(
                name=trials,
                template="trial",
                depends=f"contract && {before}",
                when=_asked(stage),
                with_param=output(before, "trials"),
                arguments=[
                    Parameter(name="trial", value="{{item}}"),
                    artifact("data", "data"),
                    artifact(before, "search"),
                ],
            )
            Task(
                name=choose,
                template="search",
                depends=f"{trials}.AnySucceeded || {trials}.Skipped",
                when=_asked(stage),
                arguments=[
                    Parameter(name="results", value=output(trials, "result")),
                    artifact(before, "search"),
                ],
            )
            before = choose
        records = [artifact(task, "search", called=name, optional=True) for task, name in _RECORDS.items()]
        Task(
            name="train",
            template="train",
            depends=" && ".join(("contract", *_RECORDS)),
            arguments=[artifact("data", "data"), *records],
        )
        Task(
            name="register",
            template="register",
            depends="train",
            arguments=[artifact("train", "model"), artifact("train", "metrics"), *records],
        )
    return template


_RECORDS = {f"choose-{stage}": f"search-{stage}" for stage in range(1, MOST_RUNGS + 1)}
"""The task after each stage of trials, and how the steps call the record of the search that it leaves."""

_WHERE_IT_TRAINS: dict[str, Any] = {
    "cpu": "2",
    "memory": "4Gi",
    "restarts": parameter("restarts"),
    "keeps": CHECKPOINT,
    "pod_spec_patch": parameter("pod"),
}


def _asked(stage: int) -> str:
    return f"{parameter('stages')} >= {stage}"


def _what_is_trained() -> tuple[str, ...]:
    return (
        f"--source={SOURCE}",
        f"--model={parameter('model')}",
        f"--data={IN}/data",
        f"--target={parameter('target')}",
        f"--seed={parameter('seed')}",
        f"--device={parameter('device')}",
        f"--checkpoint={CHECKPOINT}",
        f"--out={OUT}",
    )


def measure_evaluate_v1() -> WorkflowTemplate:
    """Fetch the evaluation data, score candidate and champion on the same rows. Gives the evidence."""
    return _measurement("evaluate", "champion-version", rows=True)


def measure_parity_v1() -> WorkflowTemplate:
    """Fetch the evaluation data, ask the real server about its rows. Gives the evidence."""
    return _measurement("parity", rows=True)


def measure_behaviour_v1() -> WorkflowTemplate:
    """Fetch the evaluation data, run the tests of behaviour that lie beside the model. Gives the evidence."""
    return _measurement("behaviour", rows=True, source=True)


def measure_speed_v1() -> WorkflowTemplate:
    """Fetch the evaluation data, time candidate and champion in turn on its rows. Gives the evidence."""
    return _measurement("speed", "champion-version", rows=True)


def measure_load_v1() -> WorkflowTemplate:
    """Fetch the evaluation data, ask the real server about its rows at a stated rate. Gives the evidence."""
    return _measurement("load", rows=True)


def measure_drift_v1() -> WorkflowTemplate:
    """Compare the candidate's training rows with what servers recorded of requests. Gives the evidence."""
    return _measurement("drift", "recorded", "report", labels=READS_RECORDED)


def measure_contract_v1() -> WorkflowTemplate:
    """Fetch the rows of the candidate and those it is scored on, hold them against the contract."""
    pointers = ("train-pointer", "train-md5", "evaluation-pointer")
    return _measurement("contract", *pointers, source=True, pod_spec_patch=parameter("data-pod"))


def measure_changes_v1() -> WorkflowTemplate:
    """Fetch what candidate and champion were not both trained on, and compare it."""
    asked = ("champion-version", "train-pointer", "train-md5", "champion-md5")
    called = {"train-md5": "candidate-md5"}
    return _measurement("changes", *asked, called=called, source=True, pod_spec_patch=parameter("data-pod"))


def measure_files_v1() -> WorkflowTemplate:
    """Look into the files of candidate and champion. Gives the evidence."""
    return _measurement("files", "champion-version", memory="2Gi")


def measure_replay_v1() -> WorkflowTemplate:
    """Ask the candidate's server what the release's servers were asked. Gives the evidence."""
    return _measurement("replay", "recorded", labels=READS_RECORDED)


_ABOUT = ("model", "commit", "registered-name", "key", "inputs", "candidate-version")
"""Parameters of every measurement."""


def _measurement(
    name: str, *asked: str, rows: bool = False, called: Mapping[str, str] | None = None, **container: Any
) -> WorkflowTemplate:
    """The step ``name``, with more parameters as its options; with ``rows`` after the evaluation data.

    ``called``: an option that has another name than its parameter.
    """
    options = (f"--{(called or {}).get(each, each)}={parameter(each)}" for each in asked)
    measured = _measured(name, *options, rows=rows, **container)
    if not rows:
        return chain(f"measure-{name}-v1", (*_ABOUT, *asked), measured)
    parameters = (*_ABOUT, *asked, "evaluation-pointer")
    return chain(f"measure-{name}-v1", parameters, _evaluation_data(), measured)


def _measured(
    name: str,
    *options: str,
    rows: bool,
    takes: tuple[str, ...] = (),
    source: bool = False,
    memory: str = "4Gi",
    **container: Any,
) -> Step:
    """What measures: it may write to the registry, and gives the evidence."""
    return step(
        name,
        *_what_is_measured(rows=rows),
        *((f"--source={SOURCE}",) if source else ()),
        *options,
        account=RECORDER,
        source=source,
        takes=(*(("data",) if rows else ()), *takes),
        outputs=("evidence-uri", "evidence-sha256"),
        memory=memory,
        registry=True,
        **container,
    )


def _data(pointer: str, expected: str, *, account: str) -> Step:
    """Fetches what the pointer of this parameter names, through the platform's cache if it has one."""
    return step(
        "data",
        f"--source={SOURCE}",
        f"--pointer={parameter(pointer)}",
        expected,
        f"--out={OUT}",
        account=account,
        source=True,
        leaves=("data",),
        pod_spec_patch=parameter("data-pod"),
    )


def _evaluation_data() -> Step:
    return _data("evaluation-pointer", f"--inputs={parameter('inputs')}", account=RECORDER)


def _what_is_measured(*, rows: bool = True) -> tuple[str, ...]:
    return (
        f"--model={parameter('model')}",
        *((f"--data={IN}/data",) if rows else ()),
        f"--registered-name={parameter('registered-name')}",
        f"--candidate-version={parameter('candidate-version')}",
        f"--key={parameter('key')}",
        f"--inputs={parameter('inputs')}",
        f"--commit={parameter('commit')}",
        f"--image={parameter('image')}",
        "--workflow={{workflow.name}}",
        f"--out={OUT}",
    )


def measure_reproduce_v1() -> WorkflowTemplate:
    """Train once more as the candidate was trained, compare both on the evaluation data. Gives the evidence."""
    data = step(
        "data",
        f"--source={SOURCE}",
        "--pointer={{inputs.parameters.pointer}}",
        "--md5={{inputs.parameters.md5}}",
        f"--out={OUT}",
        account=TRAINER,
        source=True,
        leaves=("data",),
        asks={"pointer": None, "md5": None},
        pod_spec_patch=parameter("data-pod"),
    )
    train = step(
        "train",
        *_what_is_trained(),
        f"--task={parameter('task')}",
        f"--hyperparameters={parameter('hyperparameters')}",
        account=TRAINER,
        source=True,
        takes=("data",),
        leaves=("model",),
        **_WHERE_IT_TRAINS,
    )
    compare = _measured("reproduce", f"--again={IN}/model", rows=True, takes=("model",))
    training = ("hyperparameters", "seed", "device", "pod", "restarts", "target", "task")
    pointers = ("train-pointer", "train-md5", "evaluation-pointer", "evaluation-md5")
    parameters = dict.fromkeys((*_ABOUT, *training, *pointers))
    with dag("measure-reproduce-v1", parameters, data, train, compare) as template:
        for task, use in (("data", "train"), ("rows", "evaluation")):
            given = [Parameter(name=each, value=parameter(f"{use}-{each}")) for each in ("pointer", "md5")]
            Task(name=task, template="data", arguments=given)
        Task(name="train", template="train", depends="data", arguments=[artifact("data", "data")])
        taken = [artifact("rows", "data"), artifact("train", "model")]
        Task(name="reproduce", template="reproduce", depends="rows && train", arguments=taken)
    return template


STOCK = (
    train_v1,
    measure_evaluate_v1,
    measure_parity_v1,
    measure_behaviour_v1,
    measure_speed_v1,
    measure_load_v1,
    measure_drift_v1,
    measure_contract_v1,
    measure_changes_v1,
    measure_files_v1,
    measure_replay_v1,
    measure_reproduce_v1,
)
