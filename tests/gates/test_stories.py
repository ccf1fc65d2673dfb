"""Five bad versions on their way to production, on the embedded stack, by trueup's own commands.

One digits serves in production; each test commits one fault as a person would, lets the reconciler tick until
the version is stopped, and takes the commit back.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from tests.gates.libraries import SLOW, bring
from workflows.steps.reference import Numbers, psi

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("the same production")]

ROOT = Path(__file__).parents[2]
MODEL = "models/digits/model.yaml"
SOURCE = "models/digits/src"


@pytest.fixture(scope="session")
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a receiver of notifications, and what it was sent so far."""
    found: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", found
        server.shutdown()


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory, received) -> Iterator[Any]:
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
    more = "files: {types: [.whl]}\nmonitoring:\n  record: {sample: 1, rows: 20000}\n"
    record.write_text(record.read_text() + more)
    platform = told.folder / "environments/platform.yaml"
    webhook = f"    type: webhook\n    url: {received[0]}\n    secret: {{env: TRUEUP_WEBHOOK_SECRET}}\n"
    head, default, _ = platform.read_text().partition("notifiers:\n  default:\n")
    platform.write_text(head + default + webhook)
    told.env["TRUEUP_WEBHOOK_SECRET"] = "of these tests"
    bring(told.folder / SOURCE, "1.0")
    told.run("git add models")
    told.commit("digits: keep requests, for drift to be measured; its own library; tell the team")
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

    ``also`` is given models/digits/src, for what is no edit of a text. Returns what the ticks said. The commit
    is taken back when the test is over.
    """
    made = []

    def change(
        edits: dict[str, tuple[str, str]], *, until: str, also: Callable[[Path], None] | None = None
    ) -> str:
        production.run("git pull --quiet")
        for path, (old, new) in edits.items():
            file = production.folder / path
            text = file.read_text()
            assert old in text, f"{path} has no {old!r}"
            file.write_text(text.replace(old, new))
        if also is not None:
            also(production.folder / SOURCE)
        production.run("git add models")
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
    return rf"hold +gate-failed\n(?:.*\n)*?\s+{by}\b.*\bblock\n"


def test_a_candidate_whose_f1_is_below_productions_is_blocked(production, faulty) -> None:
    said = faulty({MODEL: ("epochs: 6", "epochs: 3")}, until=stopped("not-worse-f1"))
    assert "against the champion's" in said
    assert "No pull request is open" in production.run("reconcile pr list")


def test_p95_above_100_ms_blocks(production, faulty) -> None:
    compute = "        with torch.no_grad():"
    slow = f"        __import__('time').sleep(0.15)\n{compute}"
    faulty({f"{SOURCE}/predictor.py": (compute, slow)}, until=stopped("latency"))
    assert "No pull request is open" in production.run("reconcile pr list")


def test_a_slower_library_is_caught_by_the_1000_record_sample(production, faulty) -> None:
    said = faulty({}, also=lambda source: bring(source, "1.1", SLOW), until=stopped("slower-batch"))
    assert "slower-batch" in said
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


def test_psi_of_a_quarter_pauses_and_notifies(production, faulty, received) -> None:
    """Part of the scanners of today leave one pixel black, which was in nobody's training data so often."""
    state = json.loads((production.folder / ".trueup/cluster/production/digits/status.json").read_text())
    data = production.folder / "models/digits/data"
    trained, rows = (pd.read_csv(data / f"{name}.csv") for name in ("train", "evaluation"))
    asked = pd.concat([rows.drop(columns=["label"])] * 3, ignore_index=True).head(2000)
    share = black(asked, trained["pixel_20"], wanted=0.25)
    with httpx.Client(base_url=state["endpoint"], trust_env=False) as server:
        for start in range(0, len(asked), 100):
            batch = asked[start : start + 100].to_dict("records")
            server.post("/invocations", json={"dataframe_records": batch}).raise_for_status()

    before = len(received[1])
    said = faulty(
        {f"{SOURCE}/train.py": ("MOMENTUM = 0.9\n", "MOMENTUM = 0.90  # as before\n")},
        until=r"open-pull-request .*production",
    )
    number = re.findall(r"open-pull-request .*production.* #(\d+)", said)[-1]
    shown = production.run(f"reconcile pr show --no-diff {number}")
    assert shown.splitlines()[0].endswith("  draft")
    assert "pixel_20" in shown, share
    origin = production.ask("git remote get-url origin").strip()
    record = json.loads(production.ask(f"git -C {origin} show refs/trueup/pulls/{number}:pull.json"))
    assert "needs-review/drift" in record["labels"]
    production.until(r"awaiting-approval", why="it waits for a person")
    production.run("reconcile", expect=(0, 2))
    told = [each for each in received[1][before:] if each["event"] == "needs-review"]
    assert [(each["environment"], each["model"]) for each in told] == [("production", "digits")]
    (gate,) = [each for each in told[0]["gates"] if each["gate"] == "drift"]
    assert gate["verdict"] == "review"
    assert 0.2 < gate["value"] < 0.3


def black(rows: pd.DataFrame, trained: pd.Series, wanted: float) -> float:
    """Make ``pixel_20`` 16 in the share of rows at which its PSI is just above ``wanted``; that share."""
    reference, before = Numbers.of(trained), rows["pixel_20"].copy()
    order = np.random.default_rng(0).permutation(len(rows))
    for share in np.arange(0.0, 1.0, 0.005):
        rows["pixel_20"] = before.where(pd.Series(order) >= share * len(rows), 16)
        if psi(reference.bins, reference.count(rows["pixel_20"])) >= wanted:
            return float(share)
    raise AssertionError("there is no such share")
