"""Nothing half-written: not after an exception, not after Ctrl-C, not on a full disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from report_html import check_page
from report_samples import small_report

from probe.core.errors import CannotRunError
from probe.report.files import write_together
from probe.report.render import notebook, write_report

FAILURES = [RuntimeError("broken"), KeyboardInterrupt(), OSError(28, "No space left on device")]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_writes_its_three_files_and_nothing_else(tmp_path: Path) -> None:
    path = write_report(small_report(), tmp_path / "new" / "report")
    assert path == tmp_path / "new" / "report" / "report.html"
    assert names(path.parent) == {"report.html", "results.json", "thumbnail.webp"}
    check_page(path.read_text(encoding="utf-8"))
    assert json.loads((path.parent / "results.json").read_text(encoding="utf-8"))["study"] == "filters"


def test_files_get_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    path = write_report(small_report(), tmp_path / "r")
    assert path.stat().st_mode == plain.stat().st_mode


def test_replaces_an_earlier_report(tmp_path: Path) -> None:
    write_report(small_report(title="first"), tmp_path)
    write_report(small_report(title="second", sections=()), tmp_path)
    assert names(tmp_path) == {"report.html", "results.json"}
    assert "second" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("which", [1, 2])
def test_a_failing_rename_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, earlier: bool, which: int
) -> None:
    old = {"a": "old a", "b": "old b"} if earlier else {}
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    real, calls = os.replace, []

    def replace(source: Any, target: Any) -> None:
        if ".tmp" in str(source):
            calls.append(target)
            if len(calls) == which:
                raise failure
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(type(failure)):
        write_together(tmp_path, {"a": "new a", "b": "new b"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == old


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_failure_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    real = Path.open

    class Broken:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, text: str) -> None:
            self.file.write(text[:100])
            self.file.flush()
            raise failure

    monkeypatch.setattr(Path, "open", lambda self, *args, **kwargs: Broken(real(self, *args, **kwargs)))
    expected = CannotRunError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        write_report(small_report(), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_without_hard_links_the_old_files_are_still_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    write_together(tmp_path, {"a": "old"})
    write_together(tmp_path, {"a": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new"}


def test_a_place_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(CannotRunError, match=r"^The report cannot be written to .*taken.*--out\.$") as caught:
        write_report(small_report(), tmp_path / "taken")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "taken").read_text() == "x"


def test_a_report_that_cannot_be_rendered_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(small_report(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(_report: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("probe.report.render.dumps", broken)
    with pytest.raises(KeyboardInterrupt):
        write_report(small_report(title="new"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_same_report_gives_same_files(tmp_path: Path) -> None:
    one, two = write_report(small_report(), tmp_path / "a"), write_report(small_report(), tmp_path / "b")
    assert one.read_bytes() == two.read_bytes()
    for name in ("results.json", "thumbnail.webp"):
        assert one.with_name(name).read_bytes() == two.with_name(name).read_bytes()


def test_notebook_holds_the_page_in_an_isolated_frame() -> None:
    from html.parser import HTMLParser

    frames: list[dict[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "iframe":
                frames.append(dict(attrs))

    report = small_report(study="<b>filters</b>")
    Reader().feed(notebook(report))
    (frame,) = frames
    assert frame["sandbox"] == "allow-scripts"
    page = frame["srcdoc"]
    assert page is not None
    check_page(page)
    assert "results.json" not in page
    assert report._repr_html_() == notebook(report)
