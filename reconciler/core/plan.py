"""A plan as data: actions, holds and gaps. It survives JSON, and its digest says what would be done.

Every action is one write. ``key`` is deterministic: the same wish has the same key in every tick, which is
how a write that was made already is recognised. The actions of one subject run in order, and the first that
fails stops the rest of that subject only.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from reconciler.core.base import Frozen, Instant, Subject
from reconciler.core.digests import digest_of
from reconciler.core.observed import Check, Gap, Intent, Marker
from reconciler.core.problems import Problem

# --- verdicts ---------------------------------------------------------------------------------------------

Answer = Literal["pass", "review", "block"]
"""Of a gate, or of everything that was asked: it may go, a person decides, it may not go."""

SEVERITY: dict[Answer, int] = {"block": 0, "review": 1, "pass": 2}
"""The worst comes first."""


def together(answers: Iterable[Answer]) -> Answer:
    """What several answers come to: the worst of them, and a pass where there is none."""
    return min(answers, key=SEVERITY.__getitem__, default="pass")


class Bound(Frozen):
    """One limit of a gate, in the metric's own units: what ``of`` makes it, and on which side is good."""

    at: float
    good: Literal["above", "below"]
    of: Literal["threshold", "champion", "baseline"]


class GateVerdict(Frozen):
    """One gate's answer with everything a person needs to check it."""

    gate: str
    metric: str
    verdict: Answer
    why: str
    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None
    champion: float | None = None
    asked: str = Field(default="", description="The condition, as in '>= 0.9' or 'drop <= 0.02'.")
    bounds: tuple[Bound, ...] = ()
    paired: bool = Field(default=False, description="Whether low and high are of value minus champion.")
    detectable: float | None = Field(
        default=None,
        exclude_if=lambda smallest: smallest is None,
        description="Of a paired gate: the smallest difference that a sample like this one shows.",
    )
    slice: str = ""
    waived: str = Field(default="", description="The waiver's reason, where one was used.")

    @property
    def measurement(self) -> str:
        return self.metric.partition(".")[0]


class Objection(Frozen):
    """A reason against a pin that is not a gate."""

    code: str
    what: str
    verdict: Literal["review", "block"] = "block"


class Verdict(Frozen):
    """Whether one changed subject may be merged, on what grounds, and the digest of all that was looked at.

    ``inputs`` is empty for changes that pin nothing.
    """

    subject: Subject
    grounds: Literal["promotion", "rollback", "adoption", "removal", "documents"]
    gates: tuple[GateVerdict, ...] = ()
    objections: tuple[Objection, ...] = ()
    inputs: str = ""

    @property
    def verdict(self) -> Answer:
        return together([*(g.verdict for g in self.gates), *(o.verdict for o in self.objections)])

    def against(self) -> tuple[str, ...]:
        """Every reason that is not a pass, most severe first, one sentence each."""
        items = [(g.verdict, f"gate {g.gate}: {g.why}") for g in self.gates if g.verdict != "pass"]
        items += [(o.verdict, o.what) for o in self.objections]
        return tuple(text for _, text in sorted(items, key=lambda item: item[0]))


# --- actions ----------------------------------------------------------------------------------------------


class Act(Frozen):
    """What every action has. ``after``: the key of an action of its subject without which it makes no sense."""

    key: str
    subject: Subject
    reason: str
    after: str = Field(default="", exclude_if=operator.not_)


class SubmitWorkflow(Act):
    """Run a WorkflowTemplate under a name of ours. Already there is success."""

    kind: Literal["submit-workflow"] = "submit-workflow"
    name: str
    template: str
    commit: str
    parameters: dict[str, str]
    labels: dict[str, str]
    deadline: int = Field(description="Seconds after which the engine ends the run.")
    priority: int = Field(default=0, description="Of the model: higher goes first where runs wait.")
    parallelism: int | None = Field(default=None, description="Tasks at once, where the run may not use more.")


class MarkVersion(Act):
    """Write one of our tags on a model version: evidence, verified or told."""

    kind: Literal["mark-version"] = "mark-version"
    registry: str
    name: str
    version: str
    tag: str
    value: str


class MoveAlias(Act):
    """Point a registry alias at a version; ``current`` is what it was seen to point at."""

    kind: Literal["move-alias"] = "move-alias"
    registry: str
    name: str
    alias: str
    version: str
    current: str = ""


class RemoveAlias(Act):
    kind: Literal["remove-alias"] = "remove-alias"
    registry: str
    name: str
    alias: str
    current: str


class FileChange(Frozen):
    """One file of a commit; no content deletes it."""

    path: str
    content: str | None = None


class Summary(Frozen):
    """What a pull request tells a person; :mod:`reconciler.report.pull_request` makes the body of it."""

    headline: str
    intent: Intent
    environment: str
    model: str
    from_version: str = ""
    to_version: str = ""
    verdict: Verdict
    merges: str = Field(description="Who or what merges it, in one sentence.")
    notes: tuple[str, ...] = ()
    lineage: dict[str, str] = Field(default_factory=dict)
    difference: str = Field(default="", description="Of the manifests: a unified diff.")


