"""What the systems say: the sweep over everything, and the details of the subjects that are not at rest.

A source that failed is a :class:`Gap` in the place of its answer. A Gap never means "nothing there": the
planner holds whatever it hides.
"""

from __future__ import annotations

import json
import operator
import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from reconciler.core.base import Frozen, Instant, Subject, format_instant
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Release
from reconciler.core.evidence import Evidence


class Gap(Frozen):
    """A source that could not be read: which, and why."""

    gap: Literal[True] = True
    source: str
    error: str
    retryable: bool = True


# --- registry ---------------------------------------------------------------------------------------------

TAG_KEY = "trueup.training-key"
TAG_DIGEST = "trueup.digest"
TAG_INPUTS = "trueup.training-inputs"
TAG_SEARCH = "trueup.search"
"""JSON: ``trial``, of how many ``trials``, the ``metric`` and its ``value``, and the ``hyperparameters``."""
TAG_ARCHIVED = "trueup.archived"


PRUNED = "trueup.pruned."
"""On the registered model, with a version's number behind it: the log of what was deleted."""
_EVIDENCE = "trueup.evidence."


def evidence_tag(measurement: str, key: str, number: int = 1) -> str:
    """The tag of a key's first, second, ... mark: a later one does not replace what was judged before."""
    again = f".{number}" if number > 1 else ""
    return f"{_EVIDENCE}{measurement}.{key}{again}"


def verified_tag(environment: str) -> str:
    return f"trueup.verified.{environment}"


def told_tag(environment: str, event: str, notifier: str) -> str:
    """Its value is the digest of what was told of: one tag for each notifier, as each may fail alone."""
    return f"trueup.told.{environment}.{event}.{notifier}"


def alias_tag(environment: str) -> str:
    """Says for which release trueup moved the alias; asked only where drift of the alias is not put back."""
    return f"trueup.alias.{environment}"


