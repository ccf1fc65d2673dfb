"""What is on its way to an environment that is at rest: said by `reconcile explain`, planned by nobody."""

from __future__ import annotations

from typing import Any

from reconciler.core.base import Subject
from reconciler.core.documents import PromotesFrom, Rejected
from reconciler.core.observed import RegistrySweep
from reconciler.planning.candidates import Coming, coming
from reconciler.planning.view import View
from tests.stories.build import HERE, Story

PRODUCTION = Subject(environment="production", model="digits")
CASE: dict[str, Any] = {
    "at": "2026-03-02T12:00:00Z",
    "versions": {
        "digits": {
            "v1": {
                "trained": "earlier",
                "evaluated": [{"accuracy": 0.95}],
                "verified": {"staging": "2026-03-01T09:45:00Z", "production": "2026-03-01T11:05:00Z"},
            },
            "v2": {},
        }
    },
    "history": [
        {"at": "2026-03-01T09:30:00Z", "promote": "staging/digits", "version": 1},
        {"at": "2026-03-01T10:30:00Z", "promote": "production/digits", "version": 1},
    ],
}
PINNED = {
    **CASE,
    "history": [*CASE["history"], {"at": "2026-03-02T11:50:00Z", "promote": "staging/digits", "version": 2}],
}
NEXT = Coming("staging", "2", pinned=False, by=("staging",), then="production")


def view(case: dict[str, Any], **more: Any) -> View:
    story = Story(HERE, case)
    return View(story.main.model_copy(update=more), story.observed())


def test_a_candidate_upstream_is_on_its_way_and_so_is_a_pin_that_soaks() -> None:
    assert coming(view(CASE), PRODUCTION) == (NEXT,)
    assert coming(view(PINNED), PRODUCTION) == (NEXT._replace(pinned=True),)


def test_nothing_is_on_its_way_to_where_versions_begin() -> None:
    assert coming(view(PINNED), Subject(environment="staging", model="digits")) == ()


def test_what_was_rejected_here_is_not_on_its_way_here() -> None:
    seen = view(PINNED)
    pinned = seen.desired.releases["production/digits"]
    entry = Rejected(digest=f"sha256:{'2' * 64}", version="2", reason="unhealthy", since=seen.at)
    releases = {
        **seen.desired.releases,
        "production/digits": pinned.model_copy(update={"rejected": (entry,)}),
    }
    assert coming(view(PINNED, releases=releases), PRODUCTION) == ()


def test_an_environment_between_that_has_nothing_new_is_looked_through() -> None:
    seen = view(PINNED)
    production = seen.desired.environments["production"]
    environments = {
        **seen.desired.environments,
        "canary": production.model_copy(update={"alias": "canary"}),
        "production": production.model_copy(update={"promotes_from": PromotesFrom(any_of=("canary",))}),
    }
    assert coming(view(PINNED, environments=environments), PRODUCTION) == (
        Coming("canary", "1", pinned=False, by=("canary",), then="production"),
    )
    releases = {**seen.desired.releases, "canary/digits": seen.desired.releases["production/digits"]}
    seen = view(PINNED, environments=environments, releases=releases)
    version = seen.version_of(releases["canary/digits"])
    assert version is not None
    mark = {"trueup.verified.canary": version.tags["trueup.verified.production"]}
    sweep = seen.observed.swept.registries["default"]
    assert isinstance(sweep, RegistrySweep)
    digits = sweep.models["digits"]
    marked = digits.model_copy(
        update={
            "versions": tuple(
                v.model_copy(update={"tags": {**v.tags, **mark}}) if v.version == "1" else v
                for v in digits.versions
            )
        }
    )
    swept = seen.observed.swept.model_copy(
        update={"registries": {"default": sweep.model_copy(update={"models": {"digits": marked}})}}
    )
    through = View(seen.desired, seen.observed.model_copy(update={"swept": swept}))
    assert coming(through, PRODUCTION) == (NEXT._replace(pinned=True, then="canary"),)
