"""`--output html` in a browser: at any width, in the dark, on paper, without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from reconciler.report import html
from tests.browser.conftest import NARROW, WIDE, faint, overflow
from tests.unit.test_report_html import hostile
from tests.unit.test_report_snapshots import OUTCOMES, PLAN, PROBLEM

pytestmark = pytest.mark.browser

OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"
LONG = "x" * 300
SCRIPT = "<script>document.title = 'taken'</script><img src=https://evil.example/x.png onerror=alert(1)>"
PAGES = {
    "plan": html.plan(PLAN),
    "applied": html.plan(PLAN.model_copy(update={"problems": (PROBLEM,)}), OUTCOMES, 4990),
    "long": html.plan(hostile(LONG)),
    "hostile": html.plan(hostile(SCRIPT)),
}


@pytest.fixture(params=PAGES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    file = tmp_path / f"{request.param}.html"
    file.write_text(PAGES[request.param])
    return file.as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [NARROW, 600, 720, WIDE])
def test_it_fits_reads_well_and_asks_nobody(
    address: str, width: int, dark: bool, visit: Callable[..., Page]
) -> None:
    page = visit(address, width, dark)
    page.evaluate(OPEN_ALL)
    assert overflow(page) == 0
    assert faint(page) == []
    assert set(page.asked) <= {"data:,"}
    assert page.said == []


def test_dark_is_dark(tmp_path: Path, visit: Callable[..., Page]) -> None:
    file = tmp_path / "plan.html"
    file.write_text(PAGES["plan"])
    ground = "getComputedStyle(document.body).backgroundColor"
    assert visit(file.as_uri()).evaluate(ground) == "rgb(255, 255, 255)"
    assert visit(file.as_uri(), dark=True).evaluate(ground) == "rgb(20, 23, 28)"


def test_a_script_in_a_name_is_text(tmp_path: Path, visit: Callable[..., Page]) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(PAGES["hostile"])
    page = visit(file.as_uri())
    assert page.title() == "Plan: 2 actions"
    assert page.locator("script, img").count() == 0
    assert "<script>document.title = 'taken'</script>" in page.locator("h2").first.inner_text()


def test_a_keyboard_opens_what_is_folded(tmp_path: Path, visit: Callable[..., Page]) -> None:
    file = tmp_path / "plan.html"
    file.write_text(PAGES["plan"])
    page = visit(file.as_uri())
    merges = page.get_by_text("trueup merges it when one person")
    assert not merges.is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert merges.is_visible()


def test_on_paper_nothing_is_folded_away(tmp_path: Path, visit: Callable[..., Page]) -> None:
    file = tmp_path / "plan.html"
    file.write_text(PAGES["plan"])
    page = visit(file.as_uri(), dark=True)
    page.emulate_media(media="print")
    assert page.get_by_text("trueup merges it when one person").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert faint(page) == []
