"""Whose field is whose, and which field is no longer as it was applied. Pure; the cluster adapter calls it.

What was applied is kept beside it, in the annotation :data:`ANNOTATION_APPLIED` of each object: the fields of
the manifest with the values that the server made of them (it writes ``1000m`` as ``1``). So a sweep sees drift
from the object alone. Field ownership is that of server-side apply (KEP-555): ``metadata.managedFields``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from reconciler.adapters.kubernetes.client import FIELD_MANAGER, Object

ANNOTATION_APPLIED = "trueup.dev/applied"
_SCALER = "kube-controller-manager"
"""The HorizontalPodAutoscaler's manager; it writes ``spec.replicas`` by the subresource ``scale``."""
_KEYED = ("name", "containerPort", "port", "mountPath", "metricName", "type")
"""What tells the items of a list apart, where they all have it."""


def as_served(manifest: Any, live: Any) -> Any:
    """The fields of ``manifest``, and nothing else, with the values that the server made of them."""
    if isinstance(manifest, dict) and isinstance(live, dict):
        return {name: as_served(value, live.get(name, value)) for name, value in manifest.items()}
    if isinstance(manifest, list) and isinstance(live, list):
        return [as_served(item, there) for item, there in _pairs(manifest, live)]
    return live


def changed(applied: Any, live: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, what is there now) of each applied field that is otherwise. What others added is no change."""
    if isinstance(applied, dict) and isinstance(live, dict):
        for name, value in applied.items():
            if name in live:
                yield from changed(value, live[name], f"{path}.{name}")
            elif value not in ({}, [], None):
                yield f"{path}.{name}", "gone"
    elif isinstance(applied, list) and isinstance(live, list) and any(isinstance(x, dict) for x in applied):
        for item, there in _pairs(applied, live):
            place = f"{path}{_item(item)}"
            if there is None:
                yield place, "gone"
            else:
                yield from changed(item, there, place)
    elif applied != live and not _same_quantity(path, applied, live):
        yield path, json.dumps(live, ensure_ascii=False)[:60]


def _same_quantity(path: str, applied: Any, live: Any) -> bool:
    """Rollouts are not normalised by the server; their controller writes ``1024Mi`` back as ``1Gi``."""
    if ".resources." not in path:
        return False
    from kubernetes.utils.quantity import parse_quantity

    try:
        return bool(parse_quantity(applied) == parse_quantity(live))
    except ValueError:
        return False


def _pairs(wanted: list[Any], live: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each wanted item with the one it is in a live list; None where it is not there."""
    key = next((k for k in _KEYED if all(isinstance(item, dict) and k in item for item in wanted)), None)
    for index, item in enumerate(wanted):
        if key is not None:
            there = (x for x in live if isinstance(x, dict) and x.get(key) == item[key])
            yield item, next(there, None)
        else:
            yield item, live[index] if index < len(live) else None


def _item(item: Any) -> str:
    key = next((k for k in _KEYED if isinstance(item, dict) and k in item), None)
    return f"[{key}={json.dumps(item[key])}]" if key else "[]"


def applied_before(live: Object) -> Object | None:
    """What we applied last, as the object's annotation says; None if it does not."""
    try:
        value = json.loads((live["metadata"].get("annotations") or {}).get(ANNOTATION_APPLIED, ""))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class Drift(NamedTuple):
    """One field that is not as it was applied: a sentence, and since when if that is known."""

    sentence: str
    since: datetime | None = None


def drift(live: Object) -> Iterator[Drift]:
    """Each field that is not as we applied it, with who wrote it where that is known.

    None of an object that somebody else applied, as Argo CD does.
    """
    applied = applied_before(live)
    if applied is None and not _our_times(live):
        return
    if applied is None:
        yield Drift(f"{name_of(live)}: what was applied is not recorded")
        return
    for path, now in changed(applied, live):
        if path == ".spec.replicas" and scaled(live):
            continue
        by = _writer(live, path)
        sentence = f"{name_of(live)}{path} is {now}" + (f", by {by['manager']}" if by else "")
        yield Drift(sentence, instant(by["time"]) if by and by.get("time") else None)


def name_of(live: Object) -> str:
    return f"{live['kind']}/{live['metadata']['name']}"


def scaled(live: Object) -> bool:
    """Whether a HorizontalPodAutoscaler says how many replicas there are."""
    return any(
        entry.get("manager") == _SCALER
        and entry.get("subresource") == "scale"
        and _owns(entry, ".spec.replicas")
        for entry in _managers(live)
    )


def _writer(live: Object, path: str) -> Object | None:
    """The entry of the other manager that owns a field, the latest if there are several."""
    others = [
        entry for entry in _managers(live) if entry.get("manager") != FIELD_MANAGER and _owns(entry, path)
    ]
    return max(others, key=lambda entry: str(entry.get("time", "")), default=None)


def may_take_back(live: Object, owners: tuple[tuple[str, str], ...]) -> bool:
    """Whether every field of a conflict was ours before, and was only edited since.

    An edit (``kubectl edit``, an operator's update) takes a field away by writing it; healing takes it back.
    Another manager that *applies* the field claims it for good, and that is for people to settle.
    """
    applied = applied_before(live) or {}
    claims = {entry.get("manager") for entry in _managers(live) if entry.get("operation") == "Apply"}
    return all(manager not in claims and _has(applied, path) for manager, path in owners)


def applied_at(live: Object) -> datetime:
    """When we last changed it, by the server's clock; where we never did, when it was made."""
    return instant(max(_our_times(live), default=str(live["metadata"]["creationTimestamp"])))


def _our_times(live: Object) -> list[str]:
    return [
        str(entry["time"])
        for entry in _managers(live)
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and entry.get("time")
    ]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _managers(live: Object) -> list[Object]:
    return live["metadata"].get("managedFields") or []


def _owns(entry: Object, path: str) -> bool:
    """Whether FieldsV1 of a manager has the field at a path like ``.spec.containers[name="server"].image``."""
    fields: Any = entry.get("fieldsV1") or {}
    rest = path
    while rest and (fields or rest == path):  # what has no fields of its own is owned as a whole
        step = next((name for name in fields if name != "." and _step(rest, name) is not None), None)
        if step is None:
            return False
        rest, fields = _step(rest, step) or "", fields[step]
    return True


def _step(path: str, name: str) -> str | None:
    """What of ``path`` is left behind the FieldsV1 name ``f:NAME`` or ``k:{KEYS}``; None if it is another."""
    kind, _, value = name.partition(":")
    if kind == "f":
        rest = path.removeprefix(f".{value}")
        return rest if rest != path and rest[:1] in ("", ".", "[") else None
    found = re.match(r"\[(.*?)\]", path)
    if kind != "k" or found is None:
        return None
    keys = json.loads(value)
    wanted = [part.partition("=") for part in found[1].split(",")]
    same = all(key in keys and json.dumps(keys[key]) == text for key, _, text in wanted if key)
    return path[found.end() :] if same and found[1] else None


def _has(applied: Any, path: str) -> bool:
    """Whether a dict has the field at a path as conflicts write it."""
    if not path:
        return True
    if isinstance(applied, dict):
        steps = ((value, _step(path, f"f:{name}")) for name, value in applied.items())
    elif isinstance(applied, list):
        steps = ((item, _step(path, f"k:{json.dumps(item)}")) for item in applied if isinstance(item, dict))
    else:
        return False
    return any(rest is not None and _has(value, rest) for value, rest in steps)
