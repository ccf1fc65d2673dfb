"""The port Notifier: terminal, Slack (as a bot and by an incoming webhook) and webhook, over real HTTP.

The receiver is on loopback and answers what Slack documents: docs.slack.dev, `chat.postMessage`, `auth.test`,
"Rate limits" and "Sending messages using incoming webhooks", each with its own words.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from reconciler.adapters.slack_notifier import SlackNotifier
from reconciler.adapters.terminal_notifier import TerminalNotifier
from reconciler.adapters.webhook_notifier import WebhookNotifier
from reconciler.core.base import Subject
from reconciler.core.errors import Retryable, Terminal, TrueupError
from reconciler.core.plan import GateVerdict, Message
from reconciler.ports import Notifier
from reconciler.report import message as shown

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
TOKEN = "xoxb-not-a-token"
SHARED = "not a secret"
PATH = "/services/T0/B0/not-a-secret"
KEY = "tell production/digits needs-review sha256:1 people"
DRIFT = GateVerdict(
    gate="drift",
    metric="drift.psi-max",
    verdict="review",
    why="feature=hour: not 0.25 <= 0.2",
    value=0.25,
    n=5000,
    asked="<= 0.2",
    slice="feature=hour",
)
MESSAGE = Message(
    event="needs-review",
    subject=Subject(environment="production", model="digits"),
    title="Promote digits to production: version 2",
    reason="gate drift: feature=hour: not 0.25 <= 0.2",
    gates=(DRIFT,),
    pull_request=8,
    pages="https://git.example/ml/models/pulls/",
)


class Asked(NamedTuple):
    """A request that the receiver got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers every request with ``status``, ``body`` and ``headers``; at ``status`` 0 it hangs up."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"ok", {"Content-Type": "text/html"}
        self.asked: list[Asked] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.asked.append(Asked(self.command, self.path, headers, self.rfile.read(size)))
                if not receiver.status:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response_only(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(receiver.body)

            do_GET = do_POST = do_HEAD = _any  # noqa: N815 - http.server names them

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, status: int, body: Any, **headers: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if isinstance(body, str) else "application/json; charset=utf-8"
        self.status, self.body = status, text.encode()
        self.headers = {"Content-Type": kind, **{name.replace("_", "-"): v for name, v in headers.items()}}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def terminal() -> list[str]:
    return []


class Clock:
    now = AT

    def __call__(self) -> datetime:
        return self.now


CLOCK = Clock()


def bot(receiver: Receiver, clock: Callable[[], datetime] = CLOCK, token: str = TOKEN) -> SlackNotifier:
    receiver.says(200, {"ok": True, "channel": "C0123456789", "ts": "1503435956.000247", "message": {}})
    url = f"{receiver.url}/api"
    return SlackNotifier(
        lambda: token, shown.slack, secret_from="$SLACK_TOKEN", channel="C0123456789", url=url, clock=clock
    )


def incoming(receiver: Receiver, clock: Callable[[], datetime] = CLOCK) -> SlackNotifier:
    receiver.says(200, "ok")
    address = receiver.url + PATH
    return SlackNotifier(lambda: address, shown.slack, secret_from="/run/secrets/slack", clock=clock)


def webhook(receiver: Receiver, clock: Callable[[], datetime] = CLOCK) -> WebhookNotifier:
    receiver.says(204, "")
    return WebhookNotifier(f"{receiver.url}/hook", lambda: SHARED, shown.document, clock=clock)


REMOTE: dict[str, Callable[..., Notifier]] = {"bot": bot, "incoming": incoming, "webhook": webhook}
ALL = ("terminal", *REMOTE)


@pytest.fixture(params=ALL)
def sent(
    request: pytest.FixtureRequest, receiver: Receiver, terminal: list[str]
) -> Callable[[Message], list[str]]:
    """Sends a message; what arrived, as text."""
    remote = REMOTE.get(request.param)
    notifier = remote(receiver) if remote else TerminalNotifier(terminal.append, shown.plain)

    def send(message: Message) -> list[str]:
        notifier.send(message, key=KEY)
        return [*terminal, *(asked.body.decode() for asked in receiver.asked)]

    return send


# --- every notifier ---------------------------------------------------------------------------------------


def test_a_message_is_sent_once_with_all_its_parts(sent: Callable[[Message], list[str]]) -> None:
    (text,) = sent(MESSAGE)
    said = text.replace("\\u200b", "").replace("\u200b", "").replace("\\u003c", "<")
    for part in ("production", "digits", "version 2", "not 0.25", "https://git.example/ml/models/pulls/8"):
        assert part in said, part


def test_a_message_without_a_pull_request_is_sent_too(sent: Callable[[Message], list[str]]) -> None:
    (text,) = sent(Message(event="outage", subject=MESSAGE.subject, title="an outage", reason="3 at once"))
    assert "an outage" in text
    assert "None" not in text


def test_no_control_character_arrives(sent: Callable[[Message], list[str]]) -> None:
    (text,) = sent(MESSAGE.model_copy(update={"reason": "a\x1b[2Jb\x07\r\nc\u202ed"}))
    assert not re.search(r"[\x00-\x1f\x7f\u202e]|u001b|u0007|u202e", text)


# --- what answers mean ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REMOTE)
@pytest.mark.parametrize("status", [0, 500, 503])
def test_no_clear_answer_may_be_asked_again_and_is_not_by_itself(
    kind: str, status: int, receiver: Receiver
) -> None:
    notifier = REMOTE[kind](receiver)
    receiver.says(status, "<html>a proxy</html>")
    with pytest.raises(Retryable) as told:
        notifier.send(MESSAGE, key=KEY)
    assert not isinstance(told.value, Terminal)
    assert len(receiver.asked) == 1


@pytest.mark.parametrize("kind", REMOTE)
def test_a_rate_limit_is_kept_to_the_instant(kind: str, receiver: Receiver) -> None:
    clock = Clock()
    notifier = REMOTE[kind](receiver, clock)
    receiver.says(429, {"ok": False, "error": "ratelimited"}, Retry_After="30")
    for _ in range(2):
        with pytest.raises(Retryable, match="not before 2026-03-02T12:00:30Z"):
            notifier.send(MESSAGE, key=KEY)
    assert len(receiver.asked) == 1
    receiver.says(200, {"ok": True} if kind == "bot" else "ok")
    clock.now = AT + timedelta(seconds=30)
    notifier.send(MESSAGE, key=KEY)
    assert len(receiver.asked) == 2


@pytest.mark.parametrize("kind", REMOTE)
def test_nobody_there_is_retryable(kind: str, receiver: Receiver) -> None:
    notifier = REMOTE[kind](receiver)
    receiver.server.shutdown()
    receiver.server.server_close()
    with pytest.raises(Retryable, match="answer"):
        notifier.send(MESSAGE, key=KEY)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("channel_not_found", "/invite"),
        ("not_in_channel", "/invite"),
        ("is_archived", "another channel"),
        ("invalid_auth", "no longer valid"),
        ("token_revoked", "no longer valid"),
        ("missing_scope", "chat:write"),
        ("a_word_of_next_year", "docs.slack.dev"),
    ],
)
def test_slack_refuses_a_bot(error: str, hint: str, receiver: Receiver) -> None:
    notifier = bot(receiver)
    receiver.says(200, {"ok": False, "error": error})
    with pytest.raises(Terminal, match=f"{error}.*SLACK_TOKEN.*hint: .*{hint}"):
        notifier.send(MESSAGE, key=KEY)


