"""What is applied is what was committed with the pin, whatever the environment has become since."""

from __future__ import annotations

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
