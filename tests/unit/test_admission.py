"""Admission against people who mean it: nothing in the head of a pull request lets a version past its gates.

The author of these pull requests knows trueup well: whatever can be worked out without the registry's rights
(every digest, every manifest) fits. Production runs version 1; staging runs version 2, which may go on to
production; the gates block version 3, and nothing was ever measured for version 4.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState, blob_id, blobs_digest
from reconciler.core.documents import Exceptions, External, Rejected, Release, VerifiedPin, Waiver
from reconciler.core.evidence import Estimate, EvidenceBundle, Metric, Scores
from reconciler.core.observed import (
    TAG_DIGEST,
    Gap,
    Mark,
    Observed,
    PinHistory,
    Swept,
    VerifiedMark,
    evidence_tag,
    verified_tag,
)
from reconciler.core.plan import Verdict
from reconciler.core.serving import Runtime, Serving
from reconciler.planning.admission import admit, admit_pin
from reconciler.planning.proposals import with_release
from reconciler.planning.renderers import render
from reconciler.planning.serving import not_to_be_applied
from reconciler.planning.view import View
from tests.stories.build import HERE, Story, digest_of_version

STAGING = Subject(environment="staging", model="digits")
PRODUCTION = Subject(environment="production", model="digits")
INTERVAL = [-0.004, 0.024]
CASE: dict[str, Any] = {
    "at": "2026-03-02T12:00:00Z",
    "versions": {
        "digits": {
            "v1": {
                "trained": "earlier",
                "evaluated": [{"accuracy": 0.95}],
                "verified": {"staging": "2026-03-01T09:45:00Z", "production": "2026-03-01T11:05:00Z"},
            },
            "v2": {
                "evaluated": [
                    {
                        "accuracy": 0.96,
                        "against": 1,
                        "champion": 0.95,
                        "interval": INTERVAL,
                        "at": "2026-03-02T08:00:00Z",
                    }
                ],
                "verified": {"staging": "2026-03-02T09:30:00Z"},
            },
            "v3": {
                "evaluated": [
                    {
                        "accuracy": 0.71,
                        "against": 1,
                        "champion": 0.95,
                        "interval": [-0.27, -0.21],
                        "at": "2026-03-02T08:00:00Z",
                    },
                    {
                        "accuracy": 0.71,
                        "against": 2,
                        "champion": 0.96,
                        "interval": [-0.28, -0.22],
                        "at": "2026-03-02T10:00:00Z",
                    },
                ],
            },
            "v4": {},
        }
    },
    "history": [
        {"at": "2026-03-01T09:30:00Z", "promote": "staging/digits", "version": 1},
        {"at": "2026-03-01T10:30:00Z", "promote": "production/digits", "version": 1},
        {"at": "2026-03-02T09:00:00Z", "promote": "staging/digits", "version": 2},
    ],
}
STORY = Story(HERE, CASE)
BASE, OBSERVED = STORY.main, STORY.registry_only()


def proposed(subject: Subject, version: int, intent: str = "promote", **given: Any) -> DesiredState:
    """What trueup itself would write."""
    if intent != "rollback":
        given["version"] = version
    return STORY.changed(STORY.view_at(BASE, STORY.at, subject), intent, subject, **given)


def parts(head: DesiredState, subject: Subject) -> tuple[Release, EvidenceBundle | None]:
    return head.releases[str(subject)], head.bundles.get(str(subject))


def verdict_of(head: DesiredState, base: DesiredState = BASE, observed: Observed = OBSERVED) -> Verdict:
    """The one that is not about exceptions; those are judged beside it."""
    said = admit(base, head, observed)
    (verdict,) = [one for one in said if not {o.code for o in one.objections} & {"hold", "waiver"}]
    return verdict


def sealed(
    subject: Subject, release: Release, bundle: EvidenceBundle | None, base: DesiredState = BASE
) -> DesiredState:
    """A head that pins ``release``, with every digest in it worked out as trueup would have."""
    files = render(subject.environment, base.environments[subject.environment], subject.model, release)
    admission = release.admission.model_copy(
        update={
            "rendered": blobs_digest({name: blob_id(text) for name, text in files.items()}),
            "evidence": bundle.digest if bundle else None,
            "policy": base.policies["default"].digest if release.admission.grounds == "promotion" else None,
        }
    )
    draft = release.model_copy(update={"admission": admission})
    (judged,) = admit(base, with_release(base, subject, draft, bundle), OBSERVED)
    final = draft.model_copy(
        update={"admission": admission.model_copy(update={"inputs": judged.inputs or None})}
    )
    return with_release(base, subject, final, bundle)


def edited(release: Release, **fields: Any) -> Release:
    return release.model_copy(update=fields)


def codes(verdict: Verdict) -> set[str]:
    """The codes of blocking objections, and ``gate NAME`` for each gate that blocks."""
    gates = {f"gate {gate.gate}" for gate in verdict.gates if gate.verdict == "block"}
    return gates | {o.code for o in verdict.objections if o.verdict == "block"}


# --- what is right passes ---------------------------------------------------------------------------------


def test_our_own_proposal_is_admitted() -> None:
    verdict = verdict_of(proposed(PRODUCTION, 2))
    assert (verdict.verdict, [gate.verdict for gate in verdict.gates]) == ("pass", ["pass", "pass"])


def test_sealing_changes_nothing_about_our_own_proposal() -> None:
    head = proposed(PRODUCTION, 2)
    assert sealed(PRODUCTION, *parts(head, PRODUCTION)).releases == head.releases


def promising(accuracy: float) -> DesiredState:
    """The base, whose model promises this accuracy."""
    source = BASE.models["digits"]
    model = source.model.model_copy(update={"baselines": {"accuracy": accuracy}})
    return BASE.model_copy(
        update={"models": {**BASE.models, "digits": source.model_copy(update={"model": model})}}
    )


def test_another_promise_of_the_model_asks_anew_for_a_promotion_alone() -> None:
    for head, asked_anew in ((proposed(PRODUCTION, 2), True), (proposed(STAGING, 0, "rollback"), False)):
        inputs = {verdict_of(head, base).inputs for base in (BASE, promising(0.9), promising(0.91))}
        assert len(inputs) == (3 if asked_anew else 1)


def test_a_rollback_to_a_verified_version_is_admitted() -> None:
    verdict = verdict_of(proposed(STAGING, 0, "rollback"))
    assert (verdict.grounds, verdict.verdict) == ("rollback", "pass")


def test_nothing_changed_is_nothing_to_admit() -> None:
    assert admit(BASE, BASE, OBSERVED) == ()


def test_a_registry_that_is_silent_admits_nothing() -> None:
    silent = Observed(swept=Swept(at=STORY.at, registries={"default": Gap(source="registry", error="503")}))
    assert codes(verdict_of(proposed(PRODUCTION, 2), observed=silent)) >= {"gap"}


# --- one attack a line ------------------------------------------------------------------------------------


def _bad(subject: Subject = STAGING, version: int = 3) -> tuple[Release, EvidenceBundle | None]:
    return parts(proposed(subject, version), subject)


def _good() -> tuple[Release, EvidenceBundle | None]:
    return parts(proposed(PRODUCTION, 2), PRODUCTION)


def as_is() -> DesiredState:
    return proposed(STAGING, 3)


def pin_digest_edited() -> DesiredState:
    release, bundle = _good()
    pin = release.pin.model_copy(update={"digest": digest_of_version(3)})
    return sealed(PRODUCTION, edited(release, pin=pin), bundle)


def pin_number_edited() -> DesiredState:
    release, bundle = _good()
    return sealed(PRODUCTION, edited(release, pin=release.pin.model_copy(update={"version": "3"})), bundle)


def pin_edited_and_nothing_else() -> DesiredState:
    pin = {"pin": {"version": "3", "digest": digest_of_version(3)}}
    return proposed(PRODUCTION, 2, edit=pin)


def evidence_of_another_version() -> DesiredState:
    release, _ = _bad(PRODUCTION)
    _, good = _good()
    assert good is not None
    return sealed(PRODUCTION, release, good.model_copy(update={"candidate": release.pin.digest}))


def evidence_with_better_numbers() -> DesiredState:
    release, bundle = _bad()
    return sealed(STAGING, release, _beautified(bundle))


def _beautified(bundle: EvidenceBundle | None) -> EvidenceBundle:
    assert bundle is not None
    one = Estimate(value=0.99, n=9999, low=-0.001, high=0.1)
    better = Metric(overall=Scores(candidate=one, champion=one, difference=one))
    documents = {
        name: document.model_copy(update={"metrics": {"accuracy": better}})
        for name, document in bundle.evidence.items()
    }
    return bundle.model_copy(update={"evidence": documents})


def good_version_with_better_numbers() -> DesiredState:
    release, bundle = _good()
    return sealed(PRODUCTION, release, _beautified(bundle))


def good_version_with_more_evidence() -> DesiredState:
    release, bundle = _good()
    assert bundle is not None
    more = {**bundle.evidence, "parity": bundle.evidence["evaluate"]}
    return sealed(PRODUCTION, release, bundle.model_copy(update={"evidence": more}))


def evidence_file_of_a_pin_edited() -> DesiredState:
    key = str(STAGING)
    return BASE.model_copy(update={"bundles": {**BASE.bundles, key: _beautified(BASE.bundles[key])}})


def evidence_file_of_a_pin_removed() -> DesiredState:
    return BASE.model_copy(update={"bundles": {k: b for k, b in BASE.bundles.items() if k != str(STAGING)}})


def manifests_edited() -> DesiredState:
    return proposed(PRODUCTION, 2, rendered="edited")


def manifests_edited_alone() -> DesiredState:
    folder = {**BASE.rendered[str(STAGING)], "deployment.yaml": "e" * 40}
    return BASE.model_copy(update={"rendered": {**BASE.rendered, str(STAGING): folder}})


def manifests_added() -> DesiredState:
    folder = {**BASE.rendered[str(STAGING)], "cronjob.yaml": "e" * 40}
    return BASE.model_copy(update={"rendered": {**BASE.rendered, str(STAGING): folder}})


def manifests_added_deeper() -> DesiredState:
    folder = {**BASE.rendered[str(STAGING)], "sub/release.yaml": "e" * 40}
    return BASE.model_copy(update={"rendered": {**BASE.rendered, str(STAGING): folder}})


def manifests_without_a_release() -> DesiredState:
    return BASE.model_copy(
        update={"rendered": {**BASE.rendered, "staging/ghost": {"deployment.yaml": "e" * 40}}}
    )


def rejected_list_edited() -> DesiredState:
    release, bundle = _good()
    entry = Rejected(digest=digest_of_version(4), version="4", reason="because", since=STORY.at)
    return sealed(PRODUCTION, edited(release, rejected=(entry,)), bundle)


def champion_forged() -> DesiredState:
    release, bundle = _good()
    forged = VerifiedPin(version="3", digest=digest_of_version(3), release=release.digest, at=STORY.at)
    return sealed(PRODUCTION, edited(release, champion=forged), bundle)


def champion_of_a_pin_forged() -> DesiredState:
    """Would make a rollback to version 3 pass in the next pull request."""
    release, bundle = BASE.releases[str(STAGING)], BASE.bundles[str(STAGING)]
    target, _ = _bad()
    forged = VerifiedPin(version="3", digest=digest_of_version(3), release=target.digest, at=STORY.at)
    return with_release(BASE, STAGING, edited(release, champion=forged), bundle)


def grounds_of_a_pin_forged() -> DesiredState:
    release, bundle = BASE.releases[str(STAGING)], BASE.bundles[str(STAGING)]
    admission = release.admission.model_copy(update={"judged_at": STORY.at, "reason": "always was"})
    return with_release(BASE, STAGING, edited(release, admission=admission), bundle)


def image_swapped() -> DesiredState:
    release, bundle = _good()
    return sealed(PRODUCTION, edited(release, image="mine/server@sha256:" + "6" * 64), bundle)


def serving_edited() -> DesiredState:
    return proposed(PRODUCTION, 2, replicas=50)


def policy_forged() -> DesiredState:
    return proposed(PRODUCTION, 2, edit={"admission": {"policy": digest_of_version(9)}})


def inputs_forged() -> DesiredState:
    return proposed(PRODUCTION, 2, edit={"admission": {"inputs": digest_of_version(9)}})


def pin_and_policy_together() -> DesiredState:
    head = proposed(STAGING, 3)
    policy = head.policies["default"].model_copy(update={"gates": ()})
    return head.model_copy(update={"policies": {"default": policy}})


def pin_and_waivers_together() -> DesiredState:
    waivers = tuple(
        Waiver(gate=gate, digest=digest_of_version(3), reason="mine", expires=STORY.at + timedelta(days=1))
        for gate in ("accuracy", "not-worse")
    )
    said = Exceptions(kind="Exceptions", waivers=waivers)
    return proposed(STAGING, 3).model_copy(update={"exceptions": {str(STAGING): said}})


def environment_created_in_the_same() -> DesiredState:
    environments = {**BASE.environments, "canary": BASE.environments["staging"]}
    release, bundle = _bad()
    wider = BASE.model_copy(update={"environments": environments})
    return with_release(wider, Subject(environment="canary", model="digits"), release, bundle)


def model_created_in_the_same() -> DesiredState:
    release, bundle = _bad()
    wider = BASE.model_copy(update={"models": {**BASE.models, "twin": BASE.models["digits"]}})
    return with_release(wider, Subject(environment="staging", model="twin"), release, bundle)


def past_staging() -> DesiredState:
    return proposed(PRODUCTION, 4)


def of_another_name() -> DesiredState:
    release, bundle = _good()
    pin = release.pin.model_copy(update={"name": "digits-of-mine"})
    return sealed(PRODUCTION, edited(release, pin=pin), bundle)


def rollback_to_the_never_verified() -> DesiredState:
    back, _ = parts(proposed(STAGING, 0, "rollback"), STAGING)
    return sealed(STAGING, edited(back, pin=_bad()[0].pin), None)


def rollback_that_rejects_nothing() -> DesiredState:
    back, _ = parts(proposed(STAGING, 0, "rollback"), STAGING)
    return sealed(STAGING, edited(back, rejected=()), None)


def rollback_that_rejects_another() -> DesiredState:
    back, _ = parts(proposed(STAGING, 0, "rollback"), STAGING)
    blame = back.rejected[-1].model_copy(update={"digest": digest_of_version(1)})
    return sealed(STAGING, edited(back, rejected=(blame,)), None)


def rollback_served_otherwise() -> DesiredState:
    back, _ = parts(proposed(STAGING, 0, "rollback"), STAGING)
    assert back.serving != "none"
    return sealed(STAGING, edited(back, serving=back.serving.model_copy(update={"replicas": 50})), None)


def rollback_to_what_is_pinned() -> DesiredState:
    release = BASE.releases[str(STAGING)]
    admission = release.admission.model_copy(update={"grounds": "rollback"})
    return sealed(STAGING, edited(release, admission=admission), None)


def rollback_where_nothing_is_pinned() -> DesiredState:
    back, _ = parts(proposed(STAGING, 0, "rollback"), STAGING)
    return sealed(STAGING, back, None, EMPTY)


def adoption_over_a_pin() -> DesiredState:
    return proposed(STAGING, 3, "adopt", reason="runs already")


EMPTY = with_release(BASE, STAGING, None, None)
ATTACKS: dict[Callable[[], DesiredState], set[str]] = {
    as_is: {"gate accuracy", "gate not-worse"},
    pin_digest_edited: {"version-missing"},
    pin_number_edited: {"version-missing"},
    pin_edited_and_nothing_else: {"gate accuracy", "not-ours", "upstream-not-verified"},
    evidence_of_another_version: {"gate accuracy", "evidence-edited", "upstream-not-verified"},
    evidence_with_better_numbers: {"evidence-edited"},
    good_version_with_better_numbers: {"evidence-edited"},
    good_version_with_more_evidence: {"evidence-edited"},
    evidence_file_of_a_pin_edited: {"not-ours"},
    evidence_file_of_a_pin_removed: {"not-ours"},
    manifests_edited: {"rendered-edited"},
    manifests_edited_alone: {"rendered-edited"},
    manifests_added: {"rendered-edited"},
    manifests_added_deeper: {"rendered-edited"},
    manifests_without_a_release: {"rendered-edited"},
    rejected_list_edited: {"record-edited"},
    champion_forged: {"not-ours"},
    champion_of_a_pin_forged: {"record-edited"},
    grounds_of_a_pin_forged: {"record-edited"},
    image_swapped: {"image"},
    serving_edited: {"serving-edited"},
    policy_forged: {"not-ours"},
    inputs_forged: {"not-ours"},
    pin_and_policy_together: {"gate accuracy", "gate not-worse"},
    pin_and_waivers_together: {"gate accuracy", "gate not-worse"},
    environment_created_in_the_same: {"unknown"},
    model_created_in_the_same: {"unknown"},
    past_staging: {"gate accuracy", "upstream-not-verified"},
    of_another_name: {"another-name"},
    rollback_to_the_never_verified: {"never-verified"},
    rollback_that_rejects_nothing: {"record-edited"},
    rollback_that_rejects_another: {"record-edited"},
    rollback_served_otherwise: {"never-verified"},
    rollback_to_what_is_pinned: {"record-edited"},
    adoption_over_a_pin: {"already-pinned"},
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_is_blocked(attack: Callable[[], DesiredState]) -> None:
    verdict = verdict_of(attack())
    assert verdict.verdict == "block"
    assert codes(verdict) >= ATTACKS[attack]


def test_a_rollback_where_nothing_is_pinned_is_blocked() -> None:
    assert codes(verdict_of(rollback_where_nothing_is_pinned(), EMPTY)) >= {"nothing-to-roll-back"}


def test_the_model_must_name_the_environment() -> None:
    source = BASE.models["digits"]
    model = source.model.model_copy(update={"environments": ("staging",)})
    base = BASE.model_copy(update={"models": {"digits": source.model_copy(update={"model": model})}})
    head = proposed(PRODUCTION, 2).model_copy(update={"models": base.models})
    assert codes(verdict_of(head, base)) >= {"not-wanted"}


def test_what_was_rejected_here_is_not_promoted_again() -> None:
    back = proposed(STAGING, 0, "rollback")
    view = STORY.view_at(back, STORY.at, STAGING)
    head = STORY.changed(view, "promote", STAGING, version=2)
    assert codes(verdict_of(head, back)) >= {"rejected"}


def test_each_of_two_releases_is_judged_by_the_base() -> None:
    """Staging's new pin in the same pull request is not what staging has verified."""
    one = proposed(STAGING, 3)
    release, bundle = _bad(PRODUCTION)
    production, staging = admit(BASE, with_release(one, PRODUCTION, release, bundle), OBSERVED)
    assert (str(production.subject), str(staging.subject)) == ("production/digits", "staging/digits")
    assert "upstream-not-verified" in codes(production)
    assert "gate accuracy" in codes(staging)


