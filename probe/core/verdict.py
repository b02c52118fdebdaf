"""Whether a report can be believed: its checks in one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CheckStatus = Literal["pass", "warn", "fail", "not applicable"]

_NAMED = 6
"""Checks named in a verdict; of more than these, the rest is counted."""


@dataclass(frozen=True)
class Verdict:
    """What to think of a report in a few words, why, and the status whose sign stands before it."""

    status: CheckStatus
    word: str
    why: str


def verdict(checks: Iterable[tuple[str, str]]) -> Verdict:
    """Return the verdict of (name, status) pairs: a single failed check suffices for *not to be trusted*."""
    decided = [(name, status) for name, status in checks if status in ("pass", "warn", "fail")]
    failed = [name for name, status in decided if status == "fail"]
    warned = [name for name, status in decided if status == "warn"]
    if not decided:
        return Verdict("not applicable", "Not checked", "no check applies to this run")
    share = f"of {len(decided)} check{'' if len(decided) == 1 else 's'}"
    if failed:
        return Verdict("fail", "Not to be trusted", f"{len(failed)} {share} failed – {_list_names(failed)}")
    if warned:
        verb = "warns" if len(warned) == 1 else "warn"
        return Verdict(
            "warn", "Reliable, with reservations", f"{len(warned)} {share} {verb} – {_list_names(warned)}"
        )
    return Verdict(
        "pass",
        "Reliable",
        "the only check passed" if len(decided) == 1 else f"all {len(decided)} checks passed",
    )


def unremarkable(statuses: Iterable[str]) -> str:
    """Return one line for checks that neither failed nor warned: how many passed, how many do not apply."""
    listed = list(statuses)
    passed, inapplicable = listed.count("pass"), listed.count("not applicable")
    parts = [f"{passed} check{'' if passed == 1 else 's'} passed"] if passed else []
    if inapplicable:
        parts.append(f"{inapplicable} {'does' if inapplicable == 1 else 'do'} not apply here")
    return ", ".join(parts)


def _list_names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