class OpenPullRequest(Act):
    """Commit the files on top of ``base`` to ``branch`` and open a pull request into the default branch."""

    kind: Literal["open-pull-request"] = "open-pull-request"
    branch: str
    base: str
    title: str
    summary: Summary
    marker: Marker
    files: tuple[FileChange, ...]
    draft: bool = False
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()


class UpdatePullRequest(OpenPullRequest):
    """Rebuild our branch on ``base`` and say so; only while its head is still ``head``."""

    kind: Literal["update-pull-request"] = "update-pull-request"  # type: ignore[assignment]
    number: int
    head: str


class ClosePullRequest(Act):
    kind: Literal["close-pull-request"] = "close-pull-request"
    number: int
    branch: str
    head: str


class MergePullRequest(Act):
    """Merge exactly the head that was judged, or nothing."""

    kind: Literal["merge-pull-request"] = "merge-pull-request"
    number: int
    branch: str
    head: str
    title: str


class ApplyManifests(Act):
    """Bring one subject's objects to the manifests that its pin's merge committed."""

    kind: Literal["apply-manifests"] = "apply-manifests"
    cluster: str
    namespace: str
    release: str
    manifests: dict[str, str] = Field(description="File name -> YAML, exactly as committed.")


class PruneWorkload(Act):
    """Delete the objects of a subject that is no longer pinned; only what carries our label."""

    kind: Literal["prune-workload"] = "prune-workload"
    cluster: str
    namespace: str
    environment: str
    model: str
    objects: tuple[str, ...]


Event = Literal["needs-review", "gate-failed", "rollback", "unadmitted", "outage", "in-use-again"]


class Message(Frozen):
    """What people are told, in parts: each notifier shows them in its own way (reconciler.report.message)."""

    event: Event
    subject: Subject
    title: str
    reason: str
    gates: tuple[GateVerdict, ...] = Field(default=(), description="Those that do not pass.")
    pull_request: int | None = None
    pages: str = Field(default="", description="What its number is put after, for its address in a browser.")

    @property
    def link(self) -> str:
        """The address of the pull request; empty where there is none, or its forge has no pages."""
        return f"{self.pages}{self.pull_request}" if self.pages and self.pull_request else ""


class Tell(Act):
    """Tell people. The mark that it was said is the next action of the same subject.

    One that fails stops only its mark. Where it comes after opening a pull request, apply gives its number.
    """

    kind: Literal["tell"] = "tell"
    notifier: str
    message: Message


class ReadyPullRequest(Act):
    """Take the draft mark off a pull request of ours that people have approved."""

    kind: Literal["ready-pull-request"] = "ready-pull-request"
    number: int
    head: str


class PublishChecks(Act):
    """Show on the forge, at one head of a pull request, what each gate and admission say of it."""

    kind: Literal["publish-checks"] = "publish-checks"
    number: int
    head: str
    checks: tuple[Check, ...]


class StopWorkflow(Act):
    """End a run whose result nobody asks for any more."""

    kind: Literal["stop-workflow"] = "stop-workflow"
    name: str


class CollectWorkflows(Act):
    """Delete finished runs of ours, and their logs, that are recorded elsewhere or no longer asked for."""

    kind: Literal["collect-workflows"] = "collect-workflows"
    names: tuple[str, ...]


Action = Annotated[
    SubmitWorkflow
    | StopWorkflow
    | CollectWorkflows
    | MarkVersion
    | MoveAlias
    | RemoveAlias
    | OpenPullRequest
    | UpdatePullRequest
    | ClosePullRequest
    | MergePullRequest
    | ApplyManifests
    | PruneWorkload
    | ReadyPullRequest
    | PublishChecks
    | Tell,
    Field(discriminator="kind"),
]


# --- holds and the plan -----------------------------------------------------------------------------------


class Hold(Frozen):
    """Something that is wanted and does not happen now. Not a failure.

    ``code`` is one of :data:`reconciler.planning.holds.HOLDS`; ``reason`` is a sentence that names the next
    event or the command that would change it.
    """

    code: str
    subject: Subject
    reason: str
    person: bool = Field(default=False, description="Whether it waits for a person.")
    verdict: Verdict | None = None


class Plan(Frozen):
    """What one tick would do, and why it would not do more."""

    api_version: Literal["trueup.dev/v1"] = "trueup.dev/v1"
    kind: Literal["Plan"] = "Plan"
    revision: str
    at: Instant
    actions: tuple[Action, ...] = ()
    holds: tuple[Hold, ...] = ()
    gaps: tuple[Gap, ...] = ()
    problems: tuple[Problem, ...] = Field(
        default=(), description="Errors in documents; what they hide has no actions, and may have no subject."
    )
    tripped: tuple[str, ...] = Field(default=(), description="Tripwires that stopped a class of actions.")
    subjects: int = 0

    @property
    def digest(self) -> str:
        """Kind, key, subject, arguments and preconditions of every action; not reasons, holds or the time."""
        # A pull request's files are what the inputs digest in its marker covers, and the instant of judging.
        left_out = {"reason", "summary", "files"}
        return digest_of("plan", actions=[a.model_dump(mode="json", exclude=left_out) for a in self.actions])


class Outcome(Frozen):
    """What became of one action. ``already`` means that it was found done before it was tried."""

    key: str
    kind: str
    subject: Subject
    result: Literal["done", "already", "failed", "skipped"]
    detail: str = ""
    retryable: bool = False
