"""The kinds of document that a GitOps repository holds (docs/documents.md is made from this and platform.py).

A document's name is its path: `environments/staging/environment.yaml` is the Environment `staging`. It is
not written a second time inside. :data:`KINDS` is the one list; a new kind is one entry there and one class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, model_validator

from reconciler.core.base import (
    Digest,
    Document,
    Duration,
    Frozen,
    Instant,
    Name,
    RegisteredName,
    VersionNumber,
    parse_duration,
)
from reconciler.core.behaviour import Behaviour
from reconciler.core.contract import Contract
from reconciler.core.digests import digest_of
from reconciler.core.platform import Platform
from reconciler.core.search import Scalar, Search
from reconciler.core.serving import Record, RendererName, Runtime, Serving, ServingSnapshot

# --- Environment ------------------------------------------------------------------------------------------


class PromotesFrom(Frozen):
    """Where a candidate comes from: verified in any, or in all, of these environments."""

    any_of: tuple[Name, ...] = ()
    all_of: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if bool(self.any_of) == bool(self.all_of):
            raise ValueError("needs exactly one of anyOf and allOf, with at least one environment")
        return self

    @property
    def environments(self) -> tuple[str, ...]:
        return self.any_of or self.all_of


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is not a time zone of the IANA database, as in Europe/Berlin") from error
    return value


def _clock(value: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError("is not a time of day, as in 17:30")
    return value


class Freeze(Frozen):
    """A window in which nothing merges: weekly (days, from, to) or once (start, end), in local time.

    A weekly window whose ``to`` is not after its ``from`` ends on the next day. Of a time that the clocks of a
    day show twice, it begins at the first and ends at the second; one that they leave out is the instant of the
    change.
    """

    reason: str
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    days: tuple[Weekday, ...] = ()
    from_: Annotated[str, AfterValidator(_clock)] = Field(default="00:00", alias="from")
    to: Annotated[str, AfterValidator(_clock)] = "00:00"
    start: Instant | None = None
    end: Instant | None = None

    @model_validator(mode="after")
    def _weekly_or_once(self) -> Self:
        once = self.start is not None and self.end is not None
        if once == bool(self.days) or (self.start is None) != (self.end is None):
            raise ValueError("needs either days (with from and to), or start and end")
        if once and self.start >= self.end:  # type: ignore[operator]
            raise ValueError("ends before it starts")
        return self

    def active(self, at: datetime) -> bool:
        """Whether the window is open at ``at`` (an aware datetime)."""
        return self.ends(at) is not None

    def ends(self, at: datetime) -> datetime | None:
        """When the window that is open at ``at`` closes; None where it is not open."""
        return max((end for start, end in self._around(at) if start <= at < end), default=None)

    def _around(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The windows that may be open at ``at``, from and to, in UTC."""
        if self.start is not None and self.end is not None:
            yield self.start, self.end
            return
        zone = ZoneInfo(self.time_zone)
        begin, finish = time.fromisoformat(self.from_), time.fromisoformat(self.to)
        today = at.astimezone(zone).date()
        for day in (today - timedelta(days=1), today, today + timedelta(days=1)):
            if _DAYS[day.weekday()] in self.days:
                last = day if begin < finish else day + timedelta(days=1)
                yield (
                    _instant_of(datetime.combine(day, begin), zone, fold=0),
                    _instant_of(datetime.combine(last, finish), zone, fold=1),
                )


def _instant_of(local: datetime, zone: ZoneInfo, fold: Literal[0, 1]) -> datetime:
    """When the clocks of ``zone`` show ``local``: the first time or the second, where they do so twice.

    Where they never do, because they are put forward over it: the instant of that. Between these two readings
    of a time that is left out lies the change (PEP 495), and the clocks pass ``local`` exactly there.
    """
    first, second = (local.replace(tzinfo=zone, fold=reading).astimezone(UTC) for reading in (0, 1))
    if first <= second:
        return (first, second)[fold]
    before, after = second, first
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            before = middle
        else:
            after = middle
    return after


def frozen_until(windows: Iterable[Freeze], at: datetime) -> datetime | None:
    """When none of the windows is open any more, counted from ``at``; None where none is open then.

    Windows that overlap or follow each other without a gap are one. Where that has no end within a year, a
    later instant than that.
    """
    open_, end = tuple(windows), at
    for _ in range(400):
        closing = [closes for window in open_ if (closes := window.ends(end)) is not None]
        if not closing:
            break
        end = max(closing)
    return end if end > at else None


_DAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


Merge = Literal["auto", "manual"]
"""Who merges what is admitted and approved: ``auto``: trueup, at the judged head. ``manual``: a person."""


class GroupApproval(Frozen):
    """Approvals that must be given by members of one group of the Platform."""

    group: Name
    count: Annotated[int, Field(ge=1, le=20)] = 1


class Promotion(Frozen):
    merge: Merge = Field(
        default="auto", description="Who merges what is admitted and approved: trueup, or a person."
    )
    approvals: Annotated[int, Field(ge=0, le=20)] = Field(
        default=1, description="Approvals of the head that are needed, by people other than its author."
    )
    approved_by: tuple[GroupApproval, ...] = Field(
        default=(),
        description="Whose approvals are among them. One person counts for the total, and for one group.",
    )
    authors_may_review: bool = Field(
        default=False,
        description="Whether who made a version may alone decide what a gate leaves to a person, or waive it, "
        "as in a team of one. The embedded forge does not know who people are: there it is not asked.",
    )
    reviewers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,99}$")], ...] = Field(
        default=(), description="Accounts, or ORGANISATION/TEAM, that the forge asks for a review."
    )
    soak: Duration = Field(default_factory=lambda: parse_duration("10m"))
    freeze: tuple[Freeze, ...] = ()
    on_unadmitted: Literal["hold", "revert"] = Field(
        default="hold", description="What to do about a pin that was merged without being admissible."
    )

    @model_validator(mode="after")
    def _each_group_once(self) -> Self:
        names = [need.group for need in self.approved_by]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names a group twice in approvedBy: {', '.join(twice)}; add up its counts")
        return self


class Rollback(Frozen):
    on: tuple[Literal["unhealthy", "aborted"], ...] = ("unhealthy", "aborted")
    for_: Duration = Field(default_factory=lambda: parse_duration("1m"), alias="for")
    window: Duration = Field(default_factory=lambda: parse_duration("24h"))
    merge: Merge = Field(default="manual", description="Who merges a rollback that trueup proposes.")


OnDrift = Literal["heal", "warn"]


class Drift(Frozen):
    """What happens where somebody changed what trueup had put there: put back, or only told.

    Committed manifests that were edited are never put back: Git is changed by pull requests alone.
    """

    cluster: OnDrift = "heal"
    alias: OnDrift = "heal"


class Limits(Frozen):
    """Budgets (the first N go, the rest wait) and tripwires (past N the class stops; people are told)."""

    submissions: Annotated[int, Field(ge=0)] = Field(
        default=10, description="Budget: workflows running at once."
    )
    submissions_per_minute: Annotated[int, Field(ge=0)] = Field(
        default=30, description="Budget: workflows that began within one minute."
    )
    open_pull_requests: Annotated[int, Field(ge=0)] = Field(default=20, description="Budget.")
    gpu_hours: Annotated[int, Field(ge=0)] = Field(
        default=100, description="Budget: GPUs x hours reserved by running trainings."
    )
    deletes: Annotated[int, Field(ge=0)] = Field(
        default=3, description="Tripwire: workloads pruned in one tick."
    )
    alias_removals: Annotated[int, Field(ge=0)] = Field(default=3, description="Tripwire.")
    rollbacks: Annotated[int, Field(ge=0)] = Field(default=3, description="Tripwire: more is an outage.")
    prunes: Annotated[int, Field(ge=0)] = Field(
        default=20, description="Tripwire: versions deleted by one `reconcile prune --delete`."
    )


