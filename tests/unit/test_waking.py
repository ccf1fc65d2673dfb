"""The receiver of `reconcile --watch --listen`, by real HTTP on loopback: who wakes it, into how many ticks."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from reconciler.cli import reconcile as command
from reconciler.cli import waking
from reconciler.cli.main import run
from reconciler.cli.session import Session
from reconciler.cli.waking import Alarm, address, listening, receiver
from reconciler.core.errors import Terminal
from reconciler.core.platform import EngineEmbedded, Platform, Secret, Wake

TOKEN = "a token that nobody guesses"
BODY = b'{"run": "train-digits-1"}'


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def signature(body: bytes = BODY, token: str = TOKEN) -> str:
    return hmac.new(token.encode(), body, hashlib.sha256).hexdigest()


class Receiving:
    """A receiver on a free port, and how often it called."""

    def __init__(self) -> None:
        self.calls = 0
        self.url = ""

    def call(self) -> None:
        self.calls += 1

    def post(self, body: bytes = BODY, path: str = "", **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{self.url}{path}", content=body, headers=named, timeout=10).status_code


@pytest.fixture
def there() -> Iterator[Receiving]:
    made = Receiving()
    with listening(receiver(lambda: TOKEN, made.call), "127.0.0.1", 0) as made.url:
        yield made


def test_whoever_knows_the_token_wakes_it(there: Receiving) -> None:
    assert there.post(**bearer()) == 202
    assert there.post(b"", **bearer()) == 202
    assert there.post(X_Hub_Signature_256=f"sha256={signature()}") == 202
    assert there.post(X_Gitea_Signature=signature()) == 202
    assert there.calls == 4


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nobody"),
        pytest.param({"Authorization": "Bearer"}, id="an empty token"),
        pytest.param(bearer("another token"), id="a wrong token"),
        pytest.param({"Authorization": TOKEN}, id="no scheme"),
        pytest.param({"Authorization": f"Basic {TOKEN}"}, id="another scheme"),
        pytest.param({"X_Hub_Signature_256": f"sha256={signature(b'another body')}"}, id="of another body"),
        pytest.param({"X_Gitea_Signature": signature(token="another")}, id="by another key"),
        pytest.param({"X_Gitea_Signature": ""}, id="an empty signature"),
        pytest.param({"X_Hub_Signature_256": f"sha1={signature()}"}, id="another digest"),
        pytest.param(
            {**bearer("another token"), "X_Gitea_Signature": signature()}, id="a wrong token beside a signature"
        ),
    ],
)
def test_nobody_else_does(headers: dict[str, str], there: Receiving) -> None:
    assert there.post(**headers) == 401
    assert there.calls == 0


def test_a_body_is_bounded(there: Receiving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "LARGEST", 10_000)
    body = b"x" * 10_001
    assert there.post(body, X_Gitea_Signature=signature(body)) == 401
    assert there.post(body[:10_000], X_Gitea_Signature=signature(body[:10_000])) == 202


def test_there_is_nothing_else_to_ask(there: Receiving) -> None:
    assert there.post(path="/more", **bearer()) == 404
    assert httpx.get(there.url, headers=bearer()).status_code == 405
    answer = httpx.post(there.url, headers=bearer("wrong"))
    assert (answer.content, "server" in answer.headers) == (b"", False)
    assert there.calls == 0


def test_a_port_that_is_taken_is_said(there: Receiving) -> None:
    port = int(there.url.rpartition(":")[2].removesuffix("/wake"))
    with (
        pytest.raises(Terminal, match=f"port {port} cannot be had"),
        listening(receiver(lambda: TOKEN, there.call), "127.0.0.1", port),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8484", ("127.0.0.1", 8484)),
        (":8484", ("127.0.0.1", 8484)),
        ("0.0.0.0:8484", ("0.0.0.0", 8484)),
        ("localhost", ("localhost", 8484)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_an_address_is_of_this_machine_unless_it_says_otherwise(text: str, found: tuple[str, int]) -> None:
    assert address(text) == found


@pytest.mark.parametrize("text", ["localhost:http", "127.0.0.1:70000", "127.0.0.1:-1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Terminal, match="is not HOST:PORT"):
        address(text)


# --- the alarm ----------------------------------------------------------------------------------------------


def test_a_call_ends_a_sleep_and_its_echoes_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "ECHOES", (0.02, 0.05))
    alarm, began = Alarm(), time.monotonic()
    alarm.call()
    for _ in range(3):  # the call and two echoes
        alarm.sleep(30)
    assert time.monotonic() - began < 10
    alarm.sleep(0.01)  # and then as long as was asked for


def test_a_burst_of_calls_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "ECHOES", ())
    alarm = Alarm()
    for _ in range(100):
        alarm.call()
    alarm.sleep(30)
    sleeper = threading.Thread(target=alarm.sleep, args=(30,), daemon=True)
    sleeper.start()
    sleeper.join(0.1)
    assert sleeper.is_alive()
    alarm.call()
    sleeper.join(10)
    assert not sleeper.is_alive()


# --- the command --------------------------------------------------------------------------------------------


class Watching:
    """`reconcile --watch 3600 --listen 0` with a stand-in for the tick: how many at once, and when it ends."""

    def __init__(self, patch: pytest.MonkeyPatch, ticks: Callable[[Watching], None]) -> None:
        self.count, self.at_once, self.most = 0, 0, 0
        self.url = ""
        self.body = ticks
        patch.setenv("WAKING_TEST_TOKEN", TOKEN)
        patch.setattr(Session, "platform", platform(Secret(env="WAKING_TEST_TOKEN")))
        patch.setattr(waking, "ECHOES", ())
        patch.setattr(command.Ticks, "tick", lambda _, only_news=False: self.tick())
        patch.setattr(command.console, "note", self.note)

    def note(self, text: str) -> None:
        self.url = self.url or text.removeprefix("listening on ")

    def tick(self) -> tuple[None, None]:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.count += 1
        try:
            self.body(self)
        finally:
            self.at_once -= 1
        return None, None

    def post(self, token: str = TOKEN) -> int:
        return httpx.post(self.url, headers=bearer(token), timeout=10).status_code


def platform(token: Secret | None) -> Platform:
    wake = Wake(url="http://127.0.0.1:8484/wake", token=token) if token else None
    return Platform(kind="Platform", engine=EngineEmbedded(wake=wake))


def test_calls_during_a_tick_are_one_tick_more_and_never_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def ticks(watching: Watching) -> None:
        if watching.count == 1:
            answers = [watching.post() for _ in range(5)]
            assert (answers, watching.post("wrong")) == ([202] * 5, 401)
        if watching.count == 2:
            threading.Timer(0.05, watching.post).start()
        if watching.count == 3:
            raise KeyboardInterrupt

    watching = Watching(monkeypatch, ticks)
    assert run(["--watch", "3600", "--listen", "0"]) == 130
    assert (watching.count, watching.most) == (3, 1)
    with pytest.raises(httpx.ConnectError):
        watching.post()


@pytest.mark.parametrize(
    ("arguments", "place", "told"),
    [
        (["--listen", "0"], Secret(env="WAKING_TEST_TOKEN"), "one tick is not woken"),
        (["--watch", "9", "--listen", "0"], None, "does not say whose calls to take"),
        (["--watch", "9", "--listen", "0"], Secret(env="WAKING_TEST_ABSENT"), "$WAKING_TEST_ABSENT is not set"),
        (["--watch", "9", "--listen", "here:there"], Secret(env="WAKING_TEST_TOKEN"), "is not HOST:PORT"),
    ],
    ids=["without --watch", "without engine.wake", "without the token", "no address"],
)
def test_listening_is_refused(
    arguments: list[str],
    place: Secret | None,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WAKING_TEST_TOKEN", TOKEN)
    monkeypatch.setattr(Session, "platform", platform(place))
    assert run(arguments) == 1
    said = capsys.readouterr().err
    assert told in said
    assert TOKEN not in said
