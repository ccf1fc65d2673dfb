"""Lines that hang and tables that give way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.report.layout import BLANK, Block, Grid, Span, cell, columns, lay_out, line, plain, sections
from reconciler.report.markdown import table, without_tables


def texts(blocks: list[Block], width: int | None) -> list[str]:
    return ["".join(span.text for span in spans) for spans in lay_out(blocks, width)]


TABLE = Grid(
    ("NAME", "STATE", "WHY"),
    (
        (cell("digits", "strong"), cell("held"), cell("one gate is closed until somebody opens it")),
        (cell("fraud"), cell(""), cell("")),
    ),
)


def test_a_line_wraps_and_hangs() -> None:
    long = line(Span("error", "bad"), ": one two three four", hang=2)
    assert texts([long], None) == ["error: one two three four"]
    assert texts([long], 12) == ["error: one", "  two three", "  four"]


def test_a_word_is_not_broken_and_spans_of_one_word_stay_together() -> None:
    assert texts([line("digest ", Span("sha256", "dim"), ":abcdef")], 8) == ["digest", "sha256:abcdef"]


def test_a_whole_line_is_left_alone() -> None:
    assert texts([line("+   two   spaces")._replace(whole=True)], 5) == ["+   two   spaces"]


def test_a_table_lines_up_and_has_no_trailing_space() -> None:
    assert plain([TABLE]) == (
        "NAME    STATE  WHY\ndigits  held   one gate is closed until somebody opens it\nfraud   -      -\n"
    )


def test_the_last_column_wraps_first() -> None:
    assert texts([TABLE], 45) == [
        "NAME    STATE  WHY",
        "digits  held   one gate is closed until",
        "               somebody opens it",
        "fraud   -      -",
    ]


def test_a_table_that_is_too_wide_becomes_records() -> None:
    assert texts([TABLE], 30) == [
        "digits",
        "  state  held",
        "  why    one gate is closed",
        "         until somebody opens",
        "         it",
        "",
        "fraud",
    ]


def test_a_table_with_a_narrow_form_uses_it() -> None:
    assert texts([TABLE._replace(narrow=(line("digits: held"),))], 30) == ["digits: held"]
    assert len(texts([TABLE._replace(narrow=(line("digits: held"),))], 80)) == 3


def test_wide_characters_count_twice_and_marks_not_at_all() -> None:
    assert [columns(text) for text in ("abc", "数字", "e\u0301", "a\u200bb")] == [3, 4, 1, 2]


def test_line_breaks_never_reach_a_line() -> None:
    assert plain([line("a\nb"), BLANK, Grid(("X",), ((cell("c\nd"),),))]) == "a b\n\nX\nc d\n"


def test_sections_are_apart_and_empty_ones_are_nothing() -> None:
    assert plain(sections([], [line("a")], [], [line("b")])) == "a\n\nb\n"
    assert sections([], []) == []


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.text("ab ", max_size=9), max_size=12), st.integers(1, 40), st.integers(0, 4), st.integers(0, 4)
)
def test_no_line_is_wider_than_asked_unless_a_word_is(
    words: list[str], width: int, indent: int, hang: int
) -> None:
    item = line(*words, indent=indent, hang=hang)
    for text in texts([item], width):
        assert len(text) <= width or " " not in text.strip()
    together = "".join("".join(texts([item], width)).split())
    assert together == "".join("".join(words).split()), "nothing is lost"


@pytest.mark.parametrize("width", [20, 50, 80, 200])
def test_every_cell_is_shown_at_every_width(width: int) -> None:
    shown = " ".join(" ".join(texts([TABLE], width)).split())
    assert all(word in shown for word in ("digits", "held", "fraud", "gate", "somebody"))


def test_a_table_becomes_a_list_and_the_rest_stays() -> None:
    text = table(("gate", "asked", "value"), [("`a`", "x \\| y", "0.9"), ("`b`", "-", "1")])
    fenced = "```\n| not | a table |\n```"
    assert without_tables(f"Before\n\n{text}\n\n{fenced}\n") == (
        f"Before\n\n- **`a`**: asked x \\| y; value 0.9\n- **`b`**: value 1\n\n{fenced}\n"
    )
