"""Who is told: what the Platform calls its notifiers, and how each shows a message."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.bootstrap.process import Clock, now, secret
from reconciler.core.platform import (
    AnyNotifier,
    NotifierSlack,
    NotifierTerminal,
    NotifierWebhook,
    Platform,
    Secret,
)
from reconciler.ports import Notifier


def connect_notifiers(
    platform: Platform, tell: Callable[[str], None], clock: Clock = now
) -> dict[str, Notifier]:
    """One for each name. A secret that is missing fails what would be told there, and nothing before."""
    return {name: connect_notifier(named, tell, clock) for name, named in platform.notifiers.items()}


def connect_notifier(named: AnyNotifier, tell: Callable[[str], None], clock: Clock = now) -> Notifier:
    """One case for each type of notifier."""
    from reconciler.report import message

    match named:
        case NotifierTerminal():
            from reconciler.adapters.terminal_notifier import TerminalNotifier

            return TerminalNotifier(tell, message.plain)
        case NotifierSlack(webhook=webhook, token=token, channel=channel, url=url):
            from reconciler.adapters.slack_notifier import SlackNotifier

            place = webhook or token
            assert place is not None  # one of the two is there: the document says so
            return SlackNotifier(
                _read(place), message.slack, secret_from=str(place), channel=channel or "", url=url, clock=clock
            )
        case NotifierWebhook(url=url, secret=place):
            from reconciler.adapters.webhook_notifier import WebhookNotifier

            return WebhookNotifier(url, _read(place), message.document, clock=clock)


def _read(place: Secret) -> Callable[[], str]:
    return lambda: secret(place)