# --- a change of serving is no way around the gates -------------------------------------------------------


def _with_two_replicas(state: DesiredState) -> DesiredState:
    source = state.models["digits"]
    model = source.model.model_copy(update={"serving": Serving(replicas=2)})
    return state.model_copy(update={"models": {"digits": source.model_copy(update={"model": model})}})


def test_serving_differently_lets_in_only_what_is_verified() -> None:
    """Version 3 was merged past the check; changing how it serves must not make it admissible."""
    base = _with_two_replicas(proposed(STAGING, 3))
    release, bundle = parts(base, STAGING)
    again = edited(release, serving=base.models["digits"].model.serving_in("staging", Runtime()))
    head = sealed(STAGING, again, bundle, base)
    assert codes(verdict_of(head, base)) >= {"gate accuracy"}


def test_serving_the_champion_differently_asks_the_light_gates_alone() -> None:
    base = _with_two_replicas(BASE)
    release = base.releases[str(STAGING)]
    champion = STORY.view_at(base, STORY.at, STAGING).champion(STAGING)
    serving = base.models["digits"].model.serving_in("staging", Runtime())
    again = edited(release, serving=serving, champion=champion)
    bundle = EvidenceBundle(candidate=release.pin.digest, champion=release.pin.digest, evidence={})
    verdict = verdict_of(sealed(STAGING, again, bundle, base), base)
    assert (verdict.verdict, verdict.gates) == ("pass", ())


