"""What may be merged: one pure function with three callers.

(a) ``reconcile admit`` on every pull request, whoever wrote it; (b) each tick, on our open pull requests and
on what it is about to propose; (c) each tick, on the commit that brought a pin, until this release is verified
there: what was applied and soaked is not judged again, because the registry goes on. Policy, model,
environment and champion are always those of the base; of the head only what it wants to pin is read, and
of the evidence only what the registry's marks vouch for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.core.base import Instant, Subject, format_instant
from reconciler.core.desired import DesiredState, Policy, blobs_digest
from reconciler.core.digests import digest_of
from reconciler.core.documents import Release, VerifiedPin
from reconciler.core.evidence import Evidence, EvidenceBundle
from reconciler.core.observed import Gap, Mark, ModelVersion, Observed, PinHistory
from reconciler.core.plan import GateVerdict, Objection, Verdict
from reconciler.planning.authors import against_waiver
from reconciler.planning.exceptions import EVALUATION_DATA, admit_exceptions
from reconciler.planning.judge import JUDGE, NO_CHAMPION, Case, case_of, judge, measurements
from reconciler.planning.renderers import blob_ids, render
from reconciler.planning.view import View


def admit(base: DesiredState, head: DesiredState, observed: Observed) -> tuple[Verdict, ...]:
    """A verdict for each subject that the change from ``base`` to ``head`` touches, sorted by subject."""
    touched = {
        key
        for key in base.releases.keys() | head.releases.keys() | base.rendered.keys() | head.rendered.keys()
        if base.releases.get(key) != head.releases.get(key)
        or base.rendered.get(key) != head.rendered.get(key)
        or base.bundles.get(key) != head.bundles.get(key)
    }
    verdicts = [admit_subject(base, head, observed, Subject.of(key)) for key in sorted(touched)]
    verdicts += admit_exceptions(base, head, View(base, observed))
    return (*verdicts, *_documents(base, head, observed.at))


def evidence_marks(base: DesiredState, head: DesiredState, observed: Observed) -> tuple[tuple[str, Mark], ...]:
    """(registry, mark) of the evidence behind what ``head`` pins; with it read, a verdict has all numbers.

    A pull request that trueup wrote carries them itself; one that a person wrote may carry none, or others.
    """
    pins = (
        _Pin(base, head, observed, Subject.of(key), release)
        for key, release in sorted(head.releases.items())
        if base.releases.get(key) != release and base.hidden(Subject.of(key)) is None
    )
    return tuple(mark for pin in pins for mark in pin.marks())


def admit_pin(history: PinHistory, observed: Observed, subject: Subject) -> Verdict | None:
    """Caller (c): was the pin on main admissible by what Git and the registry can show?

    Asked by the tick until the release is verified, and by ``reconcile explain`` always.
    Judged at the instant it was merged, so that nothing expires afterwards, and by marks that later ones have
    since taken the place of. None where the commit or what was before it could not be read.
    """
    if history.introduced is None or history.before is None:
        return None
    then = observed.model_copy(update={"swept": observed.swept.model_copy(update={"at": history.at})})
    return admit_subject(history.before, history.introduced, then, subject, merged=True)


def admit_subject(
    base: DesiredState, head: DesiredState, observed: Observed, subject: Subject, merged: bool = False
) -> Verdict:
    """Whether the pin of one subject may become what ``head`` says; ``merged``: whether it might have."""
    key = str(subject)
    new = head.releases.get(key)
    before = {problem.model_dump_json() for problem in base.problems}
    for state, problem in [(base, base.hidden(subject)), (head, head.hidden(subject))]:
        if problem is not None and (state is base or problem.model_dump_json() not in before):
            return Verdict(
                subject=subject,
                grounds="documents",
                objections=(Objection(code="invalid-document", what=str(problem)),),
            )
    if new is None:
        return _removal(base, head, subject)
    return _Pin(base, head, observed, subject, new, merged).verdict()


def inputs_digest(
    release: Release,
    *,
    policy: str,
    bundle: EvidenceBundle | None,
    champion: VerifiedPin | None,
    environment: str,
    rendered: str,
    baselines: Mapping[str, float],
) -> str:
    """Everything a verdict depends on. A pull request is rebuilt, and approved anew, only when this changes.

    ``policy`` is empty where no gates are asked, and the model's baselines then do not count.
    """
    return digest_of(
        "inputs",
        judge=release.admission.judge,
        release=release.digest,
        version=release.pin.version,
        grounds=release.admission.grounds,
        rejected=[entry.model_dump(mode="json", exclude={"since"}) for entry in release.rejected],
        policy=policy,
        evidence=bundle.digest if bundle else "",
        champion=champion.digest if champion else "",
        environment=environment,
        rendered=rendered,
        **({"baselines": dict(sorted(baselines.items()))} if policy and baselines else {}),
        **({"order": release.admission.order} if release.admission.order else {}),
    )


class _Pin:
    """One new or changed pin under judgement.

    ``merged``: it is on main already, and the registry may have gone on since. An alias has no history, so
    what it requested then is not asked.
    """

    def __init__(
        self,
        base: DesiredState,
        head: DesiredState,
        observed: Observed,
        subject: Subject,
        new: Release,
        merged: bool = False,
    ) -> None:
        self.view = View(base, observed)
        self.base, self.head, self.subject, self.new, self.merged = base, head, subject, new, merged
        self.old = base.releases.get(str(subject))
        self.at: Instant = observed.at
        self.bundle = head.bundles.get(str(subject))

    def verdict(self) -> Verdict:
        unknown = tuple(self._unknown())
        if unknown:
            return Verdict(subject=self.subject, grounds=self.new.admission.grounds, objections=unknown)
        objections = list(self._form())
        registered = self.view.registered(self.new.pin.registry, self.new.pin.name)
        if isinstance(registered, Gap):
            what = f"the {registered.source} did not answer: {registered.error}"
            return self._say([*objections, Objection(code="gap", what=what)])
        version = self.view.version_of(self.new)
        if version is None:
            there, number = registered.version(self.new.pin.version), self.new.pin.version
            if there is None:
                what = f"version {number} of {self.new.pin.name} is not in the registry"
            elif not there.ready:
                what = f"version {number} of {self.new.pin.name} waits for its files in the registry"
            else:
                what = f"version {number} has the digest {there.digest}, not {self.new.pin.digest}"
            objections.append(Objection(code="version-missing", what=what))
            return self._say(objections)
        if self._same_pin():
            return self._say(objections)
        match self.new.admission.grounds:
            case "promotion":
                return self._promotion(version, objections)
            case "rollback":
                return self._say(objections + list(self._rollback()))
            case "adoption":
                return self._say(objections + list(self._adoption(version)))

    # --- what holds on all grounds ------------------------------------------------------------------------

    def _unknown(self) -> Iterator[Objection]:
        if self.subject.environment not in self.base.environments:
            yield Objection(
                code="unknown", what=f"there is no environment {self.subject.environment} on the base"
            )
        if self.subject.model not in self.base.models:
            yield Objection(code="unknown", what=f"there is no model {self.subject.model} on the base")

    def _form(self) -> Iterator[Objection]:
        """What trueup itself would never write differently."""
        model = self.view.model(self.subject)
        if self.subject.environment not in model.environments:
            yield Objection(
                code="not-wanted",
                what=f"{self.subject.model} does not name {self.subject.environment} in environments",
            )
        if self.new.admission.evidence != (self.bundle.digest if self.bundle else None):
            yield Objection(code="not-ours", what="admission.evidence is not the digest of the evidence file")
        if self.old is not None and self._same_pin():
            yield from self._kept(self.old)
        else:
            yield from self._written()

    def _kept(self, old: Release) -> Iterator[Objection]:
        """A pin that stays keeps its records, and the manifests that came with it."""
        if self.new != old.model_copy(update={"rejected": self.new.rejected, "pin": self.new.pin}):
            what = "changes `admission` or `champion` of a pin that stays: these are records"
            yield Objection(code="record-edited", what=what)
        # Not what it would render to now: environment.yaml may have changed since.
        if blobs_digest(self.head.rendered.get(str(self.subject), {})) != old.admission.rendered:
            what = "the rendered manifests are not those that were committed with this pin"
            yield Objection(code="rendered-edited", what=what)

    def _written(self) -> Iterator[Objection]:
        """A new pin is one that trueup itself would write."""
        environment, model = self.view.environment(self.subject), self.view.model(self.subject)
        if (self.new.pin.registry, self.new.pin.name) != (environment.registry, model.registered_name):
            yield Objection(
                code="another-name",
                what=f"pins {self.new.pin.registry}/{self.new.pin.name}, and the model is "
                f"{environment.registry}/{model.registered_name}",
            )
        entry = self.old.rejects(self.new.pin.digest, self.new.digest) if self.old else None
        if entry is not None:
            yield Objection(code="rejected", what=f"version {entry.version} was rejected here: {entry.reason}")
        was = self.old.image if self.old else ""
        known_image = self.new.image in (self.base.platform.images.server, was)
        if not known_image and self.new.admission.grounds != "rollback":
            yield Objection(
                code="image", what="the server image is neither the platform's nor the one pinned before"
            )
        known_renderer = self.new.renderer in (
            environment.runtime.renderer,
            self.old.renderer if self.old else "",
        )
        if not known_renderer and self.new.admission.grounds != "rollback":
            yield Objection(
                code="renderer", what="the renderer is neither the environment's nor the one pinned before"
            )
        serving = model.serving_in(self.subject.environment, environment.runtime, self.new.renderer)
        if self.new.serving != serving and not self._served_before():
            yield Objection(
                code="serving-edited", what="the serving section is not the model's for this environment"
            )
        expected = self.rendered()
        if self.head.rendered.get(str(self.subject), {}) != expected:
            yield Objection(
                code="rendered-edited",
                what="the rendered manifests are not what `reconcile render` makes of this Release",
            )
        if self.new.admission.rendered != blobs_digest(expected):
            yield Objection(
                code="not-ours", what="admission.rendered is not the digest of the rendered manifests"
            )
        order = self.new.admission.order
        if order is not None and (self.new.admission.grounds != "promotion" or order.at > self.at):
            yield Objection(
                code="not-ours", what="`admission.order` is dated later than now, or of no promotion"
            )
        if self.new.champion != self.view.champion(self.subject):
            yield Objection(code="not-ours", what="`champion` is not the environment's champion")

    def _same_pin(self) -> bool:
        return self.old is not None and self.old.digest == self.new.digest

    def _served_before(self) -> bool:
        """A rollback brings back the snapshot it had; a promotion may keep the one that is pinned."""
        if self.old is not None and self.new.serving == self.old.serving:
            return True
        return self.new.admission.grounds == "rollback"

    def rendered(self) -> dict[str, str]:
        """File name -> Git blob id of what this Release renders to."""
        files = render(
            self.subject.environment, self.view.environment(self.subject), self.subject.model, self.new
        )
        return blob_ids(files)

    def inputs(self) -> str:
        policy = self.view.policy(self.subject).digest if self.new.admission.grounds == "promotion" else ""
        return inputs_digest(
            self.new,
            policy=policy,
            bundle=self.bundle,
            champion=self.view.champion(self.subject),
            environment=self.view.environment_digest(self.subject),
            rendered=blobs_digest(self.rendered()),
            baselines=self.view.desired.models[self.subject.model].model.baselines,
        )

    def _say(self, objections: list[Objection]) -> Verdict:
        if self._same_pin() and self.old is not None and self.new != self.old:
            what = "changes what is recorded about the pin, not the pin: a person decides"
            objections.append(Objection(code="record-edited", what=what, verdict="review"))
        return Verdict(
            subject=self.subject,
            grounds=self.new.admission.grounds,
            objections=tuple(objections),
            inputs=self.inputs(),
        )

    # --- promotion ----------------------------------------------------------------------------------------

    def _promotion(self, version: ModelVersion, objections: list[Objection]) -> Verdict:
        objections += self._way(version)
        if self.old is not None and self.new.rejected != self.old.rejected:
            objections.append(Objection(code="record-edited", what="a promotion may not change `rejected`"))
        policy, case = self.view.policy(self.subject), self._case()
        trusted: dict[str, Evidence] = {}
        sources: dict[str, str] = {}
        for measurement in measurements(policy, case):
            vouched = self._vouched(version, measurement, case.key(measurement))
            if vouched is not None:
                mark, trusted[measurement] = vouched
                sources[measurement] = str(mark)
        gates = self._judged(policy, trusted, case, version)
        inputs = self.inputs()
        admission = self.new.admission
        if admission.policy != policy.digest:
            objections.append(
                Objection(code="not-ours", what="was judged by another policy than the base has now")
            )
        expected = EvidenceBundle(
            candidate=self.new.pin.digest,
            champion=None if case.champion == NO_CHAMPION else case.champion,
            evidence=trusted,
            sources=sources,
        )
        if self.bundle is not None and self.bundle != expected:
            objections.append(
                Objection(
                    code="evidence-edited", what="the evidence file is not what the registry's marks name"
                )
            )
        if admission.judge != JUDGE and not self.merged:
            what = f"was judged by version {admission.judge} of the judge, and this is version {JUDGE}"
            objections.append(Objection(code="not-ours", what=what))
        if admission.inputs != inputs:
            objections.append(
                Objection(code="not-ours", what="admission.inputs is not the digest of what is judged here")
            )
        return Verdict(
            subject=self.subject, grounds="promotion", gates=gates, objections=tuple(objections), inputs=inputs
        )

    def _judged(
        self, policy: Policy, trusted: dict[str, Evidence], case: Case, version: ModelVersion
    ) -> tuple[GateVerdict, ...]:
        """The gates' verdicts, with the waivers that count. Whose they are is not asked of what is merged."""
        waivers = dict.fromkeys(self.view.exceptions(self.subject).waivers, "")
        if not self.merged:
            waivers = {one: against_waiver(self.view, self.subject, version, one) for one in waivers}
        counting = tuple(one for one, why in waivers.items() if not why)
        refused = {
            one.gate: why
            for one, why in waivers.items()
            if why and one.digest == self.new.pin.digest and one.counts(self.at)
        }
        return tuple(
            gate.model_copy(update={"why": f"{gate.why}; its waiver does not count: {refused[gate.gate]}"})
            if gate.verdict != "pass" and gate.gate in refused
            else gate
            for gate in judge(policy, trusted, case, self.at, counting)
        )

    def _vouched(self, version: ModelVersion, measurement: str, key: str) -> tuple[Mark, Evidence] | None:
        """What the newest mark for exactly this key names: the head's copy of it, or as it was read.

        On main, the evidence file may be what an earlier mark names: it was the newest at the merge.
        """
        evidence = self.bundle.evidence.get(measurement) if self.bundle else None
        marks = version.marks(measurement, key)
        if evidence is not None:
            digest = evidence.digest
            for mark in marks if self.merged else marks[:1]:
                if mark.sha256 == digest:
                    return mark, evidence
        read = self.view.observed.evidence.get(str(marks[0])) if marks else None
        return (marks[0], read) if read is not None else None

    def marks(self) -> tuple[tuple[str, Mark], ...]:
        """(registry, mark) of the evidence that the gates would ask for, where the pinned version has it."""
        version = None if tuple(self._unknown()) else self.view.version_of(self.new)
        if version is None or self.new.admission.grounds != "promotion":
            return ()
        case = self._case()
        found = [
            version.mark(kind, case.key(kind)) for kind in measurements(self.view.policy(self.subject), case)
        ]
        return tuple((self.new.pin.registry, mark) for mark in found if mark is not None)

    def _case(self) -> Case:
        champion = self.view.champion(self.subject)
        return case_of(self.base, self.subject, self.new.pin, self.new.image, champion)

    def _way(self, version: ModelVersion) -> Iterator[Objection]:
        """A version comes from our training, by request, or was verified in the environments before."""
        promotes_from = self.view.environment(self.subject).promotes_from
        if promotes_from is None:
            yield from self._origin(version)
            return
        here = set()
        for name in promotes_from.environments:
            upstream = Subject(environment=name, model=self.subject.model)
            release = self.view.release(upstream)
            registered = self.view.registered(release.pin.registry, release.pin.name) if release else None
            if isinstance(registered, Gap):
                what = f"the {registered.source}, of {name}, did not answer: {registered.error}"
                yield Objection(code="gap", what=what)
                return
            if self._verified_in(upstream, release):
                here.add(name)
        missing = [name for name in promotes_from.environments if name not in here]
        if (promotes_from.all_of and missing) or (promotes_from.any_of and not here):
            yield Objection(
                code="upstream-not-verified",
                what=f"version {self.new.pin.version} is not what {' and '.join(missing)} has verified",
            )

    def _verified_in(self, upstream: Subject, release: Release | None) -> bool:
        champion = self.view.champion(upstream)
        if champion is not None and champion.digest == self.new.pin.digest:
            return True
        if self.new.admission.order is not None:
            return self._verified_once(upstream, release)
        if not self.merged or release is None or release.pin.digest != self.new.pin.digest:
            return False
        # Served differently since, it was verified again: the younger mark replaced the one of then.
        version = self.view.version_of(release)
        return version is not None and version.verified(upstream.environment) is not None

    def _verified_once(self, upstream: Subject, release: Release | None) -> bool:
        """What a person orders may be an earlier one, if that environment has not rejected it since."""
        if release is None or release.rejects(self.new.pin.digest):
            return False
        registered = self.view.registered(release.pin.registry, release.pin.name)
        return not isinstance(registered, Gap) and any(
            version.digest == self.new.pin.digest and version.verified(upstream.environment) is not None
            for version in registered.versions
        )

    def _origin(self, version: ModelVersion) -> Iterator[Objection]:
        training = self.view.model(self.subject).training
        if training.external is None:
            if version.training_key is None:
                yield Objection(
                    code="not-trained-here", what=f"version {version.version} carries no training key"
                )
            return
        if self.merged or (self.old is not None and self.old.pin.digest == self.new.pin.digest):
            return
        if self.new.admission.order is not None:
            return
        registered = self.view.registered(self.new.pin.registry, self.new.pin.name)
        alias = training.external.alias
        if isinstance(registered, Gap) or registered.aliases.get(alias) != version.version:
            what = (
                f"version {version.version} is not the one that the alias {alias!r} requests: a person decides"
            )
            yield Objection(code="not-requested", what=what, verdict="review")

    # --- other grounds ------------------------------------------------------------------------------------

    def _rollback(self) -> Iterator[Objection]:
        """Its target was verified in this environment, still exists and is not rejected."""
        if self.old is None:
            yield Objection(code="nothing-to-roll-back", what="nothing is pinned here")
            return
        if self.old.admission.grounds == "rollback":
            yield Objection(
                code="rollback-of-rollback", what="what is pinned is itself a rollback", verdict="review"
            )
        mark_at = self.view.verified_at(self.subject.environment, self.new)
        copied = self.old.champion is not None and self.old.champion.release == self.new.digest
        if mark_at is None and not copied:
            yield Objection(
                code="never-verified",
                what=f"version {self.new.pin.version} was never verified in {self.subject.environment}",
            )
        added = self.new.rejected[len(self.old.rejected) :]
        kept = self.new.rejected[: len(self.old.rejected)]
        blames = {self.old.pin.digest, self.old.digest}
        if kept != self.old.rejected or len(added) != 1 or added[0].digest not in blames:
            yield Objection(
                code="record-edited", what="a rollback adds exactly one entry to `rejected`: what it replaces"
            )

    def _adoption(self, version: ModelVersion) -> Iterator[Objection]:
        if self.old is not None:
            yield Objection(code="already-pinned", what="only what trueup does not pin yet can be adopted")
        yield Objection(
            code="claims-no-gates",
            what=f"adopts version {self.new.pin.version}, which runs already; no gate was asked",
            verdict="review",
        )
        if version.digest is None:
            yield Objection(
                code="digest-not-checked",
                what=f"version {version.version} carries no trueup.digest tag, so the digest of the pin is "
                "only claimed: check it by hand",
                verdict="review",
            )


