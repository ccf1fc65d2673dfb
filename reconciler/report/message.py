"""What people are told, for each way to tell them. bootstrap gives these to the notifiers; they only send.

Reasons may quote what a model's author wrote: it is one line, mentions nobody and links nowhere. In JSON it is
text: who shows it makes it harmless for where it is shown.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.plan import Event, GateVerdict, Message
from reconciler.report.gates import interval, name, number
from reconciler.report.inert import mrkdwn, visible

_MOST = 20
"""Gates of one message. Slack takes 50 blocks, and a person fewer."""
_THEN: dict[Event, str] = {
    "needs-review": "a person decides",
    "gate-failed": "train a better one, or waive the gate for this one",
}


def plain(message: Message) -> str:
    """One line for a terminal or a log."""
    where = message.link or (f"#{message.pull_request}" if message.pull_request else "")
    then = _THEN.get(message.event, "")
    parts = (message.title, message.reason, " ".join(filter(None, (then, where))))
    return visible(f"{message.subject}: {'; '.join(filter(None, parts))}")


def slack(message: Message) -> dict[str, Any]:
    """``text`` and ``blocks`` of chat.postMessage and of incoming webhooks (docs.slack.dev, Block Kit).

    ``text`` is what a notification shows. Nothing that others wrote is in a field that reads markup, except
    the title, which is escaped.
    """
    shown = f"*{mrkdwn(message.title, 200)}*"
    if message.link:
        shown += f"  <{message.link}|#{message.pull_request}>"
    then = _THEN.get(message.event, "")
    said = [message.reason, *([then] if then else [])]
    about = f"{message.subject} · {message.event}"
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": shown, "verbatim": True}},
        *({"type": "section", "text": _plain_text(text)} for text in said),
        *({"type": "context", "elements": [_plain_text(_numbers(gate))]} for gate in message.gates[:_MOST]),
        {"type": "context", "elements": [_plain_text(about)]},
    ]
    return {"text": f"{mrkdwn(str(message.subject))}: {mrkdwn(message.title)}", "blocks": blocks}


def document(message: Message, key: str) -> dict[str, Any]:
    """The JSON that a webhook gets: docs/notifications.md says what each field is."""
    pull = {"number": message.pull_request, "url": message.link} if message.pull_request else None
    gates = [gate.model_dump(mode="json", by_alias=True) for gate in message.gates]
    return {
        "apiVersion": "trueup.dev/v1",
        "kind": "Notification",
        "key": key,
        "event": message.event,
        "environment": message.subject.environment,
        "model": message.subject.model,
        "title": visible(message.title),
        "reason": visible(message.reason),
        "pullRequest": pull,
        "gates": gates,
    }


def _numbers(gate: GateVerdict) -> str:
    """As in ``review drift (feature=hour): 0.25, asked <= 0.2, n 5000``."""
    value = number(gate.value) or "no value"
    known = {"interval": interval(gate), "champion": number(gate.champion), "n": str(gate.n or "")}
    more = "".join(f", {what} {said}" for what, said in known.items() if said)
    return f"{gate.verdict} {name(gate)}: {value}, asked {gate.asked}{more}"


def _plain_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": mrkdwn(text), "emoji": False}