# --- what a person decides --------------------------------------------------------------------------------


def test_lifting_a_rejection_is_for_a_person() -> None:
    back = proposed(STAGING, 0, "rollback")
    release, _ = parts(back, STAGING)
    lifted = with_release(back, STAGING, edited(release, rejected=()), None)
    verdict = verdict_of(lifted, back)
    assert (verdict.verdict, [o.code for o in verdict.objections]) == ("review", ["record-edited"])


def test_a_removal_is_for_a_person() -> None:
    verdict = verdict_of(with_release(BASE, PRODUCTION, None, None))
    assert (verdict.grounds, verdict.verdict) == ("removal", "review")
    assert [o.code for o in verdict.objections] == ["removal", "still-wanted"]


def test_a_removal_leaves_nothing_behind() -> None:
    gone = with_release(BASE, PRODUCTION, None, None)
    left = gone.model_copy(update={"rendered": BASE.rendered})
    assert codes(verdict_of(left)) == {"rendered-edited"}


def test_an_adoption_claims_no_gates_and_is_for_a_person() -> None:
    head = STORY.changed(STORY.view_at(EMPTY, STORY.at, STAGING), "adopt", STAGING, version=3, reason="runs")
    verdict = verdict_of(head, EMPTY)
    assert (verdict.verdict, [o.code for o in verdict.objections]) == ("review", ["claims-no-gates"])


