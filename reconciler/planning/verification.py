"""How a pin was let in, worked out again from Git and the registry's marks. Called by ``reconcile verify``.

Everything is compared byte for byte, by digests: the evidence file, the policy at the commit's base, the
rendered manifests, all inputs together; then the gates are judged again, at the instant they were judged.
Nothing is believed because the Release says so, and what cannot be told is told apart from what is not so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.core.base import Subject, format_instant
from reconciler.core.desired import DesiredState, Policy, blob_id, blobs_digest
from reconciler.core.digests import short
from reconciler.core.documents import Release
from reconciler.core.evidence import CATALOGUE, EvidenceBundle
from reconciler.core.observed import Gap, Mark, ModelVersion, Observed, PinHistory, RegisteredModel, Swept
from reconciler.core.plan import GateVerdict
from reconciler.core.proof import Proof, Standing, Step
from reconciler.planning.admission import inputs_digest
from reconciler.planning.judge import JUDGE, case_of, judge
from reconciler.planning.renderers import RENDERERS, blob_ids, render
from reconciler.planning.view import View


def verify_pin(
    subject: Subject,
    history: PinHistory,
    *,
    evidence_file: str,
    main: DesiredState | None = None,
    registered: RegisteredModel | Gap | None = None,
    stored: Mapping[str, bytes | Gap] | None = None,
) -> Proof:
    """What ``history`` introduced, on what was before it; both were read.

    ``evidence_file`` is the blob of the evidence file at the pin's commit, empty without one. ``main``: it is
    the pin that main has now, and must still be as it came. ``registered`` is what the registry has under its
    name, and ``stored`` the bytes behind each mark; without them Git alone is asked.
    """
    assert history.introduced is not None
    assert history.before is not None
    claim = _Claim(subject, history, history.introduced, history.before, evidence_file)
    steps = [*claim.kept(main)] if main is not None else []
    steps += claim.from_git()
    if registered is not None:
        steps += claim.from_registry(registered, stored or {})
    return Proof(
        subject=subject,
        version=claim.release.pin.version,
        digest=claim.release.pin.digest,
        grounds=claim.release.admission.grounds,
        commit=history.commit,
        since=history.at,
        judged_at=claim.release.admission.judged_at,
        offline=registered is None,
        steps=tuple(steps),
        gates=claim.gates,
    )


def marks_of(history: PinHistory, subject: Subject) -> tuple[tuple[str, Mark], ...]:
    """(registry, mark) of what a pin's evidence file names as the originals of its copies."""
    introduced = history.introduced
    release = introduced.releases.get(str(subject)) if introduced else None
    bundle = introduced.bundles.get(str(subject)) if introduced else None
    if release is None or bundle is None:
        return ()
    marks = (Mark.parse(source) for _, source in sorted(bundle.sources.items()))
    return tuple((release.pin.registry, mark) for mark in marks if mark is not None)


