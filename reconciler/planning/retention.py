"""Versions that no environment needs any more are archived: a mark, by which nothing is lost. Pure.

Asked for a model's training, which is the subject without an environment, about every version under its
registered name. An environment's retention is about what it has verified, and where nothing is promoted from,
about everything that was trained. Nothing is concluded while a system or a document that could name a version
is not read. What is archived and used again is archived no longer. Deleting is a person's: :mod:`.prune`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from reconciler.core.base import Instant, Subject, format_duration, show_instant
from reconciler.core.documents import Environment, Pin, Release, Retention
from reconciler.core.observed import TAG_ARCHIVED, Archived, ForgeSweep, Gap, Intent, ModelVersion
from reconciler.core.plan import Action, Hold, Message, Tell
from reconciler.planning.candidates import candidate
from reconciler.planning.decision import NOTHING, Decision
from reconciler.planning.releases import mark_version
from reconciler.planning.view import View

AT_ONCE = 20
"""Versions of one model that one tick archives."""
UNKNOWN = ("gap", "invalid-document")
"""Holds of a candidate that say nothing about which version it is."""
_OURS: tuple[Intent, ...] = ("promote", "adopt", "remove")


class Keep(NamedTuple):
    """One reason for which a version stays.

    ``use``: something of ours needs it now, or may soon. ``rule``: a retention, or a decision that is to be
    respected. ``foreign``: trueup did not train it.
    """

    why: str
    kind: Literal["use", "rule", "foreign"] = "rule"


class Standing(NamedTuple):
    """One version: the environments whose retention it is under, and all that keeps it.

    ``since``: when the last of these retentions was over; None while one of them keeps it.
    """

    registry: str
    name: str
    version: ModelVersion
    environments: tuple[str, ...]
    kept: tuple[Keep, ...]
    since: Instant | None

    @property
    def used(self) -> Keep | None:
        return next((keep for keep in self.kept if keep.kind == "use"), None)


def plan_retention(view: View, subject: Subject) -> Decision:
    """Archive what is over, and take back what is in use again. ``subject`` has no environment."""
    found = standings(view, subject.model)
    if isinstance(found, str):
        return NOTHING
    ended = [each for each in found if not each.kept and each.version.archived is None][:AT_ONCE]
    again = [each for each in found if each.used and each.version.archived is not None]
    taken_back = (action for each in again for action in _take_back(view, subject, each))
    return Decision((*(_archive(subject, each) for each in ended), *taken_back))


def standings(view: View, model: str) -> tuple[Standing, ...] | str:
    """Of every version of a model; none where no retention is declared. Or why nothing can be said of them."""
    if model not in view.desired.models:
        return f"main has no model {model}"
    name, here = view.desired.models[model].model.registered_name, _environments(view, model)
    names = {view.desired.environments[each].registry for each in here}
    registered = {registry: view.registered(registry, name) for registry in sorted(names)}
    silent = next((one for one in registered.values() if isinstance(one, Gap)), None)
    if silent is not None:
        return f"the {silent.source} did not answer"
    versions = {registry: each.versions for registry, each in registered.items() if not isinstance(each, Gap)}
    if not _asked(view, here) and not any(v.archived for found in versions.values() for v in found):
        return ()
    hidden = _hidden(view, model)
    if hidden:
        return hidden
    return tuple(
        standing
        for registry, found in versions.items()
        for standing in _standings(view, model, registry, name, found)
    )


def _environments(view: View, model: str) -> list[str]:
    """Those that the model names now and that exist."""
    named = view.desired.models[model].model.environments
    return [environment for environment in sorted(named) if environment in view.desired.environments]


def _asked(view: View, environments: Sequence[str]) -> bool:
    return any(view.desired.environments[each].retention is not None for each in environments)


def _hidden(view: View, model: str) -> str:
    """What could name a version of this model and was not read; empty where all was."""
    desired = view.desired
    for environment in ("", *desired.models[model].model.environments):
        problem = desired.hidden(Subject(environment=environment, model=model))
        if problem is not None:
            return str(problem)
        if environment and environment not in desired.environments:
            return f"{environment} is not known"
    # A Release that does not parse may be of another model's name and pin this one's version.
    unread = next((p for p in desired.problems if p.severity == "error" and "/releases/" in p.path), None)
    if unread is not None:
        return str(unread)
    forge = view.observed.swept.forge
    if not isinstance(forge, ForgeSweep):
        return f"the {forge.source} did not answer"
    for environment in desired.environments:
        pull = view.open_pull("rollback", Subject(environment=environment, model=model))
        if pull is not None:
            return f"#{pull.number} may go back to any version of {environment}/{model}"
    for environment in desired.models[model].model.environments:
        wanted = candidate(view, Subject(environment=environment, model=model))
        if isinstance(wanted, Hold) and wanted.code in UNKNOWN:
            return wanted.reason
    return ""


def _standings(
    view: View, model: str, registry: str, name: str, versions: Sequence[ModelVersion]
) -> Iterator[Standing]:
    roots = {each for each in view.desired.roots(model) if view.desired.environments[each].registry == registry}
    terms = {
        each: _Term(view, environment, versions, each, root=each in roots, release=_pinned(view, each, model))
        for each, environment in sorted(view.desired.environments.items())
    }
    uses = _Uses(view, model, registry, name, versions)
    for version in versions:
        under = [each for each in terms if each in roots or version.verified(each)]
        ends = [terms[each].end(version) for each in under]
        kept = [*uses.of(version), *(end for end in ends if isinstance(end, Keep))]
        kept += [] if under else [Keep("no environment's retention is about it")]
        over = [end for end in ends if not isinstance(end, Keep)]
        since = max(over) if over and len(over) == len(ends) else None
        yield Standing(registry, name, version, tuple(under), tuple(kept), since)


def _pinned(view: View, environment: str, model: str) -> Release | None:
    return view.release(Subject(environment=environment, model=model))


class _Term:
    """How long each version stays for one environment. O(V log V), whatever is asked of it."""

    def __init__(
        self,
        view: View,
        environment: Environment,
        versions: Sequence[ModelVersion],
        name: str,
        *,
        root: bool,
        release: Release | None,
    ) -> None:
        self._at, self._name, self._release = view.at, name, release
        self._retention: Retention | None = environment.retention
        marks = {v.version: mark.at for v in versions if (mark := v.verified(name)) is not None}
        self._verified, self._marks = sorted(marks.values()), marks
        came = {v.version: marks.get(v.version, v.created) for v in versions if root or v.version in marks}
        self._newest = sorted(came, key=lambda number: (came[number], int(number)), reverse=True)
        self._came, self._rank = came, {number: rank for rank, number in enumerate(self._newest)}

    def end(self, version: ModelVersion) -> Keep | datetime:
        """Since when it need not stay here; or why it stays."""
        rule, name, number = self._retention, self._name, version.version
        if rule is None:
            return Keep(f"{name} has no retention, and keeps all it has verified or trained")
        ends: list[datetime] = []
        if rule.for_ is not None:
            until = self._left(version) + rule.for_
            if self._at < until:
                told = format_duration(rule.for_)
                return Keep(f"{name} keeps it until {show_instant(until)} (retention.for is {told})")
            ends.append(until)
        if rule.versions is not None:
            if self._rank[number] < rule.versions:
                return Keep(f"it is among the newest {rule.versions} of {name} (retention.versions)")
            ends.append(self._came[self._newest[self._rank[number] - rule.versions]])
        return max(ends)

    def _left(self, version: ModelVersion) -> datetime:
        """When the next one was verified here, or this one failed; of one that never was, when it came."""
        came = self._came[version.version]
        if version.version not in self._marks:
            return came
        after = bisect_right(self._verified, came)
        if after < len(self._verified):
            return self._verified[after]
        failed = self._release.rejects(version.digest or "") if self._release else None
        return max(came, failed.since) if failed else came


class _Uses:
    """What needs a version, or has been decided about it, besides the retentions."""

    def __init__(
        self, view: View, model: str, registry: str, name: str, versions: Sequence[ModelVersion]
    ) -> None:
        self._view, self._model = view, model
        self._notes: list[tuple[str, str, Keep]] = []
        for key, release in view.pins_of(registry, name):
            self._note(release.pin.digest, release.pin.version, f"pinned in {key}")
            self._rollback_target(key, release, versions)
        for environment in sorted(view.desired.environments):
            self._wanted(Subject(environment=environment, model=model), registry)
        registered = view.registered(registry, name)
        for alias, number in () if isinstance(registered, Gap) else sorted(registered.aliases.items()):
            self._note("", number, f"the alias {alias} names it")

    def of(self, version: ModelVersion) -> Iterator[Keep]:
        found = (
            keep
            for digest, number, keep in self._notes
            if version.digest == digest or version.version == number
        )
        yield from dict.fromkeys(found)
        if version.training_key is None or version.digest is None:
            yield Keep("trueup did not train it", "foreign")
        elif version.training_key == self._view.desired.training_key(self._model):
            yield Keep("it is of the training that main describes")
        if not version.ready:
            yield Keep("it is not ready: its registration is not finished")

    def _note(self, digest: str, number: str, why: str, kind: Literal["use", "rule"] = "use") -> None:
        """Of the version with this digest, whatever its number, and of the one with this number."""
        self._notes.append((digest, number, Keep(why, kind)))

    def _rollback_target(self, key: str, release: Release, versions: Sequence[ModelVersion]) -> None:
        """What the Release names as verified before it; and by the marks, what else was verified last here."""
        environment = key.partition("/")[0]
        why = f"a rollback of {key} would go back to it"
        if release.champion is not None:
            self._note(release.champion.digest, release.champion.version, why)
        marks = [
            (mark.at, int(v.version), v)
            for v in versions
            if v.ready and v.version != release.pin.version and v.digest not in (None, release.pin.digest)
            if (mark := v.verified(environment)) and not release.rejects(v.digest or "", mark.release)
        ]
        if marks:
            last = max(marks)[2]
            self._note("", last.version, why)

    def _wanted(self, subject: Subject, registry: str) -> None:
        view = self._view
        for intent in _OURS:
            pull = view.open_pull(intent, subject)
            if pull is not None and pull.marker is not None:
                digest = pull.marker.candidate if pull.marker.candidate != "none" else ""
                self._note(digest, pull.marker.version, f"#{pull.number} proposes it for {subject.environment}")
        if subject.environment in view.model(subject).environments:
            wanted = candidate(view, subject)
            if not isinstance(wanted, Hold) and wanted.pin.registry == registry:
                self._note(wanted.pin.digest, wanted.pin.version, f"the candidate of {subject.environment}")
        for waiver in view.exceptions(subject).waivers:
            if waiver.counts(view.at):
                until = show_instant(waiver.expires)
                why = f"a waiver of {waiver.gate} in {subject.environment} names it, until {until}"
                self._note(waiver.digest, "", why, "rule")


def _archive(subject: Subject, standing: Standing) -> Action:
    before = standing.version.archival
    assert standing.since is not None
    said = Archived(
        number=before.number + 1 if before else 1,
        at=standing.since,
        by="trueup",
        why=f"no longer needed in {', '.join(standing.environments)}",
    )
    reason = f"{said.why} since {show_instant(standing.since)}, by their retention; nothing is deleted"
    return mark_version(subject, _pin(standing), TAG_ARCHIVED, str(said), reason)


def _take_back(view: View, subject: Subject, standing: Standing) -> Iterator[Action]:
    before, used = standing.version.archived, standing.used
    assert before is not None
    assert used is not None
    version = f"version {standing.version.version} of {standing.name}"
    message = Message(
        event="in-use-again",
        subject=subject,
        title=f"{version} is not archived any more",
        reason=f"it was since {show_instant(before.at)}, and is in use again: {used.why}",
    )
    environments, after = view.desired.environments, ""
    to = {notifier for name in standing.environments for notifier in environments[name].notify}
    for notifier in sorted(to):
        of = f"{standing.registry}/{standing.name}/{standing.version.version}"
        after = f"tell {of} in use {before.number} {notifier}"
        yield Tell(
            key=after,
            subject=subject,
            reason="people are told once that it is not archived any more",
            notifier=notifier,
            message=message,
        )
    back = before.model_copy(update={"back": used.why})
    mark = mark_version(subject, _pin(standing), TAG_ARCHIVED, str(back), f"{version} is in use: {used.why}")
    yield mark.model_copy(update={"after": after})


def _pin(standing: Standing) -> Pin:
    version = standing.version
    return Pin(
        registry=standing.registry,
        name=standing.name,
        version=version.version,
        digest=version.digest or "sha256:" + "0" * 64,
    )
