"""The past, judged once more: what let a release in (``reconcile verify``), and what another policy would have
said of every candidate that there was (``reconcile policy simulate``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Pin, VerifiedPin, evidence_path, release_path
from reconciler.core.evidence import Evidence
from reconciler.core.observed import Gap, ModelVersion, Observed, PinHistory, Swept
from reconciler.core.proof import Proof
from reconciler.core.references import exceptions_path, model_path
from reconciler.core.simulation import Replayed, Simulation
from reconciler.load import load
from reconciler.look import read_evidence
from reconciler.past import OneModel, pins
from reconciler.planning.judge import NO_CHAMPION
from reconciler.planning.simulation import Past, asked_of, policy_of, replay
from reconciler.planning.verification import marks_of, verify_pin
from reconciler.planning.view import View
from reconciler.ports import Commit, Kept, RegistryReader, Source
from reconciler.sweep import registry_sweeps, seen


def proofs(
    source: Source, subject: Subject, main: DesiredState, registries: Mapping[str, RegistryReader] | None
) -> Iterator[Proof]:
    """Every pin that main has had, newest first, worked out again; without ``registries`` from Git alone."""
    path = evidence_path(subject.environment, subject.model)
    sweeps = registry_sweeps(registries) if registries is not None else {}
    for place, history in enumerate(pins(OneModel(source, subject.model), subject)):
        assert history.introduced is not None
        release = history.introduced.releases[str(subject)]
        registered, stored = None, None
        if registries is not None:
            view = View(main, Observed(swept=Swept(at=history.at, registries=sweeps)))
            registered = view.registered(release.pin.registry, release.pin.name)
            stored = {
                str(mark): seen(f"evidence {mark.uri}", partial(registries[name].evidence, mark.uri))
                for name, mark in marks_of(history, subject)
                if not isinstance(registered, Gap)
            }
        file = source.files(history.commit).get(path)
        current = main if place == 0 and str(subject) in main.releases else None
        yield verify_pin(
            subject,
            history,
            evidence_file=file.oid if file else "",
            main=current,
            registered=registered,
            stored=stored,
        )


# --- past candidates --------------------------------------------------------------------------------------


def simulate(
    source: Source,
    registries: Mapping[str, RegistryReader],
    old: tuple[str, DesiredState],
    new: tuple[str, DesiredState],
    *,
    main: DesiredState,
    environment: str = "",
    limit: int = 200,
    kept: Kept | None = None,
) -> Simulation:
    """Every past candidate of the environments whose gates differ, judged by the policies of both sides.

    ``old`` and ``new`` are states with a name for people. What was, is read of ``source``'s main and of the
    registry: O(pages), and one read for each piece of evidence that no Release has a copy of. Of a model, the
    newest ``limit`` versions are looked at.
    """
    names = sorted(name for name in old[1].environments | new[1].environments if environment in ("", name))
    compared = {name: asked_of(name, old[1], new[1]) for name in names}
    asked = [found for found in compared.values() if found is not None]
    left_out = [
        f"{name}: one side has no such environment, or no policy of it that can be used; `reconcile validate`"
        for name, found in compared.items()
        if found is None
    ]
    differing = {found.environment for found in asked if found.differs}
    sweeps = registry_sweeps(registries) if differing else {}
    done: list[Replayed] = []
    for subject in new[1].subjects:
        before, after = (policy_of(state, subject.environment) for _, state in (old, new))
        if subject.environment not in differing or before is None or after is None:
            continue
        history = _History(source, main, Observed(swept=Swept(at=_EVER, registries=sweeps)), subject, limit)
        past, more = history.candidates(registries, kept)
        left_out += more
        done += [replay(each, before, after) for each in past]
    return Simulation(
        old=old[0], new=new[0], asked=tuple(asked), candidates=tuple(done), left_out=tuple(left_out)
    )


_EVER = datetime.max.replace(tzinfo=UTC)
"""Nothing of a registry is from after that."""


class _History:
    """What was of one subject: its releases in Git, and the versions that were measured and never released."""

    def __init__(
        self, source: Source, main: DesiredState, observed: Observed, subject: Subject, limit: int
    ) -> None:
        self.source = OneModel(source, subject.model)
        self.main, self.subject, self.limit = main, subject, limit
        self.view = View(main, observed)
        self.pins = tuple(pins(self.source, subject, limit))
        self._states: dict[str, DesiredState] = {}

    def candidates(
        self, registries: Mapping[str, RegistryReader], kept: Kept | None
    ) -> tuple[list[Past], list[str]]:
        """Newest first, and what was not looked at, in sentences."""
        released = [past for history in self.pins if (past := self._released(history))]
        known = {(past.pin.digest, past.champion.digest if past.champion else NO_CHAMPION) for past in released}
        proposed, left_out = self._proposed(registries, kept)
        changes = len(self.source.log(release_path(self.subject.environment, self.subject.model)))
        if changes > self.limit:
            older = f"{changes - self.limit} changes of its Release older than the newest {self.limit}"
            left_out = [*left_out, f"{self.subject}: {older}"]
        others = [past for champion, past in proposed if (past.pin.digest, champion) not in known]
        return sorted([*released, *others], key=lambda past: past.at, reverse=True), left_out

    def _released(self, history: PinHistory) -> Past | None:
        """A promotion of main, by the copy of its evidence."""
        assert history.introduced is not None
        assert history.before is not None
        release = history.introduced.releases[str(self.subject)]
        bundle = history.introduced.bundles.get(str(self.subject))
        if release.admission.grounds != "promotion" or bundle is None:
            return None
        if self.subject.model not in history.before.models:
            return None
        return Past(
            subject=self.subject,
            pin=release.pin,
            image=release.image,
            champion=release.champion,
            evidence=bundle.evidence,
            at=release.admission.judged_at,
            state=history.before,
            released=True,
        )

    def _proposed(
        self, registries: Mapping[str, RegistryReader], kept: Kept | None
    ) -> tuple[list[tuple[str, Past]], list[str]]:
        """What was measured for this environment, by the marks of the registry; with whom it was compared."""
        environment, model = self.main.environments.get(self.subject.environment), self.main.models
        if environment is None or self.subject.model not in model:
            return [], []
        name = model[self.subject.model].model.registered_name
        registered = self.view.registered(environment.registry, name)
        if isinstance(registered, Gap):
            return [], [
                f"{self.subject}: the {registered.source} did not answer, so only releases were replayed"
            ]
        versions = [v for v in registered.versions if v.digest and v.evidence_marks()]
        looked = versions[-self.limit :]
        left_out = []
        if len(versions) > len(looked):
            left_out.append(
                f"{self.subject}: {len(versions) - len(looked)} versions older than the newest {self.limit}"
            )
        copies = {
            source: bundle.evidence[kind]
            for history in self.pins
            if history.introduced and (bundle := history.introduced.bundles.get(str(self.subject)))
            for kind, source in bundle.sources.items()
            if kind in bundle.evidence
        }
        marks = [mark for version in looked for mark in version.evidence_marks()]
        wanted = [(environment.registry, mark) for mark in marks if str(mark) not in copies]
        read, gaps = read_evidence(registries, wanted, kept)
        if gaps:
            left_out.append(f"{self.subject}: {len(gaps)} pieces of evidence that could not be read")
        found = []
        for version in looked:
            documents = [
                document
                for mark in version.evidence_marks()
                if (document := copies.get(str(mark)) or read.get(str(mark)))
            ]
            pin = Pin(
                registry=environment.registry, name=name, version=version.version, digest=str(version.digest)
            )
            found += list(self._judged(pin, version, documents))
        return found, left_out

    def _judged(
        self, pin: Pin, version: ModelVersion, documents: Sequence[Evidence]
    ) -> Iterator[tuple[str, Past]]:
        """Once for each champion that it was compared with while this environment had it."""
        mine = [
            document
            for document in sorted(documents, key=lambda document: document.at)
            if document.inputs.get("candidate") == pin.digest
            and document.inputs.get("environment", self.subject.environment) == self.subject.environment
        ]
        arrived = self._arrived(version)
        if not mine or arrived is None:
            return
        against = {str(document.inputs["champion"]) for document in mine if "champion" in document.inputs}
        for champion in sorted(against):
            evidence = {
                document.measurement: document
                for document in mine
                if document.inputs.get("champion", champion) == champion
            }
            at = max(arrived, *(document.at for document in evidence.values()))
            then = self._champion_at(at)
            if (then.digest if then else NO_CHAMPION) != champion:
                continue
            state = self._state_at(at)
            image = state.platform.images.server
            yield champion, Past(self.subject, pin, image, then, evidence, at, state, released=False)

    def _arrived(self, version: ModelVersion) -> datetime | None:
        """When it could be a candidate here at all: registered, and verified where versions come from."""
        promotes_from = self.main.environments[self.subject.environment].promotes_from
        if promotes_from is None:
            return version.created
        marks = [version.verified(name) for name in promotes_from.environments]
        there = [mark.at for mark in marks if mark is not None]
        needed = len(marks) if promotes_from.all_of else 1
        if len(there) < needed:
            return None
        return max(there) if promotes_from.all_of else min(there)

    def _champion_at(self, at: datetime) -> VerifiedPin | None:
        return next((champion for champion in self._champions if champion.at <= at), None)

    @cached_property
    def _champions(self) -> list[VerifiedPin]:
        """Every champion that there was, newest first: by the copies in Releases, and the present one."""
        present = self.view.champion(self.subject)
        found = {present} if present else set()
        for history in self.pins:
            release = history.introduced.releases[str(self.subject)] if history.introduced else None
            found |= {release.champion} if release and release.champion else set()
        return sorted(found, key=lambda champion: champion.at, reverse=True)

    def _state_at(self, at: datetime) -> DesiredState:
        """Main as it was, as far as the judge sees of it: the model, its evaluation data, the exceptions."""
        commit = next((commit for commit in self._commits if commit.at <= at), None)
        if commit is None:
            return self.main
        if commit.oid not in self._states:
            state = load(self.source, commit.oid)
            self._states[commit.oid] = state if self.subject.model in state.models else self.main
        return self._states[commit.oid]

    @cached_property
    def _commits(self) -> list[Commit]:
        model = self.subject.model
        pointer = self.main.models[model].model.data.evaluation.pointer
        paths = (
            model_path(model),
            f"models/{model}/{pointer}",
            exceptions_path(self.subject.environment, model),
            release_path(self.subject.environment, model),
        )
        found = {commit.oid: commit for path in paths for commit in self.source.log(path)}
        return sorted(found.values(), key=lambda commit: commit.at, reverse=True)
