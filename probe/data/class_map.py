"""Class maps: files that say which class of the network each class folder is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from probe.core.errors import UsageError


def read_class_map(path: Path) -> dict[str, int | str]:
    """Read a class map: a JSON object from folder to class, or lines FOLDER,CLASS; raises UsageError otherwise."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"The class map {path} cannot be read: {reason}.") from error
    if text.lstrip().startswith("{"):
        try:
            table = json.loads(text)
        except ValueError as error:
            raise UsageError(f"The class map {path} is not valid JSON: {error}.") from error
        if not all(isinstance(value, str | int) for value in table.values()):
            raise UsageError(f"The class map {path} must map each folder to a class number or name.")
        return {str(key): value for key, value in table.items()}
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != 2), None)
    if wrong is not None or not rows:
        raise UsageError(
            f"The class map {path} needs FOLDER,CLASS on each line; line {wrong or 1} is different."
        )
    return {folder.strip(): value.strip() for folder, value in rows}
