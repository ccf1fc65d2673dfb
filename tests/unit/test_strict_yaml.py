"""The YAML reader: values as YAML 1.2's core schema has them, lines, and a bounded cost for anything at all."""

# ruff: noqa: E501 - a message is one line, here too

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.canonical import dump_yaml
from reconciler.core.errors import Terminal
from reconciler.core.strict_yaml import MAX_BYTES, Unreadable, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("~", None),
        ("NULL", None),
        ("", None),
        ("''", ""),
        ('"null"', "null"),
        ("|\n  017\n", "017\n"),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("+1", 1),
        ("-0", 0),
        ("1:30:45", "1:30:45"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("-", [None]),
        ("=", "="),
        ("'<<'", "<<"),
    ],
)
def test_scalars_are_those_of_the_core_schema(text: str, value: Any) -> None:
    found = read(f"- {text}" if text != "-" else text, "x.yaml").value
    assert found == ([value] if text != "-" else value)
    assert type(found[0]) is type(value if text != "-" else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1", "x.yaml:1: uses a YAML anchor. hint: write the value out; anchors and aliases are not read"),
        ("a: *x", "x.yaml:1: uses a YAML alias. hint: write the value out; anchors and aliases are not read"),
        ("\na: !!str 1", "x.yaml:2: uses the YAML tag tag:yaml.org,2002:str. hint: remove the tag; types come from the format"),
        ("a: !exec 'rm'", "x.yaml:1: uses the YAML tag !exec. hint: remove the tag; types come from the format"),
        ("a: 1\nb: 2\na: 3", "x.yaml:3: has the key a twice, first on line 1. hint: remove one of the two"),
        ("a: {b: 1, 'b': 2}", "x.yaml:1: has the key b twice, first on line 1. hint: remove one of the two"),
        ("<<: {a: 1}", "x.yaml:1: uses a YAML merge key (<<). hint: write the fields out"),
        ("1: a", "x.yaml:1: has the key 1, which is not text. hint: put it in quotes"),
        ("true: a", "x.yaml:1: has the key true, which is not text. hint: put it in quotes"),
        ("~: a", "x.yaml:1: has the key ~, which is not text. hint: put it in quotes"),
        ("? [a]\n: b", "x.yaml:1: has a key that is a list or a mapping. hint: a key is text"),
        ("a: 1\n---\nb: 2", "x.yaml:2: holds more than one document. hint: one file, one document; remove the ---"),
        ("%YAML 1.1\n---\na: 1", "x.yaml:1: has a YAML directive. hint: remove the line that starts with %"),
        ("%TAG ! tag:x,2000:\n---\na: 1", "x.yaml:1: has a YAML directive. hint: remove the line that starts with %"),
        ("a: .nan", "x.yaml:1: has the number .nan, which is not finite. hint: write a finite number"),
        ("a: -.Inf", "x.yaml:1: has the number -.Inf, which is not finite. hint: write a finite number"),
        ("a: 1e999", "x.yaml:1: has the number 1e999, which is not finite. hint: quote it if it is text"),
        ("a: " + "9" * 5000, "x.yaml:1: has a number of 5000 digits. hint: write at most 40, or quote it as text"),
        ("a: 1\nb: \x01", "x.yaml:2: holds a character that YAML does not allow, U+0001. hint: remove it"),
        ("a: 1\u2028b: 2", "x.yaml:1: holds the line separator U+2028, which YAML versions read differently. hint: use a plain line break"),
    ],
)  # fmt: skip
def test_what_a_document_never_needs_is_refused(text: str, message: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read(text, "x.yaml")
    assert str(refused.value) == message
    assert isinstance(refused.value, Terminal)


def test_every_part_has_its_line() -> None:
    parsed = read("# head\na:\n  b:\n    - c: 1\n      d: 2\n    -\n      e: 3\nf: [1,\n  2]\n", "x.yaml")
    lines = {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "b", 0): 4,
        ("a", "b", 0, "d"): 5,
        ("a", "b", 1, "e"): 7,
        ("f", 1): 9,
        ("a", "b", 0, "missing"): 4,
        ("missing",): 2,
    }
    assert {path: parsed.line_of(path) for path in lines} == lines


@pytest.mark.parametrize("content", [b"\xff", b"a: \xc3(", b"\xfe\xff\x00a", "a: \ud800"])
def test_only_utf_8_is_read(content: bytes | str) -> None:
    with pytest.raises(Unreadable, match=r"x\.yaml:1: is not UTF-8"):
        read(content, "x.yaml")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    parsed = read(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "x.yaml")
    assert parsed.value == {"a": 1, "b": 2}
    assert parsed.line_of(("b",)) == 2


def test_the_limit_of_size_is_exact() -> None:
    fits = "# " + "x" * (MAX_BYTES - 2)
    assert read(fits, "x.yaml").value is None
    with pytest.raises(Unreadable, match="the limit is 256 KiB"):
        read(fits + "x", "x.yaml")


def test_the_limit_of_depth_is_exact() -> None:
    assert read("[" * 32 + "]" * 32, "x.yaml").value != []
    with pytest.raises(Unreadable, match="nested more than 32 deep"):
        read("[" * 33 + "]" * 33, "x.yaml")


@pytest.mark.parametrize(
    "piece", ["[", "[\n", "{a: ", "- ", "? ", "!", "&a ", "[a, ", "-\n", "a:\n", "'", '"\n', "#", "%a\n", "[],", "\t", ": ", "{?"]
)  # fmt: skip
def test_no_repetition_is_expensive(piece: str) -> None:
    """A quarter of a megabyte of anything is read or refused in far less than a second or a stack."""
    begun = time.process_time()
    assert len(refusal(piece * (MAX_BYTES // len(piece)))) < 300
    assert time.process_time() - begun < 3


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(values)
def test_what_we_write_we_read(value: Any) -> None:
    assert read(dump_yaml(value), "x.yaml").value == value


@given(st.text() | st.binary())
def test_anything_is_read_or_refused(content: str | bytes) -> None:
    assert "\n" not in refusal(content)


def refusal(content: str | bytes) -> str:
    """What is said against a content; nothing if it is read."""
    try:
        read(content, "x.yaml")
    except Unreadable as refused:
        return str(refused)
    return ""
