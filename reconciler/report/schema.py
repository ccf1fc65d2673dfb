"""JSON Schema of the document kinds, for editors and other checks. Called by ``reconcile schema``."""

from __future__ import annotations

from typing import Any

from reconciler.core.documents import KINDS
from reconciler.report.json import dump

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(kind: str) -> dict[str, Any]:
    """What a file of this kind may hold. ``apiVersion`` and ``kind`` are always asked for."""
    made = KINDS[kind].type.model_json_schema(by_alias=True)
    required = list(dict.fromkeys(["apiVersion", "kind", *made.get("required", [])]))
    return {"$schema": DIALECT, "$id": f"https://trueup.dev/v1/{kind}.json", **made, "required": required}


def schema_text(kind: str) -> str:
    return dump(schema(kind))
