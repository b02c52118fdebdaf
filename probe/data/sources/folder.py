"""A folder of images: the subfolders are the classes; a flat folder is unlabelled."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import CannotRunError, UsageError
from probe.core.progress import Progress
from probe.core.subject import Skipped
from probe.data.images import ImageSet, LazyItems, printable
from probe.data.pictures import picture_kind, read_picture
from probe.data.source import SOURCES, Request
from probe.data.spec import Item, UnreadableError

_REASONS_NAMED = 3

_SYSTEM_FOLDERS = frozenset(
    (
        "__macosx",
        "@eadir",
        "lost+found",
        "$recycle.bin",
        "system volume information",
        "#recycle",
        "#snapshot",
        "@recycle",
        "__pycache__",
    )
)
"""Folders that operating systems, storage servers and Python put beside the user's own, in lower case."""

_SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini"))
"""Files that Windows puts into folders of pictures, in lower case; they are ignored like hidden ones."""

_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.csv")
"""Tables of labels that lie in a split of a data set, beside its images."""

_SPLITS = frozenset(
    (
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "dev",
        "eval",
        "train_set",
        "test_set",
    )
)
"""Names of the splits of a data set, in lower case."""


@SOURCES.register("folder")
def folder(request: Request) -> ImageSet:
    """A folder, given by its path: the subfolders are the classes; a flat folder is unlabelled.

    Every first-level subfolder is a class, in byte order of the names, even if it is empty (so that the labels
    match a network trained on the same classes); images at any depth inside belong to it. If no subfolder
    has an image, the images of the folder itself are used, without labels. Hidden entries, Thumbs.db and desktop.ini are
    ignored, and folders that systems put there (__MACOSX, @eaDir, lost+found, …) are skipped. A root with splits
    (train/, val/) is refused where they have class folders or tables of labels inside, else there is a caution. Links
    are followed only to files inside the folder. Skipped entries are listed with the reason.
    """
    if request.path is None:
        raise UsageError("Give the path of the folder.")
    root = request.path.resolve()
    scan = _scan(root, request.progress)
    labels = None if request.flat else _labels(scan, request.path)
    if not scan.files:
        raise CannotRunError(_nothing(request.path, scan.skipped))
    files = scan.files

    def make(i: int) -> Item:
        path = root / files[i]
        label = None if labels is None else int(labels[i])
        return Item(_display_name(files[i]), label, lambda: read_picture(path), path)

    return ImageSet(
        name=printable(root.name or str(root)),
        items=LazyItems(len(files), make),
        class_names=None if labels is None else tuple(map(printable, scan.classes)),
        domain="folder",
        source=f"folder {printable(str(request.path))}",
        skipped_before=tuple(scan.skipped),
        cautions=() if labels is None else _like_splits(scan.classes, request.path),
    )


@dataclass
class _Scan:
    """The contents of a folder: relative file names and class folders in order, and skipped entries."""

    files: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def _labels(scan: _Scan, root: Path) -> NDArray[np.int32] | None:
    """Return the label of each file, and skip files that are not in a class folder; None for a flat folder."""
    inside = [name for name in scan.files if os.sep in name]
    if not inside:
        scan.classes.clear()
        return None
    _refuse_splits(scan.classes, inside, root)
    outside = [name for name in scan.files if os.sep not in name]
    scan.skipped += [Skipped(_display_name(name), "not inside a class folder") for name in outside]
    scan.files = inside
    number = {name: label for label, name in enumerate(scan.classes)}
    return np.array([number[name.partition(os.sep)[0]] for name in inside], dtype=np.int32)


