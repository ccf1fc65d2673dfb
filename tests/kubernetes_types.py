"""Checks Kubernetes objects without a cluster: by the Python client's typed models, or by a CRD's schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kubernetes import client


def complaints(item: dict[str, Any]) -> list[str]:
    """Every field of an object that its typed model does not know or cannot read, as a path.

    The models know all fields of Kubernetes' own kinds; what they do not know is lost on the way back. Raises
    AttributeError for a kind that has no model, ValueError for a required field that is missing.
    """
    group, _, version = str(item["apiVersion"]).rpartition("/")
    named = f"{version.capitalize()}{item['kind']}"
    assert hasattr(client, named), f"no typed model for {item['kind']} of {group or 'the core'}"
    api = client.ApiClient()
    model = api.deserialize(json.dumps(item), named, "application/json")
    return list(_differences(item, api.sanitize_for_serialization(model), item["kind"]))


def _differences(given: Any, back: Any, where: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            if key in back:
                yield from _differences(value, back[key], f"{where}.{key}")
            elif value not in ({}, []):  # the models drop what is empty
                yield f"{where}.{key}"
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for index, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from _differences(one, other, f"{where}[{index}]")
    elif given != back:
        yield where


def strict(schema: Any) -> Any:
    """A CRD's structural schema that also refuses unknown fields, as the API server does if asked to."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    open_ = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not open_:
        made["additionalProperties"] = False
    return made
