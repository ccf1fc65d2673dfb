"""The port ``Notifier`` for Slack, by slack_sdk: as a bot (chat.postMessage), or by an incoming webhook.

=====================================================  ===================================================
Slack answers                                          which is
=====================================================  ===================================================
``ok: true``, or ``ok`` of a webhook                   success
429 with Retry-After                                   Retryable; not asked again before that instant
5xx, no answer, what is no answer of Slack's,          Retryable: it may have been posted, and it is said
and the errors of :data:`_PASSING`                     so again by the next tick
every other error, as ``channel_not_found``            Terminal, with Slack's own word for it
=====================================================  ===================================================

A message is posted once a call: slack_sdk would otherwise repeat one that got no answer. The webhook's address
and the token are in no message, error or log.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reconciler.adapters.forges.http import retry_after
from reconciler.core.base import show_instant
from reconciler.core.errors import Retryable, Terminal, TrueupError
from reconciler.core.finding import Finding
from reconciler.core.plan import Message

if TYPE_CHECKING:
    from slack_sdk.web import SlackResponse

_TIMEOUT = 15
_SCOPE = "chat:write"
_PASSING = frozenset(
    {"fatal_error", "internal_error", "ratelimited", "request_timeout", "rollup_error", "service_unavailable"}
)
_RENEW = "make another one and renew the secret"
_HINTS = {
    "channel_not_found": "check the channel's id, and invite the bot to it: /invite @BOT",
    "not_in_channel": "invite the bot to the channel: /invite @BOT",
    "is_archived": "name another channel",
    "channel_is_archived": "name another channel",
    "missing_scope": f"give the app the scope {_SCOPE} and install it again",
    "action_prohibited": "an administrator of the workspace has to allow it",
    "restricted_action": "an administrator of the workspace has to allow it",
    "invalid_blocks": "please report it",
    "invalid_payload": "please report it",
    "no_text": "please report it",
    **dict.fromkeys(
        ("invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"),
        f"the token is wrong or no longer valid: {_RENEW}",
    ),
    **dict.fromkeys(
        ("invalid_token", "no_service", "no_service_id", "no_active_hooks", "no_team", "team_disabled"),
        f"the webhook is no longer there: {_RENEW}",
    ),
}
_WORD = re.compile(r"[a-z][a-z_]{1,60}")
"""Slack's name of an error. Anything else of an answer may be a proxy's page."""

# slack_sdk writes addresses, tokens' answers and bodies into the log.
_SILENT = logging.Logger("slack_sdk of trueup", level=logging.CRITICAL + 1)


class SlackNotifier:
    """``secret`` reads the bot's token, or where there is no ``channel`` the webhook's address, at each use.

    ``secret_from`` says where it comes from, for hints; ``render`` makes ``text`` and ``blocks``.
    """

    def __init__(
        self,
        secret: Callable[[], str],
        render: Callable[[Message], dict[str, Any]],
        *,
        secret_from: str,
        channel: str = "",
        url: str = "https://slack.com/api",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout: int = _TIMEOUT,
    ) -> None:
        self._secret, self._render, self._secret_from = secret, render, secret_from
        self._channel, self._url = channel, f"{url.rstrip('/')}/"
        self._clock, self._timeout = clock, timeout
        self._free: datetime | None = None

    def send(self, message: Message, *, key: str) -> None:  # noqa: ARG002 - Slack drops nothing that comes twice
        if self._free is not None and self._clock() < self._free:
            raise self._limited()
        content = {**self._render(message), "unfurl_links": False, "unfurl_media": False}
        if self._channel:
            self._called("chat.postMessage", channel=self._channel, **content)
        else:
            self._posted(content)

    def diagnose(self, _environments: object, /) -> Iterator[Finding]:
        """Who the token is (auth.test) and whether it may post. A webhook cannot be asked without posting."""
        if not self._channel:
            what = "its webhook is set; whether it works is seen when there is something to tell"
            self._address()
            yield Finding(check="", state="ok", what=what, where=self._secret_from)
            return
        answer = self._called("auth.test")
        scopes = str(_header(answer.headers, "x-oauth-scopes"))
        if scopes and _SCOPE not in re.split(r"[,\s]+", scopes):
            what, hint = f"the bot lacks the scope {_SCOPE}", _HINTS["missing_scope"]
            yield Finding(check="", state="fail", what=what, where=self._secret_from, hint=hint)
        who, team = answer.get("user", "?"), answer.get("team", "?")
        what = f"answers: {who} of {team}, for {self._channel}"
        yield Finding(check="", state="ok", what=what, where=self._url)

    # --- a bot --------------------------------------------------------------------------------------------

    def _called(self, method: str, **arguments: Any) -> SlackResponse:
        """One call of Slack's Web API."""
        from slack_sdk import WebClient
        from slack_sdk.errors import SlackApiError

        client = WebClient(
            self._token(), base_url=self._url, timeout=self._timeout, retry_handlers=[], logger=_SILENT
        )
        try:
            return client.api_call(method, json=arguments) if arguments else client.api_call(method)
        except SlackApiError as error:
            refused = error.response
        except Exception as error:  # urllib's, and slack_sdk's own where the answer is no JSON
            raise _unanswered(error) from None
        said = str(refused.data.get("error", "")) if isinstance(refused.data, dict) else ""
        raise self._refusal(method, refused.status_code, said, refused.headers)

    def _token(self) -> str:
        token = self._secret()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise Terminal(f"{self._secret_from} holds no token", hint="it must be one line, as in xoxb-...")
        return token

    # --- an incoming webhook ------------------------------------------------------------------------------

    def _posted(self, content: Mapping[str, Any]) -> None:
        from slack_sdk.webhook import WebhookClient

        client = WebhookClient(self._address(), timeout=self._timeout, retry_handlers=[], logger=_SILENT)
        try:
            answer = client.send_dict(dict(content))
        except Exception as error:  # urllib's
            raise _unanswered(error) from None
        if answer.status_code == 200 and answer.body.strip() == "ok":
            return
        raise self._refusal("the webhook", answer.status_code, answer.body.strip(), answer.headers)

    def _address(self) -> str:
        address = self._secret()
        if not re.fullmatch(r"https?://[\x21-\x7e]+", address):
            hint = "it is what Slack shows for the webhook: https://hooks.slack.com/services/..."
            raise Terminal(f"{self._secret_from} holds no address", hint=hint)
        return address

    # --- what an answer means -----------------------------------------------------------------------------

    def _refusal(self, call: str, status: int, said: str, headers: Mapping[str, Any]) -> TrueupError:
        word = said if _WORD.fullmatch(said) else ""
        if status == 429 or word == "ratelimited":
            self._free = retry_after(str(_header(headers, "retry-after")), self._clock())
            return self._limited()
        what = f"{call} is refused: {word}" if word else f"{call} is answered with status {status}"
        if word in _PASSING or status >= 500 or not word:
            return Retryable(what, where="Slack", hint="it is told again by the next tick")
        hint = _HINTS.get(word, "docs.slack.dev says what it means")
        return Terminal(f"{what} ({self._secret_from})", where="Slack", hint=hint)

    def _limited(self) -> Retryable:
        hint = f"not before {show_instant(self._free)}" if self._free else "it is told again by the next tick"
        return Retryable("Slack's rate limit is met", where="Slack", hint=hint)


def _unanswered(error: Exception) -> Retryable:
    """Without the error's text, in which the address may be."""
    said = type(getattr(error, "reason", None) or error).__name__
    hint = "check the network; it is told again by the next tick"
    return Retryable(f"no answer that could be read: {said}", where="Slack", hint=hint)


def _header(headers: Mapping[str, Any], name: str) -> Any:
    found = next((value for key, value in headers.items() if key.lower() == name), "")
    return found[0] if isinstance(found, list) and found else found