class _Claim:
    """One pin as its commit brought it, and the base that it was judged on."""

    def __init__(
        self,
        subject: Subject,
        history: PinHistory,
        introduced: DesiredState,
        before: DesiredState,
        evidence_file: str,
    ) -> None:
        self.subject, self.history = subject, history
        self.introduced, self.before, self.evidence_file = introduced, before, evidence_file
        self.key = str(subject)
        self.release: Release = introduced.releases[self.key]
        self.bundle: EvidenceBundle | None = introduced.bundles.get(self.key)
        self.view = View(before, Observed(swept=Swept(at=self.release.admission.judged_at)))
        self.gates: tuple[GateVerdict, ...] = ()

    def kept(self, main: DesiredState) -> Iterator[Step]:
        """What main has now of this pin is what its commit brought."""
        now = main.releases.get(self.key)
        same = now is not None and now.model_copy(update={"rejected": self.release.rejected}) == self.release
        if not same:
            yield _no("release", "main's Release is not the one that this commit brought: it was edited since")
        if main.bundles.get(self.key) != self.bundle:
            yield _no("evidence file", "main's evidence file is not the one that came with the pin")
        if main.rendered.get(self.key, {}) != self.introduced.rendered.get(self.key, {}):
            yield _no("manifests", "main's rendered manifests are not those that came with the pin")
        if same:
            yield _yes("release", "main has it as its commit brought it")

    def from_git(self) -> Iterator[Step]:
        missing = self._base()
        if missing:
            yield _unknown("base", missing)
            return
        match self.release.admission.grounds:
            case "promotion":
                yield from self._evidence_file()
                yield from self._policy()
            case "rollback":
                yield self._target()
            case "adoption":
                yield _yes("gates", "an adoption claims none")
        yield from self._manifests()
        yield self._champion()
        yield self._inputs()
        if self.release.admission.grounds == "promotion":
            yield self._verdict()

    def _base(self) -> str:
        """What of the base cannot be read, so that nothing can be worked out on it."""
        problem = self.before.hidden(self.subject)
        if problem is not None:
            return f"what was before the commit has an error: {problem}"
        if self.subject.environment not in self.before.environments:
            return f"there is no environment {self.subject.environment} before the commit"
        if self.subject.model not in self.before.models:
            return f"there is no model {self.subject.model} before the commit"
        return ""

    # --- Git ----------------------------------------------------------------------------------------------

    def _evidence_file(self) -> Iterator[Step]:
        if self.bundle is None:
            yield _no("evidence file", "there is none, or it cannot be read")
            return
        recorded = self.release.admission.evidence
        yield _same("evidence file", "digest", recorded, self.bundle.digest)
        if blob_id(self.bundle.to_text()) != self.evidence_file:
            yield _no("evidence file", "its bytes are not those that trueup writes for what it says")
        champion = self.release.champion.digest if self.release.champion else None
        if (self.bundle.candidate, self.bundle.champion) != (self.release.pin.digest, champion):
            yield _no("evidence file", "is about another candidate or champion than the Release")
        for name, document in sorted(self.bundle.evidence.items()):
            mark = Mark.parse(self.bundle.sources.get(name, ""))
            yield _same(f"evidence of {name}", "sha256", mark.sha256 if mark else None, document.digest)

    @property
    def policy(self) -> Policy | None:
        """Of the environment before the commit; None where it cannot be read."""
        return self.before.policies.get(self.view.environment(self.subject).policy)

    def _policy(self) -> Iterator[Step]:
        name, policy = self.view.environment(self.subject).policy, self.policy
        if policy is None:
            yield _unknown("policy", f"{name} cannot be read before the commit")
            return
        recorded = self.release.admission.policy
        yield _same("policy", f"digest of {name} before the commit,", recorded, policy.digest)

    def _target(self) -> Step:
        """A rollback goes back to what main had before; that it was verified, later copies and marks say."""
        if any(earlier.digest == self.release.digest for earlier in self.history.past):
            return _yes("target", f"main had this release of version {self.release.pin.version} before")
        return _no("target", "main never had this release before")

    def _manifests(self) -> Iterator[Step]:
        committed = self.introduced.rendered.get(self.key, {})
        yield _same("manifests", "digest", self.release.admission.rendered, blobs_digest(committed))
        if self.release.renderer not in RENDERERS:
            yield _unknown("manifests", f"this version of trueup has no renderer {self.release.renderer}")
        elif blob_ids(self._rendered()) != committed:
            yield _no("manifests", "are not what this Release renders to")

    def _rendered(self) -> dict[str, str]:
        environment = self.view.environment(self.subject)
        return render(self.subject.environment, environment, self.subject.model, self.release)

    def _champion(self) -> Step:
        champion = self.release.champion
        if champion is None:
            return _yes("champion", "none is claimed")
        said = f"version {champion.version}, verified {format_instant(champion.at)}"
        if any(earlier.digest == champion.release for earlier in self.history.past):
            return _yes("champion", f"{said}: main had this release before")
        return _no("champion", f"{said}: main never had this release before")

    def _inputs(self) -> Step:
        promoted = self.release.admission.grounds == "promotion"
        policy = self.policy
        found = inputs_digest(
            self.release,
            policy=policy.digest if promoted and policy else "",
            bundle=self.bundle,
            champion=self.release.champion,
            environment=self.view.environment_digest(self.subject),
            rendered=blobs_digest(self.introduced.rendered.get(self.key, {})),
            baselines=self.view.model(self.subject).baselines,
        )
        return _same("inputs", "digest of all that was judged,", self.release.admission.inputs, found)

    def _verdict(self) -> Step:
        policy = self.policy
        if policy is None or self.bundle is None:
            return _unknown("verdict", "cannot be worked out without policy and evidence")
        admission = self.release.admission
        if admission.judge != JUDGE:
            what = f"was given by version {admission.judge} of the judge, and this is version {JUDGE}"
            return _unknown("verdict", what)
        if other := self._other_recipe():
            return _unknown("verdict", other)
        champion, pin, image = self.release.champion, self.release.pin, self.release.image
        case = case_of(self.before, self.subject, pin, image, champion)
        waivers = self.view.exceptions(self.subject).waivers
        self.gates = judge(policy, self.bundle.evidence, case, admission.judged_at, waivers)
        blocked = [gate.gate for gate in self.gates if gate.verdict == "block"]
        asked = [gate.gate for gate in self.gates if gate.verdict == "review"]
        when = format_instant(admission.judged_at)
        if blocked:
            return _no("verdict", f"judged at {when} again, it is blocked by {', '.join(blocked)}")
        if asked:
            return _yes("verdict", f"review, for {', '.join(asked)}; judged at {when}")
        return _yes("verdict", f"pass, {len(self.gates)} gates; judged at {when}")

    def _other_recipe(self) -> str:
        assert self.bundle is not None
        for name, document in sorted(self.bundle.evidence.items()):
            now = CATALOGUE.get(name)
            if now is None:
                return f"this version of trueup has no measurement {name}"
            if (now.recipe, set(now.inputs)) != (document.recipe, set(document.inputs)):
                return f"{name} was measured by recipe {document.recipe}, and this version knows {now.recipe}"
        return ""

    # --- the registry -------------------------------------------------------------------------------------

    def from_registry(
        self, registered: RegisteredModel | Gap, stored: Mapping[str, bytes | Gap]
    ) -> Iterator[Step]:
        """What the registry still has of it. That it has lost something does not make it untrue."""
        if isinstance(registered, Gap):
            yield _unknown("registry", f"did not answer: {registered.error}")
            return
        pin = self.release.pin
        version = registered.version(pin.version)
        if version is None:
            yield _unknown("version", f"version {pin.version} of {pin.name} is no longer in the registry")
            return
        adopted = self.release.admission.grounds == "adoption" and version.digest is None
        yield (
            _yes("version", "carries no digest of its own")
            if adopted
            else _same("version", "digest", pin.digest, version.digest or "")
        )
        if self.release.admission.grounds == "promotion" and self.bundle is not None:
            for name, source in sorted(self.bundle.sources.items()):
                yield self._mark(version, name, source, stored.get(source))

    def _mark(self, version: ModelVersion, name: str, source: str, stored: bytes | Gap | None) -> Step:
        assert self.bundle is not None
        what, document = f"mark of {name}", self.bundle.evidence.get(name)
        if document is None:
            return _no(what, "the evidence file names an original, and has no copy of it")
        if source not in map(str, version.marks(name, document.key)):
            return _no(what, f"version {version.version} carries no mark that vouches for this evidence")
        if isinstance(stored, Gap):
            return _yes(
                what, f"is there; the original is not ({stored.error}), the copy in Git is what was marked"
            )
        if stored is not None and stored != document.to_bytes():
            return _no(what, "the original is another than the copy in Git")
        return _yes(what, "is there, and names these bytes")


def _yes(what: str, said: str) -> Step:
    return _step(what, "proven", said)


def _no(what: str, said: str) -> Step:
    return _step(what, "contradicted", said)


def _unknown(what: str, said: str) -> Step:
    return _step(what, "unknown", said)


def _step(what: str, standing: Standing, said: str) -> Step:
    return Step(what=what, standing=standing, said=said)


def _same(what: str, of: str, recorded: str | None, found: str) -> Step:
    """A digest that was written down, and the one that is worked out now."""
    if recorded is None:
        return _no(what, f"no {of.rstrip(',')} is recorded")
    if recorded != found:
        return _no(what, f"{of} {short(found)} is not {short(recorded)}, which is recorded")
    return _yes(what, f"{of} {short(found)} is what is recorded")
