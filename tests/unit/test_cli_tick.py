"""`reconcile` itself: what it prints, how it exits, what it refuses; the loop is a fake."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reconciler.cli import reconcile as command
from reconciler.cli.main import run
from reconciler.cli.session import Session
from reconciler.core.base import Subject
from reconciler.core.desired import DesiredState
from reconciler.core.documents import Environment
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Gap, Observed, Swept
from reconciler.core.plan import Hold, MoveAlias, Outcome, Plan
from reconciler.core.platform import Platform

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STAGING = Subject(environment="staging", model="digits")
MOVE = MoveAlias(
    key="move-alias digits@staging 2",
    subject=STAGING,
    reason="version 2 was verified",
    registry="default",
    name="digits",
    alias="staging",
    version="2",
    current="1",
)
NOTHING = Plan(revision="0" * 40, at=AT, subjects=1)
SOMETHING = NOTHING.model_copy(update={"actions": (MOVE,)})
HOLDING = NOTHING.model_copy(update={"holds": (Hold(code="soaking", subject=STAGING, reason="until 12:05"),)})
GAP = NOTHING.model_copy(update={"gaps": (Gap(source="forge", error="timed out"),)})
TRIPPED = NOTHING.model_copy(update={"tripped": ("deletes in staging",)})
DONE = Outcome(key=MOVE.key, kind=MOVE.kind, subject=STAGING, result="done")
FAILED = DONE.model_copy(update={"result": "failed", "detail": "no right to write"})
DESIRED = DesiredState(
    revision="0" * 40,
    platform=Platform(kind="Platform"),
    environments={"staging": Environment(kind="Environment", policy="p", alias="staging", namespace="s")},
)


class Planned(NamedTuple):
    desired: DesiredState
    observed: Observed
    plan: Plan


class Loop:
    """What the ticks return, or raise, one after the other; and how the loop was called."""

    def __init__(self) -> None:
        self.ticks: list[tuple[Plan, tuple[Outcome, ...]] | BaseException] = []
        self.calls: list[tuple[Any, ...]] = []

    def run_once(self, *arguments: Any) -> tuple[Planned, tuple[Outcome, ...]]:
        self.calls.append(arguments)
        tick = self.ticks.pop(0) if len(self.ticks) > 1 else self.ticks[0]
        if isinstance(tick, BaseException):
            raise tick
        return Planned(DESIRED, Observed(swept=Swept(at=AT)), tick[0]), tick[1]

    def plan_once(self, *arguments: Any) -> Planned:
        return self.run_once("plan", *arguments)[0]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr("reconciler.loop.run_once", made.run_once)
    monkeypatch.setattr("reconciler.loop.plan_once", made.plan_once)
    monkeypatch.setattr(Session, "connected", ("readers", "writers"))
    monkeypatch.setattr(Session, "platform", DESIRED.platform)
    for name in ("NO_COLOR", "FORCE_COLOR", "TRUEUP_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize(
    ("plan", "outcomes", "plainly", "detailed"),
    [
        (NOTHING, (), 0, 0),
        (HOLDING, (), 0, 0),
        (SOMETHING, (DONE,), 0, 2),
        (SOMETHING, (FAILED,), 1, 1),
        (GAP, (), 0, 1),
        (TRIPPED, (), 1, 1),
    ],
)
def test_exit_codes(
    plan: Plan,
    outcomes: tuple[Outcome, ...],
    plainly: int,
    detailed: int,
    loop: Loop,
) -> None:
    loop.ticks = [(plan, outcomes)]
    assert run([]) == plainly
    assert run(["--detailed-exitcode"]) == detailed
    if FAILED not in outcomes:
        assert run(["--dry-run", "--detailed-exitcode"]) == detailed


def test_a_tick_is_told_with_its_outcomes(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.ticks = [(SOMETHING, (FAILED,))]
    assert run([]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "staging/digits\n"
        "  ~ move-alias  digits@staging: version 1 -> version 2  failed\n"
        "      no right to write\n\n"
        f"Applied: 1 failed; 0 holds, 0 gaps. digest {SOMETHING.digest[7:19]}\n"
    )


def test_a_plan_is_one_page_where_it_is_asked_for(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.ticks = [(SOMETHING, (DONE,))]
    assert run(["--dry-run", "--output", "html"]) == 0
    out, err = capsys.readouterr()
    assert (err, out.startswith("<!DOCTYPE html>"), out.endswith("</html>\n")) == ("", True, True)
    assert "<h1>Plan: 1 action</h1>" in out
    assert run(["-o", "html"]) == 0
    assert "<h1>Applied: 1 done</h1>" in capsys.readouterr().out
    assert run(["-o", "html", "--watch"]) == 1
    assert capsys.readouterr().err.startswith("error: --output html is one page, and --watch goes on\nhint:")


def test_a_dry_run_has_no_writers(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.ticks = [(SOMETHING, ())]
    assert run(["--dry-run", "--env", "staging"]) == 0
    ((_, readers, _, scope),) = loop.calls
    assert (readers, scope.environment, scope.model) == ("readers", "staging", "")
    assert capsys.readouterr().out.endswith(
        f"Plan: 1 action, 0 holds, 0 gaps. digest {SOMETHING.digest[7:19]}\n"
    )


def test_what_was_reviewed_is_handed_to_the_loop(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.ticks = [(SOMETHING, (DONE,))]
    assert run(["--expect", "0123456789ab"]) == 0
    assert loop.calls[0][-1] == "0123456789ab"
    assert run(["--expect", "0123456789ab", "--dry-run"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: --expect guards what is done, and --dry-run does nothing\n"
    )
    loop.ticks = [Terminal("the plan's digest is another", hint="review it again")]
    assert run(["--expect", "0123456789ab"]) == 1


def test_machines_get_json_and_comments_get_markdown(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.ticks = [(SOMETHING, (DONE,))]
    assert run(["--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["digest"], document["outcomes"][0]["result"]) == (SOMETHING.digest, "done")
    assert run(["--dry-run", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcomes"] is None
    assert run(["--dry-run", "-o", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("**Plan: 1 action**")


@pytest.mark.parametrize("option", ["--env", "--model"])
def test_a_name_that_main_does_not_have(option: str, loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.ticks = [(NOTHING, ())]
    assert run([option, "stagign"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {option}: main has no 'stagign'\nhint: it has ")


@pytest.mark.parametrize("option", ["--env", "--model", "--expect"])
def test_a_variable_of_the_shell_that_is_not_set(
    option: str, loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([option, ""]) == 1
    assert loop.calls == []
    assert capsys.readouterr().err == f"error: {option} is empty\nhint: give it a value, or leave it out\n"


def watch(loop: Loop, monkeypatch: pytest.MonkeyPatch, *arguments: str, ticks: int) -> list[float]:
    """So many ticks of a watch; the seconds that it slept."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == ticks:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    assert run(["--watch", *arguments]) == 130
    return slept


