"""`reconcile retrain`, `retry`, `cancel`: who asked is kept with the run, and an order is carried out once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from reconciler.cli import orders
from reconciler.cli.main import run
from reconciler.cli.session import Session
from reconciler.core.errors import Retryable
from tests.doubles.world import World
from tests.laws.driving import tick
from tests.laws.stories import first_training, retraining

Said = pytest.CaptureFixture[str]


class Desk:
    """A World, and the person whose commands reach it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def sits(self, world: World, person: str = "Ada") -> World:
        self.patch.setattr(Session, "connected", (world.readers(), world.writers()))
        self.patch.setattr(Session, "repository", SimpleNamespace(name=person))
        self.patch.setattr("reconciler.bootstrap.process.now", world.clock)
        return world


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("NO_COLOR", "FORCE_COLOR", "TRUEUP_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return Desk(monkeypatch)


def holds(world: World) -> list[str]:
    return [hold.code for hold in tick(world).planned.plan.holds if not hold.subject.environment]


def test_retrain_prints_the_run_and_is_not_carried_out_twice(desk: Desk, capsys: Said) -> None:
    world = desk.sits(retraining())
    known = set(world.engine.runs)
    assert run(["retrain", "digits", "--reason", " the demo \n is  tomorrow "]) == 0
    (name,) = world.engine.runs.keys() - known
    assert capsys.readouterr().out == f"{name}\n"
    kept = world.engine.runs[name]
    assert (kept.asked_by, kept.reason) == ("Ada", "the demo is tomorrow")
    assert holds(world) == ["training"]
    # As after a kill between the write and the answer: nothing shows it but the run itself.
    desk.sits(world, "Grace")
    assert run(["retrain", "digits", "-r", "the demo is tomorrow"]) == 1
    assert "asked for by Ada: the demo is tomorrow" in capsys.readouterr().err
    assert world.engine.runs.keys() - known == {name}


def test_what_is_cancelled_stays_so_until_it_is_retried(desk: Desk, capsys: Said) -> None:
    world = desk.sits(first_training())
    tick(world)
    (first,) = world.engine.runs
    assert run(["cancel", first, "--reason", "labels of March are wrong"]) == 0
    assert (world.engine.runs[first].stopped, world.engine.runs[first].stopped_by) == (
        "labels of March are wrong",
        "Ada",
    )
    assert holds(world) == holds(world) == ["cancelled"]
    desk.sits(world, "Grace")
    assert run(["cancel", first, "--reason", "so they are"]) == 1
    assert "it has failed already, cancelled by Ada: labels of March are wrong" in capsys.readouterr().err
    assert run(["retry", "digits", "--reason", "they are right"]) == 0
    second = capsys.readouterr().out.strip()
    assert (second, world.engine.runs[second].asked_by) == (f"{first[:-1]}2", "Grace")
    assert holds(world) == ["training"]
    world.settle()
    assert "training" not in holds(world)
    assert len(world.registry.models["digits"].versions) == 1


def test_logs_say_who_asked_and_who_ended_it(desk: Desk, capsys: Said) -> None:
    world = desk.sits(retraining())
    assert run(["retrain", "digits", "--reason", "the demo"]) == 0
    name = capsys.readouterr().out.strip()
    desk.sits(world, "Grace")
    assert run(["cancel", name, "--reason", "no demo"]) == 0
    capsys.readouterr()
    for command, ended in (
        (["logs", name], f"{name} was ended by Grace: no demo"),
        (["logs", "--follow", name], f"{name}: Cancelled by Grace: no demo"),
    ):
        run(command)
        said = capsys.readouterr().err
        assert f"{name} was asked for by Ada: the demo" in said
        assert ended in said


def test_an_order_waits_for_the_tick_that_has_the_lease(desk: Desk) -> None:
    world = retraining()
    turns: list[str] = []

    class Busy:
        @contextmanager
        def hold(self) -> Iterator[None]:
            turns.append("asked")
            if len(turns) < 3:
                raise Retryable("process 7 reconciles now")
            yield

    world.lease = Busy()  # type: ignore[assignment]
    desk.sits(world)
    desk.patch.setattr("time.sleep", lambda _: None)
    assert run(["retrain", "digits", "--reason", "now"]) == 0
    assert len(turns) == 3


def test_an_order_does_not_wait_for_ever(desk: Desk, capsys: Said) -> None:
    world = retraining()

    class Busy:
        @contextmanager
        def hold(self) -> Iterator[None]:
            raise Retryable("process 7 reconciles now")
            yield

    world.lease = Busy()  # type: ignore[assignment]
    desk.sits(world)
    desk.patch.setattr(orders, "PATIENCE", -1.0)
    runs = set(world.engine.runs)
    assert run(["retrain", "digits", "--reason", "now"]) == 1
    assert "process 7 reconciles now" in capsys.readouterr().err
    assert set(world.engine.runs) == runs


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["retrain", "digits", "--reason", "  "], "--reason is empty"),
        (["retrain", "digits", "--reason", "x" * 301], "--reason has 301 characters"),
        (["retrain", "digits"], "Missing option '--reason'"),
        (["retrain", "digit", "--reason", "now"], "main has no model 'digit'"),
        (["retry", "train-digits-1"], "neither a run nor a model is named 'train-digits-1'"),
        (["cancel", "train-digits-1", "--reason", "now"], "no run is named 'train-digits-1'"),
    ],
    ids=["blank", "a novel", "no reason", "a slip", "no run to retry", "no run to cancel"],
)
def test_a_slip_of_the_finger_writes_nothing(command: list[str], told: str, desk: Desk, capsys: Said) -> None:
    world = desk.sits(retraining())
    runs = dict(world.engine.runs)
    assert run(command) == 1
    assert told in capsys.readouterr().err
    assert world.engine.runs == runs


def test_nobody_is_not_a_person(desk: Desk, capsys: Said) -> None:
    world = desk.sits(retraining(), person="")
    runs = dict(world.engine.runs)
    assert run(["retrain", "digits", "--reason", "now"]) == 1
    assert "git config user.name" in capsys.readouterr().err
    assert world.engine.runs == runs
