"""A run to compare: its results.json and the rows of its samples.jsonl."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NoReturn

from probe.core.document import Check, Json, Report, Result
from probe.core.errors import CannotRunError, UsageError
from probe.core.verdict import Verdict, stored_verdict, verdict
from probe.report.render import RESULTS
from probe.report.results import SCHEMA_VERSION, jsonable, to_json

_LONGEST = 32
_NUMBER = re.compile(r"^\d{3,}-")


@dataclass(frozen=True)
class Run:
    """A run: the document of its results.json, its location, and the rows of its samples.jsonl.

    ``samples`` is None if there is no such file; ``letter`` and ``name`` identify the run within a comparison.
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
        """Whether the run was interrupted."""
        return self.document.get("status") == "interrupted"

    def part(self, key: str) -> Mapping[str, Json]:
        """Return a mapping in the document, such as its model; empty if there is none."""
        value = self.document.get(key)
        return value if isinstance(value, Mapping) else {}

    @cached_property
    def results(self) -> dict[str, Result]:
        """Every result by its name, in the order of the document; the first one if names are repeated."""
        results: dict[str, Result] = {}
        for item in self.document.get("results", ()):
            result = result_of(item)
            results.setdefault(result.name, result)
        return results

    @cached_property
    def checks(self) -> dict[str, Check]:
        """Every check by its name; the first one if names are repeated."""
        checks: dict[str, Check] = {}
        for item in self.document.get("checks", ()):
            name = str(item["name"])
            checks.setdefault(
                name, Check(name, item["status"], item.get("value"), str(item.get("detail", "")))
            )
        return checks

    @property
    def verdict(self) -> Verdict:
        """The verdict of the run's own checks."""
        return stored_verdict(self.document) or verdict(
            (check.name, check.status) for check in self.checks.values()
        )


def result_of(item: Mapping[str, Any]) -> Result:
    """Convert a result from its JSON form."""
    ci = item.get("ci")
    return Result(
        str(item["name"]),
        item.get("value"),
        item.get("n"),
        (float(ci[0]), float(ci[1])) if ci else None,
        str(item.get("unit") or ""),
        item.get("higher_is_better"),
        str(item.get("per_image") or ""),
    )