@pytest.mark.parametrize("error", ["fatal_error", "internal_error", "service_unavailable"])
def test_slack_fails_in_passing(error: str, receiver: Receiver) -> None:
    notifier = bot(receiver)
    receiver.says(200, {"ok": False, "error": error})
    with pytest.raises(Retryable, match=error):
        notifier.send(MESSAGE, key=KEY)


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (400, "no_text", "please report"),
        (400, "invalid_payload", "please report"),
        (403, "action_prohibited", "administrator"),
        (403, "invalid_token", "renew the secret"),
        (404, "channel_not_found", "channel"),
        (404, "no_service", "renew the secret"),
        (410, "channel_is_archived", "another channel"),
    ],
)
def test_slack_refuses_a_webhook(status: int, body: str, hint: str, receiver: Receiver) -> None:
    notifier = incoming(receiver)
    receiver.says(status, body)
    with pytest.raises(Terminal, match=f"{body}.*hint: .*{hint}"):
        notifier.send(MESSAGE, key=KEY)


@pytest.mark.parametrize(("status", "hint"), [(401, "secret"), (404, "address"), (302, "log"), (400, "log")])
def test_a_receiver_refuses(status: int, hint: str, receiver: Receiver) -> None:
    notifier = webhook(receiver)
    receiver.says(status, "no", Location=receiver.url + "/elsewhere")
    with pytest.raises(Terminal, match=f"status {status}.*hint: .*{hint}"):
        notifier.send(MESSAGE, key=KEY)
    assert len(receiver.asked) == 1


