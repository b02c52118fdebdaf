"""Filters, wipes, charts by keyboard, explanations of columns, links to rows: by pointer and by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browser_sample import sample
from browser_tab import Tab
from playwright.sync_api import Locator, Page, expect

Open = Callable[..., Tab]

pytestmark = pytest.mark.timeout(120)


def names(page: Page, selector: str) -> list[str]:
    return [
        text.removesuffix("#").strip()
        for text in page.locator(selector).locator("visible=true").all_inner_texts()
    ]


def box_of(locator: Locator) -> tuple[float, float, float, float]:
    box = locator.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


def test_the_verdict_stands_with_the_answer_and_leads_to_the_check(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, reduced_motion="reduce").page
    verdict = page.locator("#findings .verdict")
    expect(verdict).to_contain_text("Not to be trusted: 1 of 4 checks failed – maps depend on the weights")
    expect(page.locator("#findings .left-out")).to_contain_text(
        "Local response normalisation (This network has no"
    )
    link = page.locator("#warnings").get_by_role("link", name="maps depend on the weights")
    link.focus()
    page.keyboard.press("Enter")
    assert page.url.endswith("#check/maps-depend-on-the-weights")
    expect(page.locator("#checks li:target .badge")).to_have_text("✕fail")
    expect(page.locator("#checks li:target")).to_be_in_viewport()


def test_methods_are_copied_with_their_references(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, permissions=["clipboard-read", "clipboard-write"]).page
    button = page.get_by_role("button", name="Copy the methods")
    button.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    expected = " ".join(sample().methods) + "\n\n" + "\n".join(sample().references)
    assert page.evaluate("navigator.clipboard.readText()") == expected
    expect(button).to_be_visible(timeout=4000)
    expect(button).to_have_text("Copy the methods")
    page.evaluate("navigator.clipboard.writeText('')")
    button.focus()
    page.keyboard.press("Space")
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('The filters of'))")


FILTERS = "#weights\\/1"
"""One strip of 32 pictures."""


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("17", ["17"]),
        ("3", ["3"]),
        ("conv_stem 4", ["4"]),
        ("CONV_STEM/CH30", ["30"]),
        (">28", ["29", "30", "31"]),
        (">=28 <30", ["28", "29"]),
        ("nowhere", []),
    ],
)
def test_gallery_is_filtered_by_number_layer_and_value(
    report_file: Path, open_tab: Open, typed: str, found: list[str]
) -> None:
    page = open_tab(report_file).page
    page.get_by_role("searchbox", name="Filter: conv_stem: all 32 filters").fill(typed)
    assert names(page, f"{FILTERS} .tile figcaption") == found
    expect(page.locator(f"{FILTERS} .filter output")).to_have_text(f"{len(found)} of 32 pictures")


def test_gallery_filter_by_keyboard_and_back(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.locator(f"{FILTERS} .perma").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.type("ch17")
    assert names(page, f"{FILTERS} .tile figcaption") == ["17"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("dialog.lightbox img")).to_have_attribute(
        "alt", "Filter 17 of conv_stem, 3 × 3 pixels"
    )
    page.keyboard.press("ArrowLeft")
    expect(page.locator("dialog.lightbox img")).not_to_have_attribute(
        "alt", "Filter 16 of conv_stem, 3 × 3 pixels"
    )
    page.keyboard.press("Escape")
    page.locator(f"{FILTERS} .filter input").focus()
    page.keyboard.press("Escape")
    assert len(names(page, f"{FILTERS} .tile figcaption")) == 32
    expect(page.locator(f"{FILTERS} .filter output")).to_have_text("")


def test_strips_are_filtered_whole_where_there_are_many(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    search = page.get_by_role("searchbox", name="Filter: Optimised inputs")
    search.fill("channel 3")
    assert names(page, "#features\\/1 h4") == ["blocks.3.2.conv_pwl, channel 3"]
    search.fill("max>10")
    shown = names(page, "#features\\/1 h4")
    assert shown == ["blocks.3.2.conv_pwl, channel 7"], "the maxima are 8 + i / 3, shown with one decimal"
    assert len(names(page, "#features\\/1 .tile")) == 2
    search.fill("min<−5")
    assert shown == ["blocks.3.2.conv_pwl, channel 7"]


def test_a_link_into_what_a_filter_hides_shows_it_again(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.locator(f"{FILTERS} .filter input").fill("17")
    page.evaluate("location.hash = '#conv_stem/ch5'")
    expect(page.locator("[id='conv_stem/ch5']")).to_be_in_viewport()
    table = page.locator("#weights\\/2")
    table.locator(".filter input").fill("conv_stem/17")
    page.evaluate("location.hash = '#weights/conv_stem/30'")
    expect(page.locator("[id='weights/conv_stem/30']")).to_be_in_viewport()
    expect(table.locator(".filter input")).to_have_value("")


@pytest.mark.parametrize("typed", ["norm>1.5", "norm>1.5 never", "nearest<=-0.5", "silent"])
def test_table_is_filtered_by_words_and_by_a_columns_value(
    report_file: Path, open_tab: Open, typed: str
) -> None:
    page = open_tab(report_file).page
    rows = sample().sections[0].blocks[1].rows  # type: ignore[union-attr]
    expected = {
        "norm>1.5": [row[0] for row in rows if row[1] > 1.5],  # type: ignore[operator]
        "norm>1.5 never": [],
        "nearest<=-0.5": [row[0] for row in rows if row[2] <= -0.5],  # type: ignore[operator]
        "silent": [],
    }[typed]
    page.get_by_role("searchbox", name="Filter: Norms, near-duplicates and silent filters").fill(typed)
    assert names(page, "#weights\\/2 tbody th") == expected
    expect(page.locator("#weights\\/2 .filter output")).to_have_text(f"{len(expected)} of 32 rows")
    page.emulate_media(media="print")
    assert len(names(page, "#weights\\/2 tbody th")) == 32, "paper shows all"


def test_a_filtered_table_still_sorts(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.locator("#weights\\/2 .filter input").fill("yes")
    page.locator("#weights\\/2 thead button").first.click()
    page.locator("#weights\\/2 thead button").first.click()
    assert names(page, "#weights\\/2 tbody th") == ["conv_stem/26", "conv_stem/15", "conv_stem/4"]


def test_columns_explain_themselves_by_pointer_and_keyboard(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    head = page.locator("#weights\\/2 thead th").nth(1)
    tip = page.locator(".tip")
    head.hover()
    expect(tip).to_have_text("Euclidean norm of the filter's weights")
    expect(tip).to_be_visible()
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()
    head.get_by_role("button").focus()
    expect(tip).to_be_visible()
    expect(head.get_by_role("button")).to_have_accessible_description(
        "Euclidean norm of the filter's weights"
    )
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    without = open_tab(report_file, script=False).page.locator("#weights\\/2 thead th").nth(1)
    assert without.get_attribute("title") == "Euclidean norm of the filter's weights"


def test_rows_have_links_of_their_own(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, reduced_motion="reduce").page
    link = page.locator("[id='weights/conv_stem/12'] .perma")
    link.focus()
    page.keyboard.press("Enter")
    assert page.url.endswith("#weights/conv_stem/12")
    row = page.locator("[id='weights/conv_stem/12']")
    expect(row).to_be_in_viewport()
    top, head = box_of(row)[1], box_of(page.locator("#weights\\/2 thead th").first)
    assert top >= head[1] + head[3] - 1, "not under the heading that stays in sight"
    page.goto(f"{report_file.as_uri()}#results/top-1-accuracy")
    expect(page.locator("[id='results/top-1-accuracy']")).to_be_in_viewport()


WIPE = "[id='eps/imagenet_01_559/4'] .wipe"


def clip(page: Page, selector: str = WIPE) -> str:
    found: str = page.locator(f"{selector} img").nth(1).evaluate("(image) => image.style.clipPath")
    return found


def test_wipe_between_two_pictures_by_pointer(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, width=380).page
    wipe = page.locator(WIPE)
    wipe.scroll_into_view_if_needed()
    left, top, width, height = box_of(wipe)
    page.mouse.move(left + width / 2, top + height / 2)
    page.mouse.down()
    page.mouse.move(left + 1, top + height / 2, steps=3)
    page.mouse.up()
    assert clip(page) == "inset(0px 0px 0px 0%)"
    page.mouse.click(left + width - 1, top + height / 2)
    assert clip(page) == "inset(0px 0px 0px 100%)"
    sources = page.locator(f"{WIPE} img").evaluate_all("(images) => images.map((image) => image.src)")
    tiles = page.locator("[id='eps/imagenet_01_559/4'] img.pic").evaluate_all(
        "(all) => all.map((i) => i.src)"
    )
    assert sources == tiles[:2]
    boxes = page.locator(f"{WIPE} img").evaluate_all(
        "(all) => all.map((i) => JSON.stringify(i.getBoundingClientRect()))"
    )
    assert boxes[0] == boxes[1], "one lies exactly over the other"


def test_wipe_by_keyboard_keeps_its_place_from_step_to_step(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    control = page.locator(f"{WIPE} input")
    expect(control).to_have_accessible_name(
        "Wipe imagenet_01_559: left Photograph imagenet_01_559, right imagenet_01_559 perturbed by ε = 0.0157"
    )
    control.focus()
    page.keyboard.press("ArrowRight")
    assert clip(page) == "inset(0px 0px 0px 51%)"
    page.keyboard.press("Home")
    assert clip(page) == "inset(0px 0px 0px 0%)"
    page.get_by_role("slider", name="Perturbed photographs").press("ArrowRight")
    expect(control).to_be_hidden()
    assert clip(page, "[id='eps/imagenet_01_559/5'] .wipe") == "inset(0px 0px 0px 0%)"
    assert clip(page, "[id='eps/imagenet_00_243/5'] .wipe") == "inset(0px 0px 0px 50%)"


def test_there_is_no_wipe_without_script_and_on_paper(report_file: Path, open_tab: Open) -> None:
    assert open_tab(report_file, script=False).page.locator(".wipe").count() == 0
    page = open_tab(report_file).page
    page.emulate_media(media="print")
    assert page.locator(".wipe").locator("visible=true").count() == 0


def test_line_chart_by_keyboard_tells_all_series_at_one_place(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    figure = page.locator("#features\\/2")
    drawing, told = figure.locator(".drawing.wide"), figure.locator(".readout")
    drawing.focus()
    expect(told).to_have_text("Arrow keys step through the values.")
    series = sample().sections[3].blocks[1].series  # type: ignore[union-attr]
    for key, index in (
        ("ArrowRight", 0),
        ("ArrowRight", 1),
        ("End", 32),
        ("ArrowRight", 32),
        ("ArrowLeft", 31),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        words = told.inner_text()
        assert words.startswith(f"Optimisation step: {4 * index} – "), words
        for line in series:
            assert f"{line.label}: {line.y[index]:.4g}"[: len(line.label) + 5].replace("-", "−") in words
        assert figure.locator(".wide .near").count() == 3
    page.keyboard.press("Tab")
    expect(told).to_have_text("")
    assert figure.locator(".near").count() == 0


def test_heat_map_by_keyboard_goes_across_and_down(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    drawing, told = page.locator("#activations\\/2 .drawing.wide"), page.locator("#activations\\/2 .readout")
    for key, place in (
        ("ArrowRight", "ch 3, imagenet_00_243"),
        ("ArrowDown", "ch 17, imagenet_00_243"),
        ("ArrowRight", "ch 17, imagenet_01_559"),
        ("ArrowUp", "ch 3, imagenet_01_559"),
    ):
        drawing.press(key)
        expect(told).to_contain_text(f"{place} – ")


def test_pointer_on_a_line_chart_snaps_to_the_nearest_place(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    plot = page.locator("#features\\/2 .wide svg")
    plot.scroll_into_view_if_needed()
    x, _, width, _ = box_of(plot.locator(".point").nth(10))
    _, top, _, _ = box_of(plot)
    page.mouse.move(x + width / 2, top + 60)
    expect(page.locator(".tip")).to_contain_text("channel 3: ")
    expect(page.locator(".tip")).to_contain_text("unit (14, 14) of channel 17: ")
    expect(page.locator(".tip")).to_contain_text("Optimisation step: 40")
    page.mouse.move(5, 5)
    expect(page.locator(".tip")).to_be_hidden()


def test_index_is_filtered_and_sorted(many_reports: Path, open_tab: Open) -> None:
    page = open_tab(many_reports).page
    rows = "table.index tbody th"
    assert names(page, rows) == ["adversarial", "ablation", "filters"]
    search = page.get_by_role("searchbox", name="Filter: Reports in this folder")
    search.fill("resnet20")
    assert names(page, rows) == ["adversarial", "ablation"]
    search.fill("number>0.5")
    assert names(page, rows) == ["ablation", "filters"]
    search.fill("trusted")
    assert names(page, rows) == ["filters"]
    search.fill("")
    for name, order in (
        ("Verdict", ["filters", "ablation", "adversarial"]),
        ("Headline number", ["adversarial", "filters", "ablation"]),
    ):
        page.get_by_role("button", name=name).focus()
        page.keyboard.press("Enter")
        assert names(page, rows) == order
    page.get_by_role("button", name="Made").click()
    assert names(page, rows) == ["filters", "ablation", "adversarial"]
    expect(page.locator("img.thumb")).to_have_count(2)
    page.get_by_role("link", name="filters").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What efficientnet_lite0 has learned")


@pytest.mark.parametrize("width", [320, 380, 1920])
def test_index_fits_every_window_with_and_without_script(
    many_reports: Path, open_tab: Open, width: int
) -> None:
    for script in (True, False):
        page = open_tab(many_reports, width=width, script=script).page
        right = [box_of(cell) for cell in page.locator("table.index tbody tr > *").all()]
        assert max(left + wide for left, _, wide, _ in right) <= width
        assert names(page, "table.index tbody th a") == ["adversarial", "ablation", "filters"]
        expect(page.get_by_role("searchbox")).to_have_count(int(script))
