from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.errors import UsageError
from probe.models.load import find_architecture, parse_name
from probe.models.source import SOURCES, Access

SOURCE_NAMES = ("embedded", "file", "hf-hub", "timm", "torchvision", "zoo")
identifiers = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
values = st.one_of(
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.tuples(st.integers(), st.integers()),
)


def test_sources_are_those_that_the_names_are_written_for() -> None:
    assert SOURCES.names() == SOURCE_NAMES


@pytest.mark.parametrize(
    ("text", "source", "target"),
    [
        ("resnet18", None, "resnet18"),
        (" resnet18 ", None, "resnet18"),
        ("resnet50.a1_in1k", None, "resnet50.a1_in1k"),
        ("timm:resnet50.a1_in1k", "timm", "resnet50.a1_in1k"),
        ("torchvision:vgg11", "torchvision", "vgg11"),
        ("zoo:resnet20", "zoo", "resnet20"),
        ("hf-hub:timm/resnet18.a1_in1k@main", "hf-hub", "timm/resnet18.a1_in1k@main"),
        ("net.py:make", "file", "net.py:make"),
        ("a/b c/net.py:make", "file", "a/b c/net.py:make"),
        ("/x:y/net.py:make", "file", "/x:y/net.py:make"),
        ("package.module:make", "file", "package.module:make"),
    ],
)
def test_forms(text: str, source: str | None, target: str) -> None:
    name = parse_name(text, SOURCE_NAMES)
    assert (name.source, name.target, name.options) == (source, target, {})


def test_options_are_literals_or_text() -> None:
    name = parse_name("net.py:make?depth=56&shortcut=False&option=A&p=0.5&size=(3, 4)&s='x'&e=", SOURCE_NAMES)
    assert name.options == {
        "depth": 56,
        "shortcut": False,
        "option": "A",
        "p": 0.5,
        "size": (3, 4),
        "s": "x",
        "e": "",
    }


@given(st.dictionaries(identifiers, values, min_size=1, max_size=5))
def test_literals_survive(options: dict[str, object]) -> None:
    query = "&".join(f"{key}={value!r}" for key, value in options.items())
    assert parse_name(f"zoo:resnet?{query}", SOURCE_NAMES).options == options


@given(st.text(string.ascii_letters + "_-.", min_size=1).filter(lambda text: not text.endswith(".py")))
def test_bare_names_are_kept(text: str) -> None:
    assert parse_name(text, SOURCE_NAMES).target == text


@given(st.text())
def test_anything_else_is_a_usage_error(text: str) -> None:
    try:
        name = parse_name(text, SOURCE_NAMES)
    except UsageError:
        return
    assert name.source in (None, *SOURCE_NAMES)
    assert name.target


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("zoo:", "zoo:NAME"),
        ("zoo:x?", "key=value"),
        ("zoo:x?depth", "'depth'"),
        ("zoo:x?a=1&a=2", "twice"),
        ("zoo:x?a b=1", "key=value"),
        ("timm/resnet18", "hf-hub:timm/resnet18"),
        ("net.py:", "FUNCTION"),
        ("net.py:a-b", "FUNCTION"),
        ("not a module:make", "not a model source"),
    ],
)
def test_what_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        parse_name(text, SOURCE_NAMES)


def test_a_file_without_a_function_lists_its_functions(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("def small(): ...\nclass Big: ...\ndef _hidden(): ...\n")
    with pytest.raises(UsageError, match=r"net.py:FUNCTION. It defines small, Big\.") as caught:
        parse_name(str(path), SOURCE_NAMES)
    assert "_hidden" not in str(caught.value)


def test_a_file_is_not_a_network_and_goes_to_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt2", "resnet18"):
        (tmp_path / name).write_bytes(b"")
    for name in ("net.pt2", f"{tmp_path}/net.pt2"):
        with pytest.raises(UsageError, match=rf"is a file.*net.py:FUNCTION.*--weights {name}"):
            find_architecture(name, Access(offline=True))
    assert find_architecture("resnet18", Access(offline=True)).name == "resnet18"
