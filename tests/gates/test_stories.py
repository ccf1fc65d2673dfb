"""Five bad versions on their way to production, on the embedded stack, by trueup's own commands.

One digits serves in production; each test commits one fault as a person would, lets the reconciler tick until
the version is stopped, and takes the commit back.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gates

ROOT = Path(__file__).parents[2]
MODEL = "models/digits/model.yaml"
SOURCE = "models/digits/src"


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A repository made by `reconcile init --example`, whose digits is verified in production."""
    folder = tmp_path_factory.mktemp("stories")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "demo"))
        stage, story, behind = (importlib.import_module(name) for name in ("stage", "story", "behind"))
    told = stage.Story(folder, story.environment_of(folder))
    told.run("reconcile init models --example")
    told.enter("models")
    behind.hasten(told)
    record = told.folder / MODEL
    record.write_text(f"{record.read_text()}monitoring:\n  record: {{sample: 1, rows: 20000}}\n")
    told.commit("digits: keep requests, for drift to be measured")
    try:
        told.until(r"! hold +awaiting-approval", why="version 1 is proposed for production")
        told.run(f"reconcile pr approve {behind.pull_request(told, 'digits', 'production')}")
        told.until(r"trueup\.verified\.production", why="version 1 is verified in production")
        yield told
    finally:
        told.run("reconcile local stop")
        for name in ("stage", "story", "behind", "digits", "flights", "settle"):
            sys.modules.pop(name, None)


@pytest.fixture
def faulty(production: Any) -> Iterator[Callable[..., str]]:
    """``faulty({PATH: (OLD, NEW)}, until=PATTERN)`` commits a change and ticks until PATTERN.

    Returns what the ticks said. The commit is taken back when the test is over.
    """
    made = []

    def change(edits: dict[str, tuple[str, str]], *, until: str) -> str:
        production.run("git pull --quiet")
        for path, (old, new) in edits.items():
            file = production.folder / path
            text = file.read_text()
            assert old in text, f"{path} has no {old!r}"
            file.write_text(text.replace(old, new))
        production.commit("digits: a change")
        made.append(production.ask("git rev-parse HEAD").strip())
        return str(production.until(until, why="it is stopped", within=400))

    yield change
    production.run("git pull --quiet")
    for commit in reversed(made):
        production.run(f"git revert --no-edit {commit}")
        production.run("git push --quiet origin main")


def stopped(by: str) -> str:
    """What a tick says of a candidate that this gate blocks."""
    return rf"hold +gate-failed\n(?:.*\n){{1,3}}?.*gate {by}: "


def test_a_candidate_whose_f1_is_below_productions_is_blocked(production, faulty) -> None:
    said = faulty({MODEL: ("epochs: 6", "epochs: 1")}, until=stopped("not-worse-f1"))
    assert "against the champion's" in said
    assert "No pull request is open" in production.run("reconcile pr list")


def test_p95_above_100_ms_blocks(production, faulty) -> None:
    compute = "        with torch.no_grad():"
    slow = f"        __import__('time').sleep(0.15)\n{compute}"
    faulty({f"{SOURCE}/predictor.py": (compute, slow)}, until=stopped("latency"))
    assert "No pull request is open" in production.run("reconcile pr list")


def test_a_removed_input_is_refused(production, faulty) -> None:
    """The corner of a scan is always empty: every prediction is the same without it, and callers send it."""
    edits = {
        f"{SOURCE}/train.py": ("return PIXELS", "return PIXELS[1:]"),
        f"{SOURCE}/network.py": ("frame[PIXELS]", "frame.reindex(columns=PIXELS, fill_value=0)"),
    }
    said = faulty(edits, until=stopped("signature"))
    assert "pixel_00" in said
    assert "No pull request is open" in production.run("reconcile pr list")
