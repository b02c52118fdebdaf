"""Loading an ``ImageSet`` by name or path."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from probe.core.errors import CannotRunError, UsageError
from probe.core.progress import SILENT, Progress
from probe.core.usercode import functions_in
from probe.data.class_map import read_class_map
from probe.data.images import ImageSet, printable
from probe.data.labels_csv import LabelsCsv, label_by_csv
from probe.data.source import ARRAYS, FOLDER, IMAGE, PYTHON, SOURCES, Request, data_names

_ARRAY_SUFFIXES = (".npz", ".npy", ".pt", ".pth")

MAX_IMAGES = 1000
"""The default maximum number of images."""

ALL = sys.maxsize
"""More images than any set has."""


def load_images(
    name: str | os.PathLike[str],
    *,
    n: int | None = None,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = SILENT,
    labels_csv: str | os.PathLike[str] | None = None,
    class_map: str | os.PathLike[str] | Mapping[str, int | str] | None = None,
) -> ImageSet:
    """Return the images called ``name``: a data set, a folder, a file with an image or arrays, or FILE.py:FUNCTION.

    A data set's name takes precedence over a folder of the same name (``./digits`` is the folder). ``n`` images are
    sampled with ``seed``, stratified if they are labelled; None: all of them, but at most ``MAX_IMAGES`` (``ALL``: every one).
    If the set is a sample, its ``source`` says so and ``info`` has the total. ``offline``
    forbids downloads. ``labels_csv``: a table with the labels of a folder's images
    (``FILE.csv:FILE_COLUMN,LABEL_COLUMN``). ``class_map``: the network's class of each class folder, a mapping or a file.
    Raises UsageError for a name or path that does not exist, with similar names,
    and CannotRunError when a source has no images.
    """
    if n is not None and n < 1:
        raise UsageError(f"The number of images must be at least 1; got {n}.")
    source, path = _resolve(os.fspath(name))
    if source != FOLDER and (labels_csv is not None or class_map is not None):
        raise UsageError(
            f"--labels-csv and --class-map are for folders of images; '{printable(os.fspath(name))}' is none."
        )
    request = Request(path, offline, progress, flat=labels_csv is not None, target=os.fspath(name))
    everything = SOURCES.get(source)(request)
    if labels_csv is not None:
        everything = label_by_csv(everything, LabelsCsv.parse(labels_csv))
    elif source == FOLDER and path is not None and not everything.labelled:
        everything = _with_metadata(everything, path)
    if class_map is not None:
        table = class_map if isinstance(class_map, Mapping) else read_class_map(Path(class_map).expanduser())
        everything = replace(everything, class_map=table)
    limit = MAX_IMAGES if n is None else n
    if len(everything) <= limit:
        return everything
    how = "stratified by class" if everything.labelled else "at random"
    sample = f"{limit:,} of {len(everything):,} images sampled {how}, seed {seed}"
    sample += "; -n all takes every one" if n is None else ""
    return replace(everything.sample(limit, seed), source=f"{everything.source}; {sample}")


def _with_metadata(images: ImageSet, folder: Path) -> ImageSet:
    """Return a flat folder's images with the labels of its metadata.csv (the layout of Hugging Face), if it has some."""
    table = folder / "metadata.csv"
    if not table.is_file():
        return images
    try:
        return label_by_csv(images, LabelsCsv(table))
    except (UsageError, CannotRunError) as error:
        caution = f"{table.name} was not used for labels: {error} Name its columns with --labels-csv."
        return replace(images, cautions=(*images.cautions, caution))


def _resolve(name: str) -> tuple[str, Path | None]:
    """Return the source for ``name``, and the path if ``name`` is one."""
    if name in data_names():
        return name, None
    # os.path, not Path's methods: these raise for some impossible names, such as very long ones.
    path = Path(os.path.expanduser(name))
    if name and os.path.isdir(path):
        return FOLDER, path
    if name and os.path.isfile(path):
        if path.suffix.lower() == ".py":
            raise UsageError(
                f"'{printable(name)}' is a file without a function: write {printable(name)}:FUNCTION.{functions_in(path)}"
            )
        return (ARRAYS if path.suffix.lower() in _ARRAY_SUFFIXES else IMAGE), path
    if re.fullmatch(r"(.+\.py:\w+|\w+(\.\w+)*:\w+)(\?.*)?", name):
        return PYTHON, None
    if name and os.path.exists(path):
        raise UsageError(
            f"'{printable(name)}' is neither a folder nor a regular file. Give a folder or a file."
        )
    raise UsageError(
        f"There is no data set, folder or image '{printable(name)}'.{_nearest(name, path)} "
        f"Available data sets: {', '.join(data_names())}."
    )


def _nearest(name: str, path: Path) -> str:
    """Return a question with similar names, empty if there are none."""
    near = difflib.get_close_matches(name, data_names(), n=2)
    try:
        siblings = sorted(os.listdir(path.parent))
    except (OSError, ValueError):
        siblings = []
    near += [str(path.parent / entry) for entry in difflib.get_close_matches(path.name, siblings, n=2)]
    return f" Did you mean {' or '.join(repr(printable(candidate)) for candidate in near)}?" if near else ""
