"""`reconcile status`: the matrix, once or again and again, over a repository and systems in memory."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from reconciler.cli import status as command
from reconciler.cli.main import run, spelled_out
from reconciler.cli.session import Session
from reconciler.core.errors import Retryable
from reconciler.core.observed import Gap
from reconciler.core.platform import Platform
from reconciler.loop import plan_once, run_once
from reconciler.report.layout import plain
from reconciler.report.status import Matrix, Row, age, blocks
from tests.doubles.documents import environment, model, shipped
from tests.doubles.world import World

ENVIRONMENTS = environment("staging") | environment("production", promotes_from=("staging",))
Said = pytest.CaptureFixture[str]


@pytest.fixture
def world() -> World:
    return World(shipped() | ENVIRONMENTS | model("digits", "staging", "production"))


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The commands look at this world."""
    monkeypatch.setattr(Session, "connected", (world.readers(), world.writers()))
    monkeypatch.setattr(Session, "platform", Platform(kind="Platform"))
    monkeypatch.setattr("reconciler.bootstrap.process.now", world.clock)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return world


def matrix(world: World) -> Matrix:
    return command.matrix_of(plan_once(world.readers(), world.clock()), world.engine)


def row(world: World, environment: str = "") -> Row:
    (found,) = [row for row in matrix(world).rows if row.environment == environment]
    return found


def tick(world: World) -> None:
    run_once(world.readers(), world.writers(), world.clock)


def ready(world: World) -> None:
    """Version 1 is pinned in staging and healthy."""
    for _ in range(8):
        tick(world)
        world.wait(timedelta(minutes=1))
        world.settle()


def test_a_training_goes_from_untrained_to_trained(world: World) -> None:
    assert (row(world).state, row(world).version) == ("untrained", None)
    assert [(reason.code, reason.planned) for reason in row(world).why_not] == [("submit-workflow", True)]
    tick(world)
    began = world.clock()
    world.wait(timedelta(minutes=3))
    assert (row(world).state, row(world).since) == ("training", began)
    world.settle()
    ended = world.clock()
    world.wait(timedelta(minutes=3))
    assert (row(world).state, row(world).version, row(world).since) == ("trained", "1", ended)


def test_a_training_that_failed_says_so_and_since_when(world: World) -> None:
    world.failing["train-digits"] = 9
    tick(world)
    world.settle()
    assert (row(world).state, row(world).since, row(world).style) == ("failed", world.clock(), "bad")


@pytest.mark.parametrize("source", ["registry", "engine"])
def test_what_did_not_answer_is_unknown(source: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> None:
        raise Retryable("timed out", where=source)

    monkeypatch.setattr(getattr(world, source), "sweep", silent)
    seen = matrix(world)
    assert (seen.rows[0].environment, seen.rows[0].state) == ("", "unknown")
    assert [isinstance(gap, Gap) for gap in seen.gaps] == [True]


def test_an_external_training_names_the_version_of_its_alias(world: World) -> None:
    external = model("spam", "staging", training={"external": {"alias": "candidate"}})
    world.commit(external)
    before = next(row for row in matrix(world).rows if (row.model, row.environment) == ("spam", ""))
    assert (before.state, before.version) == ("external", None)
    world.registry.register("spam", {})
    world.registry.set_alias("spam", "candidate", "1")
    after = next(row for row in matrix(world).rows if (row.model, row.environment) == ("spam", ""))
    assert (after.state, after.version) == ("external", "1")


def test_rows_are_by_model_training_first_then_upstream_before_downstream(world: World) -> None:
    world.commit(model("a-first", "staging"))
    assert [(row.model, row.environment) for row in matrix(world).rows] == [
        ("a-first", ""),
        ("a-first", "staging"),
        ("digits", ""),
        ("digits", "staging"),
        ("digits", "production"),
    ]


def test_the_progress_of_what_is_running_is_read_from_its_log(world: World) -> None:
    tick(world)
    (name,) = world.engine.runs
    logs = "hello\nprogress: train: epoch 3/6, loss 0.1213, 14.2 s\n"
    world.engine.runs[name] = world.engine.runs[name].model_copy(update={"message": logs})
    (running,) = matrix(world).running
    assert [str(progress) for progress in running.progress] == ["train: epoch 3/6, loss 0.1213, 14.2 s"]
    assert "    train: epoch 3/6, loss 0.1213, 14.2 s\n" in plain(blocks(matrix(world)))
    world.settle()
    assert matrix(world).running == ()


def test_a_log_that_cannot_be_read_hides_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(name: str, *, latest: bool = False) -> Iterator[tuple[str, str]]:
        raise Retryable("timed out")
        yield

    tick(world)
    monkeypatch.setattr(world.engine, "logs", silent)
    (running,) = matrix(world).running
    assert (running.run.phase, running.progress) == ("Running", ())


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=3, hours=5), "3 d"),
    ],
)
def test_an_age_is_in_the_unit_that_a_person_would_use(passed: timedelta, said: str) -> None:
    assert age(passed) == said


