"""The Platform: which systems trueup talks to. One class for each type of engine, forge and cluster.

A kind of document like those of documents.py, and the one that grows with every adapter. bootstrap connects
what it names; the planner reads its pools, attempts and images.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from reconciler.core.base import Document, Duration, Frozen, Later, Name, parse_duration


class Registry(Frozen):
    """An MLflow tracking and registry server, or with no URI the embedded one (SQLite and local files)."""

    type: Literal["mlflow"] = "mlflow"
    tracking_uri_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = Field(
        default=None, description="Name of the environment variable that holds the tracking URI."
    )


class Attempts(Frozen):
    """How often one key is tried before a person is asked."""

    train: Annotated[int, Field(ge=1, le=10)] = 1
    measure: Annotated[int, Field(ge=1, le=10)] = 2


class Secret(Frozen):
    """Where a secret is: in an environment variable, or in a file that was mounted. Never what it is."""

    env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    file: Annotated[str, Field(pattern=r"^/[^\x00-\x1f]{1,200}$")] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("needs exactly one of env and file")
        return self

    def __str__(self) -> str:
        return f"${self.env}" if self.env else str(self.file)


class Toleration(Frozen):
    """A taint that pods of a pool put up with, as Kubernetes writes it."""

    key: Annotated[str, Field(min_length=1, max_length=317)]
    operator: Literal["Equal", "Exists"] = "Equal"
    value: Annotated[str, Field(max_length=63)] = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Placement(Frozen):
    """Onto which nodes a pod may go."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()


class Spot(Placement):
    """What is added for nodes that may be taken away at any time, and where checkpoints outlive that."""

    checkpoints: Name | None = Field(
        default=None,
        description="A PersistentVolumeClaim of the engine's namespace that outlives a pod. "
        "Without it a training that lost its node begins anew.",
    )


class Pool(Placement):
    """A kind of node that a training may ask for by name. The embedded engine has one machine and no pools."""

    gpu_resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=317)] = (
        "nvidia.com/gpu"
    )
    spot: Spot | None = None


class DataCache(Frozen):
    """A volume on which the pods of a cluster keep the data that they have fetched, for each other."""

    claim: Name = Field(description="A PersistentVolumeClaim of the engine's namespace, ReadWriteMany.")
    limit: Annotated[str, Field(pattern=r"^\d{1,15}(\.\d{1,9})?[kMGT]?B$")] = Field(
        default="20GB", description="Above it, what was not used the longest is removed."
    )


class Wake(Frozen):
    """Where the engine calls when a run has ended, so that the next tick need not be waited for."""

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9._:/\[\]-]+$", max_length=300)] = Field(
        description="Of `reconcile --watch --listen PORT`, as the runs reach it: http://HOST:PORT/wake"
    )
    token: Secret = Field(description="What a caller has to know; the same for a forge's webhooks.")


class Engine(Frozen):
    """What every engine has."""

    attempts: Attempts = Attempts()
    keep: Duration = Field(
        default_factory=lambda: parse_duration("1d"),
        description="How long a finished run that is not needed any more stays, for its logs.",
    )
    pools: dict[Name, Pool] = Field(default_factory=dict, description="For `training.compute.pool`.")
    wake: Wake | None = None
    data_cache: DataCache | None = Field(
        default=None, description="The embedded engine has its machine's cache, and takes no notice of this."
    )


class EngineEmbedded(Engine):
    """Workflows as processes of this machine."""

    type: Literal["embedded"] = "embedded"


KubeContext = Annotated[
    str | None,
    Field(
        description="Of the kubeconfig that kubectl would read; none: the pod's ServiceAccount, or its default."
    ),
]


class EngineArgo(Engine):
    """Argo Workflows, asked through the Kubernetes API."""

    type: Literal["argo"]
    context: KubeContext = None
    namespace: Name = Field(description="Where the workflows run.")
    repository: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")] = Field(
        description="Where the pods clone this repository from; no name or token in it."
    )


class ForgeEmbedded(Frozen):
    """Pull requests as refs of a bare repository on this machine."""

    type: Literal["embedded"] = "embedded"

    @property
    def knows_people(self) -> bool:
        """Whether an identity is more than a name that anybody may put into a Git configuration."""
        return False

    @property
    def pages(self) -> str:
        """What a pull request's number is put after for its address in a browser; empty: there are no pages."""
        return ""


Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", max_length=200)]


