"""What every task of our WorkflowTemplates shares: a container that runs one step, and how it is retried.

:mod:`workflows.templates.stock` puts these together. Paths are those inside the container; everything lives
below ``/trueup``: the repository at the workflow's commit, what the task gets, what it gives. Nothing else can
be written but ``/tmp``: the root file system is read-only, and nobody is root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from hera.workflows import (
    DAG,
    Artifact,
    ConfigMapEnv,
    Container,
    EmptyDirVolume,
    GitArtifact,
    Parameter,
    Resources,
    RetryStrategy,
    SecretEnv,
    Task,
    WorkflowTemplate,
)
from hera.workflows.models import (
    Backoff,
    Capabilities,
    ContinueOn,
    Mutex,
    PodGC,
    PodSecurityContext,
    SeccompProfile,
    SecretKeySelector,
    SecurityContext,
    Synchronization,
    TTLStrategy,
    ValueFrom,
)

from reconciler.core.argo import WAKE_TOKEN
from reconciler.core.evidence import CATALOGUE
from reconciler.core.platform import Images

ROOT = "/trueup"
SOURCE = f"{ROOT}/src"
IN = f"{ROOT}/in"
OUT = f"{ROOT}/out"

ON_EXIT = "exit"
RECIPE = "1"
"""A new one makes every training key new, and so trains every model again."""
_MEASURED = {measurement.template: measurement.recipe for measurement in CATALOGUE.values()}
"""Recipes of the templates that measure: what they are is part of the evidence's keys."""

INFRASTRUCTURE = (
    "asInt(lastRetry.exitCode) == 75 || lastRetry.message contains 'imminent node shutdown' || "
    "(lastRetry.status == 'Error' && !(lastRetry.message contains 'OOMKilled'))"
)
"""A step exits with 75 (EX_TEMPFAIL of sysexits.h) where a service did not answer, or where it was told to end.
Losing a node shows as Failed "imminent node shutdown" or as Error "pod deleted"; Argo also says Error where its
own machinery failed. Anything else would fail again: a bug, or too little memory (137, "OOMKilled")."""

_CALLER, _TOKEN = "trueup-wake", "token"
_WAKE = SecretEnv(name=WAKE_TOKEN, secret_name=_CALLER, secret_key=_TOKEN, optional=True)
"""What the receiver of `reconcile --watch --listen` wants to hear."""

_MLFLOW, _URI = "trueup-mlflow", "MLFLOW_TRACKING_URI"
REGISTRY = (
    ConfigMapEnv(name=_URI, config_map_name=_MLFLOW, config_map_key=_URI),
    *(
        SecretEnv(name=name, secret_name=_MLFLOW, secret_key=name, optional=True)
        for name in (f"MLFLOW_TRACKING_{what}" for what in ("USERNAME", "PASSWORD", "TOKEN"))
    ),
)
"""Where the registry is, and who the recording steps are there. The values are in the cluster, not in a run."""

KEPT = TTLStrategy(seconds_after_success=7 * 86400, seconds_after_failure=30 * 86400)
"""trueup deletes a run once its outcome is recorded. This is for what it does not get to; a failed run counts
as an attempt for as long as it is there."""


def workflow_parameter(name: str) -> str:
    return f"{{{{workflow.parameters.{name}}}}}"


class Step(NamedTuple):
    """A container template, and the names of the artifacts that it takes from and leaves to the others.

    ``clones``: whether it gets the repository's files.
    """

    container: Container
    takes: tuple[str, ...]
    leaves: tuple[str, ...]
    clones: bool

    @property
    def name(self) -> str:
        return str(self.container.name)


