"""Checks in one line."""

from __future__ import annotations

import pytest

from probe.core.document import Check
from probe.core.verdict import CheckStatus, verdict, verdict_of


@pytest.mark.parametrize(
    ("checks", "n_all", "status", "word", "why"),
    [
        ([], None, "not applicable", "Not checked", "no check applies to this run"),
        ([("a", "not applicable")], 1, "not applicable", "Not checked", "no check applies to this run"),
        ([], 23, "not applicable", "Not checked", "none of the 23 checks was made"),
        ([("a", "pass")], None, "pass", "No fault found", "the only check made found no fault"),
        ([("a", "pass")], 1, "pass", "Reliable", "the only check made found no fault"),
        (
            [("a", "pass"), ("b", "pass")],
            None,
            "pass",
            "No fault found",
            "none of the 2 checks found a fault",
        ),
        ([("a", "pass"), ("b", "pass")], 2, "pass", "Reliable", "none of the 2 checks found a fault"),
        (
            [("a", "pass"), ("b", "pass")],
            23,
            "pass",
            "No fault found",
            "none of the 2 checks found a fault; 21 were not made",
        ),
        (
            [("a", "pass"), ("b", "pass"), ("c", "not applicable")],
            3,
            "pass",
            "Reliable",
            "none of the 2 checks found a fault; 1 does not apply",
        ),
        ([("a", "pass"), ("b", "warn")], 2, "warn", "Reliable, with reservations", "1 of 2 checks warns – b"),
        ([("a", "pass"), ("b", "warn")], None, "warn", "With reservations", "1 of 2 checks warns – b"),
        (
            [("a", "warn"), ("b", "warn")],
            3,
            "warn",
            "With reservations",
            "2 of 2 checks warn – a, b; 1 was not made",
        ),
        (
            [("a", "warn"), ("b", "fail"), ("c", "pass")],
            3,
            "fail",
            "Not to be trusted",
            "1 of 3 checks failed – b",
        ),
        (
            [(str(i), "fail") for i in range(9)],
            9,
            "fail",
            "Not to be trusted",
            "9 of 9 checks failed – 0, 1, 2, 3, 4, 5 and 3 more",
        ),
    ],
)
def test_verdict(checks: list[tuple[str, str]], n_all: int | None, status: str, word: str, why: str) -> None:
    found = verdict(checks, n_all)
    assert (found.status, found.word, found.why) == (status, word, why)


PASSED, ABSENT, FAILED = ("pass", 0), ("not applicable", None), ("fail", 1)
WARNED, UNDECIDED = ("warn", 1), ("warn", None)


@pytest.mark.parametrize(
    ("first", "second", "independent", "word"),
    [
        (PASSED, ABSENT, (), "Reliable"),
        (PASSED, ABSENT, ("first",), "Reliable"),
        (PASSED, ABSENT, ("second",), "No fault found"),
        (PASSED, ABSENT, ("first", "second"), "Reliable"),
        (WARNED, ABSENT, ("first",), "Reliable, with reservations"),
        (WARNED, ABSENT, ("second",), "With reservations"),
        (PASSED, UNDECIDED, ("first",), "With reservations"),
        (UNDECIDED, PASSED, ("first",), "With reservations"),
        (FAILED, PASSED, ("first",), "Not to be trusted"),
        (ABSENT, ABSENT, ("first",), "Not checked"),
    ],
)
def test_what_applies_must_be_made_and_one_of_the_independent_checks(
    first: tuple[CheckStatus, int | None],
    second: tuple[CheckStatus, int | None],
    independent: tuple[str, ...],
    word: str,
) -> None:
    checks = [
        Check(name, status, value, "") for name, (status, value) in (("first", first), ("second", second))
    ]
    assert verdict_of(checks, 2, independent).word == word
    # A check that is not among them was not made.
    assert not verdict_of(checks, 3, independent).word.startswith("Reliable")
