"""Expands a story's ``case.yaml`` into what Git says and what the systems answer; used by the stories' test.

A case names things by what a reader knows: versions by number (the digest of version 2 is all twos), instants,
the merges on main in their order, pull requests by what they propose. Everything that follows from these, as
digests, keys, markers and manifests, is worked out by the functions that trueup itself uses, so it fits
together; ``edit`` is how a story makes it not fit. The fields are the arguments of the methods below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from reconciler.adapters.folder_source import FolderSource, tree_id
from reconciler.core.base import Subject, format_instant
from reconciler.core.desired import DesiredState
from reconciler.core.digests import canonical_json, sha256
from reconciler.core.documents import Admission, Ordered, Pin, Release, release_digest
from reconciler.core.errors import Terminal
from reconciler.core.evidence import CATALOGUE, Estimate, Evidence, EvidenceBundle, Metric, Scores
from reconciler.core.observed import (
    TAG_DIGEST,
    TAG_INPUTS,
    TAG_KEY,
    Approval,
    Check,
    ClusterSweep,
    Edit,
    EngineSweep,
    ForgeSweep,
    Gap,
    Intent,
    Mark,
    Marker,
    ModelVersion,
    Observed,
    PinHistory,
    Proposal,
    PullRequest,
    RegisteredModel,
    RegistrySweep,
    Swept,
    VerifiedMark,
    WorkflowRun,
    Workload,
    alias_tag,
    branch_of,
    evidence_tag,
    told_tag,
    verified_tag,
)
from reconciler.core.plan import Hold
from reconciler.core.references import exceptions_path
from reconciler.core.strict_yaml import read
from reconciler.load import load
from reconciler.planning import by_hand
from reconciler.planning.admission import admit_subject
from reconciler.planning.authors import waived
from reconciler.planning.candidates import Candidate
from reconciler.planning.exception_orders import Order, Verb, asked, told, until
from reconciler.planning.in_motion import EVERYTHING, Scope, details, in_motion
from reconciler.planning.judge import NO_CHAMPION, Case, case_of, measurements
from reconciler.planning.promotion import promotion_release
from reconciler.planning.proposals import with_release
from reconciler.planning.rollback import rollback_wish
from reconciler.planning.view import View
from reconciler.ports import Blob

HERE = Path(__file__).parent
REVISION = "c" * 40
INTENTS: tuple[Intent, ...] = ("promote", "rollback", "remove", "adopt")


class Layers(FolderSource):
    """Folders laid over each other, the last on top, as one commit; the templates are those that ship."""

    def __init__(self, folders: Iterable[Path], without: Iterable[str] = ()) -> None:
        super().__init__(HERE)
        shipped = HERE.parent.parent / "workflows" / "rendered"
        self._found: dict[str, Blob] = {}
        self._contents: dict[str, bytes] = {}
        for prefix, folder in [("workflows/rendered/", shipped), *(("", folder) for folder in folders)]:
            if not folder.is_dir():
                continue
            source = FolderSource(folder)
            blobs = source.files("")
            self._found |= {f"{prefix}{path}": blob for path, blob in blobs.items()}
            self._contents |= source.read({blob.oid for blob in blobs.values()})
        for path in without:
            del self._found[path]

    def files(self, commit: str) -> Mapping[str, Blob]:
        return self._found

    def tree(self, commit: str, path: str) -> str:
        below = {
            name.removeprefix(f"{path}/"): blob
            for name, blob in self._found.items()
            if name.startswith(f"{path}/")
        }
        return tree_id(below) if below else ""

    def read(self, oids: Iterable[str]) -> Mapping[str, bytes]:
        return {oid: self._contents[oid] for oid in oids}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def digest_of_version(number: object) -> str:
    """A digest that a reader recognises: that of version 3 is all threes."""
    return f"sha256:{str(number)[-1] * 64}"


def merged(document: Any, edit: Any) -> Any:
    """``document`` with the fields of ``edit`` put in, mapping by mapping."""
    if not (isinstance(document, dict) and isinstance(edit, dict)):
        return edit
    return {**document, **{name: merged(document.get(name), value) for name, value in edit.items()}}


def subject_of(text: str) -> Subject:
    environment, _, model = text.partition("/")
    return Subject(environment=environment, model=model)


class Story:
    """One directory: the tree that people wrote, and the case that follows from its ``case.yaml``.

    A test may give the case itself, over the base tree alone.
    """

    def __init__(self, folder: Path, case: dict[str, Any] | None = None) -> None:
        self.folder = folder
        path = folder / "case.yaml"
        self.case: dict[str, Any] = case or read(path.read_bytes(), str(path)).value
        self.at = instant(self.case["at"])
        without = self.case.get("without", ())
        self.written = load(Layers([HERE / "base", folder / "desired"], without), REVISION)
        self.evidence: dict[str, Evidence] = {}
        self.unreadable: dict[str, Gap] = {}
        self.models = {name: self._registered(name) for name in self.case.get("versions", {})}
        self.history: list[tuple[datetime, Subject, DesiredState, DesiredState]] = []
        self.main = self._merge_all()
        self.proposals: dict[int, Proposal] = {}
        self.pulls = [self._pull(**pull) for pull in self.case.get("pulls", ())]
        self.pulls += [self._ordered(given) for given in self.case.get("people", ())]

    # --- registry -----------------------------------------------------------------------------------------

    def pin(self, model: str, version: object) -> Pin:
        name = self.written.models[model].model.registered_name
        return Pin(registry="default", name=name, version=str(version), digest=digest_of_version(version))

    def judged(self, model: str, version: object, champion: object = None) -> Case:
        """What a version is measured as, against another version or none."""
        pin, image = self.pin(model, version), self.written.platform.images.server
        against = digest_of_version(champion) if champion else NO_CHAMPION
        return case_of(self.written, Subject(model=model), pin, image, None)._replace(champion=against)

    def _registered(self, model: str) -> RegisteredModel:
        versions = self.case["versions"][model]
        aliases = self.case.get("aliases", {}).get(model, {})
        return RegisteredModel(
            aliases={alias: str(number) for alias, number in aliases.items()},
            versions=tuple(
                self._version(model, number.removeprefix("v"), **given) for number, given in versions.items()
            ),
        )

    def _version(
        self,
        model: str,
        number: object,
        *,
        trained: str = "by main",
        digest: str = "",
        evaluated: Iterable[dict[str, Any]] = (),
        drifted: Iterable[dict[str, Any]] = (),
        verified: Mapping[str, str] | None = None,
        moved: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        ready: bool = True,
        created: str = "2026-03-01T08:00:00Z",
    ) -> ModelVersion:
        """``trained``: ``by main`` (its training now), ``earlier`` (other code), ``on earlier data`` or
        ``elsewhere`` (no key)."""
        known = {TAG_DIGEST: digest or digest_of_version(number)}
        if trained != "elsewhere":
            inputs = dict(self.written.training_inputs(model))
            key = self.written.training_key(model) or ""
            if trained == "earlier":
                inputs["source"], key = "0" * 40, "0" * 12
            elif trained == "on earlier data":
                inputs["data"], key = "0" * 32, "0" * 12
            known |= {TAG_KEY: key, TAG_INPUTS: canonical_json(inputs)}
        for given in evaluated:
            known |= self._evaluated(model, number, **given)
        for given in drifted:
            known |= self._drifted(model, number, **given)
        for environment, at in (verified or {}).items():
            release = self._release_digest(Subject(environment=environment, model=model), number)
            known[verified_tag(environment)] = str(VerifiedMark(release=release, at=instant(at)))
        for environment, version in (moved or {}).items():
            release = self._release_digest(Subject(environment=environment, model=model), version)
            known[alias_tag(environment)] = release
        known |= tags or {}
        return ModelVersion(
            version=str(number),
            created=instant(created),
            ready=ready,
            tags={name: value for name, value in known.items() if value},
        )

    def _release_digest(self, subject: Subject, number: object) -> str:
        model = self.written.models[subject.model].model
        image = self.written.platform.images.server
        runtime = self.written.environments[subject.environment].runtime
        serving = model.serving_in(subject.environment, runtime)
        return release_digest(self.pin(subject.model, number), image, serving, runtime.renderer)

    def _evaluated(
        self,
        model: str,
        version: object,
        *,
        accuracy: float | None,
        n: int = 1000,
        against: object = None,
        champion: float | None = None,
        interval: tuple[float, float] | None = None,
        at: str = "",
        marked: bool = True,
        unreadable: str = "",
    ) -> dict[str, str]:
        """One run of `evaluate`: its evidence is stored; the tag that marks it is returned.

        ``at`` is before everything unless it is said; beside a champion, it is said: after that was released.
        """
        assert at or not against, f"version {version}, measured against {against}: say when"
        case = self.judged(model, version, against)
        low, high = interval or (None, None)
        paired = None
        if champion is not None and accuracy is not None:
            paired = Estimate(value=round(accuracy - champion, 6), n=n, low=low, high=high, confidence=0.95)
        document = Evidence(
            measurement="evaluate",
            recipe=CATALOGUE["evaluate"].recipe,
            key=case.key("evaluate"),
            inputs=dict(case.inputs("evaluate")),
            at=instant(at or "2026-03-01T09:00:00Z"),
            metrics={
                "accuracy": Metric(
                    overall=Scores(
                        candidate=Estimate(value=accuracy, n=n),
                        champion=Estimate(value=champion, n=n) if champion is not None else None,
                        difference=paired,
                    )
                )
            },
        )
        uri = f"runs:/evaluate-{model}-{version}-against-{against or 'none'}/evidence.json"
        mark = Mark(uri=uri, sha256=document.digest)
        if unreadable:
            self.unreadable[str(mark)] = Gap(source=f"evidence {uri}", error=unreadable, retryable=False)
        else:
            self.evidence[str(mark)] = document
        return {evidence_tag("evaluate", document.key): str(mark)} if marked else {}

    def _drifted(
        self,
        model: str,
        version: object,
        *,
        environment: str,
        of: object,
        at: str,
        n: int,
        psi: Mapping[str, float] | None = None,
        note: str = "",
    ) -> dict[str, str]:
        """One run of `drift`: ``psi`` by feature, of what version ``of`` recorded in ``environment``."""
        subject = Subject(environment=environment, model=model)
        traffic = self._release_digest(subject, of)
        case = self.judged(model, version)._replace(subject=subject, traffic=traffic)
        values = {name: Scores(candidate=Estimate(value=value, n=n)) for name, value in (psi or {}).items()}
        worst = max((psi or {}).values(), default=None)
        document = Evidence(
            measurement="drift",
            recipe=CATALOGUE["drift"].recipe,
            key=case.key("drift"),
            inputs=dict(case.inputs("drift")),
            at=instant(at),
            metrics={
                "psi-max": Metric(
                    overall=Scores(candidate=Estimate(value=worst, n=n, note=note)),
                    slices={"feature": values} if values else {},
                )
            },
        )
        mark = Mark(uri=f"runs:/drift-{model}-{version}-{environment}/evidence.json", sha256=document.digest)
        self.evidence[str(mark)] = document
        return {evidence_tag("drift", document.key): str(mark)}

    def _registry(self, at: datetime) -> RegistrySweep:
        """What the registry said at ``at``: marks of verification that are younger were not there yet."""

        def known(version: ModelVersion) -> ModelVersion:
            tags = {
                name: value
                for name, value in version.tags.items()
                if not name.startswith("trueup.verified.")
                or ((mark := VerifiedMark.parse(value)) is not None and mark.at <= at)
            }
            return version.model_copy(update={"tags": tags})

        return RegistrySweep(
            models={
                self.written.models[name].model.registered_name: model.model_copy(
                    update={"versions": tuple(map(known, model.versions))}
                )
                for name, model in self.models.items()
            }
        )

    # --- Git ----------------------------------------------------------------------------------------------

    def view_at(self, state: DesiredState, at: datetime, subject: Subject) -> View:
        """What was known at an instant."""
        swept = Swept(at=at, registries={"default": self._registry(at)}, clusters={"local": ClusterSweep()})
        pins = {str(subject): pin} if (pin := self._pin_history(subject, at)) else {}
        return View(state, Observed(swept=swept, pins=pins))

    def _merge_all(self) -> DesiredState:
        state = self.written
        for merge in self.case.get("history", ()):
            at = instant(merge["at"])
            intent = next(name for name in ("promote", "rollback", "adopt", "remove") if name in merge)
            subject = subject_of(merge[intent])
            given = {name: value for name, value in merge.items() if name not in ("at", intent)}
            before = state
            state = self.changed(self.view_at(state, at, subject), intent, subject, **given)
            self.history.append((at, subject, before, state))
        return state

    def main_at(self, at: datetime) -> DesiredState:
        return next((after for when, _, _, after in reversed(self.history) if when <= at), self.written)

    def changed(
        self,
        view: View,
        intent: str,
        subject: Subject,
        *,
        version: object = None,
        reason: str = "unhealthy since 2026-03-01T11:00:00Z",
        asked_by: str = "",
        replicas: int = 0,
        ordered_by: str = "",
        edit: Mapping[str, Any] | None = None,
        evidence: Mapping[str, Any] | None = None,
        rendered: str = "",
    ) -> DesiredState:
        """The state after a change of one pin. ``edit``, ``evidence`` and ``rendered`` are somebody's hand."""
        release: Release | None = None
        bundle: EvidenceBundle | None = None
        if intent == "promote":
            given = {"by": ordered_by, "reason": reason, "at": format_instant(view.at)}
            order = Ordered.model_validate(given) if ordered_by else None
            release, bundle = self._promoted(view, subject, version, replicas, order)
        elif intent == "rollback":
            wish = rollback_wish(view, subject, reason, asked_by=asked_by)
            assert not isinstance(wish, Hold), wish.reason
            release = wish.release
        elif intent == "adopt":
            release, _ = self._promoted(view, subject, version, replicas)
            rendered_digest = release.admission.rendered
            admission = Admission(
                grounds="adoption", judged_at=view.at, rendered=rendered_digest, reason=reason
            )
            release = release.model_copy(update={"admission": admission})
        if release is not None and edit:
            release = Release.model_validate_json(
                canonical_json(merged(release.model_dump(mode="json", by_alias=True), edit))
            )
        if bundle is not None and evidence:
            bundle = EvidenceBundle.model_validate_json(
                canonical_json(merged(bundle.model_dump(mode="json", by_alias=True), evidence))
            )
        state = with_release(view.desired, subject, release, bundle)
        if rendered:
            folder = {**state.rendered[str(subject)], "deployment.yaml": "e" * 40}
            state = state.model_copy(update={"rendered": {**state.rendered, str(subject): folder}})
        return state

    def _promoted(
        self, view: View, subject: Subject, version: object, replicas: int, order: Ordered | None = None
    ) -> tuple[Release, EvidenceBundle]:
        """What trueup would write to promote a version, with the evidence that the registry marks for it."""
        model, champion = self.written.models[subject.model].model, view.champion(subject)
        pin, image = self.pin(subject.model, version), self.written.platform.images.server
        registered = view.registered("default", model.registered_name)
        assert not isinstance(registered, Gap)
        found = registered.version(pin.version)
        case = case_of(view.desired, subject, pin, image, champion)
        kinds = measurements(view.policy(subject), case)
        marks = {kind: str(found.mark(kind, case.key(kind))) for kind in kinds} if found else {}
        sources = {kind: mark for kind, mark in marks.items() if mark in self.evidence}
        bundle = EvidenceBundle(
            candidate=pin.digest,
            champion=champion.digest if champion else None,
            evidence={kind: self.evidence[mark] for kind, mark in sources.items()},
            sources=sources,
        )
        runtime = self.written.environments[subject.environment].runtime
        serving = model.serving_in(subject.environment, runtime)
        if replicas and not isinstance(serving, str):
            serving = serving.model_copy(update={"replicas": replicas})
        wanted = Candidate(
            version=found or ModelVersion(version=pin.version, created=view.at),
            pin=pin,
            serving=serving,
            image=image,
            renderer=runtime.renderer,
            change="version",
        )
        return promotion_release(view, subject, wanted, bundle, order), bundle

    def _pin_history(self, subject: Subject, at: datetime) -> PinHistory | None:
        mine = [step for step in self.history if step[1] == subject and step[0] <= at]
        releases = [after.releases.get(str(subject)) for _, _, _, after in mine]
        if not mine or releases[-1] is None:
            return None
        when, _, before, introduced = mine[-1]
        past = tuple(release for release in releases[-2::-1] if release is not None)
        return PinHistory(commit="d" * 40, at=when, before=before, introduced=introduced, past=past)

    # --- forge --------------------------------------------------------------------------------------------

    def _pull(
        self,
        number: int,
        opened: str,
        state: str = "open",
        approvals: Iterable[str] = (),
        approved_before: Iterable[str] = (),
        closed_by: str = "",
        ours: bool = True,
        mergeable: bool = True,
        draft: bool = False,
        asked_by: str = "",
        checks: Iterable[Mapping[str, str]] | None = None,
        told: Iterable[str] = (),
        **change: Any,
    ) -> PullRequest:
        """A pull request that trueup opened, or wrote anew, at an instant, from what was known then.

        ``approved_before`` are those who approved the head that it had before that; ``told`` the notifiers that
        were told that it waits for a person.
        """
        intent: Intent = next(name for name in INTENTS if name in change)
        subject = subject_of(change.pop(intent))
        at, head = instant(opened), str(number) * 40
        view = self.view_at(self.main_at(at), at, subject)
        if intent == "rollback":
            change["asked_by"] = asked_by
        after = self.changed(view, intent, subject, **change)
        self.proposals[number] = Proposal(head=head[:40], state=after)
        by_hand = {"edit", "evidence", "rendered"} & change.keys()
        ours_alone = {name: value for name, value in change.items() if name not in by_hand}
        proposed = self.changed(view, intent, subject, **ours_alone)
        release, pinned = proposed.releases.get(str(subject)), view.desired.releases.get(str(subject))
        verdict = admit_subject(view.desired, proposed, view.observed, subject)
        candidate = {
            "promote": release.pin.digest if release else "",
            "rollback": pinned.pin.digest if pinned else "",
            "remove": "none",
            "adopt": release.pin.digest if release else "",
        }[intent]
        for name in told:
            tag = told_tag(subject.environment, "needs-review", name)
            self._tagged(subject.model, change["version"], {tag: verdict.inputs})
        ordered_by = change.get("ordered_by", "")
        marker = Marker(
            intent=intent,
            environment=subject.environment,
            model=subject.model,
            candidate=candidate,
            inputs=verdict.inputs or (pinned.digest if pinned else ""),
            asked_by=asked_by or ordered_by,
            version=str(change["version"]) if ordered_by or intent == "adopt" else "",
        )
        return PullRequest(
            number=number,
            state=state,
            branch=branch_of(intent, subject),
            head=head[:40],
            title=f"{intent} {subject}",
            author="trueup",
            ours=ours,
            marker=marker,
            mergeable=mergeable,
            draft=draft,
            checks=None if checks is None else tuple(Check(**check) for check in checks),
            approvals=(
                *(Approval(by=name, head="0" * 40, at=at) for name in approved_before),
                *(Approval(by=name, head=head[:40], at=at) for name in approvals),
            ),
            opened=at,
            closed=None if state == "open" else self.at,
            closed_by=closed_by,
            closed_by_us=closed_by == "trueup",
        )

    def _tagged(self, model: str, number: object, tags: Mapping[str, str]) -> None:
        """The version with these tags too."""
        versions = tuple(
            version.model_copy(update={"tags": version.tags | tags})
            if version.version == str(number)
            else version
            for version in self.models[model].versions
        )
        self.models[model] = self.models[model].model_copy(update={"versions": versions})

    # --- orders -------------------------------------------------------------------------------------------

    def order(self, given: Mapping[str, Any]) -> Order:
        """What a person orders: ``{hold: ENV/MODEL, by: ann, reason: ..., until: 7d}``, or another verb."""
        verb = next(verb for verb in get_args(Verb) if verb in given)
        return Order(
            verb,
            subject_of(given[verb]),
            self.at,
            reason=given.get("reason", ""),
            end=until(given["until"], self.at) if "until" in given else None,
            gate=given.get("gate", ""),
            digest=digest_of_version(given["version"]) if "version" in given else "",
        )

    def _ordered(self, given: Mapping[str, Any]) -> PullRequest:
        """The open pull request of an order."""
        order = self.order(given)
        return PullRequest(
            number=given["number"],
            state="open",
            branch=order.branch,
            head=str(given["number"])[:1] * 40,
            title=order.title,
            author=given["by"],
            opened=self.at,
        )

    def answers(self) -> str:
        """What each of ``orders`` comes to: the file that it asks for, or why there is none."""
        pulls = {pull.number: pull for pull in self.pulls}
        return "\n".join(self._answer(given, pulls) for given in self.case["orders"])

    def _answer(self, given: Mapping[str, Any], pulls: Mapping[int, PullRequest]) -> str:
        said = [f"{name}: {value}" for name, value in given.items()]
        if "promote" in given or "adopt" in given:
            return "\n".join(["> " + ", ".join(said), *self._by_hand(given), ""])
        order = self.order(given)
        path = exceptions_path(order.subject.environment, order.subject.model)
        written = self.folder / "desired" / path
        try:
            file = asked(self.main, written.read_text() if written.is_file() else "", order)
        except Terminal as refused:
            return "\n".join(["> " + ", ".join(said), f"refused: {refused}", ""])
        notes = [f"told: {text}" for text in told(order, self.main, pulls)]
        if file is None:
            return "\n".join(["> " + ", ".join(said), *notes, "main says so already", ""])
        content = file.content or "(the file is removed)\n"
        return "\n".join(["> " + ", ".join(said), *notes, f"{order.branch}: {order.title}", path, content])

    def _by_hand(self, given: Mapping[str, Any]) -> list[str]:
        """What `reconcile promote` or `adopt` says."""
        verb = "promote" if "promote" in given else "adopt"
        subject = subject_of(given[verb])
        observed = self.observed(Scope(environment=subject.environment, model=subject.model, closely=True))
        observed = observed.model_copy(update={"evidence": self.evidence})
        about = (subject, str(given.get("version", "")), given.get("reason", ""), given["by"])
        try:
            found = getattr(by_hand, verb)(self.main, observed, *about)
        except Terminal as refused:
            return [f"refused: {refused}"]
        told = list(by_hand.in_the_way(self.main, observed, subject)) if verb == "promote" else []
        if isinstance(found, PullRequest):
            return [f"#{found.number} is open already", *told]
        said = [f"{found.kind} {found.branch}: {found.title}", f"  {found.summary.headline}"]
        said += [f"  {found.summary.merges}", f"  {found.marker}"]
        return [*said, *(f"  {text}" for text in found.summary.verdict.against()), *told]

    # --- engine and cluster -------------------------------------------------------------------------------

    def _run(
        self,
        *,
        phase: str,
        train: str = "",
        measure: str = "",
        version: object = None,
        against: object = None,
        of: str = "main",
        attempt: int = 1,
        progress: str = "",
        message: str = "",
        environment: str = "staging",
        started: str = "",
        finished: str = "2026-03-01T09:00:00Z",
        **said: str,
    ) -> WorkflowRun:
        """An attempt at main's training of a model (``of``: or at one from ``earlier``), or at evaluating one
        of its versions. ``said``: ``reason``, ``asked_by``, ``stopped`` and ``stopped_by``."""
        model = train or measure
        case = self.judged(model, version or 1, against)
        key = self.written.training_key(model) if train else case.key("evaluate")
        key = "0" * 12 if of == "earlier" else key
        labels = {
            "trueup.dev/kind": "train" if train else "measure",
            "trueup.dev/model": model,
            "trueup.dev/key": key or "",
            "trueup.dev/attempt": str(attempt),
            "trueup.dev/environment": environment,
        }
        outputs = {}
        if measure:
            labels["trueup.dev/measurement"] = "evaluate"
            for mark, document in self.evidence.items():
                if phase == "Succeeded" and document.key == key:
                    uri, _, digest = mark.rpartition("@")
                    outputs = {"evidence-uri": uri, "evidence-sha256": digest}
        return WorkflowRun(
            name=f"{'train' if train else 'measure-evaluate'}-{model}-{key}-{attempt}",
            phase=phase,
            labels=labels,
            started=instant(started) if started else None,
            finished=instant(finished) if phase in ("Succeeded", "Failed", "Error") else None,
            progress=progress,
            message=message,
            outputs=outputs,
            **said,
        )

    def _workload(
        self,
        key: str,
        *,
        health: str,
        since: str,
        message: str = "",
        version: object = None,
        drifted: Iterable[str] = (),
        drifted_since: str = "",
        recorded: str = "",
    ) -> Workload:
        """What runs of a subject: the pin, or with ``version`` another one."""
        subject, release = subject_of(key), self.main.releases.get(key)
        if version is not None and subject.environment in self.main.environments:
            digest = self._release_digest(subject, version)
        else:
            digest = release.digest if release else sha256("removed")
        return Workload(
            environment=subject.environment,
            model=subject.model,
            namespace=subject.environment,
            release=digest,
            health=health,
            since=instant(since),
            message=message,
            serving=digest if health == "Healthy" else "",
            recorded=recorded,
            objects=(f"Deployment/{subject.model}", f"Service/{subject.model}"),
            drifted=tuple(drifted),
            drifted_since=instant(drifted_since) if drifted_since else None,
        )

    # --- together -----------------------------------------------------------------------------------------

    def observed(self, scope: Scope = EVERYTHING) -> Observed:
        """The sweep, and of the moving subjects the details that `look` would read."""
        gaps = self.case.get("gaps", {})

        def gap(name: str) -> Gap | None:
            return (
                Gap(source=f"{name} default" if name == "registry" else name, error=gaps[name])
                if name in gaps
                else None
            )

        runs = [self._run(**run) for run in self.case.get("runs", ())]
        workloads = {key: self._workload(key, **given) for key, given in self.case.get("workloads", {}).items()}
        swept = Swept(
            at=self.at,
            registries={"default": gap("registry") or self._registry(self.at)},
            engine=gap("engine") or EngineSweep(runs={run.name: run for run in runs}),
            forge=gap("forge") or ForgeSweep(open={p.number: p for p in self.pulls if p.state == "open"}),
            clusters={"local": gap("cluster") or ClusterSweep(workloads=workloads)},
        )
        moving = in_motion(self.main, swept, scope)
        view = View(self.main, Observed(swept=swept))
        wanted = {subject: details(view, subject, scope.closely) for subject in moving}
        marks = [str(mark) for detail in wanted.values() for _, mark in detail.marks]
        branches = [branch for detail in wanted.values() for branch in detail.branches]
        numbers = {number for detail in wanted.values() for number in detail.pulls}
        pins = {str(s): self._pin_history(s, self.at) for s, detail in wanted.items() if detail.history}
        return Observed(
            swept=swept,
            moving=moving,
            evidence={mark: self.evidence[mark] for mark in marks if mark in self.evidence},
            evidence_gaps={mark: self.unreadable[mark] for mark in marks if mark in self.unreadable},
            pins={key: history for key, history in pins.items() if history is not None},
            edits={
                str(s): Edit(commit="d" * 40, at=self.history[-1][0])
                for s, detail in wanted.items()
                if detail.edited
            },
            pulls={p.number: p for p in self.pulls if p.number in numbers},
            proposals={number: self.proposals[number] for number in numbers},
            closed={
                branch: tuple(p for p in self.pulls if p.branch == branch and p.state != "open")
                for branch in branches
            },
            authors={
                f"{s.model} {detail.people.key}": tuple(self.case.get("made_by", {}).get(s.model, ()))
                for s, detail in wanted.items()
                if detail.people.key
            },
            waived_by={
                waived(s, waiver): tuple(self.case.get("waived_by", ()))
                for s, detail in wanted.items()
                for waiver in detail.people.waivers
            },
            gaps={str(s): g for s in moving if (g := gap(str(s))) is not None},
        )

    def head(self) -> DesiredState:
        """What a person's pull request, ``head`` in the case and the folder ``head``, makes of main."""
        given = dict(self.case["head"])
        layers = [HERE / "base", self.folder / "desired", self.folder / "head"]
        documents = load(Layers(layers, self.case.get("without", ())), "a" * 40)
        main = self.main
        if intent := next((name for name in ("promote", "rollback", "adopt", "remove") if name in given), ""):
            subject = subject_of(given.pop(intent))
            main = self.changed(self.view_at(main, self.at, subject), intent, subject, **given)
        pins = {name: getattr(main, name) for name in ("releases", "bundles", "rendered")}
        return documents.model_copy(update=pins)

    def registry_only(self) -> Observed:
        """What `reconcile admit` looks at."""
        return Observed(swept=Swept(at=self.at, registries={"default": self._registry(self.at)}))
