"""One finished run as a comparison sees it: its results.json, and what is known of every image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

from probe.core.report import Check, Json, Result
from probe.report.verdict import Verdict, verdict

_LONGEST = 24


@dataclass(frozen=True)
class Run:
    """A run: the document of its results.json, where it was found, and the rows of its samples.jsonl.

    ``samples`` is None where there is no such file; ``letter`` tells the runs of one comparison apart, and ``name``
    is what the reader knows it by.
    """

    document: Mapping[str, Json]
    place: str
    samples: tuple[Mapping[str, Json], ...] | None = None
    letter: str = ""
    name: str = ""

    @property
    def label(self) -> str:
        """Letter and name, for headings and legends: ``A: resnet20``."""
        return f"{self.letter}: {self.name}" if self.name else self.letter

    @property
    def study(self) -> str:
        """The study that was run."""
        return str(self.document["study"])

    @property
    def interrupted(self) -> bool:
        """True when the run was not finished."""
        return self.document.get("status") == "interrupted"

    def part(self, key: str) -> Mapping[str, Json]:
        """Return a mapping of the document, such as its model; empty when there is none."""
        found = self.document.get(key)
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def results(self) -> dict[str, Result]:
        """Every result by its name, in the order of the document; of equal names the first."""
        found: dict[str, Result] = {}
        for item in self.document.get("results", ()):
            result = result_of(item)
            found.setdefault(result.name, result)
        return found

    @cached_property
    def checks(self) -> dict[str, Check]:
        """Every check by its name; of equal names the first."""
        found: dict[str, Check] = {}
        for item in self.document.get("checks", ()):
            name = str(item["name"])
            found.setdefault(
                name, Check(name, item["status"], item.get("value"), str(item.get("detail", "")))
            )
        return found

    @property
    def verdict(self) -> Verdict:
        """What the run's own checks say about it."""
        return verdict((check.name, check.status) for check in self.checks.values())


def result_of(item: Mapping[str, Any]) -> Result:
    """Return a result from its JSON form."""
    ci = item.get("ci")
    return Result(
        str(item["name"]),
        item.get("value"),
        item.get("n"),
        (float(ci[0]), float(ci[1])) if ci else None,
        str(item.get("unit") or ""),
        item.get("higher_is_better"),
    )


def lettered(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs with letters from A on, named by what tells most of them apart.

    That is the model, its weights, the data, or the place where the run was found.
    """
    columns = [
        [str(run.part("model").get("name", "")) for run in runs],
        [str(run.part("model").get("weights", "")) for run in runs],
        [str(run.part("data").get("name", "")) for run in runs],
        _told_apart([PurePath(run.place).name or run.place for run in runs]),
    ]
    names = next((column for column in columns if len(set(column)) == len(runs)), columns[0])
    return tuple(
        replace(run, letter=_letter(place), name=_short(name))
        for place, (run, name) in enumerate(zip(runs, names, strict=True))
    )


def _told_apart(names: Sequence[str]) -> list[str]:
    """Leave out the words, between hyphens, that all names begin with."""
    words = [name.split("-") for name in names]
    common = 0
    while all(len(each) > common + 1 for each in words) and len({each[common] for each in words}) == 1:
        common += 1
    return ["-".join(each[common:]) for each in words]


def _letter(place: int) -> str:
    return chr(ord("A") + place % 26) + (str(place // 26 + 1) if place >= 26 else "")


def _short(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[1 - half :]}"
