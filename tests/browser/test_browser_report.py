"""The report as a reader uses it, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from browser_axe import violations
from browser_sample import sample
from browser_tab import WIDTHS, Tab
from playwright.sync_api import Page, expect

from probe.report.render import notebook

Open = Callable[..., Tab]
ARTIFACTS = Path(__file__).with_name("artifacts")

pytestmark = pytest.mark.timeout(120)


def layout_width(page: Page) -> tuple[int, int]:
    width: list[int] = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return width[0], width[1]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_sideways_scrolling_at(report_file: Path, open_tab: Open, width: int) -> None:
    page = open_tab(report_file, width=width).page
    wide, window = layout_width(page)
    assert wide <= window
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    wide, window = layout_width(page)
    assert wide <= window


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_of_the_window_at(report_file: Path, open_tab: Open, width: int) -> None:
    """Nothing is cut off: what is too wide lies in a box that scrolls."""
    page = open_tab(report_file, width=width).page
    outside: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('main *, header *')].filter((element) => {
            if (element.closest('.scroll, .unseen, .perma') || element.closest('svg') !== null) return false;
            const box = element.getBoundingClientRect();
            return box.width && (box.right > innerWidth + 1 || box.left < -1);
        }).map((element) => element.outerHTML.slice(0, 80))"""
    )
    assert outside == []


@pytest.mark.parametrize("width", [380, 1280])
def test_chart_texts_do_not_overlap(report_file: Path, open_tab: Open, width: int) -> None:
    page = open_tab(report_file, width=width).page
    overlaps: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('svg.plot')].flatMap((plot) => {
            const texts = [...plot.querySelectorAll('text:not([transform])')].filter((t) => t.getClientRects().length);
            const boxes = texts.map((t) => [t.textContent, t.getBoundingClientRect()]);
            const hits = [];
            boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
                const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
                const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
                if (x > 1 && y > 3) hits.push(`${a} over ${b}`);
            }));
            return hits;
        })"""
    )
    assert overlaps == []


def test_opens_quickly(report_file: Path, open_tab: Open) -> None:
    """The page's own work after parsing is small; the bound is loose because test machines are busy."""
    page = open_tab(report_file).page
    spent: float = page.evaluate(
        "(() => { const n = performance.getEntriesByType('navigation')[0]; return n.loadEventEnd - n.responseEnd; })()"
    )
    assert spent < 5000


def test_everything_is_readable_without_script(report_file: Path, open_tab: Open) -> None:
    """Every block of text that the page has with script is seen without it, once details are opened."""
    with_script, without = open_tab(report_file).page, open_tab(report_file, script=False).page
    for page in (with_script, without):
        closed = page.locator("main details:not([open]) > summary")
        while closed.count():
            closed.first.click()
    seen = without.locator("main").inner_text()
    tools = "for (const tool of document.querySelectorAll('.filter, .copy, .sideways, .wipe + figcaption')) tool.remove()"
    with_script.evaluate(tools)
    for paragraph in with_script.locator("main").inner_text().split("\n"):
        words = paragraph.strip()
        assert words in seen, words
    assert without.locator("button").locator("visible=true").count() == 0
    assert without.locator("svg.plot:visible").count() == with_script.locator("svg.plot:visible").count() > 5


