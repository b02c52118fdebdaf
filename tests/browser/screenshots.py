"""Make the README's four pictures: run the three studies, open their reports, and cut out the parts that show most.

``python tests/browser/screenshots.py [NAME …]`` with the names demo, depth, adversarial, ablation (default: all); the last one
trains 30 networks and takes about ten minutes on two cores.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from browser_program import ARGUMENTS, chromium
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from probe.cli import main as cli

REPORTS = Path(__file__).parents[2] / "reports"
GAP, WIDTH = 24, 1280


@dataclass(frozen=True)
class Shot:
    """A picture: the command, and the parts of its report, each an element with the most height to show, in columns."""

    name: str
    words: tuple[str, ...]
    columns: tuple[tuple[tuple[str, int], ...], ...]


SHOTS = (
    Shot(
        "demo",
        ("filters",),
        (
            (("[id='weights/1']", 232), ("[id='features/1']", 428)),
            (("[id='patches/1']", 490), ("[id='attribution/1']", 340)),
        ),
    ),
    Shot(
        "depth",
        ("filters", "--views", "trust,stimuli,importance,dissection"),
        (
            (("[id='trust/3']", 600), ("[id='stimuli/1']", 560)),
            (("[id='importance/8']", 530), ("[id='dissection/1']", 625)),
        ),
    ),
    Shot(
        "adversarial",
        ("adversarial", "--eps", "0.03"),
        ((("[id='curve/1']", 570),), (("[id='pictures/1']", 570),)),
    ),
    Shot(
        "ablation",
        (
            "ablate",
            "--remove",
            "shortcut",
            "--mode",
            "retrain",
            "--depths",
            "8,20,56",
            "--seeds",
            "5",
            "--resume",
        ),
        ((("[id='retrain/2']", 535),), (("[id='retrain/4']", 535),)),
    ),
)


def part(page: Page, selector: str, most: int) -> Image.Image:
    """Return a picture of the first such element, from its top, at most so many pixels high."""
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    picture = Image.open(io.BytesIO(element.screenshot(animations="disabled"))).convert("RGB")
    return picture.crop((0, 0, picture.width, min(picture.height, most)))


def composed(columns: list[list[Image.Image]]) -> Image.Image:
    """Put pictures under one another in columns, and the columns side by side."""
    widths = [max(one.width for one in column) for column in columns]
    heights = [sum(one.height for one in column) + GAP * (len(column) - 1) for column in columns]
    whole = Image.new("RGB", (sum(widths) + GAP * (len(columns) - 1), max(heights)), "white")
    left = 0
    for column, width in zip(columns, widths, strict=True):
        top = 0
        for one in column:
            whole.paste(one, (left, top))
            top += one.height + GAP
        left += width + GAP
    return whole


def make(shot: Shot, page: Page, folder: Path) -> Path:
    """Run the study, open its report, and write the picture."""
    code = cli.run([*shot.words, "--out", str(folder / shot.name)])
    if code not in (0, 4):
        raise SystemExit(code)
    page.goto((folder / shot.name / "report.html").as_uri())
    columns = [[part(page, selector, most) for selector, most in column] for column in shot.columns]
    path = REPORTS / f"{shot.name}.webp"
    composed(columns).save(path, quality=80, method=6)
    return path


def main(names: list[str]) -> None:
    """Make the named pictures, or all."""
    path = chromium()
    if path is None:
        raise SystemExit("There is no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        for shot in SHOTS:
            if not names or shot.name in names:
                sys.stdout.write(f"{make(shot, page, Path(folder))}\n")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
