"""The page: complete, harmless, the same twice, and as the golden file has it."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from report_html import Page, check_page
from report_samples import HOSTILE, checkerboard, small_report, with_texts
from report_strategies import reports

from probe.core.blocks import Column, Gallery, Note, Picture, SteppedGallery, Strip, Table
from probe.core.document import Check, Report, Result, Section
from probe.core.subject import Skipped
from probe.report.page import LIMIT, page
from probe.report.text import visible

GOLDEN = Path(__file__).with_name("golden") / "small.html"


def test_holds_every_word_and_number_of_the_report() -> None:
    seen = check_page(page(small_report())).text
    for words in (
        "What a small network has learned",
        "tiny",
        "digits weights, not ImageNet",
        "18 images are few",
        "2 × truncated",
        "a.png",
        "b.png",
        "94%",
        "One of 3 filters is silent.",
        "pixel range",
        "One filter dominates.",
        "Measured: 0.25",
        "What the first layer looks for.",
        "Grey is zero.",
        "Norms near zero",
        "conv1/0",
        "Good: the line stays high.",
        "plain",
        "defended",
        "Dark transfers little.",
        "A plain word.",
        "A perturbation grows",
        "ε = 0.01",
        "ε = 0.02",
        "named 8",
        "Move the slider",
        "Look out.",
        "Does not apply",
        "The network has none.",
        "probe filters --model zoo:tiny --seed 7",
        "ab" * 32,
        "1,234",
        "567,890",
        "1 × 8 × 8",
        "MIT",
        "scikit-learn",
        "tiny.safetensors",
        "3.11",
        "23 November 2026, 21:42 UTC",
        "12 s",
        "n = 18",
        "silent filters",
    ):
        assert words in seen, words


def test_order_is_answer_warnings_checks_evidence_means() -> None:
    html = page(small_report())
    places = [
        html.index(f'<section id="{name}"')
        for name in ("findings", "warnings", "checks", "weights", "lrn", "provenance", "results")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_every_field_is_only_text(text: str) -> None:
    report = with_texts(small_report(), lambda old: f"{text} {old}"[:4000])
    seen = check_page(page(report))
    assert {tag for tag, _ in seen.tags} <= {tag for tag, _ in check_page(page(small_report())).tags} | {
        "li",
        "dt",
        "dd",
    }
    everything = seen.text + " ".join(value for _, attributes in seen.tags for value in attributes.values())
    assert visible(text).strip() in everything
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b\ud800-\udfff]", everything)


def test_every_text_field_reaches_the_page_or_the_file() -> None:
    """A text that is dropped on the way would hide a warning or a reason."""
    from probe.report.results import dumps

    texts: list[str] = []

    def mark(old: str) -> str:
        if not old:
            return old
        texts.append(f"text-{len(texts)}-")
        return f"{texts[-1]}{old}"

    report = with_texts(small_report(), mark)
    seen = check_page(page(report))
    everything = (
        seen.text
        + " ".join(value for _, attributes in seen.tags for value in attributes.values())
        + dumps(report)
    )
    assert [text for text in texts if text not in everything] == []


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(reports)
def test_any_report_becomes_a_sound_page(report: Report) -> None:
    html = page(report)
    html.encode("utf-8")
    check_page(html)


def test_same_report_gives_same_bytes() -> None:
    assert page(small_report()) == page(small_report())


def test_bare_report_has_no_empty_boxes() -> None:
    bare = small_report(
        headline=(),
        sections=(),
        results=(),
        checks=(),
        warnings=(),
        config={},
        environment={},
        command="",
        status="done",
        model=replace(small_report().model, notes=(), sha256=None, macs=None),
        data=replace(small_report().data, skipped=()),
    )
    seen = check_page(page(bare))
    ids = {attributes.get("id") for _, attributes in seen.tags}
    assert not {"warnings", "checks", "results"} & ids
    assert {"findings", "provenance"} <= ids


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_proportion_that_is_no_number_has_no_bar(value: float) -> None:
    result = Result("share", value, 3, (0.0, 0.5), "proportion")
    html = page(small_report(results=(result,), sections=()))
    check_page(html)
    assert 'class="interval-bar' not in html


def test_verdict_failures_and_parts_left_out_stand_at_the_top() -> None:
    checks = (
        Check("gradient reaches the input", "fail", 0.0, "It is 0 for 7 of 18 images."),
        Check("b", "pass", None, ""),
    )
    html = page(small_report(checks=checks))
    findings = html[html.index('<section id="findings"') : html.index('<section id="warnings"')]
    words = " ".join(Page(findings).text.split())
    assert "Not to be trusted: 1 of 3 checks failed – gradient reaches the input." in words
    assert "Not applicable here: Normalisation (The network has none.)" in words
    box = html[html.index('<section id="warnings"') : html.index('<section id="checks"')]
    assert "1 check failed." in box
    assert '<a href="#check/gradient-reaches-the-input">' in box
    assert "It is 0 for 7 of 18 images." in box


def test_methods_are_one_paragraph_with_references_and_a_button() -> None:
    seen = check_page(page(small_report()))
    assert "The weights of tiny were read. Filters were compared by cosine (Author 2020)." in seen.text
    (button,) = (b for b in seen.all("button") if b["data-copy"] == "text:methods text:references")
    assert "hidden" in button
    for changes, copied in (({"references": ()}, ["text:methods"]), ({"methods": ()}, ["text:references"])):
        bare = check_page(page(small_report(**changes)))
        assert [b["data-copy"] for b in bare.all("button")] == ["text:command", *copied]
    none = check_page(page(small_report(methods=(), references=())))
    assert "ready to paste" not in none.text


def test_hashes_of_weights_and_data_are_told() -> None:
    report = small_report()
    text = check_page(page(report)).text
    assert "ab" * 32 in text
    assert "cd" * 32 in text
    assert "SHA-256–" in check_page(page(replace(report, data=replace(report.data, sha256=None)))).text


def test_named_rows_have_fragments_and_other_rows_none() -> None:
    named = Table(
        "t", (Column("Site"), Column("n")), (("layer2.0.conv1", 1), ("layer2.0.conv1", 2), ("1", 3))
    )
    plain = Table("u", (Column("n"),), ((1,), (2,)))
    report = small_report(sections=(Section("lesion", "L", blocks=(named, plain)),), results=())
    seen = check_page(page(report))
    rows = [row.get("id", "") for row in seen.all("tr")]
    assert rows == ["", "lesion/layer2.0.conv1", "lesion/layer2.0.conv1-2", "lesion/1-2", "", "", ""]
    assert {"#lesion/layer2.0.conv1", "#lesion/1-2"} <= {link["href"] for link in seen.all("a")}
    assert {"lesion/1", "lesion/2"} <= {block.get("id") for block in seen.all("div")}


def test_rows_of_channels_are_linked_by_layer_and_channel() -> None:
    table = Table(
        "t", (Column("Layer"), Column("Channel")), (("layer2", 17), ("layer2", 3), ("layer3", None))
    )
    seen = check_page(page(small_report(sections=(Section("inside", "S", blocks=(table,)),), results=())))
    rows = [row["id"] for row in seen.all("tr") if "id" in row]
    assert rows == ["inside/layer2/ch17", "inside/layer2/ch3", "inside/layer3"]


def test_options_of_options_are_written_in_plain_words() -> None:
    config = {"attack options": {"pgd": {"steps": 40, "restarts": None}, "fab": {}}, "none": {}}
    text = check_page(page(small_report(config=config))).text
    assert "pgd: (steps: 40; restarts: auto); fab: (–)" in text


def test_rows_of_a_long_table_have_fragments_but_no_links() -> None:
    table = Table("t", (Column("Site"),), tuple((f"site{i}",) for i in range(401)))
    seen = check_page(page(small_report(sections=(Section("s", "S", blocks=(table,)),))))
    assert [row["id"] for row in seen.all("tr") if row.get("id", "").startswith("s/site")][-1] == "s/site400"
    assert "#s/site0" not in {link["href"] for link in seen.all("a")}


def test_what_can_be_wiped_is_marked() -> None:
    pictures = (checkerboard(), checkerboard(), checkerboard())
    gallery = Gallery("g", (Strip(pictures, compare=(2, 0)), Strip(pictures)), "r")
    seen = check_page(page(small_report(sections=(Section("s", "S", blocks=(gallery,)),))))
    assert [div["data-compare"] for div in seen.all("div") if "data-compare" in div] == ["2 0"]


@pytest.mark.parametrize(
    ("pictures", "compare", "reason"),
    [
        ((checkerboard(),), (0, 1), "no pictures"),
        ((checkerboard(), checkerboard()), (-1, 0), "no pictures"),
        ((checkerboard(4), checkerboard(6)), (0, 1), "differ in size"),
    ],
)
def test_a_strip_refuses_to_compare_what_does_not_fit(
    pictures: tuple[Picture, ...], compare: tuple[int, int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Strip(pictures, "s", compare=compare)


def test_own_script_is_small_and_there_is_no_other() -> None:
    (script,) = check_page(page(small_report())).raw["script"]
    assert len(script.encode()) < 30_000
    for foreign in (
        "http:",
        "https:",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "import(",
        "innerHTML",
        "eval(",
    ):
        assert foreign not in script


def test_interruption_and_model_notes_are_warnings_said_once() -> None:
    report = small_report(status="interrupted", warnings=("These are digits weights, not ImageNet weights.",))
    html = page(report)
    box = html[html.index('<section id="warnings"') : html.index('<section id="checks"')]
    assert box.count("These are digits weights, not ImageNet weights.") == 1
    assert "The run was interrupted" in box


def test_skipped_inputs_are_grouped_by_reason_most_frequent_first() -> None:
    skipped = (Skipped("one.png", "huge"), *(Skipped(f"{i}.jpg", "truncated") for i in range(12)))
    report = small_report(data=replace(small_report().data, skipped=skipped))
    text = check_page(page(report)).text
    assert "13 inputs were skipped" in text
    assert text.index("12 × truncated") < text.index("1 × huge")
    assert all(f"{i}.jpg" in text for i in range(12))


def test_anchors_become_unique_ids_with_links() -> None:
    twice = Gallery("g", (Strip((checkerboard(), checkerboard()), "s", anchor='layer 2/ch"17'),), "r")
    report = small_report(sections=(Section("main", "Clashes with the page's own id", blocks=(twice,)),))
    seen = check_page(page(report))
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert {"conv1/ch0", "conv1/ch0-2", "layer-2/ch-17", "main", "main-2"} <= set(ids)
    links = {attributes.get("href") for attributes in seen.all("a")}
    assert {"#conv1/ch0", "#conv1/ch0-2", "#layer-2/ch-17", "#main-2"} <= links


def slides(*rows: tuple[Strip, ...], steps: tuple[str, ...] = ("a", "b"), start: int = 0) -> SteppedGallery:
    return SteppedGallery("Slides", steps, rows, "Read on.", 48, start)


def strip_of(value: int, anchor: str = "") -> Strip:
    pixels = np.full((8, 8), value, np.uint8)
    return Strip((Picture(pixels, f"grey {value}", f"caption {value}", anchor),), f"strip {value}")


def test_slides_show_every_picture_row_by_row_with_the_name_of_its_step() -> None:
    block = slides((strip_of(1), strip_of(2, "dark/2")), (strip_of(3), strip_of(4)), start=1)
    html = page(small_report(sections=(Section("s", "S", blocks=(block,)),)))
    seen = check_page(html)
    assert [image["alt"] for image in seen.all("img")] == [f"grey {value}" for value in (1, 2, 3, 4)]
    sources = [image["src"] for image in seen.all("img")]
    assert len(set(sources)) == 4
    words = [text for text in seen.texts if re.fullmatch("strip [1-4]|[ab]|caption [1-4]", text)]
    expected = [(f"strip {v}", step, f"caption {v}") for v, step in zip((1, 2, 3, 4), "abab", strict=True)]
    assert words == [word for triple in expected for word in triple]
    (own,) = (attributes for attributes in seen.all("div") if "data-start" in attributes)
    assert own["data-start"] == "1"
    assert "dark/2" in {attributes.get("id") for attributes in seen.all("figure")}


def test_slides_count_among_the_pictures_that_are_kept_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.report.page.LIMIT", 1)
    rng = np.random.default_rng(0)
    noisy = Strip((Picture(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8), "noise"),))
    report = small_report(sections=(Section("s", "S", blocks=(slides((noisy, noisy)),)),))
    assert "Pictures are stored as thumbnails" in check_page(page(report)).text


@pytest.mark.parametrize("rows", [((strip_of(1),),), ((strip_of(1),) * 2, (strip_of(1),) * 3)])
def test_slides_refuse_a_row_without_a_strip_for_every_step(rows: tuple[tuple[Strip, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"slides 'Slides': [13] strips for 2 steps"):
        slides(*rows)


@pytest.mark.parametrize("start", [-1, 2])
def test_slides_refuse_to_start_where_no_step_is(start: int) -> None:
    with pytest.raises(ValueError, match="no step"):
        slides((strip_of(1), strip_of(2)), start=start)


def test_slides_without_rows_or_steps_say_that_there_is_nothing() -> None:
    empty = (slides(), slides(steps=()), slides((Strip(()), Strip(()))))
    text = check_page(page(small_report(sections=(Section("s", "S", blocks=empty),)))).text
    assert text.count("There are no pictures.") == 2
    assert text.count("No pictures.") == 2


def test_pixelated_pictures_stand_on_whole_squares() -> None:
    pixels = np.zeros((7, 7, 3), np.uint8)
    report = small_report(
        sections=(
            Section(
                "s", "S", blocks=(Gallery("g", (Strip((Picture(pixels, "a", pixelated=True),)),), "", 96),)
            ),
        )
    )
    (image,) = (i for i in check_page(page(report)).all("img") if "crisp" in i["class"])
    assert int(image["width"]) % 7 == 0
    assert abs(int(image["width"]) - 96) <= 3


def test_long_tables_are_cut_and_say_so() -> None:
    table = Table("t", (Column("n"),), tuple((i,) for i in range(5000)))
    text = check_page(page(small_report(sections=(Section("s", "S", blocks=(table,)),)))).text
    assert "The first 2,000 of 5,000 rows." in text
    assert "1,999" in text
    assert "2,001" not in text


def noise(count: int, side: int, *, pixelated: bool) -> Report:
    rng = np.random.default_rng(0)
    pictures = tuple(
        Picture(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), f"noise {i}", pixelated=pixelated)
        for i in range(count)
    )
    return small_report(sections=(Section("s", "S", blocks=(Gallery("g", (Strip(pictures),), "r"),)),))


@pytest.mark.parametrize("pixelated", [False, True])
def test_too_many_bytes_of_pictures_are_reduced_and_the_page_says_so(
    pixelated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.report.page.LIMIT", 1_000_000)
    monkeypatch.setattr("probe.report.pictures.COMFORTABLE", 300_000)
    report = noise(40, 128, pixelated=pixelated)
    html = page(report)
    assert sum(picture.pixels.size for picture in report.sections[0].blocks[0].strips[0].pictures) > 1_500_000
    assert len(html.encode()) <= 1_000_000
    assert ("Pictures are stored" in check_page(html).text) == pixelated


@pytest.mark.slow
def test_a_gigabyte_of_noise_stays_below_the_limit() -> None:
    html = page(noise(400, 640, pixelated=True))
    assert len(html.encode()) <= LIMIT
    assert "Pictures are stored" in html


def test_few_pictures_are_not_reduced() -> None:
    html = page(noise(4, 64, pixelated=True))
    assert "Pictures are stored" not in html


def normalised(html: str) -> str:
    """Leave out what may change without the page's structure changing: style, script, hashes, coded pictures."""
    html = re.sub(r"(?s)<style>.*?</style>", "<style>…</style>", html)
    html = re.sub(r"(?s)<script>.*?</script>", "<script>…</script>", html)
    html = re.sub(r"sha256-[A-Za-z0-9+/=]+", "sha256-…", html)
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,…", html)


def test_small_report_is_golden() -> None:
    """After a wanted change: PROBE_UPDATE_GOLDEN=1 pytest tests/report, then read the difference."""
    html = normalised(page(small_report()))
    if os.environ.get("PROBE_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(html, encoding="utf-8")
    golden = GOLDEN.read_text(encoding="utf-8")
    changes = "\n".join(
        difflib.unified_diff(golden.splitlines(), html.splitlines(), "golden", "now", n=1, lineterm="")
    )
    assert golden == html, changes


def test_note_block_keeps_its_line_breaks() -> None:
    report = small_report(sections=(Section("s", "S", blocks=(Note("one\ntwo"),)),))
    assert "one\ntwo" in check_page(page(report)).text
