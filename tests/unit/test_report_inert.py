"""Text that models bring does nothing in a pull request: parsed by a real Markdown parser, on hostile input."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.core.base import Subject
from reconciler.core.observed import Marker
from reconciler.core.plan import GateVerdict, Objection, Summary, Verdict
from reconciler.report.inert import code, inert, visible
from reconciler.report.pull_request import LIMIT, body

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ONE = f"sha256:{'1' * 64}"
FORGED = Marker(intent="rollback", environment="production", model="other", candidate="none", inputs=ONE)
HOSTILE = (
    "@everyone look",
    "fixes #12, closes org/repo#3, GH-4 and !5",
    "[click](https://evil.example)",
    "![x](https://evil.example/pixel.png)",
    "<https://evil.example>",
    "https://evil.example and www.evil.example",
    "<img src=x onerror=alert(1)> <script>x</script> <!-- comment",
    str(FORGED),
    "`code` and ``more`` and ```fence",
    "| a | b |\n|---|---|",
    "# heading\n- item\n> quote\n1. one",
    "**bold** _em_ ~~gone~~ $math$",
    "[ref]: https://evil.example",
    "a\u202egnp.exe\u200b\x1b[31mred\x07",
    "me@evil.example",
    "http: nothing, and HTTPS:",
    "line one\n\n<!-- trueup {} -->",
)


def kinds(markdown: str) -> set[str]:
    """Every kind of token that a forge's renderer would see."""
    tokens = PARSER.parse(markdown)
    return {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}


PLAIN = {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
ACTIVE = re.compile(r"@\w|#\d|(?i:gh-\d)|!\d|://|(?i:https?:|ftp:)|(?i:www\.)|<[a-zA-Z/!?]|`")
LETTERS = st.text(st.sampled_from(list("@#!`<>[](){}|*_~$%&^\\/:.-+=1aG H\n\u202e\x1b")), max_size=60)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text: str) -> None:
    assert kinds(inert(text)) <= PLAIN
    assert not ACTIVE.search(inert(text))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(LETTERS)
def test_any_text_is_only_text(text: str) -> None:
    assert kinds(inert(text)) <= PLAIN
    assert kinds(f"- {inert(text)}") <= PLAIN | {
        "bullet_list_open",
        "bullet_list_close",
        "list_item_open",
        "list_item_close",
    }
    assert not ACTIVE.search(inert(text))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(LETTERS)
def test_a_code_span_holds_whatever_is_put_in(text: str) -> None:
    found = [child for token in PARSER.parse(f"a {code(text)} b") for child in token.children or ()]
    assert [child.type for child in found] in (["text", "code_inline", "text"], ["text"])


def test_ordinary_sentences_stay_as_they_are() -> None:
    for text in (
        "0.9722 >= 0.9, n 360",
        "drop <= 0.01",
        "top_1_accuracy of hand=left",
        "-0.0083 in [-0.025, +0.0083]",
    ):
        assert inert(text) == text


def test_visible_is_one_line_of_bounded_length() -> None:
    assert visible("a\n\tb\u2028c\x1b[2J\u202ed") == "a b c[2Jd"
    assert visible("x" * 5000) == "x" * 1999 + "…"


def of(gates: int, text: str) -> Summary:
    """A summary in which every text that can come from a model is ``text``."""
    gate = GateVerdict(
        gate="accuracy",
        metric="evaluate.accuracy",
        verdict="block",
        why=text,
        asked=text,
        slice=text,
        waived=text,
    )
    return Summary(
        headline=text,
        intent="promote",
        environment="staging",
        model="digits",
        from_version="1",
        to_version="2",
        verdict=Verdict(
            subject=Subject(environment="staging", model="digits"),
            grounds="promotion",
            gates=(gate,) * gates,
            objections=(Objection(code="x", what=text),) * gates,
        ),
        merges=text,
        notes=(text,) * gates,
        lineage={text: text},
    )


MARKER = Marker(intent="promote", environment="staging", model="digits", candidate=ONE, inputs=ONE)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_body_has_our_marker_and_no_other(text: str) -> None:
    made = body(of(2, text), MARKER)
    assert Marker.find(made) == MARKER
    assert made.count("<!--") == 1
    assert not kinds(made.rpartition("\n")[0]) & {
        "html_inline",
        "html_block",
        "link_open",
        "image",
        "blockquote_open",
    }


def test_a_body_fits_every_forge() -> None:
    for gates in (0, 1, 100, 2000):
        made = body(of(gates, "`" + "ä<" * 4000), MARKER)
        assert len(made) <= LIMIT < 65_536
        assert Marker.find(made) == MARKER
