"""The one writer of YAML that trueup commits: Release files and rendered manifests.

Called by the renderers and by whoever proposes a Release. The bytes are compared (``render --check``), so they
must not depend on a library's version: the writer is this file, and its output is the small subset of YAML 1.2
that every reader agrees on. A string is written plain only where no YAML 1.1 or 1.2 reader could take it for
something else; every other string is double-quoted, with the escapes of YAML 1.2 section 5.7.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.base import Document

# Starts with a letter, `_` or `/`, so it is no number, date or indicator; `:` only inside a word; no ` #`.
_PLAIN = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./@+,()=;' -]|:(?=[^\s:]))*(?<! )")
# What YAML 1.1 readers (PyYAML, and Kubernetes' own for some fields) take for booleans and null.
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def dump_yaml(value: Any) -> str:
    """``value`` in block style: two spaces, keys in the given order, no aliases, a newline at the end.

    ``value`` is made of str-keyed mappings, lists, tuples, str, int, float, bool and None. Raises ValueError
    for NaN and infinities, TypeError for any other type. A key is at most 1,024 characters (YAML 1.2, 7.4.2).
    """
    if isinstance(value, Mapping | list | tuple) and value:
        return "\n".join(_block(value)) + "\n"
    return _scalar(value) + "\n"


def dump_document(document: Document) -> str:
    """A document as its file: apiVersion, kind, then the fields in their class's order; no nulls."""
    return dump_yaml(document.model_dump(mode="json", by_alias=True, exclude_none=True))


def _block(value: Any) -> Iterator[str]:
    """The lines of a mapping or sequence that is not empty."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of type {type(key).__name__} has no canonical form")
            if isinstance(item, Mapping | list | tuple) and item:
                yield f"{_string(key)}:"
                yield from (f"  {line}" for line in _block(item))
            else:
                yield f"{_string(key)}: {_scalar(item)}"
        return
    for item in value:
        if isinstance(item, Mapping | list | tuple) and item:
            lines = _block(item)
            yield f"- {next(lines)}"
            yield from (f"  {line}" for line in lines)
        else:
            yield f"- {_scalar(item)}"


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} has no canonical form")
            mantissa, e, exponent = repr(float(value)).partition("e")
            # YAML 1.1 reads 1e-05 as a string; with a point it is a number everywhere.
            return f"{mantissa if '.' in mantissa else mantissa + '.0'}{e}{exponent}"
        case str():
            return _string(value)
        case Mapping():
            return "{}"
        case list() | tuple():
            return "[]"
    raise TypeError(f"a value of type {type(value).__name__} has no canonical form")


def _string(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(_escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