def tagged(version: int, tags: dict[str, str | None], observed: Observed = OBSERVED) -> Observed:
    """What the registry says with these tags of one version put in; None takes one away."""
    sweep = observed.swept.registries["default"]
    assert not isinstance(sweep, Gap)
    registered = sweep.models["digits"]
    versions = tuple(
        v.model_copy(update={"tags": {k: t for k, t in {**v.tags, **tags}.items() if t is not None}})
        if v.version == str(version)
        else v
        for v in registered.versions
    )
    models = {"digits": registered.model_copy(update={"versions": versions})}
    registries = {"default": sweep.model_copy(update={"models": models})}
    return observed.model_copy(update={"swept": observed.swept.model_copy(update={"registries": registries})})


def test_an_adoption_says_that_a_digest_without_its_tag_was_not_checked() -> None:
    head = STORY.changed(STORY.view_at(EMPTY, STORY.at, STAGING), "adopt", STAGING, version=3, reason="runs")
    verdict = verdict_of(head, EMPTY, tagged(3, {TAG_DIGEST: None}))
    assert verdict.verdict == "review"
    assert [o.code for o in verdict.objections] == ["claims-no-gates", "digest-not-checked"]


def external(alias: str) -> tuple[DesiredState, DesiredState, Observed]:
    """Version 2 for staging, which runs version 1, where ``alias`` names it and the model asks for `wanted`."""
    source = BASE.models["digits"]
    training = source.model.training.model_copy(update={"workflow": None, "external": External(alias="wanted")})
    model = source.model.model_copy(update={"training": training})
    written = {"models": {"digits": source.model_copy(update={"model": model})}}
    before, after = STORY.history[-1][2], STORY.history[-1][3]
    sweep = OBSERVED.swept.registries["default"]
    assert not isinstance(sweep, Gap)
    models = {"digits": sweep.models["digits"].model_copy(update={"aliases": {alias: "2"}})}
    registries = {"default": sweep.model_copy(update={"models": models})}
    swept = OBSERVED.swept.model_copy(update={"registries": registries})
    observed = OBSERVED.model_copy(update={"swept": swept})
    return before.model_copy(update=written), after.model_copy(update=written), observed