class Retention(Frozen):
    """How long versions stay that this environment has verified, or in which nothing promotes from: trained.

    With both, a version stays for as long as either of them keeps it. What is in use stays in any case.
    """

    for_: Duration | None = Field(
        default=None, alias="for", description="Since the next one was verified here; of others, registered."
    )
    versions: Annotated[int, Field(ge=1)] | None = Field(default=None, description="The newest so many stay.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.for_ is None and self.versions is None:
            raise ValueError("says nothing: give for, versions or both; without retention, all are kept")
        return self


Trigger = Literal["code", "data", "schedule"]


class Environment(Document):
    """One place where models serve, and the rules for getting there."""

    kind: Literal["Environment"]
    promotes_from: PromotesFrom | None = None
    policy: Name
    registry: Name = "default"
    alias: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    cluster: Name = "local"
    namespace: Name
    runtime: Runtime = Runtime()
    sync: Literal["reconciler", "argocd"] = Field(
        default="reconciler", description="Who applies the committed manifests: trueup, or Argo CD."
    )
    promotion: Promotion = Promotion()
    rollback: Rollback = Rollback()
    drift: Drift = Drift()
    limits: Limits = Limits()
    notify: tuple[Name, ...] = Field(
        default=("default",),
        description="The Platform's notifiers that are told of what concerns no gate: a rollback, an outage, a "
        "pin that may not be applied.",
    )
    retention: Retention | None = Field(
        default=None, description="Without one, every version is kept and none is archived."
    )
    retrain_on: tuple[Trigger, ...] = Field(
        default=("code", "data"),
        description="What trains anew at once; beside `schedule`, all else waits for the model's own.",
    )


# --- Model ------------------------------------------------------------------------------------------------

Declaration = Literal[
    "behaviour",
    "data.contract",
    "data.evaluation.protected",
    "monitoring.record",
    "serving",
    "training.workflow",
]
"""What a model may or may not have, and a gate may be asked for only where it has: paths of its document, and
`behaviour`, the tests beside it."""

Task = Literal["classification", "binary-classification", "regression"]
"""What is predicted, and so which metrics an evaluation has. Two classes are also measured by their ranking."""


class DataSet(Frozen):
    """A DVC pointer (`*.dvc`) to a file, or a folder of files, relative to the model's folder."""

    pointer: Annotated[
        str, Field(pattern=r"^([A-Za-z0-9_][-A-Za-z0-9_.]*/)*[A-Za-z0-9_][-A-Za-z0-9_.]*\.dvc$", max_length=200)
    ]


class EvaluationData(DataSet):
    """Rows that candidate and champion are both scored on."""

    target: str
    slices: tuple[str, ...] = Field(default=(), description="Columns by whose values the metrics are split.")
    protected: tuple[str, ...] = Field(
        default=(),
        description="Columns between whose groups a model must be fair. They are slices, too; combinations of "
        "them are not made.",
    )


class Data(Frozen):
    train: DataSet | None = None
    evaluation: EvaluationData
    contract: Contract | None = Field(default=None, description="What the rows of both must be.")


class Compute(Frozen):
    """What one training may use. Not part of the training key: where it ran is not what it is."""

    device: Literal["cpu", "cuda"] = "cpu"
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    hours: Annotated[int, Field(ge=1, le=720)] = Field(default=1, description="Deadline of one attempt.")
    pool: Name | None = Field(default=None, description="One of the Platform's `engine.pools`.")
    spot: bool = Field(
        default=False, description="On nodes of the pool that may be taken away: restarted where that happens."
    )

    @model_validator(mode="after")
    def _spot_of_a_pool(self) -> Self:
        if self.spot and self.pool is None:
            raise ValueError("has spot without a pool; name one of the Platform's engine.pools")
        return self


class External(Frozen):
    """Trained elsewhere: the candidate is the version that this registry alias names."""

    alias: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


def _cron(value: str) -> str:
    try:
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        value = ""
    if len(value.split()) != 5:  # of six, the first would be seconds
        raise ValueError("is not a cron expression of five fields that comes true, as in 0 3 * * mon")
    return value


class Schedule(Frozen):
    """Instants at which changes that gathered are trained: local time, read as Debian's cron reads it.

    A time of day that daylight saving leaves out comes at the end of the gap; one that it repeats comes once.
    """

    cron: Annotated[str, AfterValidator(_cron)]
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"

    def after(self, at: datetime) -> datetime:
        """The first instant of the schedule after ``at``, in UTC."""
        local = CronSim(self.cron, at.astimezone(ZoneInfo(self.time_zone)))
        # In the hour that comes twice, the first of the two is what a time of day means, and may be over.
        return next(utc for due in local if (utc := due.astimezone(UTC)) > at)


class Retrain(Frozen):
    """When a training that is called for has to wait. Nothing of it is part of the training key.

    The first training of a model waits for hoursPerDay alone, and what a person asks for by
    `reconcile retrain MODEL --reason ...` waits for nothing.
    """

    schedule: Schedule | None = Field(
        default=None, description="For environments whose `retrainOn` names `schedule`."
    )
    cooldown: Duration | None = Field(
        default=None, description="Since the last training registered its version; of one that did not, began."
    )
    hours_per_day: Annotated[float, Field(gt=0, le=24)] | None = Field(
        default=None, description="Hours of training within the last 24 that leave room for another one."
    )


REPRODUCIBLE = "train-v1"
"""The template whose trainings can be made once more: of another one it is not known what its training is."""


class Training(Frozen):
    workflow: Name | None = Field(default=None, description="A WorkflowTemplate of workflows/rendered.")
    external: External | None = None
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    compute: Compute = Compute()
    search: Search | None = None
    retrain: Retrain = Retrain()
    reproduce: Schedule | None = Field(
        default=None,
        description="At its first instant after a version was registered, the newest is trained once more "
        "and compared; each version once.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.workflow is None) == (self.external is None):
            raise ValueError("needs exactly one of workflow and external")
        for name, asked in (("retrain", self.retrain != Retrain()), ("reproduce", self.reproduce is not None)):
            if self.external is not None and asked:
                raise ValueError(f"has {name}, and external versions are not trained here")
        if self.search is not None:
            if self.external is not None:
                raise ValueError("is external, and so has no trials of its own; remove search")
            self.search.against(self.hyperparameters)
        return self

    @property
    def section(self) -> dict[str, Any]:
        """The part that decides what is learned; see :func:`reconciler.core.digests.training_key`."""
        section = {"workflow": self.workflow, "hyperparameters": dict(sorted(self.hyperparameters.items()))}
        return section if self.search is None else {**section, "search": self.search.deciding}

    @property
    def parallelism(self) -> int | None:
        """Tasks of a run at once; None leaves it to the engine."""
        return min(self.search.parallelism, self.search.number) if self.search else None


class Monitoring(Frozen):
    record: Record | None = Field(
        default=None, description="Without one, servers record nothing of the requests."
    )
    report: bool = Field(
        default=False,
        description="With each measurement of drift, Evidently's page for people: the older half of what was "
        "recorded against the newer one. It holds histograms and frequent values of requests.",
    )

    @model_validator(mode="after")
    def _something_to_report(self) -> Self:
        if self.report and self.record is None:
            raise ValueError("has report without record; a report is of recorded requests")
        return self


class Files(Frozen):
    """What this model's files may be besides what every model's may: for gates on `files`."""

    types: tuple[Annotated[str, Field(pattern=r"^\.[A-Za-z0-9_]{1,20}$")], ...] = Field(
        default=(), description="Suffixes, as in .ubj. Programs are refused whatever they are called."
    )
    globals: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")], ...] = Field(
        default=(),
        description="What its pickles may import, as in sklearn.linear_model._base.LinearRegression. What runs "
        "code, as os.system, is refused all the same.",
    )

    @property
    def allowed(self) -> tuple[str, ...]:
        """Both, sorted: a suffix begins with a dot, and a global does not."""
        return tuple(sorted({*self.types, *self.globals}))


class Model(Document):
    """One model: where its data, code and versions are, how it trains, serves, and where it may go."""

    kind: Literal["Model"]
    owner: str = Field(description="Whom people ask. For people: nothing is decided by it.")
    description: str = ""
    task: Task
    registered_name: RegisteredName
    data: Data
    training: Training
    baselines: dict[str, float] = Field(
        default_factory=dict, description="Metric values that the team promised never to fall below."
    )
    serving: Serving | Literal["none"] = Serving()
    monitoring: Monitoring = Monitoring()
    files: Files = Files()
    environments: tuple[Name, ...]
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(default=0, description="Higher goes first.")

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        if self.training.workflow and self.data.train is None:
            raise ValueError("trains by workflow and so needs data.train")
        return self

    @model_validator(mode="after")
    def _recordable(self) -> Self:
        if self.monitoring.record is not None and self.serving == "none":
            raise ValueError("has monitoring.record, and serving: none answers no requests")
        return self

    @property
    def declared(self) -> frozenset[Declaration]:
        """Which of the fields that a gate's ``when.declares`` may name are there."""
        there: dict[Declaration, bool] = {
            "data.contract": self.data.contract is not None,
            "data.evaluation.protected": bool(self.data.evaluation.protected),
            "monitoring.record": self.monitoring.record is not None,
            "serving": self.serving != "none",
            "training.workflow": self.training.workflow is not None,
        }
        return frozenset(name for name, is_there in there.items() if is_there)

    def serving_in(
        self, environment: str, runtime: Runtime, renderer: RendererName | None = None
    ) -> ServingSnapshot | Literal["none"]:
        """How a version serves there now, by the environment's renderer unless another one is named."""
        if isinstance(self.serving, str):
            return "none"
        snapshot = self.serving.resolve(environment, runtime, renderer or runtime.renderer)
        return snapshot.model_copy(update={"record": self.monitoring.record})


# --- Release ----------------------------------------------------------------------------------------------


class Pin(Frozen):
    """One model version, by name and by identity."""

    registry: Name
    name: RegisteredName
    version: VersionNumber
    digest: Digest


class VerifiedPin(Frozen):
    """A release that soaked and was found healthy: a version, its release digest, and when."""

    version: VersionNumber
    digest: Digest
    release: Digest
    at: Instant


class Rejected(Frozen):
    """A thing that failed here and is not proposed again. ``digest``: of the model, or of the release where
    only the serving section was new."""

    digest: Digest
    version: VersionNumber
    reason: str
    since: Instant


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; say why")
    return value


Why = Annotated[str, AfterValidator(_said)]


class Ordered(Frozen):
    """A person ordered this version. It stays until another one comes after ``at``: is registered, or where the
    environment has a promotesFrom, is verified there."""

    by: Annotated[str, Field(max_length=100)]
    reason: Why
    at: Instant


class Admission(Frozen):
    """On what grounds this pin was let in, and the digests from which that can be worked out again."""

    grounds: Literal["promotion", "rollback", "adoption"]
    judged_at: Instant
    policy: Digest | None = None
    evidence: Digest | None = Field(default=None, description="Of the evidence file beside this Release.")
    inputs: Digest | None = Field(default=None, description="Everything the verdict depended on.")
    judge: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")] = Field(
        default="1", description="Version of the judge that let it in."
    )
    rendered: Digest | None = Field(default=None, description="Of the manifests committed with this pin.")
    reason: str = Field(default="", description="Why, where it was not a promotion.")
    order: Ordered | None = Field(default=None, description="Of a promotion that a person ordered.")


