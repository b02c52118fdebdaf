"""From the words of a command line to runs: folders and files, each either understood or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from probe.comparison.run import Run, lettered
from probe.core.errors import CannotRunError, UsageError
from probe.report.render import RESULTS
from probe.report.results import SCHEMA_VERSION

SAMPLES = "samples.jsonl"
_LARGEST = 50_000_000
"""Bytes; a larger results.json is not one of ours."""
_LARGEST_SAMPLES = 1_000_000_000
_MOST = 26
_STATUS = ("pass", "warn", "fail", "not applicable")


def read_runs(places: Sequence[Path | str]) -> tuple[Run, ...]:
    """Read the runs to compare, each a folder of a report or its results.json, and give them letters.

    Raises UsageError for fewer than two, more than 26, one named twice, different studies or versions of the schema;
    CannotRunError, naming the file, where one cannot be read or is no report.
    """
    if not 2 <= len(places) <= _MOST:
        raise UsageError(
            f"A comparison takes 2 to {_MOST} runs, not {len(places)}: name their folders or results.json files."
        )
    files = [_file(Path(place)) for place in places]
    twice = [str(file) for file in files if files.count(file) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is named twice: a run is not compared with itself.")
    documents = [_document(file) for file in files]
    for file, document in zip(files, documents, strict=True):
        _check_version(file, document, files[0], documents[0])
    for file, document in zip(files, documents, strict=True):
        _check_parts(file, document)
    return lettered(
        [
            Run(document, str(file.parent), _samples(file.with_name(SAMPLES)))
            for file, document in zip(files, documents, strict=True)
        ]
    )


def _file(place: Path) -> Path:
    file = place / RESULTS if place.is_dir() else place
    if not file.is_file():
        reason = (
            f"There is no {RESULTS} in {place}: the run did not finish, or this is no folder of a report"
            if place.is_dir()
            else f"There is no file {place}"
        )
        raise CannotRunError(f"{reason}. Name folders of reports or their {RESULTS}.")
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
        _refuse(file, "it names no study")
    return document


def _no_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


def _refuse(file: Path, reason: str) -> NoReturn:
    raise CannotRunError(
        f"{file} is not the results.json of a report: {reason}. Leave it out, or run it again."
    )


def _check_version(
    file: Path, document: Mapping[str, Any], first: Path, reference: Mapping[str, Any]
) -> None:
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{file} has schema version {version}, and only version {SCHEMA_VERSION} can be compared here: run it "
            "again with this release."
        )
    if document["study"] != reference["study"]:
        raise UsageError(
            f"{first} is of the study '{reference['study']}' and {file} of '{document['study']}': only runs of one "
            "study can be compared."
        )


def _check_parts(file: Path, document: Mapping[str, Any]) -> None:
    for key in ("model", "data", "config", "environment"):
        if not isinstance(document.get(key), dict):
            _refuse(file, f"'{key}' is missing")
    if not isinstance(document["model"].get("name"), str) or not isinstance(
        document["data"].get("name"), str
    ):
        _refuse(file, "model or data have no name")
    for key in ("results", "checks"):
        items = document.get(key)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            _refuse(file, f"'{key}' is not a list")
        if not all(isinstance(item.get("name"), str) for item in items):
            _refuse(file, f"an entry of '{key}' has no name")
    if not all(_is_result(item) for item in document["results"]):
        _refuse(file, "a result has a value, a number or an interval that is none")
    if not all(item.get("status") in _STATUS for item in document["checks"]):
        _refuse(file, "a check has no status")


def _is_result(item: Mapping[str, Any]) -> bool:
    value, n, ci = item.get("value"), item.get("n"), item.get("ci")
    good = value is None or isinstance(value, str) or _is_number(value)
    good &= n is None or (isinstance(n, int) and not isinstance(n, bool) and n >= 0)
    return good and (ci is None or (isinstance(ci, list) and len(ci) == 2 and all(map(_is_number, ci))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _samples(file: Path) -> tuple[Mapping[str, Any], ...] | None:
    """Return the rows of a samples file; None where there is none or it cannot be understood: nothing depends on it."""
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST_SAMPLES:
            return None
        with file.open(encoding="utf-8") as lines:
            rows = tuple(json.loads(line) for line in lines if line.strip())
    except (OSError, ValueError, RecursionError):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None
