"""`reconcile prune` over a repository with a past: what it lists and keeps, and cut short at every write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from reconciler.core.base import Subject
from reconciler.core.errors import Retryable
from reconciler.core.observed import RegistryRun
from reconciler.core.pruning import Listing
from reconciler.load import load
from reconciler.loop import plan_once
from reconciler.planning import rollback
from reconciler.planning.in_motion import EVERYTHING, Scope
from reconciler.prune import history, remove, survey
from tests.doubles.calls import Around, Call
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World
from tests.laws.driving import converge

RETENTION = {"for": "1h"}
APPROVED = {"merge": "auto", "approvals": 1, "soak": "10m"}
PRODUCTION = Subject(environment="production", model="digits")


class KilledError(Exception):
    """The process ends here."""


def environments(**changes: Any) -> dict[str, str]:
    given = {"retention": RETENTION, **changes}
    made = environment("staging", **given)
    return made | environment("production", promotes_from=("staging",), promotion=APPROVED, **given)


@cache
def _past() -> World:
    """Versions 1 to 5 went to production one after the other, a day apart."""
    world = World(shipped() | environments() | model("digits", "staging", "production"))
    converge(world)
    for seed in range(1, 5):
        world.wait(timedelta(days=1))
        world.commit(model("digits", "staging", "production", seed=seed))
        converge(world)
    world.wait(timedelta(days=1))
    converge(world)
    return world


@pytest.fixture
def world() -> World:
    made = _past().copy()
    runs = [RegistryRun(run_id=v.run_id, name=v.run_id) for v in made.registry.models["digits"].versions]
    runs += [RegistryRun(run_id=f"trial-{run.run_id}", parent=run.run_id) for run in runs]
    runs += [RegistryRun(run_id=f"measured-{n}", candidate=f"digits/{n}") for n in range(1, 6)]
    made.registry.records = {"digits": tuple(runs)}
    return made


def listed(world: World, scope: Scope = EVERYTHING, around: Around | None = None, **options: Any) -> Listing:
    state = load(world.repository, world.repository.head())
    return survey(state, world.readers(around), world.clock(), scope, **options)


def deleted(world: World, around: Around | None = None) -> list[str]:
    done = remove(listed(world), world.writers(around), "Ada", world.clock())
    return [outcome.result for outcome in done]


def numbers(listing: Listing) -> list[str]:
    return [each.version for each in listing.removals]


def versions(world: World) -> list[str]:
    return [version.version for version in world.registry.models["digits"].versions]


def test_what_is_archived_and_named_by_nothing_can_go(world: World) -> None:
    listing = listed(world)
    assert numbers(listing) == ["1", "2", "3"]
    for each in listing.removals:
        assert each.archived is not None
        training = world.registry.models["digits"].version(each.version).run_id  # type: ignore[union-attr]
        assert set(each.runs) == {training, f"trial-{training}", f"measured-{each.version}"}
    why = {kept.version: kept.why for kept in listing.kept}
    assert "pinned in production/digits" in why["5"]
    assert "a rollback of production/digits would go back to it" in why["4"]


def test_what_was_deleted_is_logged_and_the_rest_goes_on(world: World) -> None:
    digest = listed(world).digest
    assert deleted(world) == ["done"] * 3
    assert versions(world) == ["4", "5"]
    assert {r.candidate for r in world.registry.records["digits"] if r.candidate} == {"digits/4", "digits/5"}
    logged = world.registry.models["digits"].pruned
    assert {(number, said.by, said.listed) for number, said in logged.items()} == {
        (number, "Ada", digest) for number in ("1", "2", "3")
    }
    assert numbers(listed(world)) == []
    assert converge(world).ticks == 0
    planned = plan_once(world.readers(), world.clock(), Scope(closely=True))
    back = rollback.by_hand(planned.desired, planned.observed, PRODUCTION, "a test")
    assert "version 4" in back.title
    world.commit(model("digits", "staging", "production", seed=9))
    converge(world)
    assert versions(world) == ["4", "5", "6"]


def test_cut_short_at_any_write_it_is_finished_the_next_time(world: World) -> None:
    whole = world.copy()
    deleted(whole)
    writes = 0
    for stop in _stops():
        cut = world.copy()
        try:
            deleted(cut, stop)
        except KilledError:
            writes += 1
        else:
            break
        first = {number: said.at for number, said in cut.registry.models["digits"].pruned.items()}
        cut.wait(timedelta(minutes=1))
        assert set(deleted(cut)) <= {"done"}
        assert versions(cut) == versions(whole)
        assert cut.registry.records == whole.registry.records
        logged = {number: said.at for number, said in cut.registry.models["digits"].pruned.items()}
        assert first.items() <= logged.items()
        assert logged.keys() == {"1", "2", "3"}
    assert writes == 3 * (1 + 1 + 3)


def _stops() -> Iterator[Around]:
    """Ends the process before the first write, after it, after the second..."""
    for number in range(100):
        left = [number]

        def stop(call: Call, make: Callable[[], Any], left: list[int] = left) -> Any:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            return make()

        yield stop


@pytest.mark.parametrize(
    "hides",
    [
        lambda call: (call.port, call.method) == ("registry default", "sweep"),
        lambda call: (call.port, call.method) == ("registry default", "runs"),
        lambda call: (call.port, call.method) == ("forge", "sweep"),
        lambda call: (call.port, call.method) == ("engine", "sweep"),
        lambda call: (call.port, call.method) == ("cluster local", "sweep"),
        lambda call: call.method == "log",
    ],
)
def test_what_does_not_answer_hides_everything_that_it_could_name(
    world: World, hides: Callable[[Call], bool]
) -> None:
    def silent(call: Call, make: Callable[[], Any]) -> Any:
        if hides(call):
            raise Retryable("timed out")
        return make()

    listing = listed(world, around=silent)
    assert listing.removals == ()
    assert "did not answer" in listing.unknown["digits"]


def test_a_failure_stops_its_version_only(world: World) -> None:
    def refuses(call: Call, make: Callable[[], Any]) -> Any:
        if call.method == "delete_version" and call.arguments == ("digits", "2"):
            raise Retryable("the database is locked")
        return make()

    assert deleted(world, refuses) == ["done", "failed", "done"]
    assert versions(world) == ["2", "4", "5"]
    assert [(each.version, each.begun is not None) for each in listed(world).removals] == [("2", True)]


def test_more_than_the_limit_of_an_environment_all_stay(world: World) -> None:
    world.commit(environments(limits={"prunes": 2}))
    listing = listed(world)
    assert listing.removals == ()
    assert [each.partition(":")[0] for each in listing.tripped] == ["production", "staging"]
    world.commit(environments(limits={"prunes": 3}))
    assert numbers(listed(world)) == ["1", "2", "3"]


def test_what_a_release_within_the_retentions_names_is_kept(world: World) -> None:
    """Version 4 was replaced a day ago. That it was better than version 3 can be shown for half a day more."""
    world.commit(environments(retention={"for": "36h"}))
    assert numbers(listed(world)) == ["1", "2"]
    why = {kept.version: " ".join(kept.why) for kept in listed(world).kept}
    assert "what production/digits released at" in why["3"]
    assert "was compared with it, and production keeps that until" in why["3"]


def test_without_a_retention_nothing_can_go() -> None:
    world = World(shipped() | environment("staging") | model("digits", "staging"))
    converge(world)
    assert listed(world).unknown == {
        "digits": "none of its environments has a retention, and nothing of it is archived"
    }


def test_what_trueup_did_not_train_goes_only_where_it_is_asked_for(world: World) -> None:
    theirs = world.registry.register("digits", {})
    world.wait(timedelta(days=1))
    assert theirs not in numbers(listed(world))
    assert theirs in numbers(listed(world, external=True))
    world.registry.set_alias("digits", "theirs", theirs)
    assert theirs not in numbers(listed(world, external=True))


def test_a_scope_is_about_fewer_and_keeps_no_less(world: World) -> None:
    assert numbers(listed(world, Scope(model="digits"))) == ["1", "2", "3"]
    assert numbers(listed(world, Scope(environment="production"))) == ["1", "2", "3"]
    assert listed(world, Scope(model="other")) == Listing()


def test_the_digest_is_of_what_would_be_deleted(world: World) -> None:
    before = listed(world)
    world.wait(timedelta(minutes=1))
    assert listed(world).digest == before.digest
    world.registry.delete_run("measured-1")
    assert listed(world).digest != before.digest


def test_a_history_has_from_when_to_when(world: World) -> None:
    held = history(world.repository, PRODUCTION)
    assert [each.release.pin.version for each in held] == ["5", "4", "3", "2", "1"]
    assert held[0].until is None
    assert [each.until for each in held[1:]] == [each.since for each in held[:-1]]
    assert all(each.evidence for each in held)
