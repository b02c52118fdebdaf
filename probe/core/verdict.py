"""The verdict on a report: a summary of its checks in one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CheckStatus = Literal["pass", "warn", "fail", "not applicable"]

_NAMED = 6
"""Maximum number of checks listed in a verdict; the others are only counted."""


@dataclass(frozen=True)
class Verdict:
    """The assessment of a report in a few words, the reason, and the status for its symbol."""

    status: CheckStatus
    word: str
    why: str


def verdict(checks: Iterable[tuple[str, str]]) -> Verdict:
    """Return the verdict for (name, status) pairs: a single failed check is enough for *not to be trusted*."""
    applicable = [(name, status) for name, status in checks if status in ("pass", "warn", "fail")]
    failed = [name for name, status in applicable if status == "fail"]
    warned = [name for name, status in applicable if status == "warn"]
    if not applicable:
        return Verdict("not applicable", "Not checked", "no check applies to this run")
    share = f"of {len(applicable)} check{'' if len(applicable) == 1 else 's'}"
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
        "the only check passed" if len(applicable) == 1 else f"all {len(applicable)} checks passed",
    )


def _list_names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
