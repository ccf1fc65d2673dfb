"""One small HTTP client for every forge: how to ask, what may be asked again, and what an answer means.

:mod:`reconciler.adapters.forges.gitea` and :mod:`reconciler.adapters.forges.github` call it. Reads are repeated
a few times, with jitter, and are asked with the ETag of what is known. Writes are sent once: after an unclear
answer the caller looks whether it was done. What an answer raises:

=============================================  ========================================================
no connection, no answer in time, 5xx          Retryable
429, and 403 where a rate limit says so        Retryable, with the instant from which it may be asked again
a success that is not JSON                     Retryable: a proxy's page, or an answer cut off
3xx                                            Terminal: the address in the Platform is not the forge's
every other 4xx                                :class:`Refused`, a Terminal that keeps the status
=============================================  ========================================================

The token is asked for at every call, and is in no message, log or cached answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from reconciler.core.base import show_instant
from reconciler.core.errors import Retryable, Terminal

if TYPE_CHECKING:
    import httpx

_JSON = "application/json"
_TRIES = 4
_PATIENCE = timedelta(seconds=10)
_REPEATED = (429, 502, 503, 504)
_MESSAGE = 300
_REMEMBERED = 256
_UNREAD = "the address or a proxy may be wrong; try again"

Parameters = Mapping[str, str | int]


class Refused(Terminal):
    """The forge understood and said no: a 4xx. ``message`` is the forge's own text, for people only."""

    def __init__(self, status: int, message: str, what: str, *, where: str, hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.status = status
        self.message = message


class _Known(NamedTuple):
    """An answer that the forge may say is still true."""

    tag: str
    answer: httpx.Response


class ForgeClient:
    """Calls below ``url``, as the account of a token.

    ``token`` is called at each use; ``token_from`` says where the token comes from, for hints. ``headers`` go
    with every call. ``transport``, ``sleep``, ``clock`` and ``jitter`` are for tests.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        token_from: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = 20.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: random.Random | None = None,
    ) -> None:
        import httpx

        self.url = url.rstrip("/")
        self.remaining: int | None = None
        """Calls that the forge still allows in its present window, as its last answer said."""
        self._token, self._token_from = token, token_from
        self._sleep, self._clock = sleep, clock
        self._jitter = jitter or random.Random()  # noqa: S311 - it spreads load and keeps no secret
        self._known: dict[tuple[str, str], _Known] = {}
        self._http = httpx.Client(
            headers={"User-Agent": "trueup", **(headers or {})}, timeout=timeout, transport=transport
        )

    def get(self, path: str, parameters: Parameters | None = None) -> Any:
        """The JSON at ``path``."""
        return self._parsed("GET", path, self._read(path, parameters, _JSON))

    def text(self, path: str, *, accept: str = "text/plain") -> str:
        """What is at ``path`` in another media type: a diff."""
        return self._read(path, None, accept).text

    def pages(self, path: str, parameters: Parameters, *, most: int = 100, within: str = "") -> Iterator[Any]:
        """The items of a paged JSON list, one page asked for at a time; ``parameters`` hold the page's size.

        ``within`` names the list where the answer is an object that has it.
        Goes on by the Link header, or by X-Total-Count where there is none. A link gives its query only: a
        token is never sent to an address that an answer named. Terminal after ``most`` pages.
        """
        asked: Parameters = parameters
        seen = 0
        for page in range(1, most + 1):
            answer = self._read(path, asked, _JSON)
            items = self._parsed("GET", path, answer)
            items = items.get(within) if within and isinstance(items, dict) else items
            if not isinstance(items, list):
                raise Retryable(f"GET {path} answered something else than a list", where=self.url, hint=_UNREAD)
            yield from items
            seen += len(items)
            following = answer.links.get("next", {}).get("url", "")
            if following:
                asked = dict(parse_qsl(urlsplit(following).query))
            elif items and seen < _number(answer.headers.get("X-Total-Count")):
                asked = {**parameters, "page": page + 1}
            else:
                return
        hint = "close or delete what is no longer needed"
        raise Terminal(f"GET {path} has more than {most} pages", where=self.url, hint=hint)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """A write, once. Its JSON answer, None for an empty one.

        After a Retryable it may have been done or not: look.
        """
        answer = self._checked(method, path, self._ask(method, path, None, {"Accept": _JSON}, body))
        return self._parsed(method, path, answer) if answer.content else None

    # --- one call -----------------------------------------------------------------------------------------

    def _read(self, path: str, parameters: Parameters | None, accept: str) -> httpx.Response:
        """A read, again where it failed in passing."""
        for turn in range(_TRIES - 1):
            pause = timedelta(seconds=self._jitter.uniform(0, 2**turn))  # full jitter
            try:
                answer = self._conditional(path, parameters, accept)
            except Retryable:
                answer = None
            if answer is not None:
                if answer.status_code not in _REPEATED and not _limited(answer):
                    return self._checked("GET", path, answer)
                free = self._free_at(answer)
                pause = free - self._clock() if free else pause
                if pause > _PATIENCE:
                    return self._checked("GET", path, answer)
            self._sleep(max(pause.total_seconds(), 0.0))
        return self._checked("GET", path, self._conditional(path, parameters, accept))

    def _conditional(self, path: str, parameters: Parameters | None, accept: str) -> httpx.Response:
        """A read that costs the forge little where nothing changed."""
        import httpx

        key = (str(httpx.URL(self.url + path, params=_query(parameters))), accept)
        known = self._known.get(key)
        headers = {"Accept": accept} | ({"If-None-Match": known.tag} if known else {})
        answer = self._ask("GET", path, parameters, headers)
        if answer.status_code == httpx.codes.NOT_MODIFIED and known is not None:
            return known.answer
        tag = answer.headers.get("ETag")
        if answer.is_success and tag:
            self._known.pop(key, None)
            self._known[key] = _Known(tag, answer)
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        return answer

    def _ask(
        self,
        method: str,
        path: str,
        parameters: Parameters | None,
        headers: Mapping[str, str],
        body: Any = None,
    ) -> httpx.Response:
        """One request and its whole answer, whatever its status. Retryable where there is none."""
        import httpx

        token = self._credential()
        try:
            answer = self._http.request(
                method,
                self.url + path,
                params=_query(parameters),
                headers={**headers, "Authorization": f"Bearer {token}"},
                json=body,
            )
        except httpx.TimeoutException:
            what, hint = (
                f"{method} {path} was not answered in time",
                "it is tried again; is the forge overloaded?",
            )
            raise Retryable(what, where=self.url, hint=hint) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            said = str(error).replace(token, "***") or type(error).__name__
            hint = "check the forge's address and the network"
            raise Retryable(f"{method} {path} got no answer: {said}", where=self.url, hint=hint) from None
        # An answer is kept, and shown by debuggers: it must not lead back to the header.
        answer.request.headers.pop("Authorization", None)
        left = answer.headers.get("X-RateLimit-Remaining", "")
        self.remaining = int(left) if left.isdecimal() else self.remaining
        return answer

    def _credential(self) -> str:
        token = self._token()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            hint = "it must be one line without spaces"
            raise Terminal(f"{self._token_from} holds no token", where=self.url, hint=hint)
        return token

    # --- what an answer means -----------------------------------------------------------------------------

    def _checked(self, method: str, path: str, answer: httpx.Response) -> httpx.Response:
        """``answer`` if it is a success."""
        status, call = answer.status_code, f"{method} {path}"
        if answer.is_success:
            return answer
        if _limited(answer) or answer.is_server_error:
            free = self._free_at(answer)
            what = (
                "met the forge's rate limit"
                if _limited(answer)
                else f"failed in the forge with status {status}"
            )
            hint = f"not before {show_instant(free)}" if free else "it is tried again; see the forge's own log"
            raise Retryable(f"{call} {what}", where=self.url, hint=hint)
        if not answer.is_client_error:
            to = urlsplit(answer.headers.get("Location", ""))
            what = f"{call} is answered with status {status}" + (
                f" and sends on to {to.netloc}{to.path}" if to.path else ""
            )
            raise Terminal(what, where=self.url, hint="give the forge's and the repository's present address")
        said = self._said(answer)
        what = f"{call} is refused with status {status}" + (f": {said}" if said else "")
        hints = {
            401: f"the token is wrong, expired or revoked: renew {self._token_from}",
            403: f"give the account of {self._token_from} the right to it",
            404: f"check the name, and that the account of {self._token_from} may see it",
        }
        raise Refused(status, said, what, where=self.url, hint=hints.get(status, ""))

    def _said(self, answer: httpx.Response) -> str:
        """The forge's own words on one line. A page of HTML says nothing."""
        try:
            body = answer.json()
        except ValueError:
            return ""
        if not isinstance(body, dict):
            return ""
        details = body.get("errors") or ()
        parts = [body.get("message"), *(details if isinstance(details, list) else ())]
        words = [
            str(p.get("message") or p.get("code") or "") if isinstance(p, dict) else str(p or "") for p in parts
        ]
        return " ".join(" ".join(words).replace(self._token(), "***").split())[:_MESSAGE]

    def _parsed(self, method: str, path: str, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            kind = answer.headers.get("Content-Type", "").partition(";")[0] or "something"
            how = "cut-off JSON" if kind == _JSON else f"{kind} in place of JSON"
            raise Retryable(f"{method} {path} answered {how}", where=self.url, hint=_UNREAD) from None

    def _free_at(self, answer: httpx.Response) -> datetime | None:
        """From when on the forge answers again: Retry-After, or the rate limit's reset."""
        after = retry_after(answer.headers.get("Retry-After", ""), self._clock())
        if after is not None:
            return after
        reset = answer.headers.get("X-RateLimit-Reset", "")
        used_up = answer.headers.get("X-RateLimit-Remaining") == "0"
        return datetime.fromtimestamp(int(reset[:11]), UTC) if used_up and reset.isdecimal() else None


def retry_after(text: str, at: datetime) -> datetime | None:
    """The instant that a Retry-After names (RFC 9110, 10.2.3), at most a day after ``at`` if in seconds."""
    if text.isdecimal():
        return at + timedelta(seconds=min(int(text), 86400))
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None


def _limited(answer: httpx.Response) -> bool:
    """Whether a rate limit refused it. GitHub says so by 403 too, its secondary limits by Retry-After."""
    limits = answer.headers
    used_up = limits.get("X-RateLimit-Remaining") == "0" or "Retry-After" in limits
    return answer.status_code == 429 or (answer.status_code == 403 and used_up)


def _query(parameters: Parameters | None) -> dict[str, str] | None:
    return {name: str(value) for name, value in parameters.items()} if parameters else None


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
