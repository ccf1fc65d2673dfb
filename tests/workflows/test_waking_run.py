"""A run of the embedded engine wakes `reconcile --watch` when it ends, by the call of the shipped templates."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from reconciler.adapters.embedded.engine import EmbeddedEngine
from reconciler.cli import reconcile as command
from reconciler.cli.main import run
from reconciler.cli.session import Session
from reconciler.core.argo import WAKE_TOKEN
from reconciler.core.platform import EngineEmbedded, Platform, Secret, Wake
from workflows.templates.__main__ import RENDERED

TOKEN = "a token that nobody guesses"
COMMIT = "c" * 40
NAME = "train-digits-1"
BOUND = 60.0
"""Seconds after which the test gives up; without a call, the next tick would come after an hour."""


def template() -> dict[str, Any]:
    """A shipped template with a moment of nothing for its work; what follows is as shipped."""
    document: dict[str, Any] = YAML(typ="safe").load((RENDERED / "measure-parity-v1.yaml").read_text())
    kept = {document["spec"]["onExit"], "notify"}
    leaving = [each for each in document["spec"]["templates"] if each["name"] in kept]
    main = {"name": "main", "dag": {"tasks": [{"name": "work", "template": "work"}]}}
    work = {"name": "work", "container": {"command": ["sh", "-c"], "args": ["sleep 0.2; env"]}}
    parameters = [each for each in document["spec"]["arguments"]["parameters"] if "value" in each]
    document["spec"] |= {"templates": [main, work, *leaving], "arguments": {"parameters": parameters}}
    return document


class Watched:
    """`reconcile --watch 3600 --listen 0`: its first tick submits a run, and the others look at it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, token: str) -> None:
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), WAKE_TOKEN: token}
        self.engine = EmbeddedEngine(home=folder / "home", checkout=self.checkout, env=env, grace=0.2)
        self.url = ""
        self.looked: list[str] = []
        self.began = time.monotonic()
        wake = Wake(url="http://127.0.0.1:8484/wake", token=Secret(env="WAKING_TEST_TOKEN"))
        patch.setenv("WAKING_TEST_TOKEN", TOKEN)
        patch.setattr(Session, "platform", Platform(kind="Platform", engine=EngineEmbedded(wake=wake)))
        patch.setattr(command.Ticks, "tick", lambda _, only_news=False: self.tick())
        patch.setattr(command.console, "note", self.note)

    def checkout(self, _: str, destination: Path) -> None:
        rendered = destination / "workflows" / "rendered"
        rendered.mkdir(parents=True)
        (rendered / "measure-parity-v1.yaml").write_text(json.dumps(template()))

    def note(self, text: str) -> None:
        self.url = self.url or text.removeprefix("listening on ")

    def tick(self) -> tuple[None, None]:
        if self.looked:
            phase = self.engine.sweep().runs[NAME].phase
            self.looked.append(phase)
            if phase not in ("Pending", "Running"):
                raise KeyboardInterrupt
        else:
            self.looked.append("submitted")
            labels = {"app.kubernetes.io/managed-by": "trueup"}
            self.engine.submit(
                name=NAME,
                template="measure-parity-v1",
                commit=COMMIT,
                parameters={"wake": self.url},
                labels=labels,
                deadline=60,
            )
        if time.monotonic() - self.began > BOUND:
            raise KeyboardInterrupt
        return None, None


def test_the_end_of_a_run_wakes_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(tmp_path, monkeypatch, TOKEN)
    give_up = threading.Timer(BOUND, lambda: os.kill(os.getpid(), 2))
    give_up.start()
    try:
        assert run(["--watch", "3600", "--listen", "0"]) == 130
        assert watched.looked[-1] == "Succeeded"
        said = dict(watched.engine.logs(NAME))
        assert f"the reconciler was called about {NAME}" in said["notify"]
        assert TOKEN not in "".join(said.values())  # the work printed its environment
    finally:
        give_up.cancel()
        watched.engine.stop_all()


def test_a_call_that_is_refused_changes_nothing_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch is not woken; polling finds the run all the same, as it was."""
    watched = Watched(tmp_path, monkeypatch, "another token")
    give_up = threading.Timer(BOUND, lambda: os.kill(os.getpid(), 2))
    give_up.start()
    try:
        assert run(["--watch", "1", "--listen", "0"]) == 130
        assert watched.looked[-1] == "Succeeded"
        assert "401" in dict(watched.engine.logs(NAME))["notify"]
    finally:
        give_up.cancel()
        watched.engine.stop_all()
