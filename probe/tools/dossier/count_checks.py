"""How many checks of each study were made, and how many of them found a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.core.document import Check, Report
from probe.core.verdict import CheckStatus
from studies.adversarial.registries import CHECKS

_NAMED = 6


@dataclass(frozen=True)
class CheckCount:
    """The checks of a study: how many there are, how many were made, and the names of those that failed or warned."""

    study: str
    total: int
    made: int
    failed: tuple[str, ...]
    warned: tuple[str, ...]

    @property
    def status(self) -> CheckStatus:
        """The status as one check; a study of attacks without any check is a warning."""
        if self.failed:
            return "fail"
        if self.warned or (self.total and not self.made):
            return "warn"
        return "pass" if self.made else "not applicable"

    @property
    def text(self) -> str:
        """The count in words: ``none of the 18 checks found a fault; 3 of 21 were not made or do not apply``."""
        if not self.total:
            return "there are no checks for this run"
        if not self.made:
            return f"none of the {self.total} checks was made"
        return f"{self._found}{self._missing}"

    @property
    def _found(self) -> str:
        of = "the only check" if self.made == 1 else f"{self.made} checks"
        if self.failed or self.warned:
            parts = [
                f"{len(names)} {word} ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
                for names, word in ((self.failed, "failed"), (self.warned, "gave a warning"))
                if names
            ]
            return f"of {of}, {' and '.join(parts)}"
        return (
            "the only check found no fault"
            if self.made == 1
            else f"none of the {self.made} checks found a fault"
        )

    @property
    def _missing(self) -> str:
        rest = self.total - self.made
        return (
            f"; {rest} of {self.total} {'was' if rest == 1 else 'were'} not made or not applicable"
            if rest
            else ""
        )


def count_checks(study: str, part: Report) -> CheckCount:
    """Return the count of a study's checks; those of the adversarial study that were left out count as not made."""
    every = part.all_checks
    total = max(len(every), len(CHECKS.names())) if study == "adversarial" else len(every)
    return CheckCount(
        study,
        total,
        sum(check.status != "not applicable" for check in every),
        tuple(check.name for check in every if check.status == "fail"),
        tuple(check.name for check in every if check.status == "warn"),
    )


def checks(parts: Mapping[str, Report]) -> tuple[Check, ...]:
    """Return one check for each study: what its own checks found, and how many were made."""
    made = []
    for name, part in parts.items():
        count = count_checks(name, part)
        advice = " Run without --quick to make them." if count.total and not count.made else ""
        detail = f"{count.text[0].upper()}{count.text[1:]}. Each check with its numbers is in the {name} report.{advice}"
        made.append(Check(f"The {name} study's own checks", count.status, count.made, detail))
    return tuple(made)


def in_words(parts: Mapping[str, Report]) -> str:
    """Return one sentence on the checks of all studies together."""
    counts = [count_checks(name, part) for name, part in parts.items()]
    return f"Checks: {'; '.join(f'{count.study}, {count.text}' for count in counts)}."
