"""Class maps: files that say which class of the network each class folder is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from probe.core.errors import UsageError
from probe.core.textfile import parse_json, read_text


def read_class_map(path: Path) -> dict[str, int | str]:
    """Read a class map: a JSON object from folder to class, or lines FOLDER,CLASS; raises UsageError otherwise."""
    text = read_text(path, "class map")
    if text.lstrip().startswith("{"):
        table = parse_json(text, path, "class map")
        if not all(isinstance(value, str | int) for value in table.values()):
            raise UsageError(f"The class map {path} must map each folder to a class number or name.")
        return {str(key): value for key, value in table.items()}
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise UsageError(f"The class map {path} is not valid CSV: {error}.") from error
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != 2), None)
    if wrong is not None or not rows:
        raise UsageError(
            f"The class map {path} needs FOLDER,CLASS on each line; line {wrong or 1} is different."
        )
    return {folder.strip(): value.strip() for folder, value in rows}
