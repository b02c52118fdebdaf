"""Checks in one line."""

from __future__ import annotations

import pytest

from probe.core.verdict import verdict


@pytest.mark.parametrize(
    ("checks", "status", "word", "why"),
    [
        ([], "not applicable", "Not checked", "no check applies to this run"),
        ([("a", "not applicable")], "not applicable", "Not checked", "no check applies to this run"),
        ([("a", "pass"), ("b", "not applicable")], "pass", "Reliable", "the only check passed"),
        ([("a", "pass"), ("b", "pass")], "pass", "Reliable", "all 2 checks passed"),
        ([("a", "pass"), ("b", "warn")], "warn", "Reliable, with reservations", "1 of 2 checks warns – b"),
        ([("a", "warn"), ("b", "warn")], "warn", "Reliable, with reservations", "2 of 2 checks warn – a, b"),
        (
            [("a", "warn"), ("b", "fail"), ("c", "pass")],
            "fail",
            "Not to be trusted",
            "1 of 3 checks failed – b",
        ),
        (
            [(str(i), "fail") for i in range(9)],
            "fail",
            "Not to be trusted",
            "9 of 9 checks failed – 0, 1, 2, 3, 4, 5 and 3 more",
        ),
    ],
)
def test_verdict(checks: list[tuple[str, str]], status: str, word: str, why: str) -> None:
    found = verdict(checks)
    assert (found.status, found.word, found.why) == (status, word, why)
