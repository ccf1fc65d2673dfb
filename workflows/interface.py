"""What a model takes and gives, as OpenAPI 3.1 made from its MLflow signature; and what of that breaks callers.

The server answers with the document at ``/openapi.json``; step `files` makes those of candidate and champion
and compares them, without a server. https://spec.openapis.org/oas/v3.1.0,
https://mlflow.org/docs/latest/ml/model/signatures/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

_TYPES: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
}
_NULL_TOO = ("float", "double", "string", "datetime")
"""Of inputs: the types in which a value may be missing."""

_ALSO_TAKES = {
    "int32": {"int64", "float", "double"},
    "int64": {"float", "double"},
    "float": {"double"},
    "double": {"float"},
}
"""Format -> formats whose columns take every value that one of the first took (``workflows.server.rows``)."""


def openapi(name: str, version: str, signature: Mapping[str, Any] | None) -> Schema:
    """The document of the server of one version. ``signature``: MLflow's ``ModelSignature.to_dict()``.

    Without one, rows may hold anything. Columns without names are named by their position.
    """
    given = signature or {}
    error = _answer("What is wrong.", {"type": "object", "properties": {"error": {"type": "string"}}})
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version},
        "paths": {
            "/invocations": {
                "post": {
                    "summary": "Predict rows.",
                    "requestBody": {"required": True, "content": _json(_ref("Request"))},
                    "responses": {
                        "200": _answer("One prediction a row, in their order.", _ref("Response")),
                        "400": error,
                        "500": error,
                        "503": error,
                    },
                }
            }
        },
        "components": {
            "schemas": {
                "Row": _row(given.get("inputs"), inputs=True),
                "Prediction": _row(given.get("outputs"), inputs=False),
                "Request": {"oneOf": list(_formats())},
                "Response": _object({"predictions": {"type": "array", "items": _ref("Prediction")}}),
            }
        },
    }


def described(document: Schema) -> bool:
    """Whether it says what columns the rows have."""
    return "properties" in _component(document, "Row")


def fields(document: Schema) -> int:
    """How many columns rows and predictions have together."""
    return sum(len(_component(document, part).get("properties", {})) for part in ("Row", "Prediction"))


def breaking(old: Schema, new: Schema) -> Iterator[str]:
    """What a caller of ``old`` could notice at ``new``, each in words: a request that was right is refused, or
    an answer lacks what it had. An optional input more, and an output more, break nobody."""
    if described(old) and not described(new):
        yield "there is no signature any more"
        return
    before, after = _component(old, "Row"), _component(new, "Row")
    for name, schema in before.get("properties", {}).items():
        now = after["properties"].get(name)
        if now is None:
            yield f"input {name} is gone"
        elif not _takes(schema, now):
            yield f"input {name} was {_said(schema)} and is {_said(now)}"
    for name in sorted(set(after.get("required", ())) - set(before.get("required", ()))):
        known = name in before.get("properties", {})
        yield f"input {name} is {'required now' if known else 'new and required'}"
    before, after = _component(old, "Prediction"), _component(new, "Prediction")
    for name, schema in before.get("properties", {}).items():
        now = after.get("properties", {}).get(name)
        if now is None:
            yield f"output {name} is gone"
        elif now != schema:
            yield f"output {name} was {_said(schema)} and is {_said(now)}"
        elif name in before["required"] and name not in after["required"]:
            yield f"output {name} may be missing now"


def _takes(old: Schema, new: Schema) -> bool:
    return old == new or new.get("format") in _ALSO_TAKES.get(old.get("format", ""), ())


def _said(schema: Schema) -> str:
    kind = schema.get("format") or schema.get("type") or "anything"
    return str(kind[0] if isinstance(kind, list) else kind)


def _component(document: Schema, name: str) -> Schema:
    schema: Schema = document["components"]["schemas"][name]
    return schema


def _row(columns: str | None, *, inputs: bool) -> Schema:
    """Of MLflow's JSON list of columns; {} where there is none."""
    if not columns:
        return {}
    listed = [(str(c.get("name", place)), c) for place, c in enumerate(json.loads(columns))]
    required = [name for name, column in listed if column.get("required", True)]
    return _object({name: _type(column, inputs=inputs) for name, column in listed}, required)


def _type(column: Mapping[str, Any], *, inputs: bool) -> Schema:
    kind = column.get("type", "any")
    if kind == "array":
        return {"type": "array", "items": _type(column.get("items", {}), inputs=inputs)}
    if kind == "object":
        parts = column.get("properties", {})
        required = [name for name, part in parts.items() if part.get("required", True)]
        return _object({name: _type(part, inputs=inputs) for name, part in parts.items()}, required)
    if kind == "map":
        return {"type": "object", "additionalProperties": _type(column.get("values", {}), inputs=inputs)}
    if kind == "tensor":
        return {"type": "array", "x-tensor": column.get("tensor-spec", {})}
    schema = _TYPES.get(kind, {})
    return {**schema, "type": [schema["type"], "null"]} if inputs and kind in _NULL_TOO else dict(schema)


def _formats() -> Iterator[Schema]:
    """MLflow's four, as :mod:`workflows.server.rows` reads them."""
    anything: Schema = {"type": "array", "items": {}}
    split = {
        "columns": {"type": "array", "items": {"type": "string"}},
        "index": anything,
        "data": {"type": "array", "items": anything},
    }
    rows: Schema = {"type": "array", "items": _ref("Row")}
    either: Schema = {"type": "array", "items": {"anyOf": [_ref("Row"), anything]}}
    by_column: Schema = {"type": "object", "additionalProperties": anything}
    yield _object({"dataframe_split": _object(split, ["columns", "data"])})
    yield _object({"dataframe_records": rows})
    yield _object({"instances": either})
    yield _object({"inputs": {"anyOf": [either, by_column]}})


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": _json(schema)}