@pytest.mark.parametrize("kind", REMOTE)
@pytest.mark.parametrize("status", [0, 200, 401, 429, 500])
def test_no_secret_is_told(
    kind: str, status: int, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("slack_sdk").setLevel(logging.DEBUG)
    notifier = REMOTE[kind](receiver)
    said = f"{TOKEN} {SHARED} {receiver.url}{PATH}"
    receiver.says(status, {"ok": False, "error": said} if kind == "bot" else said)
    try:
        notifier.send(MESSAGE, key=KEY)
    except TrueupError as error:
        text = f"{error!s}{error!r}{error.__cause__!r}"
    else:
        text = ""
    for secret in (TOKEN, SHARED, "not-a-secret"):
        assert secret not in text + caplog.text


@pytest.mark.parametrize("token", ["two\nlines", "ümlaut", "with space"])
def test_a_token_that_is_none_is_said_and_not_sent(token: str, receiver: Receiver) -> None:
    with pytest.raises(Terminal, match=r"\$SLACK_TOKEN holds no token"):
        bot(receiver, token=token).send(MESSAGE, key=KEY)
    assert not receiver.asked


# --- Slack ------------------------------------------------------------------------------------------------


def test_what_slack_gets_of_a_bot(receiver: Receiver) -> None:
    bot(receiver).send(MESSAGE, key=KEY)
    (asked,) = receiver.asked
    content = json.loads(asked.body)
    assert asked.path == "/api/chat.postMessage"
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert (content["channel"], content["unfurl_links"], content["unfurl_media"]) == (
        "C0123456789",
        False,
        False,
    )
    assert not {"link_names", "parse"} & content.keys()
    first, *_, last = content["blocks"]
    assert first["text"] == {
        "type": "mrkdwn",
        "verbatim": True,
        "text": "*Promote digits to production: version 2*  <https://git.example/ml/models/pulls/8|#8>",
    }
    assert last["elements"][0]["text"] == "production/digits · needs-review"


HOSTILE = (
    "<!channel> <!here> <!everyone> <@U0123> <#C0123> <!subteam^S0123>",
    "@channel @here @everyone @ada #general",
    "<https://evil.example|the pull request>",
    "https://evil.example www.evil.example evil.example mailto:me@evil.example",
    "*bold* _em_ ~gone~ `code` :tada: &lt;!channel&gt;",
)
LIVE = re.compile(r"[<>`]|[@#*~]\w|:[^\s\u200b]|\w\.[A-Za-z]{2}|&(?!(amp|lt|gt);)")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_model_brings_does_nothing_in_slack(hostile: str, receiver: Receiver) -> None:
    gate = DRIFT.model_copy(update={"slice": hostile[:60], "asked": hostile, "why": hostile})
    parts = {"title": hostile, "reason": hostile, "gates": (gate,), "pages": ""}
    bot(receiver).send(MESSAGE.model_copy(update=parts), key=KEY)
    content = json.loads(receiver.asked[0].body)
    texts = list(_texts(content["blocks"]))
    assert len(texts) == 5
    for kind, text in (*texts, ("mrkdwn", content["text"])):
        inner = text.removeprefix("*").removesuffix("*") if kind == "mrkdwn" else text
        assert not LIVE.search(inner), (kind, text)


def _texts(blocks: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for block in blocks:
        for item in [block["text"]] if "text" in block else block["elements"]:
            yield item["type"], item["text"]


def test_a_message_stays_within_what_slack_takes(receiver: Receiver) -> None:
    long = "&" * 5000
    gates = tuple(DRIFT.model_copy(update={"gate": f"g{n}", "asked": long}) for n in range(200))
    message = MESSAGE.model_copy(update={"title": long, "reason": long, "gates": gates})
    bot(receiver).send(message, key=KEY)
    blocks = json.loads(receiver.asked[0].body)["blocks"]
    assert len(blocks) <= 50
    assert all(len(text) <= 3000 for _, text in _texts(blocks))


def test_doctor_asks_who_the_bot_is(receiver: Receiver) -> None:
    notifier = bot(receiver)
    who = {"ok": True, "url": "https://t.slack.com/", "team": "T", "user": "trueup", "team_id": "T0"}
    receiver.says(200, who, x_oauth_scopes="chat:write,incoming-webhook")
    (found,) = notifier.diagnose(())
    assert (found.state, found.what) == ("ok", "answers: trueup of T, for C0123456789")
    assert receiver.asked[0].path == "/api/auth.test"
    receiver.says(200, who, x_oauth_scopes="users:read")
    assert [found.state for found in notifier.diagnose(())] == ["fail", "ok"]
    receiver.says(200, {"ok": False, "error": "invalid_auth"})
    with pytest.raises(Terminal, match="invalid_auth"):
        list(notifier.diagnose(()))


def test_doctor_posts_nothing_to_a_webhook(receiver: Receiver) -> None:
    (found,) = incoming(receiver).diagnose(())
    assert found.state == "ok"
    assert not receiver.asked


# --- webhook ----------------------------------------------------------------------------------------------


def test_what_a_webhook_gets_is_signed(receiver: Receiver) -> None:
    notifier = webhook(receiver)
    notifier.send(MESSAGE, key=KEY)
    notifier.send(MESSAGE, key=KEY)
    first, second = receiver.asked
    assert first.body == second.body
    assert first.headers["x-trueup-delivery"] == second.headers["x-trueup-delivery"]
    signed = hmac.new(SHARED.encode(), first.body, hashlib.sha256).hexdigest()
    assert first.headers["x-trueup-signature-256"] == f"sha256={signed}"
    assert first.headers["x-trueup-event"] == "needs-review"
    content = json.loads(first.body)
    gate = content.pop("gates")[0]
    assert (gate["gate"], gate["value"], gate["n"], gate["verdict"]) == ("drift", 0.25, 5000, "review")
    assert content == {
        "apiVersion": "trueup.dev/v1",
        "kind": "Notification",
        "key": KEY,
        "event": "needs-review",
        "environment": "production",
        "model": "digits",
        "title": MESSAGE.title,
        "reason": MESSAGE.reason,
        "pullRequest": {"number": 8, "url": "https://git.example/ml/models/pulls/8"},
    }


def test_doctor_asks_whether_a_receiver_answers(receiver: Receiver) -> None:
    notifier = webhook(receiver)
    receiver.says(405, "")
    (found,) = notifier.diagnose(())
    assert (found.state, [asked.method for asked in receiver.asked]) == ("ok", ["HEAD"])