@pytest.mark.parametrize(("alias", "said"), [("wanted", []), ("other", ["not-requested"])])
def test_an_external_version_that_nobody_requested_is_for_a_person(alias: str, said: list[str]) -> None:
    before, after, observed = external(alias)
    verdict = verdict_of(after, before, observed)
    found = [(o.code, o.verdict) for o in verdict.objections if o.code == "not-requested"]
    assert found == [(code, "review") for code in said]


def test_what_an_alias_requested_at_the_merge_is_not_asked_later() -> None:
    before, after, observed = external("other")
    verdict = admit_pin(history(before, after), observed, STAGING)
    assert verdict is not None
    assert "not-requested" not in {o.code for o in verdict.objections}


def test_lifting_a_rejection_goes_on_after_the_environment_has_changed() -> None:
    """The manifests stay those of the merge; only a new pin is rendered into the new namespace."""
    back = proposed(STAGING, 0, "rollback")
    moved = back.environments["staging"].model_copy(update={"namespace": "elsewhere"})
    base = back.model_copy(update={"environments": {**back.environments, "staging": moved}})
    release = edited(parts(base, STAGING)[0], rejected=())
    lifted = base.model_copy(update={"releases": {**base.releases, str(STAGING): release}})
    verdict = verdict_of(lifted, base)
    assert (verdict.verdict, [o.code for o in verdict.objections]) == ("review", ["record-edited"])
    assert codes(verdict_of(with_release(base, STAGING, release, None), base)) == {"rendered-edited"}


