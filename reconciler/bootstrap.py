"""From a folder and a Platform document to Readers and Writers: the only file that names concrete adapters.

Called by the commands, and nothing else reads the environment: ``TRUEUP_HOME`` (state of the embedded stack,
default ``REPOSITORY/.trueup``), ``TRUEUP_CACHE`` (what can be fetched again, default ``~/.cache/trueup``) and
the variables that the Platform names for its registries.
"""
# ruff: noqa: PLC0415 - an adapter, and what it imports, is loaded where it is connected

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reconciler.core.documents import ClusterKubernetes, EngineArgo, Platform
from reconciler.core.errors import Terminal
from reconciler.ports import Lease, Readers, Source, Writers

if TYPE_CHECKING:
    from reconciler.adapters.embedded.cluster import EmbeddedCluster
    from reconciler.adapters.embedded.engine import EmbeddedEngine
    from reconciler.adapters.embedded.forge import EmbeddedForge
    from reconciler.adapters.folder_source import FolderSource
    from reconciler.adapters.kubernetes.argo_engine import ArgoEngine
    from reconciler.adapters.kubernetes.cluster import KubernetesCluster

Clock = Callable[[], datetime]


class Repository(NamedTuple):
    """A clone of a GitOps repository and who works in it, as ``NAME <EMAIL>``. Empty is what is not set."""

    root: Path
    origin: str
    person: str

    @property
    def name(self) -> str:
        """The person, as pull requests name them."""
        return self.person.partition(" <")[0]

    @property
    def home(self) -> Path:
        """State of the embedded stack. Deleting it deletes its registry, runs and servers."""
        return Path(os.environ.get("TRUEUP_HOME") or self.root / ".trueup").absolute()


def now() -> datetime:
    """The clock of everything that is not a test."""
    return datetime.now(UTC)


