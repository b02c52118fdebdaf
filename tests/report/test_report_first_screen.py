"""What a reader meets first: the answer, its verdict, the picture that carries it; and what is kept out of the way."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from report_html import check_page
from report_samples import small_report

from probe.core.blocks import Figure, Gallery, Note, Picture, SteppedGallery, Strip
from probe.core.document import Check, Section
from probe.core.verdict import unremarkable
from probe.report.key import find_key
from probe.report.page import page
from probe.report.results import to_json
from probe.report.thumbnail import SIZE, thumbnail


def picture(value: int, anchor: str = "") -> Picture:
    return Picture(np.full((8, 8), value, np.uint8), f"grey {value}", anchor=anchor)


CHART = next(block for block in small_report().sections[0].blocks if isinstance(block, Figure))
GALLERY = Gallery(
    "Greys",
    tuple(Strip(tuple(picture(10 * row + i, f"g/{row}{i}") for i in range(6))) for row in range(5)),
    "",
)
SLIDES = SteppedGallery("Steps", ("a", "b"), ((Strip((picture(1),)), Strip((picture(2),))),), "", start=1)


def findings(html: str) -> str:
    return html[html.index('<section id="findings"') : html.index("</section>")]


def test_answer_verdict_and_chart_stand_first_and_in_this_order() -> None:
    report = small_report(sections=(Section("curve", "Curve", blocks=(Note("n"), CHART)),), key=("curve",))
    html = page(report)
    seen = check_page(html)
    first = findings(html)
    places = [
        first.index(words)
        for words in (report.headline[0], 'class="verdict', "<svg viewBox", report.headline[1])
    ]
    assert places == sorted(places)
    assert [link["href"] for link in seen.all("a") if link["href"] == "#curve/2"] == ["#curve/2"] * 2
    assert first.count("<title>") == 6, "the marks carry their values here too"


@pytest.mark.parametrize(
    ("block", "greys"),
    [(GALLERY, [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]), (SLIDES, [2])],
)
def test_the_first_pictures_of_a_gallery_stand_beside_the_answer(
    block: Gallery | SteppedGallery, greys: list[int]
) -> None:
    html = page(small_report(sections=(Section("s", "S", blocks=(block,)),), key=("s",)))
    check_page(html)
    assert [int(value) for value in re.findall(r'alt="grey (\d+)"', findings(html))] == greys


def test_the_first_section_named_that_has_something_to_show_is_taken() -> None:
    empty = replace(CHART, series=())
    sections = (
        Section("a", "A", blocks=(Note("n"), empty, Gallery("g", (), ""))),
        Section("b", "B", blocks=(SLIDES, CHART)),
        Section("c", "C", blocks=(CHART,)),
    )
    report = small_report(sections=sections)
    for key, where in (
        ((), None),
        (("no", "a"), None),
        (("no", "a", "b", "c"), (1, 0)),
        (("c", "b"), (2, 0)),
    ):
        found = find_key(replace(report, key=key))
        assert (found and (found.section, found.block)) == where
    assert 'id="key"' not in page(report)


def test_the_index_shows_what_carries_the_answer() -> None:
    sections = (Section("p", "P", blocks=(GALLERY,)), Section("c", "C", blocks=(CHART,)))
    sizes = []
    for key in ((), ("c",)):
        data = thumbnail(small_report(sections=sections, key=key))
        assert data is not None
        sizes.append(Image.open(io.BytesIO(data)).size)
    assert sizes == [(145, 96), SIZE]


def test_checks_that_passed_fold_into_one_line_and_others_stand_open() -> None:
    checks = tuple(
        Check(status, status, None, f"detail of {status}")
        for status in ("pass", "warn", "fail", "not applicable")
    )
    html = page(small_report(checks=checks, sections=()))
    part = html[html.index('<section id="checks"') : html.index('<section id="provenance"')]
    standing, _, folded = part.partition("<details")
    assert "1 check passed, 1 does not apply here" in folded
    assert not re.match(r"[^>]*\bopen\b", folded)
    for status in ("warn", "fail"):
        assert f"detail of {status}" in standing
    for status in ("pass", "not applicable"):
        assert f"detail of {status}" in folded


def test_the_folded_line_counts() -> None:
    assert unremarkable(["pass", "warn", "pass"]) == "2 checks passed"
    assert unremarkable(["not applicable"] * 2) == "2 do not apply here"
    assert unremarkable(["warn", "fail"]) == ""


@pytest.mark.parametrize(
    ("value", "detail", "shown"),
    [
        (0, "No image is broken.", False),
        (0.0, "Nothing.", False),
        (True, "It is so.", False),
        (None, "Nothing.", False),
        (17, "17 of 20 images.", False),
        (17, "117 of 200 images.", True),
        (0.25, "One quarter, 25%, of them.", False),
        (0.25, "One filter dominates.", True),
        (-0.5, "It falls.", True),
        ("0 to 1", "All pixels lie in [0, 1].", True),
        ("0 to 1", "From 0 to 1.", False),
    ],
)
def test_a_number_is_shown_where_it_says_more_than_the_sentence(
    value: float | str | None, detail: str, shown: bool
) -> None:
    html = page(small_report(checks=(Check("c", "warn", value, detail),), sections=()))
    assert ("Measured:" in html) == shown


@pytest.mark.parametrize("path", ["/home/me/w/tiny.pt", r"C:\Users\me\tiny.pt", "~/x/tiny.pt", "tiny.pt"])
def test_folders_of_the_weights_file_are_nobody_elses_business(path: str) -> None:
    report = small_report(model=replace(small_report().model, file=path))
    assert to_json(report)["model"]["file"] == "tiny.pt"
    html = page(report)
    assert "tiny.pt" in html
    assert "/me/" not in html.replace("\\", "/")


def test_a_file_that_is_not_known_stays_empty() -> None:
    report = small_report(model=replace(small_report().model, file=""))
    assert to_json(report)["model"]["file"] == ""
    assert "<dt>File</dt>" not in page(report)
