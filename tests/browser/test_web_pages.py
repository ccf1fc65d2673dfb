"""`reconcile web` in a browser: from the matrix to a chart and to a log, at any width, in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, faint, overflow
from tests.doubles.site import Site
from tests.laws.driving import tick

pytestmark = pytest.mark.browser


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with made.served():
        yield made


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_every_page_fits_reads_well_and_asks_nobody(
    site: Site, width: int, dark: bool, visit: Callable[..., Page]
) -> None:
    address = site.address
    run = next(iter(site.world.engine.sweep().runs))
    for path in ("/", "/plan", "/models/digits", f"/runs/{run}"):
        page = visit(address + path, width, dark)
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert overflow(page) == 0, path
        assert faint(page) == [], path
        assert set(page.asked) <= {"data:,"}, path
        assert page.said == [], path
    lost = visit(f"{address}/models/nobody", width, dark)
    assert overflow(lost) == 0
    assert lost.get_by_role("heading", level=1).inner_text() == "main has no model 'nobody'"


def test_from_the_matrix_to_a_chart_and_to_a_log(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site.address)
    cell = page.get_by_role("row", name="digits").get_by_role("cell").nth(2)
    expect(cell).to_contain_text("degraded")
    cell.get_by_role("link", name="v2").click()
    expect(page).to_have_url(f"{site.address}/models/digits#production")
    expect(page.locator("#production")).to_be_in_viewport()

    chart = page.locator("figure", has_text="evaluate.accuracy")
    picture = chart.get_by_role("img")
    assert "0.95 of version 2" in (picture.get_attribute("aria-label") or "")
    expect(chart.locator("table")).not_to_be_visible()
    chart.get_by_text("Numbers").click()
    expect(chart.get_by_role("row", name="v2")).to_contain_text("staging, production")
    box = picture.bounding_box()
    for disc in chart.locator("circle").all():
        inside = disc.bounding_box()
        assert box
        assert inside
        assert box["x"] <= inside["x"] <= box["x"] + box["width"]
        assert box["y"] <= inside["y"] <= box["y"] + box["height"]

    page.get_by_role("link", name="Models").click()
    page.get_by_role("link", name="train-digits").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("train-digits")


def test_what_happens_meanwhile_is_there_after_the_next_look(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(site.address)
    expect(page.get_by_text("None is open.")).to_be_visible()
    tick(site.world)
    site.clock.now = 11
    page.reload()
    expect(page.get_by_role("row", name="Roll back digits")).to_be_visible()