def cache() -> Path:
    """Mirrors and data sets: whoever deletes it loses time only."""
    chosen = os.environ.get("TRUEUP_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "trueup"


def open_repository(start: Path) -> Repository:
    """The repository around ``start``. Raises Terminal outside of one."""
    start = start.resolve()
    root = _git(start, "rev-parse", "--show-toplevel")
    if not root:
        raise Terminal(
            "is not inside a Git repository",
            where=str(start),
            hint="cd to your GitOps repository, or write a new one: reconcile init DIRECTORY --example",
        )
    origin = _git(start, "remote", "get-url", "origin")
    if origin.startswith("."):
        origin = str((Path(root) / origin).resolve())
    name, email = _git(start, "config", "user.name"), _git(start, "config", "user.email")
    return Repository(Path(root), origin, f"{name} <{email}>" if name and email else name)


def folder_source(repository: Repository) -> FolderSource:
    """The documents as they are in the working tree, for the commands that check before a push."""
    from reconciler.adapters.folder_source import FolderSource

    return FolderSource(repository.root)


def git_source(repository: Repository) -> Source:
    """The repository as its origin has it."""
    from reconciler.adapters.git_source import GitSource

    if not repository.origin:
        raise Terminal(
            "has no remote named origin, and trueup acts on what is pushed",
            where=str(repository.root),
            hint="git remote add origin URL",
        )
    return GitSource(repository.origin, cache())


def clone_source(repository: Repository) -> Source:
    """The branches of this clone, pushed or not, for judging what may be pushed."""
    from reconciler.adapters.git_source import GitSource

    return GitSource(str(repository.root), cache())


def connect(
    repository: Repository,
    platform: Platform,
    source: Source,
    *,
    tell: Callable[[str], None],
    clock: Clock = now,
) -> tuple[Readers, Writers]:
    """Everything the Platform names. Nothing is contacted yet. ``tell`` shows a message to who is there."""
    from reconciler.adapters.mlflow_registry import MlflowRegistry
    from reconciler.adapters.terminal_notifier import TerminalNotifier

    registries = {name: MlflowRegistry(uri) for name, uri in tracking_uris(repository, platform).items()}
    engine = connect_engine(repository, platform, source)
    forge = embedded_forge(repository, clock)
    clusters = {name: connect_cluster(repository, platform, name) for name in platform.clusters}
    readers = Readers(source, registries, engine, forge, clusters)
    lease = connect_lease(repository, platform, clock)
    return readers, Writers(registries, engine, forge, clusters, TerminalNotifier(tell), lease)


def tracking_uris(repository: Repository, platform: Platform) -> dict[str, str]:
    """Registry -> MLflow tracking URI. The Platform names variables, never addresses with credentials."""
    uris = {}
    for name, registry in platform.registries.items():
        variable = registry.tracking_uri_env
        uris[name] = os.environ.get(variable, "") if variable else f"sqlite:///{repository.home}/mlflow.db"
        if not uris[name]:
            raise Terminal(
                f"the registry {name} has its tracking URI in ${variable}, which is not set",
                where="environments/platform.yaml",
                hint=f"export {variable}=https://YOUR-MLFLOW",
            )
    return uris


def connect_engine(repository: Repository, platform: Platform, source: Source) -> EmbeddedEngine | ArgoEngine:
    """The engine that the Platform names."""
    match platform.engine:
        case EngineArgo(context=context, namespace=namespace, repository=url):
            from reconciler.adapters.kubernetes.argo_engine import ArgoEngine
            from reconciler.adapters.kubernetes.client import connect as kubernetes

            return ArgoEngine(kubernetes(context), namespace, source=source, repository=url)
        case _:
            return embedded_engine(repository, platform, source)


def embedded_engine(repository: Repository, platform: Platform, source: Source) -> EmbeddedEngine:
    from reconciler.adapters.embedded.engine import EmbeddedEngine

    environment = step_environment(repository, platform)
    return EmbeddedEngine(home=repository.home, checkout=source.checkout, env=environment)


def connect_cluster(
    repository: Repository, platform: Platform, name: str
) -> EmbeddedCluster | KubernetesCluster:
    """The cluster that the Platform names so."""
    match platform.clusters[name]:
        case ClusterKubernetes(context=context, namespaces=namespaces):
            from reconciler.adapters.kubernetes.client import connect as kubernetes
            from reconciler.adapters.kubernetes.cluster import KubernetesCluster

            return KubernetesCluster(kubernetes(context), namespaces)
        case _:
            return embedded_cluster(repository, platform, name)


def connect_lease(repository: Repository, platform: Platform, clock: Clock) -> Lease:
    """Where every reconciler of the repository meets: in Kubernetes as soon as the Platform names it.

    Beside the workflows of Argo; else in the first namespace of the first Kubernetes cluster, by name; else a
    file of this machine.
    """
    places = [
        (cluster.context, cluster.namespaces[0])
        for _, cluster in sorted(platform.clusters.items())
        if isinstance(cluster, ClusterKubernetes)
    ]
    if isinstance(platform.engine, EngineArgo):
        places.insert(0, (platform.engine.context, platform.engine.namespace))
    if not places:
        from reconciler.adapters.embedded.lease import EmbeddedLease

        return EmbeddedLease(repository.home, clock)
    from reconciler.adapters.kubernetes.client import connect as kubernetes
    from reconciler.adapters.kubernetes.lease import KubernetesLease

    context, namespace = places[0]
    return KubernetesLease(kubernetes(context), namespace, clock)


def embedded_cluster(repository: Repository, platform: Platform, name: str) -> EmbeddedCluster:
    """One folder a cluster, so that two of them never show each other's workloads."""
    from reconciler.adapters.embedded.cluster import EmbeddedCluster

    home = repository.home if name == "local" else repository.home / "clusters" / name
    return EmbeddedCluster(home, step_environment(repository, platform))


def embedded_forge(repository: Repository, clock: Clock = now) -> EmbeddedForge:
    """The bare repository that is origin, which must then be on this machine."""
    from reconciler.adapters.embedded.forge import EmbeddedForge

    folder = Path(repository.origin.removeprefix("file://"))
    if not repository.origin or not folder.is_dir():
        raise Terminal(
            "the embedded forge keeps its pull requests in origin, and that is no repository on this machine: "
            f"{repository.origin or 'there is none'}",
            where="environments/platform.yaml",
            hint="point origin at a bare repository: git init --bare PATH; git remote set-url origin PATH",
        )
    return EmbeddedForge(folder, repository.person, clock)


def step_environment(repository: Repository, platform: Platform) -> dict[str, str]:
    """What a step, or a server of the embedded cluster, gets from this process: no secret of the shell's."""
    uris = tracking_uris(repository, platform)
    inherited = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in inherited if name in os.environ} | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "MLFLOW_TRACKING_URI": uris.get("default") or next(iter(uris.values())),
        "TRUEUP_HOME": str(repository.home),
        "TRUEUP_CACHE": str(cache()),
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def stop_local(repository: Repository) -> None:
    """End every process of the embedded stack. What ran counts as terminated; files stay."""
    from reconciler.adapters.embedded.cluster import EmbeddedCluster
    from reconciler.adapters.embedded.engine import EmbeddedEngine

    def refuse(commit: str, destination: Path) -> None:
        raise Terminal(f"{commit} is not checked out to {destination} while stopping")

    EmbeddedEngine(home=repository.home, checkout=refuse, env={}).stop_all()
    for home in (repository.home, *sorted((repository.home / "clusters").glob("*"))):
        EmbeddedCluster(home, {}).stop_all()


def local_commit(repository: Repository, revision: str) -> str:
    """What this clone calls ``revision``, as a commit id; empty if it does not know it."""
    return _git(
        repository.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
    )


def local_branch(repository: Repository) -> str:
    """The branch that is checked out; empty on none."""
    return _git(repository.root, "branch", "--show-current")


def local_subject(repository: Repository, revision: str) -> str:
    """The first line of a commit's message."""
    return _git(repository.root, "log", "-1", "--format=%s", "--end-of-options", revision)


def is_behind(repository: Repository, base: str, head: str) -> bool:
    """Whether ``head`` does not contain ``base``. Not known, and so False, where this clone lacks ``head``."""
    command = ["git", "merge-base", "--is-ancestor", base, head]
    contains = subprocess.run(command, cwd=repository.root, capture_output=True, check=False).returncode == 0
    return not contains and bool(local_commit(repository, head))


def _git(folder: Path, *arguments: str) -> str:
    """One line of Git's answer, or nothing where it has none."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if not folder.is_dir():
            raise Terminal("is not a folder", where=str(folder)) from error
        raise Terminal("Git was not found", hint="install Git 2.38 or newer") from error
    return done.stdout.strip() if done.returncode == 0 else ""
