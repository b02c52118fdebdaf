"""Text files that users name are read bounded, and refused in one line for what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probe.core.errors import UsageError
from probe.core.textfile import parse_json, read_text
from probe.data.class_map import read_class_map
from probe.data.labels_csv import LabelsCsv
from probe.models.labels import read_labels


def read_csv(path: Path) -> object:
    return LabelsCsv(path).read()


READERS = (read_labels, read_class_map, read_csv)


def refused(read: object, path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read(path)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_not_read(tmp_path: Path, read: object) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(read, tmp_path / "pipe")
    assert "not a regular file" in refused(read, Path("/dev/zero"))
    assert "folder" in refused(read, tmp_path)
    assert "No such file" in refused(read, tmp_path / "nothing")


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, read: object) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 2)
    if read is read_csv:  # read up to 1 GiB: tested through the limit itself
        with pytest.raises(UsageError, match="larger than 1 MiB"):
            read_text(path, "labels file", 1 << 20)
    else:
        assert "larger than 64 MiB" in refused(read, path)


@pytest.mark.parametrize("read", READERS)
def test_text_in_another_encoding_is_refused(tmp_path: Path, read: object) -> None:
    (tmp_path / "latin").write_bytes("löwe\nbär\n".encode("latin-1"))
    assert "UTF-8" in refused(read, tmp_path / "latin")


@pytest.mark.parametrize(("read", "text"), [(read_labels, "["), (read_class_map, '{"a":')])
def test_deep_json_is_refused(tmp_path: Path, read: object, text: str) -> None:
    (tmp_path / "deep.json").write_text(text * 200_000)
    assert "deeply" in refused(read, tmp_path / "deep.json")


@pytest.mark.parametrize("read", [read_class_map, read_csv])
def test_a_cell_beyond_the_limit_is_refused(tmp_path: Path, read: object) -> None:
    (tmp_path / "cell.csv").write_text("file,label\n0.png," + "x" * 200_000)
    assert "CSV" in refused(read, tmp_path / "cell.csv")


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'["a", "b"]')
    assert parse_json(read_text(path, "labels file"), path, "labels file") == ["a", "b"]
    assert read_labels(path) == ("a", "b")
