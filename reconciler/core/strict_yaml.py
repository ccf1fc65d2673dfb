"""The one YAML reader: YAML 1.2 core schema, one document, no surprises, bounded cost.

:mod:`reconciler.load` reads every file of the repository with it. libyaml (by ruamel.yaml's C parser) gives the
events; this module makes the values, because libyaml's own users read YAML 1.1, in which ``no`` is false
and ``017`` is fifteen. Making them here also gives every value a line, and refuses what a document never
needs before it costs anything: anchors, aliases, tags, directives, duplicate keys, keys that are not text, more
than one document, numbers that are not finite, and files that are too large or too deep.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from _ruamel_yaml import (  # type: ignore[import-not-found]
    AliasEvent,
    CParser,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from reconciler.core.errors import Terminal

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 40

Path = tuple[str | int, ...]
"""Where a value is inside a document: keys and positions, as pydantic gives them."""


class Unreadable(Terminal):
    """A file that is not acceptable YAML. ``path`` and ``line`` (from 1, 0 for the whole file) say where."""

    def __init__(self, what: str, *, path: str, line: int, hint: str = "") -> None:
        super().__init__(what, where=f"{path}:{line}" if line else path, hint=hint)
        self.path = path
        self.line = line


class Parsed:
    """A document's value in JSON's own types, and the line on which each part of it stands."""

    def __init__(self, value: Any, lines: dict[Path, int]) -> None:
        self.value = value
        self._lines = lines

    def line_of(self, path: Path) -> int:
        """The line (from 1) of the value at ``path``, or of the nearest thing around it that exists."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def read(content: bytes | str, path: str) -> Parsed:
    """Parse ``content``; ``path`` is only for messages. Raises :class:`Unreadable`. An empty file is null."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(data) > MAX_BYTES:
        raise Unreadable(
            f"is {-(-len(data) // 1024)} KiB large; the limit is {MAX_BYTES // 1024} KiB",
            path=path,
            line=0,
            hint="a document says what should be; keep data elsewhere",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable("is not UTF-8", path=path, line=line, hint="save the file as UTF-8") from error
    _refuse_odd_line_breaks(text, path)
    try:
        return _Builder(text, path).build()
    except MarkedYAMLError as error:
        last = max(1, len(text.splitlines()))
        line = min(error.problem_mark.line + 1, last) if error.problem_mark else 0
        context = f", {error.context}" if error.context else ""
        raise Unreadable(
            f"is not valid YAML: {error.problem}{context}",
            path=path,
            line=line,
            hint="check indentation, quotes, colons and brackets there and just above",
        ) from error
    except YAMLError as error:
        # The reader's complaint about a character: it knows a position, not a line.
        position = getattr(error, "position", 0) or 0
        raise Unreadable(
            f"holds a character that YAML does not allow, U+{ord(text[position : position + 1] or '?'):04X}",
            path=path,
            line=text.count("\n", 0, position) + 1,
            hint="remove it",
        ) from error


def _clip(text: str) -> str:
    """Foreign text for a one-line message."""
    return repr(text if len(text) <= MAX_DIGITS else text[:MAX_DIGITS] + "...")[1:-1]


_ODD_BREAK: Final = re.compile("[\x85\u2028\u2029]")


def _refuse_odd_line_breaks(text: str, path: str) -> None:
    """libyaml breaks lines at these, YAML 1.2 does not: the same file would mean two things."""
    found = _ODD_BREAK.search(text)
    if found:
        raise Unreadable(
            f"holds the line separator U+{ord(found[0]):04X}, which YAML versions read differently",
            path=path,
            line=text.count("\n", 0, found.start()) + 1,
            hint="use a plain line break",
        )


class _Builder:
    """One pass over the events with a stack of its own, so depth costs neither recursion nor time."""

    def __init__(self, text: str, path: str) -> None:
        self._parser = CParser(text)
        self._path = path
        self._lines: dict[Path, int] = {}
        self._value: Any = None
        # Of each open collection: the collection, its path, and the key that waits for its value.
        self._open: list[tuple[dict[str, Any] | list[Any], Path]] = []
        self._keys: list[str | None] = []
        self._documents = 0

    def build(self) -> Parsed:
        while True:
            event = self._parser.get_event()
            if isinstance(event, StreamEndEvent):
                return Parsed(self._value, self._lines)
            self._take(event, event.start_mark.line + 1)

    def _take(self, event: Any, line: int) -> None:
        if isinstance(event, ScalarEvent):
            self._refuse_properties(event, line)
            if self._open and self._keys[-1] is None and isinstance(self._open[-1][0], dict):
                self._key(event, line)
            else:
                plain = event.implicit[0]
                self._place(self._scalar(event.value, line) if plain else event.value, line)
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._refuse_properties(event, line)
            if len(self._open) >= MAX_DEPTH:
                raise self._error(f"is nested more than {MAX_DEPTH} deep", line, "make the document flatter")
            collection: dict[str, Any] | list[Any] = {} if isinstance(event, MappingStartEvent) else []
            path = self._place(collection, line)
            self._open.append((collection, path))
            self._keys.append(None)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._open.pop()
            self._keys.pop()
        elif isinstance(event, AliasEvent):
            raise self._error(
                "uses a YAML alias", line, "write the value out; anchors and aliases are not read"
            )
        elif isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(
                    "holds more than one document", line, "one file, one document; remove the ---"
                )
            if event.version not in (None, (1, 2)) or event.tags:
                raise self._error("has a YAML directive", line, "remove the line that starts with %")

    def _refuse_properties(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            raise self._error(
                "uses a YAML anchor", line, "write the value out; anchors and aliases are not read"
            )
        if event.tag is not None:
            raise self._error(
                f"uses the YAML tag {_clip(event.tag)}", line, "remove the tag; types come from the format"
            )

    def _key(self, event: Any, line: int) -> None:
        collection, path = self._open[-1]
        key = self._scalar(event.value, line) if event.implicit[0] else event.value
        if not isinstance(key, str):
            raise self._error(
                f"has the key {_clip(event.value) or 'null'}, which is not text", line, "put it in quotes"
            )
        if key == "<<" and event.implicit[0]:
            raise self._error("uses a YAML merge key (<<)", line, "write the fields out")
        if key in collection:
            first = self._lines[(*path, key)]
            raise self._error(
                f"has the key {_clip(key)} twice, first on line {first}", line, "remove one of the two"
            )
        self._lines[(*path, key)] = line
        self._keys[-1] = key

    def _place(self, value: Any, line: int) -> Path:
        """Put a value where the events have got to; gives its path."""
        if not self._open:
            self._value = value
            self._lines[()] = line
            return ()
        collection, path = self._open[-1]
        if isinstance(collection, list):
            here: Path = (*path, len(collection))
            self._lines[here] = line
            collection.append(value)
            return here
        key = self._keys[-1]
        if key is None:
            raise self._error("has a key that is a list or a mapping", line, "a key is text")
        collection[key] = value
        self._keys[-1] = None
        return (*path, key)

    def _scalar(self, text: str, line: int) -> str | int | float | bool | None:
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in "+-.0123456789":
            return text
        if _NOT_FINITE.match(text):
            raise self._error(
                f"has the number {_clip(text)}, which is not finite", line, "write a finite number"
            )
        if not _INTEGER.match(text) and not _FLOAT.match(text):
            return text
        if len(text) > MAX_DIGITS:
            raise self._error(
                f"has a number of {len(text)} digits", line, f"write at most {MAX_DIGITS}, or quote it as text"
            )
        if _FLOAT.match(text) and not _INTEGER.match(text):
            number = float(text)
            if not math.isfinite(number):
                raise self._error(
                    f"has the number {_clip(text)}, which is not finite", line, "quote it if it is text"
                )
            return number
        return int(text, _RADIX.get(text[:2], 10))

    def _error(self, what: str, line: int, hint: str) -> Unreadable:
        return Unreadable(what, path=self._path, line=line, hint=hint)


# YAML 1.2.2, section 10.3.2: the core schema's tag resolution.
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE: Final = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_RADIX: Final = {"0o": 8, "0x": 16}
