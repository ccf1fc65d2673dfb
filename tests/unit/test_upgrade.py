"""A Release keeps its renderer until its next version, or until a person asks for the environment's."""

from __future__ import annotations

import pytest

from reconciler.core.desired import DesiredState
from reconciler.core.documents import Release, When
from reconciler.core.errors import Terminal
from reconciler.core.observed import Marker, Observed, PullRequest
from reconciler.core.plan import OpenPullRequest
from reconciler.core.serving import Runtime
from reconciler.core.strict_yaml import read
from reconciler.core.validation import validate
from reconciler.planning.admission import admit_subject
from reconciler.planning.candidates import Candidate, candidate
from reconciler.planning.in_motion import at_rest, details
from reconciler.planning.proposals import with_release
from reconciler.planning.subjects import plan_subject
from reconciler.planning.upgrade import outdated, upgrade
from reconciler.planning.view import View
from tests.stories.build import HERE, Story, subject_of

STAGING = subject_of("staging/digits")
STORY = Story(HERE / "cluster-drift-put-back")
"""Version 1 is verified and healthy in staging, by deployment/v1."""


def moved(gated: bool = False) -> DesiredState:
    """Main as it is since somebody gave staging another renderer; ``gated``: and gates for a change of that."""
    runtime = Runtime(renderer="rollout/v1", prometheus="http://prometheus:9090")
    staging = STORY.main.environments["staging"].model_copy(update={"runtime": runtime})
    policy = STORY.main.policies["default"]
    gates = tuple(g.model_copy(update={"when": When(), "versus": None}) for g in policy.gates) if gated else ()
    return STORY.main.model_copy(
        update={
            "environments": {**STORY.main.environments, "staging": staging},
            "policies": {"default": policy.model_copy(update={"gates": gates or policy.gates})},
        }
    )


def observed(*pulls: PullRequest) -> Observed:
    seen = STORY.observed()
    forge = seen.swept.forge.model_copy(update={"open": {pull.number: pull for pull in pulls}})
    return seen.model_copy(
        update={
            "swept": seen.swept.model_copy(update={"forge": forge}),
            "evidence": STORY.evidence,
            "closed": {"trueup/promote/staging/digits": ()},
        }
    )


def asked() -> OpenPullRequest:
    return upgrade(moved(), observed(), STAGING, "Ada")


def opened(action: OpenPullRequest) -> PullRequest:
    return PullRequest(
        number=7,
        state="open",
        branch=action.branch,
        head="b" * 40,
        title=action.title,
        author="trueup",
        ours=True,
        marker=action.marker,
        opened=STORY.at,
    )


def release_in(action: OpenPullRequest) -> Release:
    (text,) = (f.content for f in action.files if f.path.endswith("releases/digits.yaml"))
    found = validate(Release, read(str(text).encode(), "digits.yaml"))
    assert isinstance(found, Release)
    return found


def test_a_new_renderer_alone_changes_nothing() -> None:
    view = View(moved(), observed())
    wanted = candidate(view, STAGING)
    assert isinstance(wanted, Candidate)
    assert wanted.change is None
    assert at_rest(view, STAGING)
    assert plan_subject(view, STAGING).actions == ()


def test_a_person_asks_and_it_is_proposed_by_the_gates_of_the_same_version() -> None:
    assert outdated(moved(), "staging") == (STAGING,)
    action = asked()
    release, before = release_in(action), STORY.main.releases[str(STAGING)]
    assert (release.renderer, release.pin) == ("rollout/v1", before.pin)
    assert release.serving != "none"
    assert release.serving.strategy == "canary"
    assert action.marker.asked_by == "Ada"
    assert action.summary.verdict.verdict == "pass"
    names = {file.path.rpartition("/")[2] for file in action.files if file.content is not None}
    assert {"rollout.yaml", "analysistemplate.yaml"} <= names
    assert [f.path.rpartition("/")[2] for f in action.files if f.content is None] == ["deployment.yaml"]


def test_the_pull_request_stays_open_because_it_was_asked_for() -> None:
    action = asked()
    view = View(moved(), observed(opened(action)))
    head = with_release(moved(), STAGING, release_in(action), None)
    plan = plan_subject(view, STAGING)
    assert [a.kind for a in plan.actions if a.kind == "close-pull-request"] == []
    nobodys = opened(action).model_copy(update={"marker": Marker(**{**dict(action.marker), "asked_by": ""})})
    closed = plan_subject(View(moved(), observed(nobodys)), STAGING)
    assert [a.kind for a in closed.actions] == ["close-pull-request"]
    assert head.releases[str(STAGING)].renderer == "rollout/v1"


def test_what_is_proposed_is_admissible_and_another_renderer_is_not() -> None:
    release = release_in(asked())
    head = with_release(moved(), STAGING, release, None)
    assert "renderer" not in {o.code for o in admit_subject(moved(), head, observed(), STAGING).objections}
    on_main = admit_subject(STORY.main, head, observed(), STAGING)
    assert "renderer" in {objection.code for objection in on_main.objections}


def test_closely_reads_what_an_upgrade_needs() -> None:
    view = View(moved(gated=True), observed())
    assert details(view, STAGING).branches == ()
    assert details(view, STAGING, closely=True).branches == ("trueup/promote/staging/digits",)


def test_refusals_say_why() -> None:
    with pytest.raises(Terminal, match="no such environment"):
        outdated(moved(), "qa")
    assert outdated(STORY.main, "staging") == ()
    with pytest.raises(Terminal, match="#7 is open already"):
        upgrade(moved(), observed(opened(asked())), STAGING, "Ada")
    with pytest.raises(Terminal, match="its evidence is not complete"):
        upgrade(moved(gated=True), observed(), STAGING, "Ada")
