"""From a folder and a Platform document to Readers and Writers: the only file that names concrete adapters.

Called by the commands, and nothing else reads the environment:

=====================  ===================================================================================
``TRUEUP_HOME``        state of the embedded stack; default ``REPOSITORY/.trueup``
``TRUEUP_CACHE``       what can be fetched again; default ``~/.cache/trueup``
``TRUEUP_REPOSITORY``  address of the GitOps repository, where there is no clone of it
``TRUEUP_PLATFORM``    file with the Platform that says whose credentials fetch it; default: the clone's
``TRUEUP_TOKEN``       a person's token on the forge, for what they do there as themselves
=====================  ===================================================================================

and the variables and files that the Platform names for its registries and secrets.
"""
# ruff: noqa: PLC0415 - an adapter, and what it imports, is loaded where it is connected

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from reconciler.core.documents import (
    KINDS,
    AnyForge,
    ClusterKubernetes,
    EngineArgo,
    ForgeEmbedded,
    ForgeGitea,
    ForgeGitHub,
    Platform,
    Secret,
)
from reconciler.core.errors import Terminal
from reconciler.ports import ForgePerson, ForgeReader, ForgeWriter, Lease, Readers, Source, Writers

if TYPE_CHECKING:
    from reconciler.adapters.embedded.cluster import EmbeddedCluster
    from reconciler.adapters.embedded.engine import EmbeddedEngine
    from reconciler.adapters.embedded.forge import EmbeddedForge
    from reconciler.adapters.folder_source import FolderSource
    from reconciler.adapters.kubernetes.argo_engine import ArgoEngine
    from reconciler.adapters.kubernetes.cluster import KubernetesCluster
    from reconciler.adapters.mirror import Credentials
    from reconciler.adapters.mlflow_registry import MlflowRegistry

Clock = Callable[[], datetime]
PLATFORM = KINDS["Platform"].example
PERSONS_TOKEN = Secret(env="TRUEUP_TOKEN")


class Forge(ForgeReader, ForgeWriter, ForgePerson, Protocol):
    """Everything that can be asked of a forge."""


class RemoteForge(Forge, Protocol):
    """A forge elsewhere: the repository's address for Git there, and who fetches from it."""

    remote: str
    credentials: Credentials


class Repository(NamedTuple):
    """A GitOps repository, the clone of it if there is one, and who works in it, as ``NAME <EMAIL>``.

    Empty is what is not set.
    """

    clone: Path | None
    origin: str
    person: str

    @property
    def root(self) -> Path:
        """The clone's folder. Terminal without one."""
        if self.clone is None:
            raise Terminal(
                "needs a clone, and this names only an address",
                where="TRUEUP_REPOSITORY",
                hint="run it in a clone, with TRUEUP_REPOSITORY unset",
            )
        return self.clone

    @property
    def name(self) -> str:
        """The person, as pull requests name them."""
        return self.person.partition(" <")[0]

    @property
    def home(self) -> Path:
        """State of the embedded stack. Deleting it deletes its registry, runs and servers."""
        chosen = os.environ.get("TRUEUP_HOME")
        if not chosen and self.clone is None:
            raise Terminal(
                "without a clone there is no place for the embedded stack's state",
                where="TRUEUP_REPOSITORY",
                hint="set TRUEUP_HOME to a folder that stays",
            )
        return Path(chosen or self.root / ".trueup").absolute()


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
    """The repository around ``start``, or the one that ``TRUEUP_REPOSITORY`` names. Terminal without any."""
    start = start.resolve()
    chosen = os.environ.get("TRUEUP_REPOSITORY")
    if chosen:
        return Repository(None, chosen, _person(start))
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
    return Repository(Path(root), origin, _person(start))


def _person(start: Path) -> str:
    name, email = _git(start, "config", "user.name"), _git(start, "config", "user.email")
    return f"{name} <{email}>" if name and email else name


def folder_source(repository: Repository) -> FolderSource:
    """The documents as they are in the working tree, for the commands that check before a push."""
    from reconciler.adapters.folder_source import FolderSource

    return FolderSource(repository.root)


def git_source(repository: Repository) -> Source:
    """The repository as its origin has it; fetched with the forge's token where origin is of that forge."""
    from reconciler.adapters.git_source import GitSource

    if not repository.origin:
        raise Terminal(
            "has no remote named origin, and trueup acts on what is pushed",
            where=str(repository.root),
            hint="git remote add origin URL",
        )
    forge = forge_of_origin(repository)
    if forge is not None:
        return GitSource(forge.remote, cache(), credentials=forge.credentials)
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
    from reconciler.adapters.terminal_notifier import TerminalNotifier

    registries = connect_registries(repository, platform)
    engine = connect_engine(repository, platform, source)
    forge = connect_forge(repository, platform.forge, clock)
    clusters = {name: connect_cluster(repository, platform, name) for name in platform.clusters}
    readers = Readers(source, registries, engine, forge, clusters)
    lease = connect_lease(repository, platform, clock)
    return readers, Writers(registries, engine, forge, clusters, TerminalNotifier(tell), lease)


def connect_registries(repository: Repository, platform: Platform) -> dict[str, MlflowRegistry]:
    """The registries alone, for who judges and does nothing."""
    from reconciler.adapters.mlflow_registry import MlflowRegistry

    return {name: MlflowRegistry(uri) for name, uri in tracking_uris(repository, platform).items()}


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
        case ClusterKubernetes(context=context, namespaces=namespaces, argocd=argocd):
            from reconciler.adapters.kubernetes.client import connect as kubernetes
            from reconciler.adapters.kubernetes.cluster import KubernetesCluster

            return KubernetesCluster(kubernetes(context), namespaces, argocd)
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
            f"{re.sub('//[^/@]*@', '//', repository.origin) or 'there is none'}",
            where="environments/platform.yaml",
            hint="point origin at a bare repository: git init --bare PATH; git remote set-url origin PATH",
        )
    return EmbeddedForge(folder, repository.person, clock)