def release_digest(pin: Pin, image: str, serving: ServingSnapshot | Literal["none"], renderer: str) -> str:
    """Identity of what runs: the model, the image, how it is served and rendered. Not why it was let in."""
    return digest_of(
        "release",
        pin={"registry": pin.registry, "name": pin.name, "digest": pin.digest},
        image=image,
        serving=serving,
        renderer=renderer,
    )


class Release(Document):
    """The pin: which version serves, exactly how, and why it was let in.

    Written by trueup only, with one exception: an entry of `rejected` is lifted by a person, in a reviewed pull
    request that takes it out and changes nothing else.
    """

    kind: Literal["Release"]
    pin: Pin
    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64}$")]
    serving: ServingSnapshot | Literal["none"]
    renderer: RendererName
    admission: Admission
    champion: VerifiedPin | None = Field(
        default=None,
        description="The environment's champion when this pin was proposed, so what it was compared with; not "
        "this pin, which becomes the champion when it is verified.",
    )
    rejected: tuple[Rejected, ...] = ()

    @property
    def digest(self) -> str:
        return release_digest(self.pin, self.image, self.serving, self.renderer)

    def rejects(self, *digests: str) -> Rejected | None:
        """The entry that rejects one of these model or release digests, if there is one."""
        return next((entry for entry in self.rejected if entry.digest in digests), None)