def test_a_watch_says_only_what_is_new(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.ticks = [(HOLDING, ()), (HOLDING, ()), (SOMETHING, (DONE,)), (SOMETHING, (DONE,)), (NOTHING, ())]
    assert watch(loop, monkeypatch, ticks=6) == [30] * 6
    out = capsys.readouterr().out
    assert out.count("tick of 2026-03-01T12:00:00Z") == 4
    assert (out.count("soaking"), out.count("Applied:"), out.count("No changes.")) == (1, 2, 2)


def test_a_watch_survives_a_failed_tick(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [Retryable("timed out", where="origin"), Terminal("is wrong")]
    loop.ticks = [*wrong, (SOMETHING, (DONE,)), (NOTHING, ())]
    assert watch(loop, monkeypatch, "5", ticks=3) == [5, 5, 5]
    out, err = capsys.readouterr()
    assert err == "error: origin: timed out\nerror: is wrong\n"
    assert out.count("Applied: 1 done") == 1


def test_a_watch_goes_on_at_once_after_a_change_and_waits_after_a_failure(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.ticks = [(SOMETHING, (DONE,)), (SOMETHING, (DONE,)), (SOMETHING, (FAILED,)), (NOTHING, ())]
    watch(loop, monkeypatch, "7", ticks=1)
    assert len(loop.calls) == 3
    watch(loop, monkeypatch, "7", ticks=2)
    assert len(loop.calls) == 5


def test_a_watch_for_machines_is_one_line_a_tick(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.ticks = [(SOMETHING, (DONE,)), (NOTHING, ())]
    watch(loop, monkeypatch, "1", "--output", "json", ticks=2)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["plan"]["actions"]) for line in lines] == [1, 0]


def test_a_watch_connects_again_when_the_platform_changes(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loop.ticks = [(NOTHING, ())]
    made: list[Session] = []
    monkeypatch.setattr(command, "Session", lambda directory: made.append(Session(directory)) or made[-1])
    watch(loop, monkeypatch, "1", ticks=3)
    assert len(made) == 1
    monkeypatch.setattr(Session, "platform", Platform(kind="Platform", requires=">=0.1"))
    watch(loop, monkeypatch, "1", ticks=3)
    assert len(made) == 4