def connect_forge(repository: Repository, named: AnyForge, clock: Clock = now) -> Forge:
    """The forge that the Platform names, as trueup. Terminal where its secret is missing."""
    return embedded_forge(repository, clock) if isinstance(named, ForgeEmbedded) else remote_forge(named, clock)


def connect_as_person(repository: Repository, named: AnyForge, clock: Clock = now) -> Forge:
    """The forge that the Platform names, as who types: by their own token, and never by trueup's."""
    if isinstance(named, ForgeEmbedded):
        return embedded_forge(repository, clock)
    require_persons_token()
    return remote_forge(_by_token(named, PERSONS_TOKEN), clock)


def require_persons_token() -> None:
    _require(PERSONS_TOKEN, "make one in your account's settings on the forge, and export it as TRUEUP_TOKEN")


def remote_forge(named: ForgeGitea | ForgeGitHub, clock: Clock = now) -> RemoteForge:
    """One case for each type of forge that is not of this machine."""
    match named:
        case ForgeGitea(url=url, repository=name, token=token):
            from reconciler.adapters.forges.gitea import GiteaForge

            _require(token)
            return GiteaForge(
                url, name, lambda: secret(token), token_from=str(token), cache=cache(), clock=clock
            )
        case ForgeGitHub(url=url, repository=name, app=app):
            from reconciler.adapters.forges.github import GitHubForge
            from reconciler.adapters.forges.github_app import GitHubApp

            place = _identity(named)
            _require(place)

            def read() -> str:
                return secret(place)

            made = app and GitHubApp(
                url, app.id, app.installation, read, key_from=str(place), repository=name, clock=clock
            )
            return GitHubForge(url, name, made or read, token_from=str(place), clock=clock)


def forge_of_origin(repository: Repository, clock: Clock = now) -> RemoteForge | None:
    """The forge with whose token origin is fetched; None where Git's own set-up does.

    Who fetches must know it before the repository is there, so it is not main's Platform that is asked, but
    the file ``TRUEUP_PLATFORM`` or the working tree's. That one may be anybody's: the token goes to origin,
    and only where that is the address of the forge it belongs to. Who has not trueup's secret (a person's
    shell) fetches with their own token, or as their ``git fetch`` does.
    """
    if not repository.origin.startswith(("http://", "https://")):
        return None
    platform = platform_here(repository)
    if platform is None or isinstance(platform.forge, ForgeEmbedded):
        return None
    named: ForgeGitea | ForgeGitHub = platform.forge
    if not _is_set(_identity(named)):
        if not _is_set(PERSONS_TOKEN):
            return None
        named = _by_token(named, PERSONS_TOKEN)
    forge = remote_forge(named, clock)
    return forge if _place(forge.remote) == _place(repository.origin) else None


def platform_here(repository: Repository) -> Platform | None:
    """The Platform of ``TRUEUP_PLATFORM`` or the working tree; None without a file, Terminal if wrong."""
    from reconciler.core.strict_yaml import read
    from reconciler.core.validation import validate

    chosen = os.environ.get("TRUEUP_PLATFORM")
    path = Path(chosen) if chosen else (repository.clone or Path()) / PLATFORM
    if not chosen and (repository.clone is None or path.is_symlink() or not path.is_file()):
        return None  # where a link leads is nothing of the repository's, and an error would quote it
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = "TRUEUP_PLATFORM names a copy of environments/platform.yaml"
        raise Terminal(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from None
    found = validate(Platform, read(content, str(path)))
    if isinstance(found, Platform):
        return found
    line, what, hint = found[0]
    raise Terminal(what, where=f"{path}:{line}", hint=hint)


def secret(place: Secret) -> str:
    """What is at ``place`` now: a mounted file may be renewed. Terminal where there is nothing."""
    if place.env:
        value = os.environ.get(place.env, "").strip()
        problem, hint = "is not set", f"export {place.env}, or name a mounted file in {PLATFORM}"
    else:
        hint = f"mount it for this user, or name an environment variable in {PLATFORM}"
        try:
            value, problem = Path(str(place.file)).read_text(encoding="utf-8").strip(), "is empty"
        except (OSError, UnicodeDecodeError) as error:
            value, problem = "", f"cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
    if not value:
        raise Terminal(f"the secret {place} {problem}", where=PLATFORM, hint=hint)
    return value


def _require(place: Secret, hint: str = "") -> None:
    """Say now, and not in the middle of a tick, that a secret is missing."""
    try:
        secret(place)
    except Terminal as missing:
        raise Terminal(missing.what, where=missing.where, hint=hint or missing.hint) from None


def _is_set(place: Secret) -> bool:
    try:
        return bool(secret(place))
    except Terminal:
        return False


def _identity(named: ForgeGitea | ForgeGitHub) -> Secret:
    """The secret by which trueup is who it is there."""
    if isinstance(named, ForgeGitHub) and named.app is not None:
        return named.app.private_key
    assert named.token is not None  # one of the two is there: the document says so
    return named.token


def _by_token(named: ForgeGitea | ForgeGitHub, token: Secret) -> ForgeGitea | ForgeGitHub:
    app = {"app": None} if isinstance(named, ForgeGitHub) else {}
    return named.model_copy(update={"token": token, **app})


def _place(url: str) -> tuple[str, str, int | None, str]:
    """What two addresses of one repository share. A user's name is no part of it."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/").removesuffix(".git").lower()


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
