"""The WorkflowTemplates that trueup ships; ``python -m workflows.templates`` renders them.

A template's name carries its version: a change of what a template does is a new function here, a new name, or
at least a new recipe. An engine runs what the submission's commit says, whatever is edited meanwhile.
"""

from __future__ import annotations

from hera.workflows import WorkflowTemplate

from reconciler.core.argo import CHECKPOINT
from reconciler.core.serving import READS_RECORDED
from workflows.templates.parts import IN, OUT, SOURCE, Step, chain, step
from workflows.templates.parts import workflow_parameter as parameter

TRAINER = "trueup-train"
"""Reads code and data, and has no credentials for the registry: model code runs here."""
RECORDER = "trueup-record"
"""May write runs, versions and evidence to the registry."""


def train_v1() -> WorkflowTemplate:
    """Fetch the training data, train, register. Gives the version and its artifact digest."""
    return chain(
        "train-v1",
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
        ),
        _data("train-pointer", f"--md5={parameter('train-md5')}", account=TRAINER),
        step(
            "train",
            f"--source={SOURCE}",
            f"--model={parameter('model')}",
            f"--data={IN}/data",
            f"--target={parameter('target')}",
            f"--task={parameter('task')}",
            f"--hyperparameters={parameter('hyperparameters')}",
            f"--seed={parameter('seed')}",
            f"--device={parameter('device')}",
            f"--checkpoint={CHECKPOINT}",
            f"--out={OUT}",
            account=TRAINER,
            source=True,
            takes=("data",),
            leaves=("model", "metrics"),
            cpu="2",
            memory="4Gi",
            restarts=parameter("restarts"),
            keeps=CHECKPOINT,
            pod_spec_patch=parameter("pod"),
        ),
        step(
            "register",
            f"--model={parameter('model')}",
            f"--folder={IN}/model",
            f"--metrics={IN}/metrics",
            f"--registered-name={parameter('registered-name')}",
            f"--training-key={parameter('training-key')}",
            f"--training-inputs={parameter('training-inputs')}",
            f"--hyperparameters={parameter('hyperparameters')}",
            f"--seed={parameter('seed')}",
            f"--commit={parameter('commit')}",
            f"--image={parameter('image')}",
            "--workflow={{workflow.name}}",
            f"--out={OUT}",
            account=RECORDER,
            takes=("model", "metrics"),
            outputs=("version", "digest"),
            registry=True,
        ),
        one_at_a_time=f"train-{parameter('model')}",
    )


def measure_evaluate_v1() -> WorkflowTemplate:
    """Fetch the evaluation data, score candidate and champion on the same rows. Gives the evidence."""
    return chain(
        "measure-evaluate-v1",
        (
            "model",
            "commit",
            "registered-name",
            "key",
            "inputs",
            "candidate-version",
            "champion-version",
            "evaluation-pointer",
        ),
        _evaluation_data(),
        step(
            "evaluate",
            *_what_is_measured(),
            f"--champion-version={parameter('champion-version')}",
            account=RECORDER,
            takes=("data",),
            outputs=("evidence-uri", "evidence-sha256"),
            memory="4Gi",
            registry=True,
        ),
    )


def measure_parity_v1() -> WorkflowTemplate:
    """Fetch the evaluation data, ask the real server about its rows. Gives the evidence."""
    return chain(
        "measure-parity-v1",
        ("model", "commit", "registered-name", "key", "inputs", "candidate-version", "evaluation-pointer"),
        _evaluation_data(),
        step(
            "parity",
            *_what_is_measured(),
            account=RECORDER,
            takes=("data",),
            outputs=("evidence-uri", "evidence-sha256"),
            memory="4Gi",
            registry=True,
        ),
    )


def measure_drift_v1() -> WorkflowTemplate:
    """Compare the candidate's training rows with what servers recorded of requests. Gives the evidence."""
    return chain(
        "measure-drift-v1",
        ("model", "commit", "registered-name", "key", "inputs", "candidate-version", "recorded"),
        step(
            "drift",
            *_what_is_measured(rows=False),
            f"--recorded={parameter('recorded')}",
            account=RECORDER,
            outputs=("evidence-uri", "evidence-sha256"),
            memory="4Gi",
            registry=True,
            labels=READS_RECORDED,
        ),
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


STOCK = (train_v1, measure_evaluate_v1, measure_parity_v1, measure_drift_v1)