class ForgeGitea(Frozen):
    """Gitea or Forgejo. The token's account is who trueup is there; it needs write access to the repository."""

    type: Literal["gitea"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")]
    repository: Repository = Field(description="OWNER/NAME")
    token: Secret

    @property
    def pages(self) -> str:
        return f"{self.url.rstrip('/')}/{self.repository}/pulls/"

    @property
    def knows_people(self) -> bool:
        return True


class GitHubApp(Frozen):
    """A GitHub App on the repository: short-lived tokens, and commits that GitHub shows as verified."""

    id: Annotated[int, Field(ge=1)]
    installation: Annotated[int, Field(ge=1)]
    private_key: Secret


class ForgeGitHub(Frozen):
    """GitHub, or GitHub Enterprise with another ``url``."""

    type: Literal["github"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")] = "https://api.github.com"
    repository: Repository = Field(description="OWNER/NAME")
    app: GitHubApp | None = None
    token: Secret | None = None

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if (self.app is None) == (self.token is None):
            raise ValueError("needs exactly one of app and token")
        return self

    @property
    def pages(self) -> str:
        site = self.url.rstrip("/").removesuffix("/api/v3").replace("//api.github.com", "//github.com")
        return f"{site}/{self.repository}/pull/"

    @property
    def knows_people(self) -> bool:
        return True


class ClusterEmbedded(Frozen):
    """Servers as processes of this machine."""

    type: Literal["embedded"] = "embedded"


class ClusterKubernetes(Frozen):
    """A Kubernetes cluster. What trueup applies there stays in the namespaces of the list.

    Reconcilers keep each other out by a Lease beside Argo's workflows; without Argo it is in the first
    namespace of the first Kubernetes cluster, by name.
    """

    type: Literal["kubernetes"]
    context: KubeContext = None
    namespaces: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="Where trueup looks and writes; environments name one of them each."
    )
    argocd: Name | None = Field(
        default=None, description="Namespace of Argo CD's Applications, so that a plan can tell what they say."
    )


def _type(value: Any) -> str:
    """Without a type it is the embedded one, and so is what is no mapping: its model says so."""
    return str(value.get("type", "embedded") if isinstance(value, dict) else getattr(value, "type", "embedded"))


AnyEngine = Annotated[
    Annotated[EngineEmbedded, Tag("embedded")] | Annotated[EngineArgo, Tag("argo")], Discriminator(_type)
]
AnyForge = Annotated[
    Annotated[ForgeEmbedded, Tag("embedded")]
    | Annotated[ForgeGitea, Tag("gitea")]
    | Annotated[ForgeGitHub, Tag("github")],
    Discriminator(_type),
]
AnyCluster = Annotated[
    Annotated[ClusterEmbedded, Tag("embedded")] | Annotated[ClusterKubernetes, Tag("kubernetes")],
    Discriminator(_type),
]


class NotifierTerminal(Frozen):
    """Whoever watches the reconciler, or reads its log."""

    type: Literal["terminal"] = "terminal"


class NotifierSlack(Frozen):
    """A channel of Slack: by an incoming webhook, which has one, or as a bot that is in it."""

    type: Literal["slack"]
    webhook: Secret | None = Field(default=None, description="The address of an incoming webhook.")
    token: Secret | None = Field(default=None, description="Of a bot with the scope chat:write.")
    channel: Annotated[str, Field(pattern=r"^#?[^\s#<>&]{1,80}$")] | None = Field(
        default=None, description="For a token: its id, as in C0123456789, which survives a new name; or #NAME."
    )
    url: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")] = Field(
        default="https://slack.com/api", description="For a token: where Slack's methods are."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.webhook is None) == (self.token is None):
            raise ValueError("needs exactly one of webhook and token")
        if (self.token is None) != (self.channel is None):
            raise ValueError("needs channel beside token, and not beside webhook, which has its own")
        return self


class NotifierWebhook(Frozen):
    """Anything that takes JSON by POST. Who receives it checks the signature: docs/notifications.md."""

    type: Literal["webhook"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$", max_length=300)]
    secret: Secret = Field(description="Key of the HMAC-SHA256 over the body in X-Trueup-Signature-256.")


AnyNotifier = Annotated[NotifierTerminal | NotifierSlack | NotifierWebhook, Discriminator("type")]
DEFAULT = "default"
"""The notifier that is always there: shipped policies and environments name it, and a team says what it is."""


def _with_default(named: dict[str, AnyNotifier]) -> dict[str, AnyNotifier]:
    return {DEFAULT: NotifierTerminal(), **named}


class Images(Frozen):
    """Container images by digest. The embedded stack runs this machine's Python instead and says so."""

    server: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}$")] = (
        "trueup/server@sha256:" + "0" * 64
    )
    steps: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}$")] = (
        "trueup/steps@sha256:" + "0" * 64
    )
    repository: Later = None


Account = Annotated[str, Field(pattern=r"^[^\x00-\x20]([^\x00-\x1f]{0,98}[^\x00-\x20])?$")]


class Platform(Document):
    """What the reconciler talks to. The default is the embedded stack: one machine, no server."""

    kind: Literal["Platform"]
    requires: Annotated[str, Field(pattern=r"^[<>=!~0-9., ]+$")] = ">=0.1,<0.2"
    registries: dict[Name, Registry] = Field(default_factory=lambda: {"default": Registry()})
    engine: AnyEngine = EngineEmbedded()
    forge: AnyForge = ForgeEmbedded()
    clusters: dict[Name, AnyCluster] = Field(default={"local": ClusterEmbedded()}, validate_default=True)
    notifiers: Annotated[dict[Name, AnyNotifier], AfterValidator(_with_default)] = Field(
        default={},
        validate_default=True,
        description="For `notify` of gates and environments. `default` is the terminal unless it is said here.",
    )
    images: Images = Images()
    groups: dict[Name, tuple[Account, ...]] = Field(
        default_factory=dict, description="Accounts, as the forge spells them, for `promotion.approvedBy`."
    )
