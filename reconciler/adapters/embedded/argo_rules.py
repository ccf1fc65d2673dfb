"""What Argo's controller concludes from values alone, in its order and its words. For :mod:`.run_workflow`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from reconciler.adapters.embedded.engine import Node
from reconciler.adapters.embedded.pod import TaskError
from reconciler.core.argo import parse_expression, seconds, substitute


def inputs_of(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in (template.get("inputs") or {}).get(kind) or ()}


def text_of(parameter: Mapping[str, Any], otherwise: str | None = None) -> str | None:
    """A parameter's value or default as text; Argo takes numbers and booleans there too."""
    for key in ("value", "default"):
        found = parameter.get(key)
        if found is not None:
            return str(found).lower() if isinstance(found, bool) else str(found)
    return otherwise


def unwanted(task: Mapping[str, Any], scope: Mapping[str, str]) -> str | None:
    """Why ``when`` says no."""
    if not task.get("when"):
        return None
    text = substitute(str(task["when"]), scope)
    return None if parse_expression(text).holds({}) else f"when '{text}' evaluated false"


def items_of(text: str) -> list[str]:
    """The items of a ``withParam``, as their references give them. They become names of files here."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise TaskError(f"withParam value could not be parsed as a JSON list: {text.strip()}")
    words = [item if isinstance(item, str) else json.dumps(item) for item in found]
    if odd := [item for item in words if not re.fullmatch(r"[-\w.]{1,100}", item)]:
        raise TaskError(f"the embedded engine takes plain words as items of withParam, not {odd[0]}")
    return words


def aggregate(values: list[str]) -> str:
    """A JSON list of texts, or of what they say where each is a JSON list or map, as in Argo."""
    try:
        found = [json.loads(value) for value in values]
    except ValueError:
        found = []
    structured = bool(found) and all(isinstance(value, (list, dict)) for value in found)
    return json.dumps(found if structured else values, separators=(",", ":"))


def back_off(backoff: Mapping[str, Any], number: int) -> float:
    """Seconds before the attempt after ``number``: duration x factor^number, at most cap."""
    wait = seconds(backoff.get("duration") or 0) * float(backoff.get("factor") or 1) ** number
    return min(wait, seconds(backoff["cap"])) if backoff.get("cap") else wait


def give_up(retry: Mapping[str, Any], node: Node, number: int, left: float, wait: float) -> str | None:
    """Why a failed attempt is the last, in the order and words of Argo's processNodeRetries; None to go on."""
    if left <= 0:
        return "Max duration limit exceeded"
    if wait > left:
        return "Backoff would exceed max duration limit"
    expression = retry.get("expression")
    policy = retry.get("retryPolicy") or ("Always" if expression else "OnFailure")
    if policy == ("OnError" if node.phase == "Failed" else "OnFailure"):
        return node.message
    if retry.get("limit") is not None and number >= int(retry["limit"]):
        return "No more retries left"
    last = {
        "lastRetry.status": node.phase,
        "lastRetry.exitCode": str(-1 if node.exit_code is None else node.exit_code),
        "lastRetry.message": node.message,
        "lastRetry.duration": str(int(((node.finished or node.started) - node.started).total_seconds())),
    }
    if expression and not parse_expression(expression, last.keys()).holds(last):
        return "retryStrategy.expression evaluated to false"
    return None