def _removal(base: DesiredState, head: DesiredState, subject: Subject) -> Verdict:
    key = str(subject)
    objections = [Objection(code="removal", what=f"removes {subject}: a person decides", verdict="review")]
    if head.rendered.get(key) or key in head.bundles:
        objections.append(
            Objection(code="rendered-edited", what="leaves manifests or evidence of a removed release")
        )
    if key not in base.releases:
        objections = [Objection(code="rendered-edited", what="there are manifests without a Release")]
    model = head.models.get(subject.model)
    if model is not None and subject.environment in model.model.environments:
        objections.append(
            Objection(
                code="still-wanted",
                what=f"{subject.model} still names {subject.environment}: it would be proposed again",
                verdict="review",
            )
        )
    return Verdict(subject=subject, grounds="removal", objections=tuple(objections))


def _documents(base: DesiredState, head: DesiredState, at: Instant) -> Iterator[Verdict]:
    """What may not change together, whatever it pins, and documents that would no longer parse."""
    known = {(p.path, p.what) for p in base.problems}
    for problem in head.problems:
        if problem.severity == "error" and (problem.path, problem.what) not in known:
            subject = Subject(environment=problem.environment, model=problem.model)
            yield Verdict(
                subject=subject,
                grounds="documents",
                objections=(Objection(code="invalid-document", what=str(problem)),),
            )
    for name in sorted(base.models.keys() & head.models.keys()):
        old, new = base.models[name], head.models[name]
        if old.evaluation_md5 == new.evaluation_md5 and old.model.data.evaluation == new.model.data.evaluation:
            continue
        if base.training_key(name) == head.training_key(name):
            continue
        waived = [
            waiver
            for key, exceptions in base.exceptions.items()
            if key.partition("/")[2] == name
            for waiver in exceptions.waivers
            if waiver.gate == EVALUATION_DATA
            and waiver.digest == f"md5:{new.evaluation_md5}"
            and waiver.counts(at)
        ]
        if not waived:
            what = (
                f"{name} changes its evaluation data together with its training, so that nobody could say "
                "which of them moved the numbers. hint: two pull requests, or a waiver of gate evaluation-data "
                f"for md5:{new.evaluation_md5}, judged at {format_instant(at)}"
            )
            yield Verdict(
                subject=Subject(model=name),
                grounds="documents",
                objections=(Objection(code="evaluation-and-training", what=what),),
            )