class Mark(Frozen):
    """Where a piece of evidence is, and its SHA-256: the value of an evidence tag, ``URI@sha256:HEX``."""

    uri: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.uri}@{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        match = re.fullmatch(r"(?P<uri>[^@\s]{1,1000})@(?P<sha256>sha256:[0-9a-f]{64})", text)
        return cls(**match.groupdict()) if match else None


class VerifiedMark(Frozen):
    """Which release soaked, and when: the value of a verified tag, ``RELEASE-DIGEST@INSTANT``."""

    release: str
    at: Instant

    def __str__(self) -> str:
        return f"{self.release}@{format_instant(self.at)}"

    @classmethod
    def parse(cls, text: str) -> VerifiedMark | None:
        match = re.fullmatch(r"(?P<release>sha256:[0-9a-f]{64})@(?P<at>[0-9TZ:.+-]{10,40})", text)
        try:
            return cls.model_validate(match.groupdict()) if match else None
        except ValidationError:
            return None


class Archived(Frozen):
    """That no environment needs a version any more: the value of its tag, as JSON.

    ``number``: the first time, the second, so that no two of these marks are the same. ``at``: since when its
    retention is over. ``back``: why it is in use again, and so archived no longer.
    """

    number: Annotated[int, Field(ge=1)]
    at: Instant
    by: Annotated[str, Field(max_length=100)]
    why: Annotated[str, Field(max_length=1000)]
    back: Annotated[str, Field(max_length=1000)] = ""

    def __str__(self) -> str:
        return self.model_dump_json(by_alias=True)

    @classmethod
    def parse(cls, text: str) -> Archived | None:
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None


class ModelVersion(Frozen):
    """One version in the registry. ``tags`` are only ours (``trueup.*``); aliases are kept per name."""

    version: str
    run_id: str = ""
    created: Instant
    ready: bool = True
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def digest(self) -> str | None:
        value = self.tags.get(TAG_DIGEST, "")
        return value if re.fullmatch(r"sha256:[0-9a-f]{64}", value) else None

    @property
    def training_key(self) -> str | None:
        return self.tags.get(TAG_KEY)

    @property
    def training_inputs(self) -> dict[str, str]:
        try:
            value = json.loads(self.tags.get(TAG_INPUTS, "{}"))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def search(self) -> str:
        """Of which trials the hyperparameters are the best, in words; empty where nothing was searched."""
        try:
            found = json.loads(self.tags.get(TAG_SEARCH, "{}"))
            trial, trials = int(found["trial"]), int(found["trials"])
            return f"best of {trials} trials (trial {trial}, {found['metric']} {float(found['value']):.4g})"
        except (ValueError, TypeError, KeyError, OverflowError):
            return ""

    @property
    def archival(self) -> Archived | None:
        """What was said last of it: that it is archived, or is so no longer."""
        return Archived.parse(self.tags[TAG_ARCHIVED]) if TAG_ARCHIVED in self.tags else None

    @property
    def archived(self) -> Archived | None:
        """When and why it was archived, if it still is."""
        said = self.archival
        return None if said is None or said.back else said

    @property
    def chosen(self) -> dict[str, Any]:
        """The hyperparameters that a search chose; empty where nothing was searched."""
        try:
            found = json.loads(self.tags.get(TAG_SEARCH, "{}"))
            return dict(found["hyperparameters"])
        except (ValueError, TypeError, KeyError):
            return {}

    def marks(self, measurement: str, key: str) -> tuple[Mark, ...]:
        """The marks of a key, newest first, as far as they are numbered without a break."""
        found: list[Mark] = []
        while mark := Mark.parse(self.tags.get(evidence_tag(measurement, key, len(found) + 1), "")):
            found.append(mark)
        return tuple(reversed(found))

    def mark(self, measurement: str, key: str) -> Mark | None:
        """The newest mark of a key: the one that is judged."""
        return next(iter(self.marks(measurement, key)), None)

    def evidence_marks(self) -> tuple[Mark, ...]:
        """The newest mark of every key of every measurement, by the tags' names."""
        keys = sorted({tuple(name.split(".")[2:4]) for name in self.tags if name.startswith(_EVIDENCE)})
        found = (self.mark(*key) for key in keys if len(key) == 2)
        return tuple(mark for mark in found if mark is not None)

    def verified(self, environment: str) -> VerifiedMark | None:
        """The mark that a release of this version was verified there."""
        return VerifiedMark.parse(self.tags.get(verified_tag(environment), ""))


class Pruned(Frozen):
    """That a person had a version deleted, and what it was. Written before the first of it is gone, and kept.

    ``listed``: the digest of the list that they were shown. ``run``: of its training, by whose id what is left
    is found.
    """

    at: Instant
    by: Annotated[str, Field(max_length=200)]
    listed: str
    digest: str = ""
    training_key: str = ""
    run: str = ""

    def __str__(self) -> str:
        return self.model_dump_json(by_alias=True)

    @classmethod
    def parse(cls, text: str) -> Pruned | None:
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None


class RegisteredModel(Frozen):
    """Everything under one registered name: alias -> version, and the versions, oldest first.

    ``pruned``: by number, what was deleted by a person's `reconcile prune`, or was begun to be.
    """

    aliases: dict[str, str] = Field(default_factory=dict)
    versions: tuple[ModelVersion, ...] = ()
    pruned: dict[str, Pruned] = Field(default_factory=dict)

    def version(self, number: str) -> ModelVersion | None:
        return next((v for v in self.versions if v.version == number), None)


class RegistrySweep(Frozen):
    gap: Literal[False] = False
    models: dict[str, RegisteredModel] = Field(default_factory=dict)


class RegistryRun(Frozen):
    """A run of ours in the registry's tracking store: a training, a trial nested in one, or a measurement.

    ``candidate``: NAME/VERSION that a measurement was about.
    """

    run_id: str
    name: str = ""
    parent: str = ""
    candidate: str = ""


# --- engine -----------------------------------------------------------------------------------------------

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Error"]


class WorkflowRun(Frozen):
    """One run that carries our labels."""

    name: str
    phase: Phase
    labels: dict[str, str] = Field(default_factory=dict)
    started: Instant | None = None
    finished: Instant | None = None
    progress: str = Field(default="", description="Tasks done / tasks, as in 2/3.")
    message: str = Field(default="", description="Of the first failed task, where one failed.")
    outputs: dict[str, str] = Field(default_factory=dict, description="Global output parameters.")
    parameters: dict[str, str] = Field(default_factory=dict)
    reason: str = Field(default="", description="Why it was submitted.")
    asked_by: str = Field(default="", description="The person who asked for it; empty where the planner did.")
    stopped: str = Field(default="", description="Why it was ended; empty where it ended by itself.")
    stopped_by: str = Field(default="", description="The person who ended it; empty where the planner did.")

    @property
    def done(self) -> bool:
        return self.phase in ("Succeeded", "Failed", "Error")

    @property
    def outcome(self) -> Phase | Literal["Cancelled"]:
        """The phase, in the word of people: whoever is ended fails in every engine, and is no failure."""
        return "Cancelled" if self.stopped and self.done and self.phase != "Succeeded" else self.phase

    @property
    def said(self) -> str:
        """Who ended it, or is ending it, and why; of others, the engine's message."""
        if not self.stopped or self.phase == "Succeeded":
            return self.message
        return f"{'' if self.done else 'is being ended '}by {self.stopped_by or 'trueup'}: {self.stopped}"

    @property
    def superseded(self) -> bool:
        """Whether trueup ended it, because nothing asked for it any more: no attempt that failed."""
        return bool(self.stopped) and not self.stopped_by


class EngineSweep(Frozen):
    gap: Literal[False] = False
    runs: dict[str, WorkflowRun] = Field(default_factory=dict, description="By name.")


# --- forge ------------------------------------------------------------------------------------------------

Intent = Literal["promote", "rollback", "remove", "adopt"]


class Marker(Frozen):
    """What our pull request says about itself to the next tick, hidden in its body."""

    intent: Intent
    environment: str
    model: str
    candidate: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|none)$")]
    inputs: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    asked_by: Annotated[str, Field(max_length=100)] = Field(
        default="", description="The person who asked for it by a command; empty where the planner did."
    )
    version: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,8})?$")] = Field(
        default="", exclude_if=operator.not_, description="The version that this person ordered, if they did."
    )

    def __str__(self) -> str:
        # A name in it that ends the comment would be seen, and would no longer be found.
        return f"<!-- trueup {self.model_dump_json(by_alias=True).replace('>', chr(92) + 'u003e')} -->"

    @classmethod
    def find(cls, body: str) -> Marker | None:
        """The marker on the body's last line, where only we write; anything else is text."""
        match = re.fullmatch(r"<!-- trueup (\{[^\n]{1,2000}\}) -->", body.rstrip().rpartition("\n")[2])
        if match is None:
            return None
        try:
            return cls.model_validate_json(match[1])
        except ValidationError:
            return None