def _refuse_splits(classes: list[str], inside: list[str], root: Path) -> None:
    """Raise UsageError when class folders are the splits of a data set: two split names, with folders inside."""
    splits = [name for name in classes if name.casefold() in _SPLITS]
    if len(splits) == len(classes) > 1:
        tables = [name for name in splits if any((root / name / table).is_file() for table in _TABLES)]
        if tables:
            raise UsageError(
                f"'{printable(root.name)}' looks like the root of a data set: its folders {', '.join(map(printable, splits))} are "
                f"splits with a table of labels inside, not classes. Give one of them, such as {printable(str(root / tables[0]))}."
            )
    deep = {name.partition(os.sep)[0] for name in inside if name.count(os.sep) > 1}
    if not deep.intersection(splits) or (len(splits) < 2 and len(classes) > 1):
        return
    chosen = next((name for name in splits if not name.casefold().startswith(("train", "dev"))), splits[0])
    raise UsageError(
        f"'{printable(root.name)}' looks like the root of a data set: its folders {', '.join(map(printable, splits))} are "
        f"splits with class folders inside, not classes. Give one of them, such as {printable(str(root / chosen))}."
    )


def _like_splits(classes: list[str], root: Path) -> tuple[str, ...]:
    """Return a caution where all class folders are called like the splits of a data set."""
    if len(classes) < 2 or not all(name.casefold() in _SPLITS for name in classes):
        return ()
    listed = ", ".join(map(printable, classes))
    return (
        f"The folders of '{printable(root.name)}' are called like the splits of a data set ({listed}) and are taken as classes: if "
        "they are splits, give one of them.",
    )


def _scan(root: Path, progress: Progress) -> _Scan:
    """List a folder, depth first in byte order of the names; only names are stored."""
    scan = _Scan()
    with progress.task(f"Looking through {printable(root.name)}", None) as advance:
        pending = [iter(_entries(root, "", scan))]
        while pending:
            relative = next(pending[-1], None)
            if relative is None:
                pending.pop()
            elif stat.S_ISDIR(mode := _mode(root / relative)):
                if os.path.basename(relative).casefold() in _SYSTEM_FOLDERS:
                    scan.skipped.append(Skipped(_display_name(relative), "system folder, not a class"))
                    continue
                if os.sep not in relative:
                    scan.classes.append(relative)
                pending.append(iter(_entries(root, relative, scan)))
            elif reason := _unusable(root, root / relative, mode):
                scan.skipped.append(Skipped(_display_name(relative), reason))
            else:
                scan.files.append(relative)
            advance(1)
    return scan


def _entries(root: Path, relative: str, scan: _Scan) -> Iterator[str]:
    """Yield the relative names of a folder's entries, without hidden ones, in byte order."""
    try:
        with os.scandir(root / relative) as entries:
            listed = (entry.name for entry in entries if not _ignored(entry.name))
            names = sorted(listed, key=os.fsencode)
    except OSError as error:
        scan.skipped.append(Skipped(_display_name(relative) or ".", _cannot_open(error)))
        return
    for name in names:
        yield os.path.join(relative, name)


def _ignored(name: str) -> bool:
    return name[0] == "." or name.casefold() in _SYSTEM_FILES


def _mode(path: Path) -> int:
    """Return the mode of an entry, without following links; 0 if it is gone or not accessible."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _unusable(root: Path, path: Path, mode: int) -> str:
    """Return why an entry cannot be used as an image, empty if it looks like one."""
    if stat.S_ISLNK(mode):
        try:
            real = Path(os.path.realpath(path, strict=True))
            mode = os.stat(real).st_mode
        except OSError:
            return "broken link"
        if not real.is_relative_to(root):
            return "link that leaves the folder"
        if stat.S_ISDIR(mode):
            return "link to another folder, which is not followed"
    if mode and not stat.S_ISREG(mode):
        return "not a regular file"
    try:
        picture_kind(path)
    except UnreadableError as error:
        return str(error)
    return ""


def _cannot_open(error: OSError) -> str:
    return f"cannot be opened: {error.strerror or 'input/output error'}"


def _display_name(relative: str) -> str:
    return printable(relative.replace(os.sep, "/"))


def _nothing(path: Path, skipped: list[Skipped]) -> str:
    if not skipped:
        return f"The folder '{printable(str(path))}' contains no images. Give another folder."
    listed = "; ".join(f"{item.name}: {item.reason}" for item in skipped[:_REASONS_NAMED])
    more = f"; and {len(skipped) - _REASONS_NAMED} more" if len(skipped) > _REASONS_NAMED else ""
    return (
        f"The folder '{printable(str(path))}' contains no usable image ({listed}{more}). Give another folder."
    )