def test_a_rollback_of_a_rollback_is_for_a_person() -> None:
    """Version 2 was lifted from `rejected`, and somebody takes version 1 back in its turn."""
    back = proposed(STAGING, 0, "rollback")
    release, _ = parts(back, STAGING)
    lifted = with_release(back, STAGING, edited(release, rejected=()), None)
    entry = Rejected(digest=release.pin.digest, version="1", reason="worse", since=STORY.at)
    champion = STORY.view_at(lifted, STORY.at, STAGING).champion(STAGING)
    target, _ = parts(BASE, STAGING)
    forth = edited(target, admission=release.admission, rejected=(entry,), champion=champion)
    verdict = verdict_of(sealed(STAGING, forth, None, lifted), lifted)
    assert [(o.code, o.verdict) for o in verdict.objections] == [("rollback-of-rollback", "review")]


# --- across a new server image ----------------------------------------------------------------------------


def test_a_rollback_brings_back_the_image_that_was_verified() -> None:
    """Neither the platform's image by now nor the one that is pinned; the verified release names it."""
    images = BASE.platform.images.model_copy(update={"server": "trueup/server@sha256:" + "7" * 64})
    platform = BASE.platform.model_copy(update={"images": images})
    release, bundle = parts(BASE, STAGING)
    newer = with_release(
        BASE.model_copy(update={"platform": platform}), STAGING, edited(release, image=images.server), bundle
    )
    back, _ = parts(proposed(STAGING, 0, "rollback"), STAGING)
    champion = STORY.view_at(newer, STORY.at, STAGING).champion(STAGING)
    head = sealed(STAGING, edited(back, champion=champion), None, newer)
    assert verdict_of(head, newer).verdict == "pass"


