"""Text for people, as blocks: lines that hang and tables that give way. Called by every report.

A block knows nothing of a terminal. :func:`lay_out` makes lines of it for one width, or for no width at all:
then nothing is wrapped and nothing is padded at the end of a line, which is what a pipe wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple
from unicodedata import combining, east_asian_width

Style = Literal["", "strong", "dim", "good", "warn", "bad", "note"]

MIN_LAST_COLUMN = 28
"""A table whose last column would get less than this becomes a list of records."""


class Span(NamedTuple):
    """A piece of one line. ``text`` has no line breaks."""

    text: str
    style: Style = ""


class Line(NamedTuple):
    """One paragraph; where it has to wrap, it goes on ``hang`` columns right of ``indent``.

    ``whole`` ones are never wrapped: their spaces mean something.
    """

    spans: tuple[Span, ...] = ()
    indent: int = 0
    hang: int = 0
    whole: bool = False


class Grid(NamedTuple):
    """Columns under a head, as kubectl prints them. The last column may hold sentences.

    ``narrow`` takes the table's place where it does not fit; without, each row becomes a record.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Span, ...], ...]
    indent: int = 0
    narrow: tuple[Block, ...] = ()


Block = Line | Grid
Laid = tuple[Span, ...]
BLANK = Line()


def line(*parts: str | Span, indent: int = 0, hang: int = 0) -> Line:
    """A Line of strings and spans, in which line breaks became spaces."""
    spans = (Span(*part) if isinstance(part, Span) else Span(part) for part in parts)
    return Line(tuple(Span(" ".join(s.text.splitlines()), s.style) for s in spans), indent, hang)


def cell(value: object, style: Style = "") -> Span:
    """One cell: nothing becomes a dash, so that a column never looks shifted."""
    return Span(" ".join(str(value).splitlines()) if value not in (None, "") else "-", style)


def plain(blocks: Iterable[Block]) -> str:
    """The text without colour and without wrapping, one newline at the end."""
    laid = lay_out(blocks, None)
    return "".join("".join(span.text for span in spans).rstrip() + "\n" for spans in laid)


def lay_out(blocks: Iterable[Block], width: int | None) -> list[Laid]:
    """Lines of at most ``width`` columns, except for words that are longer by themselves."""
    laid: list[Laid] = []
    for block in blocks:
        if isinstance(block, Line):
            laid += _wrap(block, width)
        else:
            laid += _grid(block, width)
    return laid


def _wrap(item: Line, width: int | None) -> list[Laid]:
    pad = Span(" " * item.indent)
    if width is None or item.whole or item.indent + _length(item.spans) <= width:
        return [(pad, *item.spans) if item.indent else item.spans]
    lines: list[list[Span]] = [[]]
    used = item.indent
    for word in _words(item.spans):
        if lines[-1] and used + _length(word) > width:
            lines.append([Span(word[0].text.lstrip(), word[0].style), *word[1:]])
            used = item.indent + item.hang + _length(lines[-1])
        else:
            lines[-1] += word
            used += _length(word)
    return [
        (Span(" " * (item.indent + (item.hang if number else 0))), *spans) for number, spans in enumerate(lines)
    ]


def _length(spans: Iterable[Span]) -> int:
    return sum(columns(span.text) for span in spans)


def _words(spans: Sequence[Span]) -> list[list[Span]]:
    """The spans cut where a line may break: before white space, which stays with the word that follows."""
    words: list[list[Span]] = []
    open_word = False
    for span in spans:
        text = span.text
        position = 0
        while position < len(text):
            begin = position
            while position < len(text) and text[position] == " ":
                position += 1
            while position < len(text) and text[position] != " ":
                position += 1
            piece = Span(text[begin:position], span.style)
            if open_word and not piece.text.startswith(" "):
                words[-1].append(piece)
            else:
                words.append([piece])
            open_word = True
    return words


def _grid(grid: Grid, width: int | None) -> list[Laid]:
    if not grid.rows:
        return []
    head = tuple(Span(text, "dim") for text in grid.head)
    widths = [max(columns(row[i].text) for row in (head, *grid.rows)) for i in range(len(head))]
    if width is not None:
        fixed = grid.indent + sum(widths[:-1]) + 2 * (len(widths) - 1)
        if fixed + widths[-1] > width:
            if grid.narrow:
                return lay_out(grid.narrow, width)
            if width - fixed < MIN_LAST_COLUMN:
                return _records(grid, width)
            widths[-1] = width - fixed
    laid: list[Laid] = []
    for row in (head, *grid.rows):
        pieces = _wrap(Line((row[-1],)), widths[-1] if width is not None else None)
        first: list[Span] = [Span(" " * grid.indent)] if grid.indent else []
        for span, column in zip(row[:-1], widths, strict=False):
            first += [span, Span(" " * (column - columns(span.text) + 2))]
        laid.append((*first, *pieces[0]))
        left = Span(" " * (grid.indent + sum(widths[:-1]) + 2 * (len(widths) - 1)))
        laid += [(left, *piece) for piece in pieces[1:]]
    return laid


def _records(grid: Grid, width: int) -> list[Laid]:
    """One short list a row, for a terminal too narrow for the table."""
    label = max(columns(text) for text in grid.head[1:]) + 2 if len(grid.head) > 1 else 0
    laid: list[Laid] = []
    for number, row in enumerate(grid.rows):
        if number:
            laid.append(())
        laid += _wrap(Line((Span(row[0].text, row[0].style or "strong"),), grid.indent, 2), width)
        for name, span in zip(grid.head[1:], row[1:], strict=True):
            if span.text == "-":
                continue
            spans = (Span(name.lower().ljust(label), "dim"), span)
            laid += _wrap(Line(spans, grid.indent + 2, label), width)
    return laid


def columns(text: str) -> int:
    """How many terminal columns a text takes: two for East Asian wide characters, none for marks on others."""
    return len(text) if text.isascii() else sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if combining(character) or character in "\u200b\u200c\u200d\u2060\ufeff":
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def sections(*parts: Sequence[Block]) -> list[Block]:
    """The parts that have something to say, a blank line between them."""
    spoken = [list(part) for part in parts if part]
    together: list[Block] = list(spoken[0]) if spoken else []
    for _, part in pairwise(spoken):
        together += [BLANK, *part]
    return together