def branch_of(intent: Intent, subject: Subject) -> str:
    """The one branch of an intent for a subject, and so its key."""
    return f"trueup/{intent}/{subject.environment}/{subject.model}"


def is_marked(text: str, mark: str) -> bool:
    """Whether a comment's last line is this mark, by which it is found again."""
    return text.rstrip().rpartition("\n")[2].strip() == mark


class Approval(Frozen):
    """A person's yes, to one head commit."""

    by: str
    head: str
    at: Instant


class Check(Frozen):
    """One line of a pull request's checks: a commit status, or whatever the forge calls it."""

    name: Annotated[str, Field(max_length=100)]
    state: Literal["success", "pending", "failure"]
    summary: Annotated[str, Field(max_length=140)] = ""


class PullRequest(Frozen):
    """A pull request. ``ours``: opened by us, from one of our branches, with nobody else's commits.

    A sweep may leave out what the forge's list does not say: approvals, checks, whose commits these are, and
    whether it can be merged. What is read of a single one is complete.
    """

    number: int
    state: Literal["open", "merged", "closed"]
    branch: Annotated[str, Field(description="As OWNER:BRANCH where it is in somebody's fork.")]
    head: str
    base: str = "main"
    title: str
    author: str
    ours: bool = False
    draft: bool = False
    body: str = ""
    marker: Marker | None = None
    mergeable: bool = True
    approvals: tuple[Approval, ...] = ()
    checks: tuple[Check, ...] | None = Field(
        default=None, description="What we published at this head; None where the forge shows no checks."
    )
    opened: Instant
    closed: Instant | None = None
    closed_by: str = ""
    closed_by_us: bool = False
    merge_commit: str = ""
    comments: tuple[str, ...] = ()


class ForgeSweep(Frozen):
    """Every open pull request of the repository, by number, as the forge's list shows it."""

    gap: Literal[False] = False
    open: dict[int, PullRequest] = Field(default_factory=dict)
    remaining: int | None = Field(
        default=None, description="Calls that the forge still allows in its present window, if it counts them."
    )


# --- cluster ----------------------------------------------------------------------------------------------

Health = Literal["Progressing", "Paused", "Healthy", "Degraded", "Aborted", "Missing"]
LABEL_MANAGED = "app.kubernetes.io/managed-by"
LABEL_ENVIRONMENT = "trueup.dev/environment"
LABEL_MODEL = "trueup.dev/model"
ANNOTATION_RELEASE = "trueup.dev/release"
ANNOTATION_RENDERED = "trueup.dev/rendered"