def step(
    name: str,
    *options: str,
    account: str,
    source: bool = False,
    takes: tuple[str, ...] = (),
    may_take: tuple[str, ...] = (),
    leaves: tuple[str, ...] = (),
    asks: Mapping[str, str | None] | None = None,
    gives: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    cpu: str = "1",
    memory: str = "2Gi",
    registry: bool = False,
    restarts: str = "2",
    keeps: str | None = None,
    pod_spec_patch: str | None = None,
    labels: dict[str, str] | None = None,
) -> Step:
    """A template that runs ``reconcile-step NAME OPTIONS``.

    With ``source`` it finds the repository, at the workflow's commit, in ``/trueup/src``. ``takes`` and
    ``leaves`` name artifacts, found in ``/trueup/in`` and written to ``/trueup/out``; those of ``may_take`` are
    there if another task left them. ``asks`` are parameters with their defaults. ``gives`` and ``outputs`` name
    files in ``/trueup/out`` whose text becomes an output of the task, or of the whole workflow. With
    ``registry`` it can write to the registry. ``keeps`` names a folder that outlives an attempt where the
    platform provides for it. ``labels`` are the pod's, for the network policies of others.
    """
    repository = GitArtifact(
        name="source",
        path=SOURCE,
        repo=workflow_parameter("repository"),
        revision=workflow_parameter("commit"),
        username_secret=SecretKeySelector(name="trueup-git", key="username"),
        password_secret=SecretKeySelector(name="trueup-git", key="password"),
    )
    folders = {"tmp": "/tmp", "trueup": ROOT, **({"checkpoint": keeps} if keeps else {})}  # noqa: S108 - the pod's
    container = Container(
        name=name,
        image=workflow_parameter("image"),
        command=["reconcile-step"],
        args=[name, *options],
        inputs=[
            *([repository] if source else []),
            *(Artifact(name=item, path=f"{IN}/{item}") for item in takes),
            *(Artifact(name=item, path=f"{IN}/{item}", optional=True) for item in may_take),
            *(_parameter(item, value) for item, value in (asks or {}).items()),
        ],
        outputs=[
            *(Artifact(name=item, path=f"{OUT}/{item}") for item in leaves),
            *(Parameter(name=item, value_from=ValueFrom(path=f"{OUT}/{item}")) for item in gives),
            *(
                Parameter(name=item, value_from=ValueFrom(path=f"{OUT}/{item}"), global_name=item)
                for item in outputs
            ),
        ],
        env=list(REGISTRY) if registry else None,
        volumes=[EmptyDirVolume(name=name, mount_path=path) for name, path in folders.items()],
        service_account_name=account,
        resources=Resources(cpu_request=cpu, memory_request=memory, memory_limit=memory),
        pod_security_context=PodSecurityContext(
            run_as_non_root=True,
            run_as_user=1000,
            fs_group=1000,
            seccomp_profile=SeccompProfile(type="RuntimeDefault"),
        ),
        security_context=SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=Capabilities(drop=["ALL"]),
        ),
        retry_strategy=RetryStrategy(
            limit=restarts,
            retry_policy="Always",
            expression=INFRASTRUCTURE,
            backoff=Backoff(duration="5s", factor="2"),
        ),
        pod_spec_patch=pod_spec_patch,
        labels=labels,
    )
    return Step(container, takes, leaves, source)


def artifact(task: str, name: str, *, called: str | None = None, optional: bool = False) -> Artifact:
    """What another task left, as an argument; with ``optional``, if it ran."""
    return Artifact(
        name=called or name, from_=f"{{{{tasks.{task}.outputs.artifacts.{name}}}}}", optional=optional or None
    )


def _parameter(name: str, value: str | None) -> Parameter:
    """With a value where nobody gives another; hera writes a None that it is given."""
    return Parameter(name=name) if value is None else Parameter(name=name, value=value)


def output(task: str, name: str) -> str:
    return f"{{{{tasks.{task}.outputs.parameters.{name}}}}}"


def chain(name: str, parameters: tuple[str, ...], *steps: Step) -> WorkflowTemplate:
    """A WorkflowTemplate that runs its steps one after the other.

    A step gets each artifact that it takes from the step that leaves one of that name.
    """
    origin = {item: each.name for each in steps for item in each.leaves}
    with dag(name, dict.fromkeys(parameters), *steps) as template:
        previous = None
        for each in steps:
            taken = [artifact(origin[item], item) for item in each.takes]
            Task(name=each.name, template=each.name, depends=previous, arguments=taken)
            previous = each.name
    return template


@contextmanager
def dag(
    name: str, parameters: Mapping[str, str | None], *steps: Step, one_at_a_time: str | None = None
) -> Iterator[WorkflowTemplate]:
    """A WorkflowTemplate of these steps, whose tasks are made inside. ``parameters`` with their defaults.

    Of the runs with an equal ``one_at_a_time`` one runs and the others wait: one mutex at most, because Argo's
    locks leak.
    """
    fetching = {"repository": "", "data-pod": "{}"} if any(each.clones for each in steps) else {}
    with WorkflowTemplate(
        name=name,
        annotations={"trueup.dev/recipe": _MEASURED.get(name, RECIPE)},
        labels={"app.kubernetes.io/managed-by": "trueup"},
        entrypoint="main",
        on_exit=ON_EXIT,
        pod_gc=PodGC(strategy="OnWorkflowSuccess", delete_delay_duration="1h"),
        ttl_strategy=KEPT,
        synchronization=Synchronization(mutexes=[Mutex(name=one_at_a_time)]) if one_at_a_time else None,
        arguments=[
            *(_parameter(each, value) for each, value in parameters.items()),
            Parameter(name="image", value=Images().steps),
            *(Parameter(name=name, value=value) for name, value in fetching.items()),
            Parameter(name="wake", value=""),
        ],
    ) as template:
        with DAG(name="main"):
            yield template
        template.templates.extend(each.container for each in steps)
        template.templates.append(_call_at_the_end())


def _call_at_the_end() -> Container:
    """What follows every run: a call to the receiver, where the Platform names one. Inside of a template.

    Nothing becomes of its failure: the run is over, and is what it was.
    """
    with DAG(name=ON_EXIT):
        Task(
            name="notify",
            template="notify",
            when=f"'{workflow_parameter('wake')}' != ''",
            continue_on=ContinueOn(failed=True, error=True),
        )
    return _NOTIFY


_NOTIFY = step(
    "notify",
    f"--url={workflow_parameter('wake')}",
    "--run={{workflow.name}}",
    "--phase={{workflow.status}}",
    account="trueup-train",
    cpu="100m",
    memory="256Mi",
).container
_NOTIFY.env, _NOTIFY.active_deadline_seconds = [_WAKE], 60
_NOTIFY.retry_strategy = None  # it tries again by itself, and then nobody waits for it
