"""What the forges' HTTP client makes of answers: no network, no clock, no real waiting."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from reconciler.adapters.forges.http import ForgeClient, Refused
from reconciler.core.errors import Retryable, Terminal, TrueupError

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
URL = "https://forge.example.org/api/v1"
TOKEN = "planted-secret-0123456789"  # what no message may show


class Forge:
    """A transport that answers from a list, the last one for ever, and keeps what it was asked."""

    def __init__(
        self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
    ) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []
        self.tokens = [TOKEN]
        self.now = AT

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(httpx.Request(request.method, request.url, headers=request.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def client(self) -> ForgeClient:
        return ForgeClient(
            URL,
            lambda: self.tokens[-1],
            token_from="$FORGE_TOKEN",
            transport=httpx.MockTransport(self),
            sleep=self.sleep,
            clock=lambda: self.now,
            jitter=random.Random(7),
        )


def ok(body: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(200, json=body, headers={name.replace("_", "-"): v for name, v in headers.items()})


def no(status: int, message: str = "", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"message": message} if message else {}, headers=named)


# --- asking -----------------------------------------------------------------------------------------------


def test_a_read_carries_the_token_of_the_moment_and_its_parameters() -> None:
    forge = Forge(ok({"a": 1}))
    client = forge.client()
    assert client.get("/repos/o/r/pulls", {"state": "open", "limit": 50}) == {"a": 1}
    forge.tokens.append("renewed")
    client.get("/version")
    assert [str(r.url) for r in forge.asked] == [f"{URL}/repos/o/r/pulls?state=open&limit=50", f"{URL}/version"]
    assert [r.headers["Authorization"] for r in forge.asked] == [f"Bearer {TOKEN}", "Bearer renewed"]
    assert forge.slept == []


def test_a_write_sends_json_and_an_empty_answer_is_none() -> None:
    bodies: list[bytes] = []

    def keep(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200)

    assert Forge(keep).client().send("POST", "/repos/o/r/pulls/1/merge", {"Do": "merge"}) is None
    assert bodies == [b'{"Do":"merge"}']


@pytest.mark.parametrize("token", ["", "two words", "line\n", "ünicode"])
def test_what_cannot_be_a_token_is_said_before_anything_is_sent(token: str) -> None:
    forge = Forge(ok({}))
    forge.tokens.append(token)
    with pytest.raises(Terminal, match=r"\$FORGE_TOKEN holds no token"):
        forge.client().get("/version")
    assert forge.asked == []


# --- again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "passing", [no(502), no(503), no(504), no(429), httpx.ConnectError("refused"), httpx.ReadTimeout("late")]
)
def test_a_read_that_fails_in_passing_is_repeated_with_jitter(passing: httpx.Response | Exception) -> None:
    forge = Forge(passing, passing, ok({"a": 1}))
    assert forge.client().get("/version") == {"a": 1}
    assert len(forge.slept) == 2
    assert all(0 <= pause <= 2**turn for turn, pause in enumerate(forge.slept))
    assert forge.slept[0] != forge.slept[1]


@pytest.mark.parametrize("passing", [no(503), httpx.ConnectError("refused"), httpx.ReadTimeout("late")])
def test_a_read_is_repeated_a_few_times_only(passing: httpx.Response | Exception) -> None:
    forge = Forge(passing)
    with pytest.raises(Retryable, match="GET /version"):
        forge.client().get("/version")
    assert (len(forge.asked), len(forge.slept)) == (4, 3)


@pytest.mark.parametrize(
    "passing",
    [no(429, Retry_After="1"), no(503), no(500), httpx.ConnectError("refused"), httpx.ReadTimeout("late")],
)
def test_a_write_is_never_repeated(passing: httpx.Response | Exception) -> None:
    forge = Forge(passing)
    with pytest.raises(Retryable, match="POST /repos/o/r/pulls"):
        forge.client().send("POST", "/repos/o/r/pulls", {})
    assert (len(forge.asked), forge.slept) == (1, [])


@pytest.mark.parametrize(
    "limited",
    [
        no(429, Retry_After="3"),
        no(503, Retry_After="Sun, 01 Mar 2026 12:00:03 GMT"),
        no(403, "API rate limit exceeded", X_RateLimit_Remaining="0", X_RateLimit_Reset="1772366403"),
        no(403, "You have exceeded a secondary rate limit", Retry_After="3"),
    ],
)
def test_a_short_rate_limit_is_waited_for(limited: httpx.Response) -> None:
    forge = Forge(limited, ok({}))
    forge.client().get("/version")
    assert forge.slept == [3.0]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "limited",
    [
        no(429, Retry_After="3600"),
        no(503, Retry_After="3600"),
        no(403, "API rate limit exceeded", X_RateLimit_Remaining="0", X_RateLimit_Reset="1772370000"),
    ],
)
def test_a_long_rate_limit_names_its_end(method: str, limited: httpx.Response) -> None:
    forge = Forge(limited)
    with pytest.raises(Retryable, match="not before 2026-03-01T13:00:00Z"):
        forge.client().get("/x") if method == "GET" else forge.client().send(method, "/x", {})
    assert (len(forge.asked), forge.slept) == (1, [])


def test_the_remaining_budget_is_of_the_last_answer_that_told() -> None:
    forge = Forge(ok({}), ok({}, X_RateLimit_Remaining="4990"), ok({}), ok({}, X_RateLimit_Remaining="soon"))
    client = forge.client()
    told = []
    for _ in range(4):
        client.get("/x")
        told.append(client.remaining)
    assert told == [None, 4990, 4990, 4990]


# --- what is known already --------------------------------------------------------------------------------


def test_what_did_not_change_is_not_sent_again() -> None:
    forge = Forge(
        ok([1], ETag='"a"', Link='<https://x/?page=2>; rel="next"'), httpx.Response(304), ok([2], ETag='"b"')
    )
    client = forge.client()
    first = next(iter(client.pages("/pulls", {"limit": 1})))
    assert (first, client.get("/pulls", {"limit": 1}), client.get("/pulls", {"limit": 1})) == (1, [1], [2])
    assert [r.headers.get("If-None-Match") for r in forge.asked] == [None, '"a"', '"a"']
    client.get("/pulls", {"limit": 2})
    client.text("/pulls?limit=1", accept="text/x-diff")
    assert [r.headers.get("If-None-Match") for r in forge.asked[3:]] == [None, None]


def test_what_is_remembered_is_bounded() -> None:
    forge = Forge(lambda request: ok(str(request.url), ETag='"a"'))
    client = forge.client()
    for number in range(300):
        client.get(f"/pulls/{number}")
    client.get("/pulls/0")
    client.get("/pulls/299")
    assert [r.headers.get("If-None-Match") for r in forge.asked[300:]] == [None, '"a"']


# --- pages ------------------------------------------------------------------------------------------------


def test_pages_follow_the_link_by_its_query_and_never_to_its_address() -> None:
    onward = {"Link": '<https://elsewhere.example/repositories/7/pulls?limit=2&after=xyz>; rel="next"'}
    forge = Forge(httpx.Response(200, json=[1, 2], headers=onward), ok([3]))
    assert list(forge.client().pages("/repos/o/r/pulls", {"limit": 2})) == [1, 2, 3]
    assert str(forge.asked[1].url) == f"{URL}/repos/o/r/pulls?limit=2&after=xyz"


def test_pages_without_a_link_go_by_the_total() -> None:
    forge = Forge(ok([1, 2], X_Total_Count="3"), ok([3], X_Total_Count="3"))
    assert list(forge.client().pages("/labels", {"limit": 2})) == [1, 2, 3]
    assert str(forge.asked[1].url) == f"{URL}/labels?limit=2&page=2"


def test_pages_end_with_an_empty_one_and_are_asked_for_one_by_one() -> None:
    forge = Forge(ok([1, 2], X_Total_Count="9"), ok([], X_Total_Count="9"))
    assert list(forge.client().pages("/labels", {"limit": 2})) == [1, 2]
    forge = Forge(ok([1, 2], X_Total_Count="9"))
    assert next(forge.client().pages("/labels", {"limit": 2})) == 1
    assert len(forge.asked) == 1


def test_pages_without_end_are_terminal_and_another_shape_is_not_a_list() -> None:
    forge = Forge(ok([1], X_Total_Count="1000000"))
    with pytest.raises(Terminal, match="has more than 3 pages"):
        list(forge.client().pages("/labels", {"limit": 1}, most=3))
    assert len(forge.asked) == 3
    with pytest.raises(Retryable, match="something else than a list"):
        list(Forge(ok({})).client().pages("/labels", {"limit": 1}))


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, r"hint: the token is wrong, expired or revoked: renew \$FORGE_TOKEN"),
        (403, r"hint: give the account of \$FORGE_TOKEN the right to it"),
        (404, r"hint: check the name, and that the account of \$FORGE_TOKEN may see it"),
        (405, "is refused with status 405: because"),
        (409, "is refused with status 409: because"),
        (422, "is refused with status 422: because"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refusal_keeps_its_status_and_names_the_call(method: str, status: int, hint: str) -> None:
    forge = Forge(no(status, "because"))
    with pytest.raises(Refused, match=hint) as told:
        forge.client().get("/repos/o/r") if method == "GET" else forge.client().send(method, "/repos/o/r", {})
    assert (told.value.status, told.value.message, len(forge.asked)) == (status, "because", 1)
    assert isinstance(told.value, Terminal)
    assert f"{URL}: {method} /repos/o/r" in str(told.value)


def test_a_refusal_says_what_was_wrong_with_which_field() -> None:
    errors = [
        {"resource": "PullRequest", "code": "custom", "message": "A pull request already exists"},
        "twice",
    ]
    body = {"message": "Validation\nFailed", "errors": errors}
    with pytest.raises(Refused) as told:
        Forge(httpx.Response(422, json=body)).client().send("POST", "/pulls", {})
    assert told.value.message == "Validation Failed A pull request already exists twice"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, html="<h1>not here</h1>"),
        httpx.Response(404, json=["not", "here"]),
        httpx.Response(404, json={"message": None, "errors": {"a": 1}}),
    ],
)
def test_a_refusal_without_words_is_still_one(answer: httpx.Response) -> None:
    with pytest.raises(Refused) as told:
        Forge(answer).client().get("/x")
    assert (told.value.status, told.value.message) == (404, "")


def test_an_address_that_moved_is_terminal_and_not_followed() -> None:
    forge = Forge(httpx.Response(301, headers={"Location": "https://forge.example.org/new/name?key=1"}))
    with pytest.raises(Terminal, match=r"sends on to forge\.example\.org/new/name\. hint: give the forge's"):
        forge.client().get("/repos/old/name")
    assert len(forge.asked) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (httpx.Response(200, html="<h1>Sign in</h1>"), "answered text/html in place of JSON"),
        (
            httpx.Response(200, content=b'{"a": [1,', headers={"Content-Type": "application/json"}),
            "cut-off JSON",
        ),
        (httpx.Response(200, content=b""), "answered something in place of JSON"),
    ],
)
def test_a_success_that_is_not_json_is_retryable(answer: httpx.Response, told: str) -> None:
    with pytest.raises(Retryable, match=told):
        Forge(answer).client().get("/x")


@pytest.mark.parametrize(
    "answer",
    [
        no(401, f"bad credentials: {TOKEN}"),
        no(403, f"Bearer {TOKEN} may not"),
        no(422, f"no {TOKEN}"),
        no(500, f"no {TOKEN}"),
        httpx.Response(502, html=f"<p>{TOKEN}</p>"),
        httpx.Response(200, html=f"<p>{TOKEN}</p>"),
        httpx.ConnectError(f"cannot send Authorization: Bearer {TOKEN}"),
        httpx.ReadTimeout(f"{TOKEN}"),
    ],
)
def test_the_token_is_in_no_message_and_no_log(
    answer: httpx.Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = Forge(answer).client()
    for call in (lambda: client.get("/x"), lambda: client.send("POST", "/x", {"a": 1})):
        with pytest.raises(TrueupError) as told:
            call()
        error: BaseException | None = told.value
        assert error is not None
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        assert TOKEN not in f"{error} {error!r} {vars(error)}"
    assert TOKEN not in caplog.text


def test_a_remembered_answer_does_not_lead_back_to_the_token() -> None:
    client = Forge(ok({}, ETag='"a"')).client()
    client.get("/x")
    kept = [known.answer.request.headers for known in client._known.values()]
    assert kept
    assert all("Authorization" not in headers for headers in kept)
