"""What lies beside results.json: samples.jsonl and further files, all of them or none."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from report_samples import small_report

from probe.core.errors import CannotRunError
from probe.report.render import write_report
from probe.report.results import artifacts, dumps_samples, to_json

FILES = {"images/a.png": b"a", "images/index.json": b"{}"}


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def refuse(token: str) -> NoReturn:
    raise AssertionError(f"{token} is not JSON")


def test_a_sample_is_a_line_of_strict_json() -> None:
    hostile = "two\nlines\u2028and\u0085more\r\ud800"
    report = small_report(
        samples=(
            {"image": hostile, "size": math.inf, "none": math.nan, "right": np.bool_(True)},
            {"image": "b", "sizes": (np.float32(0.5), -math.inf)},
        )
    )
    text = dumps_samples(report)
    text.encode("utf-8")
    assert len(text.splitlines()) == 2
    first, second, rest = text.split("\n")
    assert rest == ""
    assert json.loads(first, parse_constant=refuse) == {
        "image": hostile.replace("\ud800", "\\ud800"),
        "size": None,
        "none": None,
        "right": True,
    }
    assert json.loads(second, parse_constant=refuse) == {"image": "b", "sizes": [0.5, None]}


def test_artifacts_name_each_file_beside_once(tmp_path: Path) -> None:
    report = small_report(samples=({"image": "a"},), files=FILES, artifacts=("images/a.png",))
    assert artifacts(report) == ("images/a.png", "samples.jsonl", "images/index.json")
    assert to_json(report)["artifacts"] == list(artifacts(report))
    write_report(report, tmp_path)
    assert set(artifacts(report)) <= everything(tmp_path)
    assert (tmp_path / "images/a.png").read_bytes() == b"a"
    assert json.loads((tmp_path / "samples.jsonl").read_text()) == {"image": "a"}


def test_a_report_without_samples_has_no_file_of_them(tmp_path: Path) -> None:
    write_report(small_report(samples=({"image": "a"},), files=FILES), tmp_path)
    write_report(small_report(), tmp_path)
    assert everything(tmp_path) == {"report.html", "results.json", "thumbnail.webp"}


@pytest.mark.parametrize(
    "place",
    [
        "../a",
        "/tmp/a",
        "images/../../a",
        "images/./a",
        ".hidden",
        "images/.hidden",
        "images//a",
        "images/",
        "",
        "a\n",
        "a\\b",
        "C:a",
        "report.html",
        "results.json",
    ],
)
def test_no_file_is_written_elsewhere_or_over_the_report(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "in" / "report"
    with pytest.raises(ValueError, match="not the place"):
        write_report(small_report(files={place: b"x"}), folder)
    assert everything(tmp_path) == set()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("which", [1, 3, 6])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_failing_rename_leaves_no_file_and_no_folder_of_the_new_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, which: int, earlier: bool
) -> None:
    folder = tmp_path / "report"
    before: dict[str, bytes] = {}
    if earlier:
        write_report(small_report(title="earlier", samples=({"image": "old"},)), folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real, calls = os.replace, []

    def replace(source: Any, target: Any) -> None:
        if ".tmp" in str(source):
            calls.append(target)
            if len(calls) == which:
                raise failure
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    expected = CannotRunError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_report(small_report(samples=({"image": "new"},), files=FILES), folder)
    assert len(calls) == which
    if earlier:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    else:
        assert not folder.exists()


@pytest.mark.parametrize(
    "listed",
    ['["images/../../precious"]', '["../precious"]', '["images/"]', '"images/a"', "[1, null]", "{", "[]]"],
)
def test_a_foreign_list_makes_nothing_else_go(tmp_path: Path, listed: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    folder = tmp_path / "report"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "mine.png").write_text("keep")
    (folder / "results.json").write_text(f'{{"artifacts": {listed}}}')
    write_report(small_report(), folder)
    assert precious.read_text() == "keep"
    assert (folder / "images" / "mine.png").read_text() == "keep"
