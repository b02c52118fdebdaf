"""reports/index.html: every report of a folder on one page, the newest first."""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from PIL import Image

import probe
from probe.core.document import Result
from probe.core.errors import CannotRunError
from probe.core.verdict import Verdict, stored_verdict, verdict
from probe.report.files import write_together
from probe.report.pictures import Encoded
from probe.report.render import PAGE, RESULTS
from probe.report.templating import render
from probe.report.thumbnail import SIZE, THUMBNAIL

_LARGEST = 50_000_000
"""Bytes; a larger results.json is not one of ours."""
_LARGEST_THUMBNAIL = 40_000
"""Bytes; the index holds all thumbnails."""


@dataclass(frozen=True)
class IndexEntry:
    """One report as the index shows it; ``thumbnail`` is None where none can be shown."""

    folder: str
    link: str
    study: str
    model: str
    weights: str
    data: str
    status: str
    created: str
    result: Result | None
    verdict: Verdict
    thumbnail: Encoded | None = None


def update_index(reports_folder: Path) -> Path:
    """Write index.html over all ``*/results.json`` of a folder and return its path.

    Files that cannot be read are named on the page. Raises CannotRunError when the index cannot be written.
    """
    entries, broken = read_folder(reports_folder)
    page = render("index.html.j2", entries=entries, broken=broken, version=probe.__version__)
    try:
        reports_folder.mkdir(parents=True, exist_ok=True)
        write_together(reports_folder, {"index.html": page})
    except OSError as error:
        raise CannotRunError(
            f"The index cannot be written to {reports_folder}: {error.strerror or error}. "
            "Choose another place with --out."
        ) from error
    return reports_folder / "index.html"


def read_folder(folder: Path) -> tuple[list[IndexEntry], list[tuple[str, str]]]:
    """Return the reports of a folder, newest first, and (name, reason) of what could not be read."""
    entries, broken = [], []
    for path in sorted(folder.glob(f"*/{RESULTS}")):
        try:
            entries.append(read_entry(path))
        except (ValueError, OSError, RecursionError) as error:
            broken.append((f"{path.parent.name}/{path.name}", _reason(error)))
    entries.sort(key=lambda entry: (_when(entry.created), entry.folder), reverse=True)
    return entries, broken


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or "unreadable"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _when(created: str) -> float:
    try:
        when = datetime.fromisoformat(created)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return -math.inf


def read_entry(path: Path) -> IndexEntry:
    """Read one results.json; raises ValueError that says what is wrong with it."""
    if path.stat().st_size > _LARGEST:
        raise ValueError("too large")
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} in line {error.lineno}") from None
    if not isinstance(document, dict):
        raise ValueError("not a report")
    model, data = _part(document, "model"), _part(document, "data")
    checks = [(_text(check, "name"), _text(check, "status")) for check in _list(document, "checks")]
    folder = path.parent
    return IndexEntry(
        folder=folder.name,
        link=quote(f"{folder.name}/{PAGE}", errors="surrogateescape") if (folder / PAGE).is_file() else "",
        study=_text(document, "study"),
        model=_text(model, "name"),
        weights=_text(model, "weights"),
        data=_text(data, "name"),
        status=_text(document, "status"),
        created=_text(document, "created", ""),
        result=_headline(_list(document, "results")),
        verdict=stored_verdict(document) or verdict(checks),
        thumbnail=_thumbnail(folder / THUMBNAIL),
    )


def _thumbnail(path: Path) -> Encoded | None:
    """Read a thumbnail; None when it is missing or is not what a report writes."""
    try:
        if path.stat().st_size > _LARGEST_THUMBNAIL:
            return None
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            image.load()
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    if width > SIZE[0] or height > SIZE[1]:
        return None
    return Encoded(f"data:image/webp;base64,{base64.b64encode(data).decode()}", width, height)


def _no_constant(token: str) -> NoReturn:
    raise ValueError(f"not JSON: {token}")


def _part(document: dict[str, Any], key: str) -> dict[str, Any]:
    part = document.get(key)
    if not isinstance(part, dict):
        raise ValueError(f"'{key}' is missing")
    return part


def _list(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    part = document.get(key, [])
    if not isinstance(part, list) or not all(isinstance(item, dict) for item in part):
        raise ValueError(f"'{key}' is not a list of objects")
    return part


def _text(document: dict[str, Any], key: str, default: str | None = None) -> str:
    value = document.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' is missing")
    return value


def _headline(results: list[dict[str, Any]]) -> Result | None:
    """Return the first result that has a number."""
    for item in results:
        value = item.get("value")
        if isinstance(value, int | float) and not isinstance(value, bool):
            n = item.get("n")
            unit = item.get("unit")
            return Result(
                _text(item, "name"),
                value,
                n if isinstance(n, int) else None,
                _interval(item.get("ci")),
                unit if isinstance(unit, str) else "",
            )
    return None


def _interval(value: Any) -> tuple[float, float] | None:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
        return float(value[0]), float(value[1])
    return None
