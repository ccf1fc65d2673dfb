"""`reconcile logs --follow`: lines as they come, once each, until the run ends; the engine plays a script."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from reconciler.cli import console
from reconciler.cli import logs as command
from reconciler.cli.main import run
from reconciler.cli.session import Session
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.observed import Phase, WorkflowRun
from reconciler.ports import Readers

Said = pytest.CaptureFixture[str]
NAME = "train-digits-1"


class Scene(NamedTuple):
    """What an engine answers between two sleeps: the phase, and what each task has printed so far."""

    phase: Phase
    logs: Mapping[str, str] = {}
    message: str = ""
    error: Exception | None = None
    stopped: str = ""
    by: str = ""


class Scripted:
    """An engine that goes on by one scene each time that somebody sleeps; the last one stays."""

    def __init__(self, *scenes: Scene) -> None:
        self.scenes = list(scenes)

    def go_on(self, seconds: float) -> None:
        assert seconds == command.FOLLOW_INTERVAL
        assert len(self.scenes) > 1, "it goes on after the last scene"
        self.scenes.pop(0)

    def run(self, name: str) -> WorkflowRun:
        if self.scenes[0].error:
            raise self.scenes[0].error
        scene = self.scenes[0]
        ended = {"stopped": scene.stopped, "stopped_by": scene.by}
        return WorkflowRun(name=name, phase=scene.phase, message=scene.message, **ended)

    def logs(self, name: str, *, latest: bool = False) -> Iterator[tuple[str, str]]:
        assert not latest
        yield from self.scenes[0].logs.items()


def followed(monkeypatch: pytest.MonkeyPatch, *scenes: Scene) -> int:
    engine = Scripted(*scenes)
    readers = Readers(None, {}, engine, None, {})  # type: ignore[arg-type]
    monkeypatch.setattr(Session, "connected", (readers, None))
    monkeypatch.setattr(command.time, "sleep", engine.go_on)
    return run(["logs", "-f", NAME])


def test_each_line_is_printed_once_and_the_end_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    code = followed(
        monkeypatch,
        Scene("Pending"),
        Scene("Running", {"train": "one\ntw"}),
        Scene("Running", {"train": "one\ntwo\n"}),
        Scene("Running", {"train": "one\ntwo\n"}),
        Scene("Succeeded", {"train": "one\ntwo\nthree", "register": ""}),
    )
    assert code == 0
    assert capsys.readouterr() == (
        "train | one\ntrain | two\ntrain    | three\n",
        "train-digits-1: Succeeded\n",
    )


def test_several_tasks_line_up_and_keep_their_lines_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    code = followed(
        monkeypatch,
        Scene("Running", {"trial(0)": "a\nb\n", "trial(10)": "x\ny"}),
        Scene("Failed", {"trial(0)": "a\nb\nc\n", "trial(10)": "x\ny\n"}, "trial(0): exit code 1"),
    )
    assert code == 1
    assert capsys.readouterr() == (
        "trial(0)  | a\ntrial(0)  | b\ntrial(10) | x\ntrial(0)  | c\ntrial(10) | y\n",
        "train-digits-1: Failed: trial(0): exit code 1\n",
    )


@pytest.mark.parametrize(("by", "who"), [("Grace", "Grace"), ("", "trueup")])
def test_what_was_cancelled_says_by_whom_and_why_and_not_what_the_engine_calls_it(
    by: str, who: str, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    said = "Stopped with strategy 'Terminate'"
    code = followed(monkeypatch, Scene("Failed", {"t": "a\n"}, said, stopped="no \x1b[31mdemo", by=by))
    assert code == 1
    assert capsys.readouterr() == ("t | a\n", f"train-digits-1: Cancelled by {who}: no [31mdemo\n")


def test_what_succeeded_all_the_same_was_not_cancelled(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert followed(monkeypatch, Scene("Succeeded", stopped="no demo", by="Grace")) == 0
    assert capsys.readouterr().err == "train-digits-1: Succeeded\n"


def test_a_log_that_became_another_is_printed_whole(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """As on Kubernetes, where a container that is waited for has a text in the place of its log."""
    followed(
        monkeypatch,
        Scene("Running", {"train": "container is waiting to start\n"}),
        Scene("Running", {"train": "epoch 1\n"}),
        Scene("Succeeded", {"train": "epoch 1\nepoch 2\n"}),
    )
    assert capsys.readouterr().out.splitlines() == [
        "train | container is waiting to start",
        "train | epoch 1",
        "train | epoch 2",
    ]


def test_what_would_move_the_cursor_is_not_printed(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    followed(
        monkeypatch, Scene("Succeeded", {"t": "\x1b[31mred\x1b[0m\n10%\r50%\r100%\r\n  a\tb\x07\x1b]0;\n"})
    )
    assert capsys.readouterr().out == "t | red\nt | 100%\nt |   a b??]0;\n"


def test_a_reading_that_fails_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    away = Scene("Running", error=Retryable("timed out", where="cluster"))
    code = followed(monkeypatch, Scene("Running"), away, away, Scene("Succeeded", {"t": "done\n"}))
    assert code == 0
    assert capsys.readouterr() == ("t | done\n", "error: cluster: timed out\ntrain-digits-1: Succeeded\n")


def test_a_run_that_is_not_there_or_is_deleted_meanwhile(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    gone = Scene("Running", error=Terminal("no run is named 'train-digits-1'"))
    assert followed(monkeypatch, Scene("Running", {"t": "a\n"}), gone) == 1
    assert capsys.readouterr() == ("t | a\n", "error: no run is named 'train-digits-1'\n")


def test_a_server_is_not_followed(capsys: Said) -> None:
    assert run(["logs", "-f", "staging/digits"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: staging/digits: a server has no end to follow it to\nhint:"
    )


ENDLESS = """
import itertools, sys
from reconciler.cli import logs, main, session
from reconciler.core.observed import WorkflowRun
from reconciler.ports import Readers

class Endless:
    lines = 0
    def run(self, name):
        return WorkflowRun(name=name, phase="Running")
    def logs(self, name, latest=False):
        self.lines += 1
        yield "t", "line\\n" * self.lines

logs.FOLLOW_INTERVAL = 0.01
session.Session.connected = (Readers(None, {}, Endless(), None, {}), None)
sys.exit(main.run(["logs", "-f", "train-digits-1"]))
"""


def test_ctrl_c_ends_it_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "t | line\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=20) == console.QUIET_PIPE
    assert process.stderr.read() == b""
    process.stderr.close()