# --- Exceptions -------------------------------------------------------------------------------------------


class HoldOrder(Frozen):
    """Nothing is promoted until then. Rollbacks still are."""

    reason: Why
    until: Instant | None = None

    def counts(self, at: datetime) -> bool:
        """Whether its time is not over."""
        return self.until is None or at < self.until


class Waiver(Frozen):
    """One gate, for one candidate, until then, is not asked."""

    gate: Name
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}(\.dir)?)$")]
    reason: Why
    expires: Instant

    def counts(self, at: datetime) -> bool:
        """Whether its time is not over."""
        return at < self.expires


class Exceptions(Document):
    """What people decided against the rule, with a reason and an end. Written by people only."""

    kind: Literal["Exceptions"]
    holds: tuple[HoldOrder, ...] = ()
    waivers: tuple[Waiver, ...] = ()


# --- GatePolicy -------------------------------------------------------------------------------------------

Operator = Literal["<", "<=", ">=", ">"]
OnFail = Literal["block", "review"]


class Versus(Frozen):
    """Compare with the champion (paired, on the same rows) or with the model's declared baseline.

    With ``maxDrop`` higher is better: the lower end of the difference's interval must be at least -maxDrop.
    With ``maxRise`` lower is better: its upper end must be at most maxRise.
    """

    ref: Literal["champion", "baseline"]
    max_drop: Annotated[float, Field(ge=0)] | None = None
    max_rise: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if (self.max_drop is None) == (self.max_rise is None):
            raise ValueError("needs exactly one of maxDrop and maxRise")
        return self