def test_every_picture_is_decoded_and_has_words(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.wait_for_function(
        "[...document.images].filter((i) => i.classList.contains('pic')).every((i) => i.complete)"
    )
    broken = page.evaluate(
        "[...document.querySelectorAll('img.pic')].filter((i) => !i.naturalWidth || !i.alt).length"
    )
    assert broken == 0
    assert page.locator("img.pic").count() > 200


def test_pixelated_pictures_are_crisp(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    rendering = page.locator("img.crisp").first.evaluate("(image) => getComputedStyle(image).imageRendering")
    assert rendering == "pixelated"


def test_lightbox_by_pointer(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    picture = page.locator("#image\\/imagenet_00_243 img").first
    picture.click()
    dialog = page.locator("dialog.lightbox")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Strongest channel a layer · imagenet_00_243 · input")
    expect(dialog).to_contain_text("Photograph imagenet_00_243")
    large, small = dialog.locator("img").bounding_box(), picture.bounding_box()
    assert large is not None
    assert small is not None
    assert large["width"] > 3 * small["width"]
    dialog.get_by_role("button", name="Next picture").click()
    expect(dialog).to_contain_text("conv_stem")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    picture.click()
    page.mouse.click(5, 890)
    expect(dialog).to_be_hidden()


def test_lightbox_by_keyboard(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    first = page.locator("button.zoom").first
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.lightbox")
    expect(dialog).to_be_visible()
    expect(dialog.locator("img")).to_have_attribute("alt", "Filter 0 of conv_stem, 3 × 3 pixels")
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("img")).to_have_attribute("alt", "Filter 1 of conv_stem, 3 × 3 pixels")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(dialog.locator("img")).not_to_have_attribute("alt", "Filter 0 of conv_stem, 3 × 3 pixels")
    for _ in range(12):
        page.keyboard.press("Tab")
        inside = (
            "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        )
        assert page.evaluate(inside)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("button.zoom:focus")).to_have_count(1)


@pytest.mark.parametrize("width", [320, 1280])
def test_lightbox_picture_fits_the_window(report_file: Path, open_tab: Open, width: int) -> None:
    page = open_tab(report_file, width=width).page
    for number in (0, 40, 60):
        page.locator("button.zoom").nth(number).click()
        box = page.locator("dialog.lightbox img").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        page.keyboard.press("Escape")


SLIDES = "#slides\\/1"


def steps_shown(page: Page, block: str = SLIDES) -> list[list[int]]:
    """For each row of a block of slides, which of its steps are seen."""
    shown: list[list[int]] = page.locator(f"{block} .reel").evaluate_all(
        """(reels) => reels.map((reel) => [...reel.children].flatMap(
            (strip, index) => [...strip.querySelectorAll('img')].every((i) => i.checkVisibility()) ? [index] : []))"""
    )
    return shown


def test_slides_by_keyboard(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    slider = page.get_by_role("slider", name="Perturbed photographs")
    told = page.locator(f"{SLIDES} output")
    expect(told).to_have_text("ε = 0.0157")
    assert steps_shown(page) == [[4]] * 4
    page.locator(f"{SLIDES} .perma").first.focus()
    page.keyboard.press("Tab")
    expect(slider).to_be_focused()
    for key, step in (("ArrowRight", 5), ("ArrowLeft", 4), ("ArrowLeft", 3), ("Home", 0), ("End", 8)):
        page.keyboard.press(key)
        assert steps_shown(page) == [[step]] * 4
        expect(told).to_have_text(f"ε = {step / 255:.4f}")
        expect(slider).to_have_attribute("aria-valuetext", f"ε = {step / 255:.4f}")
    assert steps_shown(page, "#slides\\/2") == [[0]] * 2
    expect(page.locator(f"{SLIDES} .about p:visible").first).to_have_text("answer changed")


def test_slides_by_pointer(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, width=380).page
    slider = page.get_by_role("slider", name="Perturbed photographs")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    assert steps_shown(page) == [[4]] * 4
    page.mouse.move(box["x"] + box["width"] - 2, middle, steps=4)
    page.mouse.up()
    assert steps_shown(page) == [[8]] * 4
    page.mouse.click(box["x"] + 2, middle)
    assert steps_shown(page) == [[0]] * 4


@pytest.mark.parametrize("width", [320, 1280])
def test_slider_stays_in_sight_and_fits_at_every_step(report_file: Path, open_tab: Open, width: int) -> None:
    page = open_tab(report_file, width=width).page
    slider = page.get_by_role("slider", name="Maps under corruption")
    for _ in range(3):
        wide, window = layout_width(page)
        assert wide <= window
        slider.press("ArrowRight")
    page.set_viewport_size({"width": width, "height": 400})
    page.locator("#slides\\/2 .reel").last.evaluate("(reel) => reel.scrollIntoView({block: 'end'})")
    expect(slider).to_be_in_viewport()


def test_slides_show_every_step_without_script_and_in_print(report_file: Path, open_tab: Open) -> None:
    with_script = open_tab(report_file).page
    with_script.emulate_media(media="print")
    expect(with_script.get_by_role("slider", name="Perturbed photographs")).to_be_hidden()
    for page in (with_script, open_tab(report_file, script=False).page):
        assert page.locator("input").locator("visible=true").count() == 0
        assert page.locator(f"{SLIDES} img.pic:visible").count() == 4 * 9 * 3
        labels = page.locator(f"{SLIDES} .step:visible").all_inner_texts()
        assert labels == [f"ε = {step / 255:.4f}" for step in range(9)] * 4
        tops = page.locator(f"{SLIDES} .reel:first-child .strip").evaluate_all(
            "(strips) => strips.map((strip) => strip.getBoundingClientRect().top)"
        )
        assert tops == sorted(set(tops))
        assert len(tops) == 9


def test_lightbox_passes_over_the_steps_that_are_not_shown(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.get_by_role("slider", name="Perturbed photographs").press("ArrowLeft")
    page.locator(f"{SLIDES} img.pic:visible").nth(2).click()
    dialog = page.locator("dialog.lightbox")
    expect(dialog).to_contain_text("Perturbed photographs · imagenet_00_243 · ε = 0.0118 · perturbation × 10")
    expect(dialog.locator("a")).to_have_text("#eps/imagenet_00_243/3")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("imagenet_01_559 · ε = 0.0118 · input")
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    expect(dialog).to_contain_text("imagenet_00_243 · ε = 0.0118 · trench coat")
    page.keyboard.press("Escape")
    expect(page.locator(f"{SLIDES} button.zoom:focus:visible")).to_have_count(1)


def test_a_link_into_a_step_that_is_not_shown_leads_there(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.goto("about:blank")
    for step in (7, 2):
        page.goto(f"{report_file.as_uri()}#eps/imagenet_03_990/{step}")
        expect(page.locator(f"[id='eps/imagenet_03_990/{step}']")).to_be_in_viewport()
        assert steps_shown(page) == [[step]] * 4
        expect(page.locator(f"{SLIDES} output")).to_have_text(f"ε = {step / 255:.4f}")


def test_copy_button(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, permissions=["clipboard-read", "clipboard-write"]).page
    button = page.get_by_role("button", name="Copy the command")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == sample().command


def test_copy_works_where_the_clipboard_is_refused(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: () => Promise.reject(new Error())}})"
    )
    page.get_by_role("button", name="Copy the command").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()


def column(page: Page, table: str, number: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr > :nth-child({number})").all_inner_texts()
    return [text.removesuffix("#").strip() for text in cells]


def test_tables_sort_by_number_and_back_by_pointer_and_keyboard(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    table = "#weights\\/2 table"
    before = column(page, table, 2)
    head = page.locator(f"{table} thead th").nth(1)
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert [float(text) for text in column(page, table, 2)] == sorted(map(float, before))
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert [float(text) for text in column(page, table, 2)] == sorted(map(float, before), reverse=True)
    names = page.locator(f"{table} thead th").nth(0)
    names.get_by_role("button").click()
    assert column(page, table, 1) == [f"conv_stem/{number}" for number in range(32)]
    expect(head).not_to_have_attribute("aria-sort", "ascending")
    expect(page.locator(f"{table} [aria-sort]")).to_have_count(1)


def test_missing_values_sort_last_both_ways(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    table = "#attribution\\/2 table"
    button = page.locator(f"{table} thead th").nth(1).get_by_role("button")
    for _ in range(2):
        button.click()
        assert column(page, table, 2)[2:] == ["–"] * 3


def test_chart_tells_values_under_the_pointer(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    plot = page.locator("#attribution\\/5 .wide svg")
    plot.scroll_into_view_if_needed()
    mark = plot.locator(".point").nth(2)
    box = mark.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 12)
    tip = page.locator(".tip")
    expect(tip).to_be_visible()
    expect(tip).to_have_text("integrated gradients: 0.3\nSteps of the integral: 5")
    page.mouse.move(5, 5)
    expect(tip).to_be_hidden()


def test_table_twin_opens_by_keyboard(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    details = page.locator("#features\\/2 details")
    expect(details.locator("table")).to_be_hidden()
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(details.locator("table")).to_be_visible()
    assert details.locator("tbody tr").count() == 33


def test_contents_follow_the_reader_and_lead_there(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, reduced_motion="reduce").page
    contents = page.get_by_role("navigation", name="Contents")
    contents.get_by_role("link", name="What excites a channel most").click()
    expect(contents.get_by_role("link", name="What excites a channel most")).to_have_attribute(
        "aria-current", "true"
    )
    expect(contents.locator("[aria-current]")).to_have_count(1)
    assert page.url.endswith("#patches")
    expect(contents).to_be_in_viewport()


def test_contents_fold_on_a_phone(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file, width=380, reduced_motion="reduce").page
    contents = page.get_by_role("navigation", name="Contents")
    link = contents.get_by_role("link", name="All results")
    expect(link).to_be_hidden()
    contents.locator("summary").click()
    link.click()
    expect(page.locator("#results")).to_be_in_viewport()
    expect(link).to_be_hidden()


def test_skip_link_is_the_first_stop_and_works(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_permalinks_lead_to_strips_and_pictures(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    for anchor in ("layer2/ch7", "conv_stem/ch5", "attribution/imagenet_06_609"):
        page.goto(f"{report_file.as_uri()}#{anchor}")
        expect(page.locator(f"[id='{anchor}']")).to_be_in_viewport()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_no_accessibility_violation(report_file: Path, open_tab: Open, dark: bool, width: int) -> None:
    page = open_tab(report_file, width=width, dark=dark).page
    page.evaluate("for (const part of document.querySelectorAll('main details')) part.open = true")
    assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_accessibility_violation_with_every_control_in_use(
    report_file: Path, open_tab: Open, dark: bool
) -> None:
    page = open_tab(report_file, dark=dark).page
    page.locator("#weights\\/1 .filter input").fill(">28")
    page.locator("#weights\\/2 .filter input").fill("norm>1")
    page.locator("#slides .wipe:visible input").first.press("ArrowRight")
    page.locator("#features\\/2 .drawing.wide").press("ArrowRight")
    page.locator("#weights\\/2 thead button").nth(1).focus()
    expect(page.locator(".tip")).to_be_visible()
    assert violations(page) == []


def test_no_accessibility_violation_in_the_lightbox(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.locator("button.zoom").nth(33).click()
    expect(page.locator("dialog.lightbox")).to_be_visible()
    assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_no_accessibility_violation_in_the_index(
    many_reports: Path, open_tab: Open, width: int, dark: bool
) -> None:
    page = open_tab(many_reports, width=width, dark=dark).page
    assert violations(page) == []
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"index-{width}-{'dark' if dark else 'light'}.png", full_page=True)


def test_dark_mode_is_dark(report_file: Path, open_tab: Open) -> None:
    def brightness(page: Page) -> float:
        colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3

    assert brightness(open_tab(report_file).page) > 240
    assert brightness(open_tab(report_file, dark=True).page) < 40


def test_paper_is_white_also_for_those_who_read_in_the_dark(report_file: Path, open_tab: Open) -> None:
    def ink(page: Page) -> list[str]:
        page.emulate_media(media="print")
        found: list[str] = page.evaluate(
            """() => ['body', '.verdict', '.line.stroke-hue0', '.readout', '.badge.fail'].map((selector) => {
                const style = getComputedStyle(document.querySelector(selector));
                return style.color + style.stroke + style.backgroundColor;
            })"""
        )
        return found

    assert ink(open_tab(report_file, dark=True).page) == ink(open_tab(report_file).page)


def test_print_opens_everything_and_drops_the_contents(report_file: Path, open_tab: Open) -> None:
    page = open_tab(report_file).page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.get_by_role("navigation", name="Contents")).to_be_hidden()
    assert page.locator("main details:not([open])").count() == 0
    assert page.locator("main table:visible").count() == page.locator("main table").count()


def test_index_links_to_its_reports_and_sorts(reports_folder: Path, open_tab: Open) -> None:
    page = open_tab(reports_folder / "index.html", width=380).page
    wide, window = layout_width(page)
    assert wide <= window
    page.get_by_role("link", name="filters").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What efficientnet_lite0 has learned")


def test_notebook_frame_takes_the_pages_height(tmp_path: Path, open_tab: Open) -> None:
    file = tmp_path / "notebook.html"
    short = replace(sample(), sections=sample().sections[:1])
    file.write_text(
        f"<!doctype html><meta charset=utf-8><title>n</title><body>{notebook(short)}", encoding="utf-8"
    )
    page = open_tab(file).page
    expect(page.locator("iframe")).not_to_be_visible()
    expect(page.get_by_role("listitem").first).to_have_text(short.headline[0])
    page.get_by_text("Open the report").click()
    frame = page.frame_locator("iframe.probe-report")
    expect(frame.get_by_role("heading", level=1)).to_have_text("What efficientnet_lite0 has learned")
    page.wait_for_function("document.querySelector('iframe').style.height.endsWith('px')")
    box = page.locator("iframe").bounding_box()
    assert box is not None
    assert box["height"] == pytest.approx(0.85 * 900, abs=2)
    frame.locator("button.zoom").first.click()
    expect(frame.locator("dialog.lightbox img")).to_be_visible()
    page.keyboard.press("Escape")
    frame.get_by_role("button", name="Copy the command").click()
    expect(frame.get_by_role("button", name="Copied")).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_pictures_of_the_page_are_kept_for_looking(
    report_file: Path, open_tab: Open, width: int, dark: bool
) -> None:
    page = open_tab(report_file, width=width, dark=dark).page
    ARTIFACTS.mkdir(exist_ok=True)
    path = ARTIFACTS / f"report-{width}-{'dark' if dark else 'light'}.png"
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": 4000})
    assert path.stat().st_size > 50_000
