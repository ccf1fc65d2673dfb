"""The port ``Notifier`` for anything that takes JSON: one POST, signed, as forges sign theirs.

=========================  ================================================================================
X-Trueup-Event             the event, as in ``needs-review``
X-Trueup-Delivery          the same for the same message: a receiver may drop one that it has had
X-Trueup-Signature-256     ``sha256=`` and the hexadecimal HMAC-SHA256 of the body, with the shared secret
=========================  ================================================================================

Any 2xx is success. 408, 429, 5xx and no answer are Retryable, 429 and 503 with their Retry-After; every other
answer, a redirection too, is Terminal: the address in the Platform is not where it is taken.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reconciler.adapters.forges.http import retry_after
from reconciler.core.base import show_instant
from reconciler.core.digests import sha256, short
from reconciler.core.errors import Retryable, Terminal
from reconciler.core.finding import Finding
from reconciler.core.plan import Message

if TYPE_CHECKING:
    import httpx

_TIMEOUT = 15.0
_AGAIN = (408, 429)
_HINTS = {
    401: "the receiver does not know the signature: give both the same secret",
    403: "the receiver does not know the signature: give both the same secret",
    404: "give the receiver's present address",
}


class WebhookNotifier:
    """``secret`` is read at each use; ``render`` makes the JSON of a message and its key."""

    def __init__(
        self,
        url: str,
        secret: Callable[[], str],
        render: Callable[[Message, str], dict[str, Any]],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout: float = _TIMEOUT,
    ) -> None:
        self._url, self._secret, self._render = url, secret, render
        self._clock, self._timeout = clock, timeout
        self._free: datetime | None = None

    def send(self, message: Message, *, key: str) -> None:
        if self._free is not None and self._clock() < self._free:
            raise self._later("is not asked yet")
        body = json.dumps(self._render(message, key), ensure_ascii=False, allow_nan=False).encode()
        signature = hmac.new(self._secret().encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Trueup-Event": message.event,
            "X-Trueup-Delivery": short(sha256(key)),
            "X-Trueup-Signature-256": f"sha256={signature}",
        }
        answer = self._asked("POST", headers, body)
        if answer.is_success:
            return
        if answer.status_code in _AGAIN or answer.is_server_error:
            self._free = retry_after(answer.headers.get("Retry-After", ""), self._clock())
            raise self._later(f"answered with status {answer.status_code}")
        hint = _HINTS.get(answer.status_code, "see the receiver's own log")
        raise Terminal(f"the webhook answered with status {answer.status_code}", where=self._url, hint=hint)

    def diagnose(self, _environments: object, /) -> Iterator[Finding]:
        """Whether anything answers there; what it does with a message cannot be asked without one."""
        self._secret()
        answer = self._asked("HEAD", {}, b"")
        what = f"something answers there (HEAD: status {answer.status_code}); nothing was sent"
        yield Finding(check="", state="ok", what=what, where=self._url)

    def _asked(self, method: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        import httpx

        sent = {"User-Agent": "trueup", **headers}
        try:
            return httpx.request(method, self._url, headers=sent, content=body, timeout=self._timeout)
        except httpx.HTTPError as error:
            hint = "check its address and the network; it is told again by the next tick"
            what = f"the webhook gave no answer: {type(error).__name__}"
            raise Retryable(what, where=self._url, hint=hint) from None

    def _later(self, what: str) -> Retryable:
        hint = f"not before {show_instant(self._free)}" if self._free else "it is told again by the next tick"
        return Retryable(f"the webhook {what}", where=self._url, hint=hint)
