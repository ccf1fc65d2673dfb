"""The step that calls when a run has ended: what it sends, and that nothing it meets is a failure."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from reconciler.core.argo import WAKE_TOKEN
from workflows.steps import notify
from workflows.steps.main import main

TOKEN = "a token that nobody guesses"


class Receiver(HTTPServer):
    """Answers with the next of ``answers``, and keeps what it was asked."""

    def __init__(self, *answers: int) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/wake"


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.asked.append((self.path, self.headers["Authorization"], body))
        self.send_response(server.answers.pop(0) if server.answers else 202)
        self.send_header("Location", server.url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv(WAKE_TOKEN, TOKEN)
    monkeypatch.setattr(notify, "PAUSES", (0.0, 0.0, None))
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def call(url: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["notify", f"--url={url}", "--run=train-digits-1", "--phase=Succeeded"])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_it_says_which_run_and_who_it_is(receiver: Receiver) -> None:
    assert call(receiver.url) == 0
    ((path, authorization, body),) = receiver.asked
    assert (path, authorization) == ("/wake", f"Bearer {TOKEN}")
    assert json.loads(body) == {"run": "train-digits-1", "phase": "Succeeded"}


@pytest.mark.parametrize(
    ("answers", "calls"),
    [
        ((500, 503), 3),
        ((500, 500, 500, 500), 3),
        ((401,), 1),
        ((404,), 1),
        ((307, 307, 307), 3),
    ],
    ids=["in the end", "never", "refused", "nobody there", "sent elsewhere"],
)
def test_it_tries_three_times_at_most_and_never_fails(
    receiver: Receiver, answers: tuple[int, ...], calls: int, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers[:] = answers
    assert call(receiver.url) == 0
    assert len(receiver.asked) == calls
    assert TOKEN not in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/wake", "http://nowhere.invalid/wake", "http://[::1/wake"])
def test_nobody_who_answers_is_no_failure(url: str, receiver: Receiver) -> None:
    assert call(url) == 0
    assert receiver.asked == []


def test_without_a_token_it_says_none(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WAKE_TOKEN)
    assert call(receiver.url) == 0
    assert receiver.asked[0][1] is None
