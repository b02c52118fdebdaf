from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.core.errors import UsageError
from probe.models.labels import class_names, read_labels

NAMES = ("a cat", "ein Hund", "鳥")
plain = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1).filter(
    lambda t: t[0] not in "[{\ufeff"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a cat\nein Hund\n鳥"),
        ("l.txt", "a cat\r\n  ein Hund \r\n鳥\r\n\r\n"),
        ("l.txt", "\ufeffa cat\nein Hund\n鳥\n"),
        ("l.json", json.dumps(NAMES)),
        ("l.txt", json.dumps(NAMES)),
        ("l.json", json.dumps({"2": NAMES[2], "0": NAMES[0], "1": NAMES[1]})),
        ("l.json", json.dumps({"0": ["n01", NAMES[0]], "1": ["n02", NAMES[1]], "2": ["n03", NAMES[2]]})),
    ],
)
def test_forms(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert read_labels(path) == NAMES
    assert class_names(path, 3, "net") == class_names(str(path), 3, "net") == NAMES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(plain, min_size=1, max_size=20))
def test_names_survive(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "l.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    assert read_labels(path) == tuple(names)
    path.write_text(json.dumps(dict(enumerate(names))))
    assert read_labels(path) == tuple(names)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no name on line 1"),
        (b"a\n\nb\n", "no name on line 2"),
        (b"\xff\xfe\x00a", "UTF-8"),
        (b"[1, 2]", "not a name"),
        (b"[]", "list of names"),
        (b"[broken", "not valid JSON"),
        (b'{"0": "a", "2": "b"}', "number its 2 classes 0 to 1"),
        (b'{"x": "a"}', "not class numbers"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "l.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_labels(path)


def test_missing_file_and_wrong_count(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="2 class names, but the model net has 3"):
        class_names(["a", "b"], 3, "net")
