"""What is applied is what was committed with the pin, whatever the environment has become since."""

from __future__ import annotations

from reconciler.core.desired import DesiredState
from reconciler.core.observed import Application, ClusterSweep
from reconciler.planning.aliases import plan_leftovers
from reconciler.planning.in_motion import at_rest
from reconciler.planning.serving import plan_serving
from reconciler.planning.view import View
from tests.stories.build import HERE, Story, subject_of

STAGING = subject_of("staging/digits")
STORY = Story(HERE / "release-applied")


def test_a_pin_is_applied_in_the_namespace_that_was_reviewed_or_not_at_all() -> None:
    release = STORY.main.releases[str(STAGING)]
    as_merged = plan_serving(View(STORY.main, STORY.observed()), STAGING, release, None)
    assert [action.kind for action in as_merged.actions] == ["apply-manifests"]

    moved = STORY.main.environments["staging"].model_copy(update={"namespace": "elsewhere"})
    main = STORY.main.model_copy(update={"environments": {**STORY.main.environments, "staging": moved}})
    since = plan_serving(View(main, STORY.observed()), STAGING, release, None)
    assert (since.actions, [hold.code for hold in since.holds]) == ((), ["rendered-edited"])


# --- where Argo CD applies --------------------------------------------------------------------------------

DRIFTED = Story(HERE / "cluster-drift-put-back")
PRODUCTION = subject_of("production/digits")


def synced(story: Story, without: str = "") -> DesiredState:
    """Main where Argo CD applies every environment's manifests; ``without`` the release of one subject."""
    found = {
        name: environment.model_copy(update={"sync": "argocd"})
        for name, environment in story.main.environments.items()
    }
    releases = {key: release for key, release in story.main.releases.items() if key != without}
    return story.main.model_copy(update={"environments": found, "releases": releases})


def test_trueup_applies_nothing_and_waits() -> None:
    main, release = synced(STORY), STORY.main.releases[str(STAGING)]
    plan = plan_serving(View(main, STORY.observed()), STAGING, release, None)
    assert plan.actions == ()
    (hold,) = plan.holds
    assert hold.code == "awaiting-sync"
    assert "Argo CD applies environments/staging/rendered/digits" in hold.reason


def test_the_plan_says_what_argo_cd_says() -> None:
    main, release, observed = synced(STORY), STORY.main.releases[str(STAGING)], STORY.observed()
    said = Application(sync="OutOfSync", health="Missing", message="namespaces is forbidden")
    sweep = ClusterSweep(applications={str(STAGING): said, str(PRODUCTION): Application(sync="a", health="b")})
    swept = observed.swept.model_copy(update={"clusters": {"local": sweep}})
    view = View(main, observed.model_copy(update={"swept": swept}))
    (hold,) = plan_serving(view, STAGING, release, None).holds
    assert hold.reason.endswith("; it says OutOfSync and Missing: namespaces is forbidden")


def test_what_differs_in_the_cluster_is_argo_cds_to_mend() -> None:
    observed = DRIFTED.observed()
    assert not at_rest(View(DRIFTED.main, observed), PRODUCTION)
    assert at_rest(View(synced(DRIFTED), observed), PRODUCTION)


def test_argo_cd_prunes_what_is_no_longer_committed() -> None:
    key = str(PRODUCTION)
    observed = DRIFTED.observed()
    (ours,) = plan_leftovers(
        View(DRIFTED.main.model_copy(update={"releases": {}}), observed), PRODUCTION
    ).actions[:1]
    assert ours.kind == "prune-workload"
    plan = plan_leftovers(View(synced(DRIFTED, without=key), observed), PRODUCTION)
    assert "prune-workload" not in {action.kind for action in plan.actions}
    assert [hold.code for hold in plan.holds] == ["awaiting-sync"]
