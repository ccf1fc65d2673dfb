"""What every task of our WorkflowTemplates shares: a container that runs one step, and how it is retried.

:mod:`workflows.templates.stock` puts these together. Paths are those inside the container; everything lives
below ``/trueup``: the repository at the workflow's commit, what the task gets, what it gives.
"""

from __future__ import annotations

from typing import NamedTuple

from hera.workflows import (
    DAG,
    Artifact,
    Container,
    GitArtifact,
    Parameter,
    Resources,
    RetryStrategy,
    Task,
    WorkflowTemplate,
)
from hera.workflows.models import (
    Backoff,
    Capabilities,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    ValueFrom,
)

from reconciler.core.documents import Images

SOURCE = "/trueup/src"
IN = "/trueup/in"
OUT = "/trueup/out"

RECIPE = "1"
"""A new one makes every training key new, and so trains every model again."""

INFRASTRUCTURE = "lastRetry.status == 'Error' || asInt(lastRetry.exitCode) == 75"
"""Argo says Error where its own machinery or the node failed; a step exits with 75 (EX_TEMPFAIL of
sysexits.h) where a service did not answer. A step that failed for any other reason would fail again."""


def workflow_parameter(name: str) -> str:
    return f"{{{{workflow.parameters.{name}}}}}"


class Step(NamedTuple):
    """A container template, and the names of the artifacts that it takes from and leaves to the others."""

    container: Container
    takes: tuple[str, ...]
    leaves: tuple[str, ...]


def step(
    name: str,
    *options: str,
    account: str,
    source: bool = False,
    takes: tuple[str, ...] = (),
    leaves: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    cpu: str = "1",
    memory: str = "2Gi",
    pod_spec_patch: str | None = None,
) -> Step:
    """A template that runs ``reconcile-step NAME OPTIONS``.

    With ``source`` it finds the repository, at the workflow's commit, in ``/trueup/src``. ``takes`` and
    ``leaves`` name artifacts, found in ``/trueup/in`` and written to ``/trueup/out``; ``outputs`` name files in
    ``/trueup/out`` whose text becomes an output of the whole workflow.
    """
    repository = GitArtifact(
        name="source",
        path=SOURCE,
        repo=workflow_parameter("repository"),
        revision=workflow_parameter("commit"),
    )
    container = Container(
        name=name,
        image=workflow_parameter("image"),
        command=["reconcile-step"],
        args=[name, *options],
        inputs=[
            *([repository] if source else []),
            *(Artifact(name=item, path=f"{IN}/{item}") for item in takes),
        ],
        outputs=[
            *(Artifact(name=item, path=f"{OUT}/{item}") for item in leaves),
            *(
                Parameter(name=item, value_from=ValueFrom(path=f"{OUT}/{item}"), global_name=item)
                for item in outputs
            ),
        ],
        service_account_name=account,
        resources=Resources(cpu_request=cpu, memory_request=memory, memory_limit=memory),
        pod_security_context=PodSecurityContext(
            run_as_non_root=True,
            run_as_user=1000,
            fs_group=1000,
            seccomp_profile=SeccompProfile(type="RuntimeDefault"),
        ),
        security_context=SecurityContext(
            allow_privilege_escalation=False, capabilities=Capabilities(drop=["ALL"])
        ),
        retry_strategy=RetryStrategy(
            limit="2",
            retry_policy="Always",
            expression=INFRASTRUCTURE,
            backoff=Backoff(duration="5s", factor="2"),
        ),
        pod_spec_patch=pod_spec_patch,
    )
    return Step(container, takes, leaves)


def chain(name: str, parameters: tuple[str, ...], *steps: Step) -> WorkflowTemplate:
    """A WorkflowTemplate that runs its steps one after the other.

    A step gets each artifact that it takes from the step that leaves one of that name.
    """
    origin = {artifact: each.container.name for each in steps for artifact in each.leaves}
    with WorkflowTemplate(
        name=name,
        annotations={"trueup.dev/recipe": RECIPE},
        labels={"app.kubernetes.io/managed-by": "trueup"},
        entrypoint="main",
        arguments=[
            *(Parameter(name=parameter) for parameter in parameters),
            Parameter(name="image", value=Images().steps),
            Parameter(name="repository", value=""),
        ],
    ) as template:
        previous = None
        with DAG(name="main"):
            for each in steps:
                task = each.container.name
                assert task is not None
                Task(
                    name=task,
                    template=task,
                    depends=previous,
                    arguments=[
                        Artifact(name=item, from_=f"{{{{tasks.{origin[item]}.outputs.artifacts.{item}}}}}")
                        for item in each.takes
                    ],
                )
                previous = task
        template.templates.extend(each.container for each in steps)
    return template