# --- evaluation data --------------------------------------------------------------------------------------


def _both_changed() -> DesiredState:
    source = BASE.models["digits"].model_copy(update={"train_md5": "c" * 32, "evaluation_md5": "d" * 32})
    return BASE.model_copy(update={"models": {"digits": source}})


def test_evaluation_data_and_training_do_not_change_together() -> None:
    assert codes(verdict_of(_both_changed())) == {"evaluation-and-training"}


@pytest.mark.parametrize(
    ("waiver", "admitted"),
    [
        ({}, True),
        ({"digest": "md5:" + "e" * 32}, False),
        ({"gate": "accuracy"}, False),
        ({"expires": STORY.at}, False),
    ],
)
def test_unless_it_is_waived_on_the_base(waiver: dict[str, Any], admitted: bool) -> None:
    given = {"gate": "evaluation-data", "digest": "md5:" + "d" * 32, "reason": "new labels"}
    said = Waiver(**{**given, "expires": STORY.at + timedelta(days=1), **waiver})
    exceptions = {str(STAGING): Exceptions(kind="Exceptions", waivers=(said,))}
    base = BASE.model_copy(update={"exceptions": exceptions})
    in_the_same = _both_changed().model_copy(update={"exceptions": exceptions})
    assert (admit(base, in_the_same, OBSERVED) == ()) is admitted
    assert codes(verdict_of(in_the_same)) == {"evaluation-and-training"}


@pytest.mark.parametrize("one", [{"train_md5": "c" * 32}, {"evaluation_md5": "d" * 32}])
def test_each_alone_may_change(one: dict[str, str]) -> None:
    source = BASE.models["digits"].model_copy(update=one)
    assert admit(BASE, BASE.model_copy(update={"models": {"digits": source}}), OBSERVED) == ()


# --- after the merge --------------------------------------------------------------------------------------


def history(
    before: DesiredState | None, introduced: DesiredState | None, at: datetime = STORY.at
) -> PinHistory:
    return PinHistory(commit="d" * 40, at=at, before=before, introduced=introduced)


def test_a_pin_on_main_is_judged_at_the_instant_of_its_merge() -> None:
    """Its evidence is older than the policy allows by now, and was not then."""
    later = OBSERVED.model_copy(
        update={"swept": OBSERVED.swept.model_copy(update={"at": STORY.at + timedelta(days=300)})}
    )
    verdict = admit_pin(history(BASE, proposed(PRODUCTION, 2)), later, PRODUCTION)
    assert verdict is not None
    assert verdict.verdict == "pass"


def test_a_pin_that_was_merged_past_the_check_stays_out() -> None:
    verdict = admit_pin(history(BASE, proposed(STAGING, 3)), OBSERVED, STAGING)
    assert verdict is not None
    assert codes(verdict) == {"gate accuracy", "gate not-worse"}


def test_a_later_measurement_takes_nothing_from_a_pin_that_is_on_main() -> None:
    """The newest mark is what a proposal needs; what was merged on the mark before it stays admitted."""
    head = proposed(PRODUCTION, 2)
    (evidence,) = parts(head, PRODUCTION)[1].evidence.values()  # type: ignore[union-attr]
    again = evidence.model_copy(update={"at": STORY.at})
    later = Mark(uri="runs:/again/evidence.json", sha256=again.digest)
    tags: dict[str, str | None] = {evidence_tag("evaluate", evidence.key, 2): str(later)}
    observed = tagged(2, tags).model_copy(update={"evidence": {str(later): again}})
    verdict = admit_pin(history(BASE, head), observed, PRODUCTION)
    assert verdict is not None
    assert verdict.verdict == "pass"
    assert codes(verdict_of(head, observed=observed)) == {"evidence-edited"}


def test_a_new_judge_takes_nothing_from_a_pin_that_is_on_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """It judges what is proposed from then on; a proposal of before is written, and approved, anew."""
    head = proposed(PRODUCTION, 2)
    monkeypatch.setattr("reconciler.planning.admission.JUDGE", "2")
    verdict = admit_pin(history(BASE, head), OBSERVED, PRODUCTION)
    assert verdict is not None
    assert verdict.verdict == "pass"
    assert codes(verdict_of(head)) == {"not-ours"}


def test_verifying_it_again_upstream_takes_nothing_from_a_pin_that_is_on_main() -> None:
    """Staging has served version 2 differently since, and its mark is of that release."""
    mark = VerifiedMark(release=digest_of_version(7), at=STORY.at)
    observed = tagged(2, {verified_tag("staging"): str(mark)})
    head = proposed(PRODUCTION, 2)
    verdict = admit_pin(history(BASE, head), observed, PRODUCTION)
    assert verdict is not None
    assert verdict.verdict == "pass"
    assert codes(verdict_of(head, observed=observed)) >= {"upstream-not-verified"}


