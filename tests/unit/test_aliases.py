"""An alias follows a digest: the number of a version is only its name."""

from __future__ import annotations

import pytest

from reconciler.core.desired import DesiredState
from reconciler.core.observed import TAG_DIGEST, Gap, Observed, RegisteredModel
from reconciler.planning.aliases import plan_alias
from reconciler.planning.view import View
from tests.stories.build import HERE, Story, digest_of_version, subject_of

STAGING = subject_of("staging/digits")


def renamed(digest: str) -> tuple[DesiredState, Observed]:
    """The model is registered under another name by now, where the pinned number has this digest."""
    story = Story(HERE / "alias-put-back")
    main, observed = story.main, story.observed()
    source = main.models["digits"]
    model = source.model.model_copy(update={"registered_name": "numbers"})
    main = main.model_copy(update={"models": {"digits": source.model_copy(update={"model": model})}})
    sweep = observed.swept.registries["default"]
    assert not isinstance(sweep, Gap)
    versions = tuple(
        version.model_copy(update={"tags": {TAG_DIGEST: digest} if digest else {}})
        for version in sweep.models["digits"].versions
    )
    models = {**sweep.models, "numbers": RegisteredModel(versions=versions)}
    registries = {"default": sweep.model_copy(update={"models": models})}
    swept = observed.swept.model_copy(update={"registries": registries})
    return main, observed.model_copy(update={"swept": swept})


@pytest.mark.parametrize(("digest", "planned"), [(digest_of_version(1), 1), (digest_of_version(9), 0), ("", 0)])
def test_an_alias_never_moves_to_another_model_of_the_same_number(digest: str, planned: int) -> None:
    main, observed = renamed(digest)
    champion = View(main, observed).champion(STAGING)
    assert champion is not None
    assert (champion.version, champion.digest) == ("1", digest_of_version(1))
    assert len(plan_alias(View(main, observed), STAGING).actions) == planned
