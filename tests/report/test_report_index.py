"""The index: every report, newest first; what is broken is named."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from report_html import Page, check_page
from report_samples import small_report

from probe.core.document import Check, Result
from probe.core.errors import CannotRunError
from probe.report.index import read_folder, update_index
from probe.report.render import write_report


def read(folder: Path) -> Page:
    return check_page(update_index(folder).read_text(encoding="utf-8"))


def test_newest_first_with_links_and_numbers(tmp_path: Path) -> None:
    for day, name in ((3, "c"), (1, "a"), (2, "b")):
        write_report(
            small_report(
                created=f"2026-11-0{day}T10:00:00+00:00",
                model=replace(small_report().model, name=f"net-{name}"),
            ),
            tmp_path / name,
        )
    seen = read(tmp_path)
    links = [link["href"] for link in seen.all("a") if link["href"].endswith("report.html")]
    assert links == ["c/report.html", "b/report.html", "a/report.html"]
    for words in (
        "net-a",
        "digits",
        "94.4%",
        "accuracy",
        "n = 18",
        "With reservations",
        "1 of 2 checks warns – scale",
        "3 November 2026, 10:00 UTC",
        "3 reports",
    ):
        assert words in seen.text, words


def test_time_zones_are_compared_as_moments(tmp_path: Path) -> None:
    write_report(small_report(created="2026-11-01T12:00:00+05:00"), tmp_path / "earlier")
    write_report(small_report(created="2026-11-01T08:00:00+00:00"), tmp_path / "later")
    write_report(small_report(created="who knows"), tmp_path / "undated")
    entries, _ = read_folder(tmp_path)
    assert [entry.folder for entry in entries] == ["later", "earlier", "undated"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"seconds": NaN}', "NaN"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "not a report"),
        (b"{}", "&#39;model&#39; is missing"),
        (b'{"model": {}, "data": {}}', "is missing"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"model": {"name": 3}, "data": {}, "checks": 3}', "checks"),
    ],
)
def test_broken_files_are_named_and_the_rest_is_shown(tmp_path: Path, content: bytes, reason: str) -> None:
    write_report(small_report(), tmp_path / "good")
    (tmp_path / "bad <b>").mkdir()
    (tmp_path / "bad <b>" / "results.json").write_bytes(content)
    html = update_index(tmp_path).read_text(encoding="utf-8")
    seen = check_page(html)
    assert "bad <b>/results.json" in seen.text
    assert reason in html
    assert "good/report.html" in {link["href"] for link in seen.all("a")}


def test_folders_that_are_no_reports_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "results.json").mkdir()
    seen = read(tmp_path)
    assert "odd/results.json" in seen.text
    assert "notes" not in seen.text


def test_a_report_without_its_page_has_no_link(tmp_path: Path) -> None:
    write_report(small_report(), tmp_path / "half").unlink()
    seen = read(tmp_path)
    assert "no page" in seen.text
    assert not [link for link in seen.all("a") if "half" in link["href"]]


def test_hostile_names_and_texts_are_text(tmp_path: Path) -> None:
    folder = tmp_path / "a' onclick='x&\u202e#?%"
    hostile = "<script>alert(1)</script>\u202e"
    report = small_report(
        study=hostile,
        created=hostile,
        model=replace(small_report().model, name=hostile),
        results=(Result(hostile, 1.0, unit=hostile),),
    )
    write_report(report, folder)
    seen = read(tmp_path)
    assert "<script>alert(1)</script>⟨U+202E⟩" in seen.text
    (link,) = (link["href"] for link in seen.all("a") if "report.html" in link["href"])
    assert link == "a%27%20onclick%3D%27x%26%E2%80%AE%23%3F%25/report.html"


def test_verdict_of_the_checks(tmp_path: Path) -> None:
    for status in ("fail", "warn", "pass"):
        write_report(
            small_report(sections=(), checks=(Check("c", status, None, ""), Check("d", "pass", None, ""))),
            tmp_path / status,
        )
    text = read(tmp_path).text
    for words in (
        "Not to be trusted1 of 2 checks failed – c",
        "With reservations1 of 2 checks warns – c",
        "No fault foundnone of the 2 checks found a fault",
    ):
        assert words in text, words


def test_thumbnails_stand_in_the_index_and_broken_ones_are_left_out(tmp_path: Path) -> None:
    path = write_report(small_report(), tmp_path / "good").with_name("thumbnail.webp")
    for name, content in (
        ("cut", path.read_bytes()[:60]),
        ("script", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("huge", b"RIFF" + bytes(50_000)),
        ("empty", b""),
    ):
        write_report(small_report(), tmp_path / name).with_name("thumbnail.webp").write_bytes(content)
    Image.new("RGB", (400, 400)).save(
        write_report(small_report(), tmp_path / "large").with_name("thumbnail.webp")
    )
    write_report(small_report(), tmp_path / "none").with_name("thumbnail.webp").unlink()
    folder = write_report(small_report(), tmp_path / "folder").with_name("thumbnail.webp")
    folder.unlink()
    folder.mkdir()
    seen = read(tmp_path)
    assert "8 reports" in seen.text
    (image,) = seen.all("img")
    assert image["src"] == f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"
    with Image.open(path) as shown:
        assert (image["width"], image["height"]) == tuple(map(str, shown.size))


def test_an_empty_folder_has_an_index_too(tmp_path: Path) -> None:
    assert "no report in this folder yet" in read(tmp_path / "new").text


def test_the_first_number_is_the_headline(tmp_path: Path) -> None:
    path = write_report(small_report(), tmp_path / "r").with_name("results.json")
    document = json.loads(path.read_text())
    document["results"] = [
        {"name": "verdict", "value": "fine"},
        {"name": "median", "value": 0.25, "ci": ["x", 1], "n": "7"},
    ]
    path.write_text(json.dumps(document))
    entries, broken = read_folder(tmp_path)
    assert not broken
    assert entries[0].result == Result("median", 0.25)


def test_an_index_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotRunError, match=r"--out\.$"):
        update_index(tmp_path / "file")