def add_letters(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs with letters from A on, and named by the first property that distinguishes all of them.

    The properties are the model, its weights, the data, and the location of the run.
    """
    columns = [
        [str(run.part("model").get("name", "")) for run in runs],
        [str(run.part("model").get("weights", "")) for run in runs],
        [str(run.part("data").get("name", "")) for run in runs],
        _without_common_prefix([PurePath(run.place).name or run.place for run in runs]),
    ]
    names = next((column for column in columns if len(set(column)) == len(runs)), columns[0])
    return tuple(
        replace(run, letter=_letter(place), name=_short(name))
        for place, (run, name) in enumerate(zip(runs, names, strict=True))
    )


def _without_common_prefix(names: Sequence[str]) -> list[str]:
    """Remove the numbers of a sweep, where names differ without them, and the words that all names begin with."""
    unnumbered = [_NUMBER.sub("", name) for name in names]
    split = [name.split("-") for name in (unnumbered if len(set(unnumbered)) == len(names) else names)]
    common = 0
    while all(len(words) > common + 1 for words in split) and len({words[common] for words in split}) == 1:
        common += 1
    return ["-".join(words[common:]) for words in split]


def _letter(place: int) -> str:
    return chr(ord("A") + place % 26) + (str(place // 26 + 1) if place >= 26 else "")


def _short(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[1 - half :]}"


SAMPLES = "samples.jsonl"
_LARGEST = 50_000_000
"""In bytes; a larger results.json was not written by probe."""
_LARGEST_SAMPLES = 1_000_000_000
_MOST = 26
_STATUS = ("pass", "warn", "fail", "not applicable")


def read_runs(places: Sequence[Path | str]) -> tuple[Run, ...]:
    """Read the runs to compare, each the folder of a report or its results.json, and add letters.

    Raises UsageError for fewer than two or more than 26 runs, a repeated run, different studies or schema versions;
    CannotRunError, with the name of the file, if a file cannot be read or is not a report.
    """
    if not 2 <= len(places) <= _MOST:
        raise UsageError(
            f"A comparison takes 2 to {_MOST} runs, not {len(places)}: give their folders or results.json files."
        )
    files = [_file(Path(place)) for place in places]
    twice = [str(file) for file in files if files.count(file) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given twice: a run cannot be compared with itself.")
    documents = [_document(file) for file in files]
    for file, document in zip(files, documents, strict=True):
        _check_version(file, document, files[0], documents[0])
    for file, document in zip(files, documents, strict=True):
        _check_parts(file, document)
    return add_letters(
        [
            Run(document, str(file.parent), _samples(file.with_name(SAMPLES)))
            for file, document in zip(files, documents, strict=True)
        ]
    )


def runs_of(sources: Sequence[Report | Path | str]) -> tuple[Run, ...]:
    """Return runs with letters from reports in memory, and from folders and files like ``read_runs``.

    Raises UsageError for fewer than two runs and for different studies, and the errors of ``read_runs``.
    """
    if not any(isinstance(source, Report) for source in sources):
        return read_runs([source for source in sources if not isinstance(source, Report)])
    runs = []
    for number, source in enumerate(sources, 1):
        if isinstance(source, Report):
            document = json.loads(json.dumps(to_json(source)))
            runs.append(Run(document, f"report {number}", tuple(jsonable(source.samples)) or None))
        else:
            file = _file(Path(source))
            document = _document(file)
            _check_parts(file, document)
            runs.append(Run(document, str(file.parent), _samples(file.with_name(SAMPLES))))
    if len(runs) < 2 or len({run.study for run in runs}) != 1:
        raise UsageError("A comparison takes at least two runs of one study.")
    return add_letters(runs)


def _file(place: Path) -> Path:
    file = place / RESULTS if place.is_dir() else place
    if not file.is_file():
        reason = (
            f"There is no {RESULTS} in {place}: the run did not finish, or this is not the folder of a report"
            if place.is_dir()
            else f"There is no file {place}"
        )
        raise CannotRunError(f"{reason}. Give folders of reports or their {RESULTS} files.")
    return file


def _document(file: Path) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > _LARGEST:
            _refuse(file, "it is too large")
        document = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        _refuse(file, "it is not UTF-8 text")
    except json.JSONDecodeError as error:
        _refuse(file, f"it is not JSON ({error.msg} in line {error.lineno})")
    except ValueError as error:
        _refuse(file, str(error))
    except RecursionError:
        _refuse(file, "it is nested too deeply")
    except OSError as error:
        _refuse(file, error.strerror or "it is unreadable")
    if not isinstance(document, dict) or not isinstance(document.get("study"), str):
        _refuse(file, "it has no study")
    return document


def _no_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


def _refuse(file: Path, reason: str) -> NoReturn:
    raise CannotRunError(
        f"{file} is not the results.json of a report: {reason}. Leave it out, or run the study again."
    )


def _check_version(
    file: Path, document: Mapping[str, Any], first: Path, reference: Mapping[str, Any]
) -> None:
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{file} has schema version {version}, but only version {SCHEMA_VERSION} can be compared: run the study "
            "again with this release."
        )
    if document["study"] != reference["study"]:
        raise UsageError(
            f"{first} is from the study '{reference['study']}' and {file} from '{document['study']}': only runs of the "
            "same study can be compared."
        )


def _check_parts(file: Path, document: Mapping[str, Any]) -> None:
    for key in ("model", "data", "config", "environment"):
        if not isinstance(document.get(key), dict):
            _refuse(file, f"'{key}' is missing")
    if not isinstance(document["model"].get("name"), str) or not isinstance(
        document["data"].get("name"), str
    ):
        _refuse(file, "the model or the data has no name")
    for key in ("results", "checks"):
        items = document.get(key)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            _refuse(file, f"'{key}' is not a list")
        if not all(isinstance(item.get("name"), str) for item in items):
            _refuse(file, f"an entry of '{key}' has no name")
    if not all(_is_result(item) for item in document["results"]):
        _refuse(file, "a result has an invalid value, n or interval")
    if not all(item.get("status") in _STATUS for item in document["checks"]):
        _refuse(file, "a check has no valid status")


def _is_result(item: Mapping[str, Any]) -> bool:
    value, n, ci = item.get("value"), item.get("n"), item.get("ci")
    good = value is None or isinstance(value, str) or _is_number(value)
    good &= n is None or (isinstance(n, int) and not isinstance(n, bool) and n >= 0)
    return good and (ci is None or (isinstance(ci, list) and len(ci) == 2 and all(map(_is_number, ci))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _samples(file: Path) -> tuple[Mapping[str, Any], ...] | None:
    """Return the rows of a samples file; None if there is none or it is invalid, because it is optional."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_SAMPLES:
            return None
        with file.open(encoding="utf-8") as lines:
            rows = tuple(json.loads(line) for line in lines if line.strip())
    except (OSError, ValueError, RecursionError):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None