class Workload(Frozen):
    """What carries our label for one subject, as the cluster sees it now.

    ``release`` and ``rendered`` are the annotations of the applied spec; ``drifted`` names fields that differ
    from what was applied. ``since`` is the cluster's own transition time into ``health``.
    """

    environment: str
    model: str
    namespace: str
    release: str = ""
    rendered: str = ""
    health: Health
    since: Instant
    message: str = ""
    measurements: tuple[str, ...] = Field(
        default=(), description="Failing measurements of the canary's analysis, a sentence each."
    )
    serving: str = Field(default="", description="Release digest that answers requests now.")
    endpoint: str = ""
    recorded: str = Field(default="", description="Where a measuring step asks for recorded requests.")
    objects: tuple[str, ...] = Field(default=(), description="KIND/NAME of every object of ours.")
    drifted: tuple[str, ...] = ()
    drifted_since: Instant | None = Field(default=None, description="As far as the cluster tells.")


class Application(Frozen):
    """What Argo CD says of one subject's folder of manifests, in its own words: ``OutOfSync``, ``Degraded``.

    ``message``: of the last sync that failed, or else of its health or of the first condition.
    """

    sync: str
    health: str
    message: str = ""


class ClusterSweep(Frozen):
    gap: Literal[False] = False
    workloads: dict[str, Workload] = Field(default_factory=dict, description="By ENV/MODEL.")
    applications: dict[str, Application] = Field(
        default_factory=dict, description="By ENV/MODEL: where Argo CD applies, and its status is read."
    )
    gaps: dict[str, Gap] = Field(
        default_factory=dict, description="By namespace: those that could not be read while others could."
    )


# --- together ---------------------------------------------------------------------------------------------


class Swept(Frozen):
    """One look over everything at one instant: O(pages) reads, whatever the number of models."""

    at: Instant
    registries: dict[str, RegistrySweep | Gap] = Field(default_factory=dict)
    engine: EngineSweep | Gap = EngineSweep()
    forge: ForgeSweep | Gap = ForgeSweep()
    clusters: dict[str, ClusterSweep | Gap] = Field(default_factory=dict)


class PinHistory(Frozen):
    """The commit on main that brought the pin as it is, and what the repository said just before.

    ``past`` are the earlier releases of this subject along main's first parents, newest first.
    """

    commit: str
    at: Instant
    before: DesiredState | None = None
    introduced: DesiredState | None = None
    past: tuple[Release, ...] = ()


class Edit(Frozen):
    """The newest commit on main that changed something."""

    commit: str
    at: Instant
    author: str = ""


class Proposal(Frozen):
    """An open pull request of ours with what the repository says at its head."""

    head: str
    state: DesiredState


class Observed(Frozen):
    """The sweep and, for the moving subjects only, the details. ``gaps``: details that failed."""

    swept: Swept
    moving: tuple[Subject, ...] = ()
    evidence: dict[str, Evidence] = Field(default_factory=dict, description="By mark, URI@sha256.")
    evidence_gaps: dict[str, Gap] = Field(default_factory=dict, description="By mark.")
    pins: dict[str, PinHistory] = Field(default_factory=dict, description="By ENV/MODEL.")
    edits: dict[str, Edit] = Field(
        default_factory=dict, description="By ENV/MODEL: who changed manifests that are not the pin's."
    )
    pulls: dict[int, PullRequest] = Field(
        default_factory=dict, description="Open pull requests of ours, read one by one and so complete."
    )
    proposals: dict[int, Proposal] = Field(default_factory=dict, description="By pull-request number.")
    closed: dict[str, tuple[PullRequest, ...]] = Field(
        default_factory=dict, description="Branch -> its closed or merged pull requests, newest first."
    )
    authors: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="MODEL KEY -> who brought what a version of this training key is made of.",
    )
    waived_by: dict[str, tuple[str, ...]] | None = Field(
        default=None,
        description="ENV/MODEL GATE DIGEST -> who opened, approved or merged the waiver; None: the forge was "
        "not asked, as where `reconcile admit` has only Git and the registry.",
    )
    gaps: dict[str, Gap] = Field(default_factory=dict, description="By ENV/MODEL.")

    @property
    def at(self) -> Instant:
        return self.swept.at
