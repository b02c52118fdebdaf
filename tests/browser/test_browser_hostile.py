"""Hostile text in every field of a report runs nothing, asks for nothing, opens nothing."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from browser_tab import Tab
from playwright.sync_api import Page

from probe.report.index import update_index
from probe.report.render import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from report_samples import HOSTILE, small_report, with_texts

Open = Callable[..., Tab]
PAGES = 6


def hostile_reports(folder: Path) -> list[Path]:
    """Reports in which every field holds another hostile text; over all of them most texts meet most fields."""
    paths = []
    for number in range(PAGES):
        supply = itertools.cycle(HOSTILE[number * 7 % len(HOSTILE) :] + HOSTILE[: number * 7 % len(HOSTILE)])
        report = with_texts(small_report(), lambda old, supply=supply: f"{next(supply)} {old}"[:3500])
        paths.append(write_report(report, folder / str(number)))
    return paths


def use_every_control(page: Page) -> None:
    """Let everything that script puts into the page from its texts be put there."""
    page.locator(".slider input").press("Home")
    page.locator(".wipe input").press("ArrowRight")
    for head in page.locator("th[tabindex], th button").locator("visible=true").all():
        head.focus()
    for drawing in page.locator(".drawing").locator("visible=true").all():
        drawing.press("ArrowRight")
        drawing.hover()
    for box in page.locator("input[type=search]").all():
        box.fill("<img src=x onerror=alert(1)> norm>0")


@pytest.mark.timeout(240)
def test_hostile_strings_are_only_text(tmp_path: Path, open_tab: Open) -> None:
    for path in hostile_reports(tmp_path):
        tab = open_tab(path)
        page = tab.page
        assert page.locator("h1").count() == 1
        assert page.locator("script, iframe, object, embed, base, form").count() == 1
        assert page.locator("input:not([type=range], [type=search])").count() == 0
        assert page.locator(".slider input").count() == 1
        assert page.locator(".wipe input").count() == 1
        for width in (1280, 320):
            page.set_viewport_size({"width": width, "height": 900})
            wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= window, path
        for key in ("Home", "End"):
            page.locator(".slider input").press(key)
            for picture in page.locator("button.zoom:visible").all():
                picture.click()
                page.keyboard.press("Escape")
        use_every_control(page)
        assert tab.complaints == []
        assert tab.network == []


def test_hostile_strings_in_the_index(tmp_path: Path, open_tab: Open) -> None:
    hostile_reports(tmp_path)
    tab = open_tab(update_index(tmp_path), width=320)
    assert tab.page.locator("tbody tr").count() == PAGES
    assert tab.page.locator("script").count() == 1
    wide, window = tab.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window


@pytest.mark.timeout(600)
@pytest.mark.parametrize("text", HOSTILE)
def test_each_hostile_string_in_every_field(tmp_path: Path, open_tab: Open, text: str) -> None:
    tab = open_tab(
        write_report(with_texts(small_report(), lambda old: f"{text} {old}"[:3500]), tmp_path), width=320
    )
    wide, window = tab.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window
