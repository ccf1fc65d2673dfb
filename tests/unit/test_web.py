"""The pages of `reconcile web`, asked for by HTTP, over systems that a story has left in some state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from socket import socket

import httpx
import pytest

from reconciler.bootstrap.repository import Repository
from reconciler.cli.main import run
from reconciler.cli.session import Session
from reconciler.core.errors import Retryable
from tests.doubles.site import Site
from tests.laws.driving import tick
from tests.unit.test_report_html import Read


class Visited(Site):
    """Asked for by HTTP, as a browser does."""

    client: httpx.Client

    def page(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        Read(answer.text)
        return unescape(answer.text)


@pytest.fixture
def visited() -> Iterator[Visited]:
    site = Visited()
    with site.served() as address, httpx.Client(base_url=address) as site.client:
        yield site


def test_the_overview_is_the_matrix_with_what_is_open_and_what_ran(visited: Visited) -> None:
    text = visited.page("/")
    assert "<h1>models</h1>" in text
    assert re.search(
        r'<a href="/models/digits#production"><strong>v2</strong></a>\s*<span class="badge bad">degraded', text
    )
    tick(visited.world)
    visited.clock.now = 11
    assert "Roll back digits" in visited.page("/")
    names = re.findall(r'<a href="(/runs/[^"]+)"', text)
    assert sorted(visited.world.engine.sweep().runs) == sorted(name.removeprefix("/runs/") for name in names)
    for name in names:
        visited.page(name)


def test_the_page_of_a_model_says_why_and_draws_every_version(visited: Visited) -> None:
    text = visited.page("/models/digits")
    assert [text.index(f'<section id="{name}">') for name in ("staging", "production")]
    assert "version 2 is taken back" in text
    assert text.count('<th scope="row">v1</th><td data-label="since">') == 2
    accuracy = re.search(r"<strong>evaluate.accuracy</strong>.*?</figure>", text, re.S)
    assert accuracy
    assert accuracy[0].count("<circle") == 2
    assert re.findall(
        r'<th scope="row">(v\d)</th>\s*<td data-label="value" class="number">([\d.]+)</td>', accuracy[0]
    ) == [
        ("v1", "0.95"),
        ("v2", "0.95"),
    ]
    assert f"staging >= {0.85}" in accuracy[0]


def test_evidence_is_read_once(visited: Visited) -> None:
    read: list[str] = []
    original = visited.world.registry.evidence
    visited.world.registry.evidence = lambda uri: (read.append(uri), original(uri))[1]  # type: ignore[method-assign]
    visited.page("/models/digits")
    first = len(read)
    visited.clock.now = 11
    visited.page("/models/digits")
    assert len(set(read)) <= first
    assert not [uri for uri in read[first:] if read.count(uri) > 2]


def test_readers_at_one_time_share_a_look(visited: Visited) -> None:
    visited.page("/")
    assert visited.sweeps == 1
    visited.page("/")
    visited.page("/plan")
    assert visited.sweeps == 1
    visited.clock.now = 10.0
    visited.page("/")
    assert visited.sweeps == 2


def test_readers_at_one_time_share_histories_and_the_logs_of_what_runs(visited: Visited) -> None:
    calls: list[str] = []
    for port, method in ((visited.world.forge, "merged"), (visited.world.repository, "log")):
        original = getattr(port, method)
        setattr(port, method, lambda *a, _o=original, _m=method: (calls.append(_m), _o(*a))[1])
    visited.page("/models/digits")
    once = list(calls)
    assert once.count("merged") == 1
    visited.page("/models/digits")
    assert calls == once


def test_the_next_tick_is_the_plan(visited: Visited) -> None:
    assert "open-pull-request" in visited.page("/plan")


def test_a_look_that_fails_leaves_the_last_one_and_says_so(visited: Visited) -> None:
    visited.broken = "timed out"
    assert "see whether it is up" in visited.page("/", 503)
    visited.broken = ""
    assert "could not look again" not in visited.page("/")
    visited.broken, visited.clock.now = "timed out", 11
    text = visited.page("/")
    assert "could not look again" in text
    assert "timed out" in text
    assert "v2" in text
    visited.broken, visited.clock.now = "", 22
    assert "could not look again" not in visited.page("/")


def test_a_source_that_is_down_is_said_on_the_overview(visited: Visited) -> None:
    def down(*_: object) -> None:
        raise Retryable("connection refused", where="forge")

    visited.world.forge.sweep = down  # type: ignore[method-assign,assignment]
    text = visited.page("/")
    assert "Not seen" in text
    assert "connection refused" in text


@pytest.mark.parametrize("path", ["/models/nobody", "/runs/none", "/etc/passwd", "/models/..%2f..%2fx"])
def test_what_is_not_there_is_404_in_plain_words(visited: Visited, path: str) -> None:
    assert 'href="/"' in visited.page(path, 404)


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_is_written(visited: Visited, method: str) -> None:
    for path in ("/", "/plan", "/models/digits"):
        assert getattr(visited.client, method)(path).status_code == 405


def test_only_this_machine_is_answered(visited: Visited) -> None:
    assert visited.client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert visited.client.get("/", headers={"Host": "127.0.0.1:8383"}).status_code == 200
    headers = visited.client.get("/").headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"


def test_a_run_that_a_person_ended_is_cancelled_and_not_failed(visited: Visited) -> None:
    world = visited.world
    name, run = next(iter(world.engine.runs.items()))
    ended = {"phase": "Failed", "message": "Stopped with strategy 'Terminate'"}
    world.engine.runs[name] = run.model_copy(update={**ended, "stopped": "no demo", "stopped_by": "Grace"})
    for path in ("/", f"/runs/{name}"):
        text = visited.page(path)
        assert "Cancelled</span>" in text
        assert "by Grace: no demo" in text
    assert "Terminate" not in visited.page("/")


def test_what_others_wrote_is_text(visited: Visited) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m"
    world = visited.world
    name = next(iter(world.engine.sweep().runs))
    world.engine.logs = lambda _: [(hostile, f"    at {hostile}\n{hostile}")]  # type: ignore[method-assign]
    raw = visited.client.get(f"/runs/{name}").text
    assert "<script" not in raw
    assert "\x1b" not in raw
    assert "    at &lt;script&gt;" in raw


def test_a_port_that_is_taken_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(clone=None, origin="https://git.example.org/team/models.git", person="Ada <a@x>")
    monkeypatch.setattr(Session, "repository", repository)
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["web", "--port", str(port)]) == 1
    assert f"error: --port: port {port} cannot be had" in capsys.readouterr().err