def _staging_elsewhere() -> tuple[DesiredState, Observed]:
    """Staging has a registry of its own, and that one does not answer."""
    release = BASE.releases[str(STAGING)]
    pin = release.pin.model_copy(update={"registry": "lab"})
    base = BASE.model_copy(update={"releases": {**BASE.releases, str(STAGING): edited(release, pin=pin)}})
    registries = {**OBSERVED.swept.registries, "lab": Gap(source="registry lab", error="503")}
    return base, Observed(swept=OBSERVED.swept.model_copy(update={"registries": registries}))


def test_a_silent_registry_upstream_does_not_say_that_nothing_was_verified() -> None:
    base, observed = _staging_elsewhere()
    release, bundle = _good()
    head = with_release(base, PRODUCTION, release, bundle)
    assert codes(verdict_of(head, base, observed)) == {"gap"}


def test_nor_does_it_make_a_pin_unadmitted() -> None:
    base, observed = _staging_elsewhere()
    release, bundle = _good()
    head = with_release(base, PRODUCTION, release, bundle)
    observed = observed.model_copy(update={"pins": {str(PRODUCTION): history(base, head)}})
    stopped = not_to_be_applied(View(head, observed), PRODUCTION, release)
    assert stopped is not None
    assert (stopped.actions, [hold.code for hold in stopped.holds]) == ((), ["gap"])


@pytest.mark.parametrize("lost", [history(None, BASE), history(BASE, None)])
def test_a_commit_that_cannot_be_read_says_nothing(lost: PinHistory) -> None:
    assert admit_pin(lost, OBSERVED, STAGING) is None


# --- any head at all --------------------------------------------------------------------------------------


@st.composite
def heads(draw: st.DrawFn) -> tuple[Subject, DesiredState]:
    """Whatever an author may put together of real and forged parts, with fitting digests or without."""
    subject = draw(st.sampled_from([STAGING, PRODUCTION]))
    version = draw(st.integers(1, 4))
    release, bundle = parts(proposed(subject, version), subject)
    old = BASE.releases[str(subject)]
    champion = STORY.view_at(BASE, STORY.at, subject).champion(subject)
    digest = digest_of_version(draw(st.sampled_from([version, version, version, 1, 2, 3, 4])))
    pin = release.pin.model_copy(update={"digest": digest})
    forged = VerifiedPin(version="3", digest=digest_of_version(3), release=release.digest, at=STORY.at)
    blame = Rejected(digest=old.pin.digest, version=old.pin.version, reason="x", since=STORY.at)
    assert release.serving != "none"
    fields = {
        "pin": pin,
        "serving": draw(
            st.sampled_from(
                [release.serving, release.serving, release.serving.model_copy(update={"replicas": 9}), "none"]
            )
        ),
        "champion": draw(st.sampled_from([champion, champion, old.champion, forged, None])),
        "rejected": draw(st.sampled_from([(), old.rejected, (*old.rejected, blame)])),
        "image": draw(st.sampled_from([release.image, release.image, "mine/server@sha256:" + "6" * 64])),
        "admission": release.admission.model_copy(
            update={"grounds": draw(st.sampled_from(["promotion", "rollback", "adoption"]))}
        ),
    }
    others = [BASE.bundles.get(str(STAGING)), parts(proposed(PRODUCTION, 2), PRODUCTION)[1]]
    bundle = draw(st.sampled_from([bundle, bundle, *others, None, _beautified(others[1])]))
    head = (
        sealed(subject, edited(release, **fields), bundle)
        if draw(st.integers(0, 4))
        else with_release(BASE, subject, edited(release, **fields), bundle)
    )
    if draw(st.booleans()):
        open_policy = head.policies["default"].model_copy(update={"gates": ()})
        head = head.model_copy(update={"policies": {"default": open_policy}})
    return subject, head


@given(heads())
def test_whatever_the_head_says_only_what_was_proven_gets_in(drawn: tuple[Subject, DesiredState]) -> None:
    subject, head = drawn
    for verdict in admit(BASE, head, OBSERVED):
        if verdict.verdict == "block":
            continue
        pin = head.releases[str(subject)].pin
        assert pin.digest == digest_of_version(pin.version)
        assert pin.version in ("1", "2"), f"{verdict.grounds} of version {pin.version} in {subject}"
        if verdict.grounds == "promotion":
            assert pin.version == "2"
