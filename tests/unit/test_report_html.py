"""The pages hold together as HTML, and whatever others wrote is text in them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from reconciler.core.base import Subject
from reconciler.core.observed import Gap, Marker
from reconciler.core.plan import (
    FileChange,
    GateVerdict,
    Hold,
    Message,
    Objection,
    OpenPullRequest,
    Outcome,
    Plan,
    Summary,
    Tell,
    Verdict,
)
from reconciler.core.problems import Problem
from reconciler.report import html, status
from tests.unit.test_report_inert import HOSTILE
from tests.unit.test_report_snapshots import AT, MATRIX, ONE, OUTCOMES, PLAN, PRODUCTION, QUIET, ROWS, STAGING

VOID = {"meta", "link", "br", "line", "rect", "path", "circle"}


class Read(HTMLParser):
    """The elements of a page, each with its attributes and its own text; fails if they do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], str]] = []
        self._open: list[int] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), ""))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            tag, attributes, text = self.elements[self._open[-1]]
            self.elements[self._open[-1]] = (tag, attributes, text + data)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _, _ in self.elements}

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None], str]]:
        return [element for element in self.elements if element[0] in tags]


def hostile(said: str) -> Plan:
    """A plan in which every text that can come from outside is ``said``."""
    gate = GateVerdict(
        gate=said, metric=said, verdict="block", why=said, asked=said, slice=said, waived=said, value=0.5
    )
    verdict = Verdict(
        subject=STAGING, grounds="promotion", gates=(gate,), objections=(Objection(code=said, what=said),)
    )
    opening = OpenPullRequest(
        key="open",
        subject=Subject(model=said),
        reason=said,
        branch=said,
        base=said,
        title=said,
        summary=Summary(
            headline=said,
            intent="promote",
            environment=said,
            model=said,
            verdict=verdict,
            merges=said,
            notes=(said,),
            lineage={said: said},
            difference=said,
        ),
        marker=Marker(intent="promote", environment=said, model=said, candidate="none", inputs=ONE),
        files=(FileChange(path=said, content=None),),
    )
    telling = Message(event="unadmitted", subject=STAGING, title=said, reason=said)
    return Plan(
        revision=said,
        at=AT,
        actions=(opening, Tell(key="tell", subject=STAGING, reason=said, notifier="default", message=telling)),
        holds=(Hold(code=said, subject=Subject(environment=said, model=said), reason=said, verdict=verdict),),
        gaps=(Gap(source=said, error=said),),
        problems=(Problem(path=said, what=said, hint=said),),
        tripped=(said,),
    )


@pytest.mark.parametrize("said", HOSTILE)
def test_whatever_others_wrote_is_text(said: str) -> None:
    innocent, page = hostile("said"), hostile(said)
    outcome = Outcome(key="tell", kind="tell", subject=STAGING, result="failed", detail=said)
    read = Read(html.plan(page, (outcome,)))
    usual = Read(html.plan(innocent, (outcome.model_copy(update={"detail": "said"}),)))
    more = Counter(tag for tag, _, _ in read.elements)
    more.subtract(tag for tag, _, _ in usual.elements)
    assert {tag for tag, number in more.items() if number} <= {"span"}, "a span for each line of a difference"
    text = "".join(text for _, _, text in read.elements)
    assert not re.search("[\u202a-\u202e\u200b\x1b\x07]", text)


@pytest.mark.parametrize("page", [html.plan(PLAN), html.plan(PLAN, OUTCOMES, 12), html.plan(QUIET, ())])
def test_a_page_is_one_file_that_fetches_nothing_and_runs_nothing(page: str) -> None:
    read = Read(page)
    assert read.tags & {"script", "img", "iframe", "object", "form", "base", "a"} == set()
    assert [
        (tag, value) for tag, given, _ in read.elements for name, value in given.items() if name[:2] == "on"
    ] == []
    assert [given["href"] for _, given, _ in read.all("link")] == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page


def test_the_policy_of_a_page_lets_its_own_style_in() -> None:
    read = Read(html.plan(PLAN))
    ((_, _, style),) = read.all("style")
    (policy,) = [given["content"] for _, given, _ in read.all("meta") if "http-equiv" in given]
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in (policy or "")
    assert [given for _, given, _ in read.elements if "style" in given] == []


def test_headings_tables_and_drawings_say_what_they_are() -> None:
    read = Read(html.plan(PLAN))
    levels = [int(tag[1]) for tag, _, _ in read.all("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [given.get("lang") for _, given, _ in read.all("html")] == ["en"]
    assert {given.get("scope") for _, given, _ in read.all("th")} == {"col", "row"}
    assert len(read.all("caption")) == len(read.all("table")) == 2
    drawings = [given for _, given, _ in read.all("svg")]
    assert all(
        given.get("role") == "img" and given.get("aria-label")
        for given in drawings
        if "aria-hidden" not in given
    )
    (label,) = {given["aria-label"] for given in drawings if "bad" in str(given["class"])}
    assert label == (
        "value 0.9722, interval of the difference [-0.025, +0.0083], asked at least 0.9706, champion 0.9806"
    )


def test_everything_that_the_text_says_is_in_the_page() -> None:
    page = " ".join("".join(text for _, _, text in Read(html.plan(PLAN)).elements).split())
    for item in (*PLAN.actions, *PLAN.holds):
        assert item.reason in page
    for word in (
        "Plan: 4 actions",
        PLAN.digest,
        "registry archive",
        *PLAN.tripped,
        "0.9722",
        "[-0.025, +0.0083]",
    ):
        assert word in page
    done = "".join(text for _, _, text in Read(html.plan(PLAN, OUTCOMES)).elements)
    assert "registry default: timed out (the next tick tries again)" in " ".join(done.split())


def test_the_matrix_shows_every_cell_and_the_first_reason() -> None:
    macros = html.macros()
    drawn = str(
        macros.matrix(MATRIX.rows, ["", "staging", "production"], link=lambda env, model: f"/{env}/{model}")
    )
    read = Read(drawn)
    assert [text for _, _, text in read.all("th")] == [
        "Model",
        "training",
        "staging",
        "production",
        "digits",
        "fraud",
    ]
    cells = [given["data-label"] for _, given, _ in read.all("td")]
    assert cells == ["training", "staging", "production"] * 2
    assert [given["href"] for _, given, _ in read.all("a")] == [
        "//digits",
        "/staging/digits",
        "/production/digits",
    ]
    assert "v2" in drawn
    assert "pull request 4 waits for 1 approval" in drawn
    assert next(given["datetime"] for _, given, _ in read.all("time")) == "2026-03-02T09:30:00Z"
    assert "href" not in str(macros.matrix(ROWS, ["staging"]))


def test_a_reason_in_a_cell_is_escaped() -> None:
    reason = status.Reason(code="held", what="<script>alert(1)</script>", person=True)
    row = ROWS[1].model_copy(update={"why_not": (reason,)})
    assert "&lt;script&gt;" in str(html.macros().matrix([row], [PRODUCTION.environment]))
