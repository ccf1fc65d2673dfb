"""Changes a list in a YAML file that a person wrote, and leaves every other byte as it is.

Called for Exceptions files, by :mod:`reconciler.planning.exceptions`. The strict reader says on which lines the
entries stand, and these lines alone are written anew: comments, order, quotes and blank lines stay whose they
are. (A round trip through ruamel.yaml keeps comments too, but moves those behind the last entry of a list and
spells instants anew.) What comes out is read again and must say what was wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.core.canonical import dump_yaml
from reconciler.core.errors import Terminal
from reconciler.core.strict_yaml import Parsed, Unreadable, read

Entry = Mapping[str, Any]


def with_entries(text: str, field: str, wanted: Sequence[int | tuple[int, Entry] | Entry], path: str) -> str:
    """``text`` with the top-level list ``field`` made of ``wanted``, in this order.

    An entry that is there already is named by its place, and stays as it is; ``(place, entry)`` is one that
    is changed, and keeps the comment above it; the rest are new. Without any, the field goes. Terminal where
    the file is written in a way that cannot be edited so.
    """
    parsed = read(text, path)
    present: list[Any] = list((parsed.value or {}).get(field) or ())
    values = [
        present[one] if isinstance(one, int) else one[1] if isinstance(one, tuple) else one for one in wanted
    ]
    lines = (text if text.endswith("\n") or not text else f"{text}\n").splitlines(keepends=True)
    span = _span(lines, field)
    if span is None:
        made = "".join(lines) + _block(field, values)
    else:
        first, end = span
        starts = _starts(parsed, lines, field, len(present), first)
        spliced = [lines[first], *_spliced(lines, wanted, starts, span)] if starts else [_block(field, values)]
        made = "".join([*lines[:first], *(spliced if values else []), *lines[end:]])
    expected = {name: value for name, value in (parsed.value or {}).items() if name != field}
    expected |= {field: [dict(value) for value in values]} if values else {}
    try:
        if read(made, path).value == expected:
            return made
    except Unreadable:
        pass
    raise Terminal("is not written so that it can be edited for you", where=path, hint="edit it by hand")


def _block(field: str, values: Sequence[Entry]) -> str:
    return f"{field}:\n{''.join(_entry(value, 2) for value in values)}" if values else ""


def _entry(value: Entry, indent: int) -> str:
    lines = dump_yaml([dict(value)]).splitlines(keepends=True)
    return "".join(f"{' ' * indent}{line}" for line in lines)


def _span(lines: Sequence[str], field: str) -> tuple[int, int] | None:
    """The lines of a top-level field: from its key to behind its last content. None if it is not there."""
    first = next((n for n, line in enumerate(lines) if re.match(rf"{re.escape(field)}\s*:", line)), None)
    if first is None:
        return None
    after = first + 1
    while after < len(lines) and (_is_aside(lines[after]) or lines[after][0] in " -\t]}"):
        after += 1
    while _is_aside(lines[after - 1]):
        after -= 1
    return first, after


def _is_aside(line: str) -> bool:
    """A blank line, or one with nothing but a comment."""
    return line.strip() == "" or line.lstrip().startswith("#")


def _starts(parsed: Parsed, lines: Sequence[str], field: str, count: int, first: int) -> list[int]:
    """The line with the dash of each entry; none where the list is not written entry below entry."""
    starts = [parsed.line_of((field, place)) - 1 for place in range(count)]
    below = len({first, *starts}) == count + 1 and all(re.match(r" *- ", lines[at]) for at in starts)
    return starts if below else []


def _spliced(
    lines: Sequence[str],
    wanted: Sequence[int | tuple[int, Entry] | Entry],
    starts: Sequence[int],
    span: tuple[int, int],
) -> list[str]:
    """The lines of each entry; of one that is there, with the comments and blank lines above it."""
    indent = len(lines[starts[0]]) - len(lines[starts[0]].lstrip())
    begins = [
        next(n for n in range(start, before, -1) if n == before + 1 or not _is_aside(lines[n - 1]))
        for before, start in zip([span[0], *starts], starts, strict=False)
    ]
    ends = [*begins[1:], span[1]]
    new: list[str] = []
    for one in wanted:
        if isinstance(one, int):
            new += lines[begins[one] : ends[one]]
        elif isinstance(one, tuple):
            new += [*lines[begins[one[0]] : starts[one[0]]], _entry(one[1], indent)]
        else:
            new.append(_entry(one, indent))
    return new