def test_a_kept_text_has_instants_and_no_durations(here: World, capsys: Said) -> None:
    ready(here)
    assert run(["status"]) == 0
    first = capsys.readouterr().out
    assert re.search(r"v1 \w+ since \d{4}-\d\d-\d\d \d\d:\d\dZ", first)
    here.wait(timedelta(seconds=30))
    assert run(["status"]) == 0
    assert capsys.readouterr().out == first
    assert run(["status", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert (rows[0]["model"], rows[0]["environment"]) == ("digits", "")


def watched(
    here: World, monkeypatch: pytest.MonkeyPatch, *between: object, asked: str = "--watch"
) -> list[float]:
    """A watch that sleeps once before each of ``between`` happens, and is then interrupted."""
    slept: list[float] = []
    happens = iter(between)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        here.wait(timedelta(seconds=seconds))
        try:
            next(happens)()  # type: ignore[operator]
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(command.time, "sleep", sleep)
    assert run(["status", *asked.split()]) == 130
    return slept


def test_a_watch_in_a_pipe_says_only_what_is_new(
    here: World, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    nothing = lambda: None  # noqa: E731
    slept = watched(here, monkeypatch, nothing, nothing, lambda: tick(here), nothing)
    assert slept == [command.LOOK_INTERVAL] * 5
    out, err = capsys.readouterr()
    assert (out.count("seen at "), out.count("MODEL "), err) == (2, 2, "")
    assert out.count("untrained") == 1
    assert "\n\nseen at " in out
    assert "\x1b" not in out


def test_a_watch_goes_on_after_a_failure(here: World, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    readers = here.readers()

    class Failing:
        def head(self) -> str:
            raise Retryable("timed out", where="origin")

    broken = readers._replace(source=Failing())  # type: ignore[arg-type]

    def swap(to: object) -> object:
        return lambda: monkeypatch.setattr(Session, "connected", (to, here.writers()))

    assert watched(here, monkeypatch, swap(broken), swap(readers), asked="--watch 7") == [7, 7, 7]
    out, err = capsys.readouterr()
    assert err == "error: origin: timed out\n"
    assert out.count("seen at ") == 2


def test_explain_takes_a_pair_too(here: World, capsys: Said) -> None:
    assert run(["explain", "digits", "production"]) == 0
    said = capsys.readouterr().out
    assert run(["explain", "production/digits"]) == 0
    assert capsys.readouterr().out == said
    assert run(["explain", "digits/production"]) == 1
    assert capsys.readouterr().err.endswith("hint: reconcile explain digits production\n")


def test_a_watch_is_for_people(here: World, capsys: Said) -> None:
    assert run(["status", "--watch", "-o", "json"]) == 1
    assert capsys.readouterr().err.startswith("error: Invalid value for --watch: is for people;")


def test_watch_may_leave_out_its_seconds() -> None:
    assert spelled_out(["status", "--watch"]) == ["status", f"--watch={command.LOOK_INTERVAL}"]
    assert spelled_out(["-C", "x", "status", "--watch", "-o", "text"])[3] == f"--watch={command.LOOK_INTERVAL}"
    assert spelled_out(["status", "--watch", "9"]) == ["status", "--watch", "9"]


REDRAWN = """
import sys, time
from reconciler.cli import console
from reconciler.report.layout import line
with console.redrawn() as draw:
    for number in range(3):
        draw([line(f"look {number}"), *(line(f"row {each}") for each in range(rows))])
"""


@pytest.mark.parametrize("rows", [3, 60])
def test_a_terminal_is_redrawn_in_place(rows: int) -> None:
    """A terminal of 24 lines, with more to show than it has and with less."""
    import pty

    parent, child = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    script = f"rows = {rows}\n{REDRAWN}"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=child,
        stderr=child,
        env={**kept, "TERM": "xterm", "COLUMNS": "60", "LINES": "24"},
    )
    os.close(child)
    said = b""
    until = time.monotonic() + 30
    while time.monotonic() < until and select.select([parent], [], [], 30)[0]:
        try:
            said += os.read(parent, 65536)
        except OSError:
            break
    assert process.wait() == 0
    os.close(parent)
    *frames, _ = said.decode().split("look ")[1:]
    assert len(frames) == 3
    assert max(frame.count("\n") for frame in frames) < 24, "more would scroll, and could not be drawn over"
    shown = screen(said.decode())
    assert [text for text in shown if text.startswith("look")] == ["look 2"]
    assert len([text for text in shown if text.startswith("row")]) == rows, "the last look stays, all of it"


def screen(said: str) -> list[str]:
    """The lines that an endless terminal shows in the end. Of sequences, those are known that rich writes."""
    lines, at = [""], 0
    for piece in re.findall(r"\x1b\[\??[0-9;]*[A-Za-z]|\n|[^\x1b\n]+", said.replace("\r", "")):
        if piece == "\n":
            at += 1
            lines += [""] if at == len(lines) else []
        elif piece.endswith("A"):
            at -= int(piece[2:-1] or 1)
        elif piece == "\x1b[2K":
            lines[at] = ""
        elif not piece.startswith("\x1b"):
            lines[at] = piece
    return [line.rstrip() for line in lines]
