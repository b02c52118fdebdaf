"""Labels from a CSV file, as Kaggle and pandas have them: a column of files and a column of classes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probe.core.errors import CannotRunError, UsageError
from probe.core.subject import Skipped
from probe.core.textfile import read_text
from probe.data.images import ImageSet, LazyItems, printable
from probe.data.spec import Item

_MOST_BYTES = 1 << 30
_DELIMITERS = (",", ";", "\t", "|")
_FILE_COLUMNS = ("file", "file_name", "filename", "image", "image_id", "img", "path", "id", "name")
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_LABEL_COLUMNS = ("label", "class", "category", "target", "labels", "y")


@dataclass(frozen=True)
class LabelsCsv:
    """A CSV file, and the names of its columns with files and labels (None: found by their usual names)."""

    path: Path
    file_column: str | None = None
    label_column: str | None = None

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> LabelsCsv:
        """Parse ``PATH`` or ``PATH:FILE_COLUMN,LABEL_COLUMN``; raises UsageError for anything else."""
        whole = os.fspath(text)
        path, colon, columns = whole.rpartition(":")
        if not colon or os.path.exists(os.path.expanduser(whole)):
            return cls(Path(whole).expanduser())
        names = [name.strip() for name in columns.split(",")]
        if len(names) != 2 or not all(names):
            raise UsageError(f"'{whole}' must be FILE.csv or FILE.csv:FILE_COLUMN,LABEL_COLUMN.")
        return cls(Path(path).expanduser(), *names)

    def read(self) -> dict[str, str]:
        """Return the label of each file as written; raises UsageError for a file that cannot be used."""
        text = read_text(self.path, "labels file", _MOST_BYTES)
        try:
            table = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
            rows = [row for row in table if row]
        except csv.Error as error:
            raise UsageError(f"The labels file {self.path} is not valid CSV: {error}.") from error
        if len(rows) < 2:
            raise UsageError(
                f"The labels file {self.path} needs a line of headings and a line for each image."
            )
        header = [name.strip() for name in rows[0]]
        self._check_header(header, rows)
        file_at = self._column(header, self.file_column, _FILE_COLUMNS, "files")
        label_at = self._column(header, self.label_column, _LABEL_COLUMNS, "labels")
        labels: dict[str, str] = {}
        for number, row in enumerate(rows[1:], 2):
            if len(row) <= max(file_at, label_at) or not row[label_at].strip():
                raise UsageError(f"The labels file {self.path} has no label in row {number}.")
            file, label = row[file_at].strip().replace("\\", "/").removeprefix("./"), row[label_at].strip()
            if labels.setdefault(file, label) != label:
                raise UsageError(f"The labels file {self.path} has two labels for {printable(file)}.")
        return labels

    def _check_header(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Raise UsageError for a table without headings, and for one with a column of 0 and 1 for each class."""
        if any(os.path.splitext(name)[1].lower() in _PICTURES for name in header):
            raise UsageError(
                f"The labels file {self.path} has no line of headings: it begins with {', '.join(map(printable, header[:4]))}. Add "
                "one before it, such as file,label."
            )
        flags = [row[1:] for row in rows[1:] if len(row) == len(header)]
        lower = [name.lower() for name in header]
        if self.label_column is not None or len(header) < 3 or any(name in lower for name in _LABEL_COLUMNS):
            return
        if flags and all({*map(_flag, row)} <= {0, 1} and sum(map(_flag, row)) == 1 for row in flags):
            raise UsageError(
                f"The labels file {self.path} is one-hot: each of {', '.join(map(printable, header[1:5]))} is a class with 0 or 1. "
                f"Write the class into one column, in Python: pandas.read_csv('{self.path.name}', index_col=0).idxmax(axis=1)"
                ".to_csv('labels.csv', header=['label'])."
            )

    def _column(self, header: Sequence[str], wanted: str | None, usual: Sequence[str], what: str) -> int:
        if wanted is not None and wanted in header:
            return header.index(wanted)
        lower = [name.lower() for name in header]
        place = next((lower.index(name) for name in usual if name in lower), None)
        if wanted is None and place is not None:
            return place
        raise UsageError(
            f"The labels file {self.path} has the columns {', '.join(map(printable, header))}: name those of the files and "
            f"the labels, as in {self.path.name}:{header[0]},{header[-1]}."
            if wanted is None
            else f"The labels file {self.path} has no column '{wanted}' for the {what}; it has "
            f"{', '.join(map(printable, header))}."
        )


def _delimiter(text: str) -> str:
    """Return what separates the columns: a comma if the headings have one, else a semicolon, a tab or a bar."""
    heading = text.lstrip().partition("\n")[0]
    return next((mark for mark in _DELIMITERS if mark in heading), ",")


def _flag(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def label_by_csv(images: ImageSet, labels: LabelsCsv) -> ImageSet:
    """Return those images that a CSV file labels, by their path in the folder, or their name with or without ending.

    Labels that are all whole numbers are class numbers; otherwise the classes are the different labels in byte order.
    Files of the table that are missing, and images that it does not list, are skipped and counted; the table itself,
    where it lies in the folder, is not.
    """
    table = labels.read()
    numeric = all(value.isdigit() for value in table.values())
    classes = None if numeric else sorted(set(table.values()))
    chosen: list[tuple[int, int]] = []
    used: set[str] = set()
    skipped: list[Skipped] = []
    for index in range(len(images)):
        name = images.item_name(index)
        base = name.rpartition("/")[2]
        key = next(
            (
                key
                for key in (name, base, os.path.splitext(name)[0], os.path.splitext(base)[0])
                if key in table
            ),
            None,
        )
        if key is None:
            skipped.append(Skipped(name, f"not in {labels.path.name}"))
            continue
        used.add(key)
        value = table[key]
        chosen.append((index, int(value) if classes is None else classes.index(value)))
    skipped += [
        Skipped(printable(key), "in the labels file, but not in the folder")
        for key in table
        if key not in used
    ]
    if not chosen:
        raise CannotRunError(
            f"None of the {len(images):,} images of {images.name} is in {labels.path.name}, which lists "
            f"{printable(next(iter(table)))}, …: give the paths relative to the folder."
        )

    place = labels.path.resolve().as_posix()

    def make(position: int) -> Item:
        index, label = chosen[position]
        return replace(images.items[index], label=label)

    return replace(
        images,
        items=LazyItems(len(chosen), make),
        class_names=None if classes is None else tuple(map(printable, classes)),
        num_classes=None if classes is None else len(classes),
        source=f"{images.source}, labels from {labels.path.name}",
        skipped_before=(
            *(item for item in images.skipped_before if not place.endswith(f"/{item.name}")),
            *skipped,
        ),
    )
