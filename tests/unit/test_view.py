"""Who is champion: the verified pin, or the one before it, if the registry says so too. What a Gap hides."""

from __future__ import annotations

from reconciler.core.base import Subject
from reconciler.core.observed import ClusterSweep, Gap, Observed, RegistrySweep, Swept
from reconciler.planning.plan import make_plan
from reconciler.planning.view import View
from tests.stories.build import HERE, Story

STAGING = Subject(environment="staging", model="digits")
IN_FLIGHT = {
    "at": "2026-03-02T12:00:00Z",
    "versions": {
        "digits": {
            "v1": {
                "trained": "earlier",
                "evaluated": [{"accuracy": 0.95}],
                "verified": {"staging": "2026-03-01T09:45:00Z"},
            },
            "v2": {
                "evaluated": [
                    {
                        "accuracy": 0.96,
                        "against": 1,
                        "champion": 0.95,
                        "interval": [0.0, 0.02],
                        "at": "2026-03-02T10:00:00Z",
                    }
                ]
            },
        }
    },
    "history": [
        {"at": "2026-03-01T09:30:00Z", "promote": "staging/digits", "version": 1},
        {"at": "2026-03-02T11:50:00Z", "promote": "staging/digits", "version": 2},
    ],
}


def without_marks(observed: Observed) -> Observed:
    """The registry with no verified mark on any version."""
    (name, sweep), *_ = observed.swept.registries.items()
    assert isinstance(sweep, RegistrySweep)
    models = {
        key: model.model_copy(
            update={
                "versions": tuple(
                    v.model_copy(update={"tags": {t: x for t, x in v.tags.items() if ".verified." not in t}})
                    for v in model.versions
                )
            }
        )
        for key, model in sweep.models.items()
    }
    registries = {**observed.swept.registries, name: sweep.model_copy(update={"models": models})}
    return observed.model_copy(update={"swept": observed.swept.model_copy(update={"registries": registries})})


def test_while_a_release_is_in_flight_the_champion_is_the_one_before() -> None:
    story = Story(HERE, IN_FLIGHT)
    champion = View(story.main, story.observed()).champion(STAGING)
    assert champion is not None
    assert champion.version == "1"


def test_a_copy_that_no_mark_vouches_for_makes_no_champion() -> None:
    story = Story(HERE, IN_FLIGHT)
    assert story.main.releases["staging/digits"].champion is not None
    assert View(story.main, without_marks(story.observed())).champion(STAGING) is None


def test_a_namespace_that_could_not_be_read_hides_its_subjects_and_no_others() -> None:
    story = Story(HERE, IN_FLIGHT)
    observed = story.observed()
    (cluster,) = {environment.cluster for environment in story.main.environments.values()}
    hidden = story.main.environments["staging"].namespace
    gap = Gap(source=f"namespace {hidden}", error="may not list services")

    def with_gap(namespace: str) -> Observed:
        sweep = observed.swept.clusters[cluster]
        assert isinstance(sweep, ClusterSweep)
        clusters = {cluster: sweep.model_copy(update={"gaps": {namespace: gap}})}
        swept: Swept = observed.swept.model_copy(update={"clusters": clusters})
        return observed.model_copy(update={"swept": swept})

    gone = Subject(environment="gone", model="digits")
    here, elsewhere = View(story.main, with_gap(hidden)), View(story.main, with_gap("elsewhere"))
    assert here.workload(STAGING) == gap
    assert elsewhere.workload(STAGING) == View(story.main, observed).workload(STAGING)
    assert here.workload(gone) == elsewhere.workload(gone) == gap  # it may be in any namespace
    assert make_plan(story.main, with_gap("elsewhere")).gaps == (gap,)