class When(Frozen):
    """To which candidates a gate applies; what is not named applies to all."""

    models: tuple[Name, ...] = Field(
        default=(), description="As where `slices` names columns that only they have."
    )
    tasks: tuple[Task, ...] = ()
    changes: tuple[Literal["version", "serving"], ...] = Field(
        default=(), description="`version`: another model; `serving`: the same model, served differently."
    )
    declares: tuple[Declaration, ...] = Field(
        default=(),
        description="Only models that declare all of these, in their document or by files beside it.",
    )
    champion: bool = Field(
        default=False, description="Only where a release was verified before: with nothing, nothing compares."
    )

    def meant(self, name: str, task: Task, declared: frozenset[Declaration]) -> bool:
        """Whether candidates of this model are asked at all, whatever changes."""
        return (
            (not self.models or name in self.models)
            and (not self.tasks or task in self.tasks)
            and declared.issuperset(self.declares)
        )


class Gate(Frozen):
    name: Name
    metric: Annotated[str, Field(pattern=r"^[a-z][a-z-]*\.[a-z][a-z0-9_-]*$")] = Field(
        description="MEASUREMENT.METRIC, as in evaluate.accuracy"
    )
    op: Operator | None = None
    threshold: float | None = None
    versus: Versus | None = None
    min_samples: Annotated[int, Field(ge=1)] = 1
    max_age: Duration | None = None
    slices: tuple[str, ...] = Field(default=(), description="Judge the worst value of these slices.")
    when: When = When()
    on_fail: OnFail = "block"
    on_missing: OnFail = "block"
    on_no_champion: Literal["absolute", "baseline", "review", "block"] = Field(
        default="review",
        description="Before the first release: judge by the threshold alone, compare with the model's baseline "
        "instead, or answer so.",
    )
    notify: tuple[Name, ...] = Field(
        default=(), description="The Platform's notifiers that are told where it does not pass."
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if (self.op is None) != (self.threshold is None):
            raise ValueError("needs op and threshold together")
        if self.threshold is None and self.versus is None:
            raise ValueError("asks nothing: give op and threshold, or versus")
        absolute = self.versus is not None and self.on_no_champion == "absolute"
        if absolute and self.threshold is None:
            raise ValueError("onNoChampion: absolute needs op and threshold")
        return self

    @property
    def measurement(self) -> str:
        return self.metric.partition(".")[0]

    @property
    def needs_baseline(self) -> bool:
        return self.versus is not None and (self.versus.ref == "baseline" or self.on_no_champion == "baseline")


class GatePolicy(Document):
    """What a version must prove. ``extends`` merges gates by name; a child may only tighten."""

    kind: Literal["GatePolicy"]
    extends: Name | None = None
    gates: tuple[Gate, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [gate.name for gate in self.gates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names a gate twice: {', '.join(twice)}")
        return self


# --- PolicyTest -------------------------------------------------------------------------------------------


class Difference(Frozen):
    """Candidate minus champion on the same rows, with its interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Numbers(Frozen):
    """What evidence says of one metric, on all rows or on those of a slice."""

    value: float | None = Field(default=None, description="Nothing: there was nothing to measure.")
    n: Annotated[int, Field(ge=0)] | None = Field(default=None, description="By default the measurement's.")
    low: float | None = None
    high: float | None = None
    champion: float | None = None
    difference: Difference | None = None


class MetricNumbers(Numbers):
    slices: dict[str, dict[str, Numbers]] = Field(
        default_factory=dict, description="Slice column -> value of that column -> numbers."
    )


class MeasurementNumbers(Frozen):
    """The evidence of one measurement."""

    n: Annotated[int, Field(ge=0)] | None = None
    age: Duration | None = Field(default=None, description="By default an hour.")
    metrics: dict[str, MetricNumbers | None] = Field(
        default_factory=dict, description="In a case, null takes away what the test says."
    )


class Facts(Frozen):
    """What gates ask of a Model document."""

    name: Name | None = Field(default=None, description="For gates whose `when` names models.")
    task: Task | None = None
    baselines: dict[str, float | None] | None = Field(
        default=None, description="In a case, null takes away what the test says."
    )
    declares: tuple[Declaration, ...] | None = Field(default=None, description="By default nothing.")


Expected = Literal["pass", "review", "block", "not-asked"]


class PolicyCase(Frozen):
    """One candidate. What is said here goes over what the test says, field by field; what is not stays."""

    name: str
    model: Facts = Facts()
    change: Literal["version", "serving"] = "version"
    champion: bool = Field(default=True, description="Whether a release was verified before.")
    traffic: bool = Field(default=True, description="Whether the champion's release records its requests.")
    measured: bool = Field(default=True, description="False: there is no evidence at all.")
    evidence: dict[Name, MeasurementNumbers | None] = Field(
        default_factory=dict, description="Measurement -> its numbers; null: it was not made."
    )
    waived: tuple[Name, ...] = Field(default=(), description="Gates that are waived for this candidate.")
    expect: dict[Name, Expected] = Field(default_factory=dict, description="Gate -> its answer.")
    others: Expected | None = Field(
        default=None, description="The answer of all gates that are asked and not in `expect`."
    )
    verdict: Literal["pass", "review", "block"] | None = Field(
        default=None, description="The answer of all gates together."
    )

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if not self.expect and self.others is None and self.verdict is None:
            raise ValueError("expects nothing: give expect, others or verdict")
        return self


class PolicyTest(Document):
    """A table of candidates and of what policies must say of them: `reconcile policy test`."""

    kind: Literal["PolicyTest"]
    policies: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="Each case is put to each of them; `expect` to those that have the gate."
    )
    model: Facts = Facts()
    evidence: dict[Name, MeasurementNumbers] = Field(
        default_factory=dict, description="Measurement -> the numbers that every case begins with."
    )
    cases: tuple[PolicyCase, ...]


# --- the list ---------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """One kind of document: its class, and where its files are (named groups become its identity)."""

    type: type[Document]
    path: re.Pattern[str]
    example: str


_N = r"[^/]+"
KINDS: dict[str, Kind] = {
    "Platform": Kind(Platform, re.compile(r"^environments/platform\.yaml$"), "environments/platform.yaml"),
    "Environment": Kind(
        Environment,
        re.compile(rf"^environments/(?P<environment>{_N})/environment\.yaml$"),
        "environments/staging/environment.yaml",
    ),
    "Release": Kind(
        Release,
        re.compile(rf"^environments/(?P<environment>{_N})/releases/(?P<model>{_N})\.yaml$"),
        "environments/staging/releases/digits.yaml",
    ),
    "Exceptions": Kind(
        Exceptions,
        re.compile(rf"^environments/(?P<environment>{_N})/exceptions/(?P<model>{_N})\.yaml$"),
        "environments/staging/exceptions/digits.yaml",
    ),
    "Model": Kind(Model, re.compile(rf"^models/(?P<model>{_N})/model\.yaml$"), "models/digits/model.yaml"),
    "Behaviour": Kind(
        Behaviour, re.compile(rf"^models/(?P<model>{_N})/behaviour\.yaml$"), "models/digits/behaviour.yaml"
    ),
    "GatePolicy": Kind(
        GatePolicy, re.compile(rf"^policies/(?P<policy>{_N})\.yaml$"), "policies/production.yaml"
    ),
    "PolicyTest": Kind(
        PolicyTest, re.compile(rf"^policies/tests/(?P<test>{_N})\.yaml$"), "policies/tests/production.yaml"
    ),
}


def release_path(environment: str, model: str) -> str:
    return f"environments/{environment}/releases/{model}.yaml"


def evidence_path(environment: str, model: str) -> str:
    return f"environments/{environment}/releases/{model}.evidence.json"


def rendered_folder(environment: str, model: str) -> str:
    return f"environments/{environment}/rendered/{model}"
