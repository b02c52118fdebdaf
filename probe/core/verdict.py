"""Whether a report can be believed: its checks in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

CheckStatus = Literal["pass", "warn", "fail", "not applicable"]

_NAMED = 6
"""Checks named in a verdict; of more than these, the rest is counted."""


@dataclass(frozen=True)
class Verdict:
    """What to think of a report in a few words, why, and the status whose sign stands before it."""

    status: CheckStatus
    word: str
    why: str


def verdict(checks: Iterable[tuple[str, str]], n_all: int | None = None, sufficient: bool = True) -> Verdict:
    """Return the verdict of (name, status) pairs: a single failed check suffices for *not to be trusted*.

    ``n_all`` is how many checks there are against which an evaluation is called reliable (None: no such set). The word
    *reliable* is only used where all of them are among ``checks``, made or not applicable, and are ``sufficient``.
    """
    pairs = list(checks)
    made = [(name, status) for name, status in pairs if status in ("pass", "warn", "fail")]
    failed = [name for name, status in made if status == "fail"]
    warned = [name for name, status in made if status == "warn"]
    if not made:
        why = "no check applies to this run" if pairs or not n_all else f"none of the {n_all} checks was made"
        return Verdict("not applicable", "Not checked", why)
    complete = sufficient and n_all is not None and len(pairs) >= n_all
    share = f"of {len(made)} check{'' if len(made) == 1 else 's'}"
    left_out = _left_out(len(made), len(pairs), n_all)
    if failed:
        return Verdict(
            "fail", "Not to be trusted", f"{len(failed)} {share} failed – {_list_names(failed)}{left_out}"
        )
    if warned:
        verb = "warns" if len(warned) == 1 else "warn"
        word = "Reliable, with reservations" if complete else "With reservations"
        return Verdict("warn", word, f"{len(warned)} {share} {verb} – {_list_names(warned)}{left_out}")
    count = "the only check made" if len(made) == 1 else f"none of the {len(made)} checks"
    found = "found no fault" if len(made) == 1 else "found a fault"
    return Verdict("pass", "Reliable" if complete else "No fault found", f"{count} {found}{left_out}")


class CheckOutcome(Protocol):
    """What a verdict needs to know of a check."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def status(self) -> CheckStatus:
        """What came of it."""

    @property
    def value(self) -> object:
        """What was measured, None where nothing was."""


def verdict_of(checks: Sequence[CheckOutcome], n_all: int | None, independent: Sequence[str] = ()) -> Verdict:
    """Return the verdict of a study's checks out of ``n_all``, at least one of ``independent`` made if there are any.

    A warning without a value is a check that applies and could not be made: then nothing is called reliable either.
    """
    undecided = [check.name for check in checks if check.status == "warn" and check.value is None]
    made = {check.name for check in checks if check.status != "not applicable"}.difference(undecided)
    sufficient = not undecided and (not independent or not made.isdisjoint(independent))
    return verdict(((check.name, check.status) for check in checks), n_all, sufficient)


def _left_out(n_made: int, n_listed: int, n_all: int | None) -> str:
    """Return how many checks do not apply or were not made, empty if there are none."""
    parts = []
    if n_listed > n_made:
        parts.append(f"{n_listed - n_made} {'does' if n_listed - n_made == 1 else 'do'} not apply")
    if n_all is not None and n_all > n_listed:
        parts.append(f"{n_all - n_listed} {'was' if n_all - n_listed == 1 else 'were'} not made")
    return f"; {' and '.join(parts)}" if parts else ""


def stored_verdict(document: Mapping[str, Any]) -> Verdict | None:
    """Return the verdict in a results.json, None where there is none or it is malformed."""
    value = document.get("verdict")
    if not isinstance(value, Mapping) or value.get("status") not in get_args(CheckStatus):
        return None
    return Verdict(value["status"], str(value.get("word", "")), str(value.get("why", "")))


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
