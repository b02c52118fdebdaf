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
_FILE_COLUMNS = ("file", "file_name", "filename", "image", "image_id", "img", "path", "id", "name")
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
            rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        except csv.Error as error:
            raise UsageError(f"The labels file {self.path} is not valid CSV: {error}.") from error
        if len(rows) < 2:
            raise UsageError(
                f"The labels file {self.path} needs a line of headings and a line for each image."
            )
        header = [name.strip() for name in rows[0]]
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


def label_by_csv(images: ImageSet, labels: LabelsCsv) -> ImageSet:
    """Return those images that a CSV file labels, by their path in the folder, or their name with or without ending.

    Labels that are all whole numbers are class numbers; otherwise the classes are the different labels in byte order.
    Files of the table that are missing, and images that it does not list, are skipped and counted.
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

    def make(position: int) -> Item:
        index, label = chosen[position]
        return replace(images.items[index], label=label)

    return replace(
        images,
        items=LazyItems(len(chosen), make),
        class_names=None if classes is None else tuple(map(printable, classes)),
        num_classes=None if classes is None else len(classes),
        source=f"{images.source}, labels from {labels.path.name}",
        skipped_before=(*images.skipped_before, *skipped),
    )
