"""Folders for reports: safe names, never an old one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.errors import CannotRunError
from probe.report.files import report_folder, safe_name

STAMP = datetime(2026, 11, 23, 21, 42, 24, tzinfo=UTC)
anything = st.text(st.characters(codec=None, exclude_categories=()))


def test_name_is_as_documented(tmp_path: Path) -> None:
    assert (
        report_folder(tmp_path, "filters", "efficientnet_lite0", "", STAMP).name
        == "filters-efficientnet_lite0-20261123-214224"
    )
    assert (
        report_folder(tmp_path, "ablate", "zoo:resnet20", "digits", "20261123-214224").name
        == "ablate-zoo-resnet20-digits-20261123-214224"
    )


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    made = [report_folder(tmp_path / "deep" / "er", "filters", "m", "", STAMP) for _ in range(3)]
    assert [path.name for path in made] == ["filters-m-20261123-214224" + end for end in ("", "-2", "-3")]
    assert all(path.is_dir() for path in made)


def test_a_file_in_the_way_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "filters-m-20261123-214224").write_text("mine")
    assert report_folder(tmp_path, "filters", "m", "", STAMP).name.endswith("-2")
    assert (tmp_path / "filters-m-20261123-214224").read_text() == "mine"


@given(anything)
def test_any_name_is_one_plain_path_part(name: str) -> None:
    part = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,60}", part)
    assert not part.startswith((".", "-"))
    assert not part.endswith(".")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("网络", "模型"),
        ("a" * 80, "a" * 81),
        ("", " "),
        ("é" * 3, "è网"),
        ("../../etc", "../../etc网"),
        ("\udcff", "\udcfe"),
    ],
)
def test_names_that_lose_letters_stay_apart(one: str, two: str) -> None:
    assert safe_name(one) != safe_name(two)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("timm:tf_efficientnet_lite0", "timm-tf_efficientnet_lite0"),
        ("path/to/net.py:factory?depth=56", "path-to-net.py-factory-depth-56"),
        ("../../etc/passwd", "etc-passwd"),
        ("résumé", "resume"),
        ("C:\\models\\net", "C-models-net"),
        ("hf-hub:org/name", "hf-hub-org-name"),
    ],
)
def test_names_stay_readable(name: str, part: str) -> None:
    assert safe_name(name) == part


def test_a_root_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotRunError, match=r"--out\.$"):
        report_folder(tmp_path / "file" / "in", "filters", "m", "", STAMP)
