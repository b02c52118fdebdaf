"""Options written after a name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.errors import UsageError
from probe.core.option_string import parse_options

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text("abc xyz", max_size=6),
    st.tuples(st.integers(), st.integers()),
)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_literals_come_back(options: dict[str, Any]) -> None:
    query = "&".join(f"{key}={value!r}" for key, value in options.items())
    found = parse_options(query, query)
    assert found == options
    assert list(found) == list(options)
    assert [type(value) for value in found.values()] == [type(value) for value in options.values()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ce", "ce"),
        ("", ""),
        ("8/255", "8/255"),
        ("true", "true"),
        ("True", True),
        ("1e-3", 0.001),
        ("-3", -3),
        ("a=b", "a=b"),
        ("__import__('os')", "__import__('os')"),
        ("(1", "(1"),
        ("7 apples", "7 apples"),
        ("../weights.pt", "../weights.pt"),
    ],
)
def test_what_is_no_literal_is_text(value: str, expected: object) -> None:
    found = parse_options(f"key={value}", "name")["key"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("query", ["", "a", "=3", "a=1&", "&a=1", "a b=1", "a=1&&b=2", "1a=2", "a-b=2"])
def test_other_forms_are_refused_with_the_whole_word(query: str) -> None:
    with pytest.raises(UsageError, match="in 'the whole word' is not of the form key=value"):
        parse_options(query, "the whole word")


def test_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'a' is given twice in 'pgd'"):
        parse_options("a=1&b=2&a=1", "pgd")


@given(st.text(max_size=20))
def test_any_text_gives_options_or_a_usage_error(query: str) -> None:
    try:
        found = parse_options(query, query)
    except UsageError:
        return
    assert len(found) == query.count("&") + 1
