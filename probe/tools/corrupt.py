"""A corrupted copy of a class folder, in ImageNet-C's layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from probe.core.errors import CannotRunError, NotApplicableError, UsageError
from probe.core.pixels import to_uint8
from probe.core.progress import SILENT, Progress
from probe.core.seeds import generator
from probe.core.subject import Skipped
from probe.data.corruptions import CORRUPTIONS, check_severity
from probe.data.corruptions._base import LARGE
from probe.data.load import ALL, load_images
from probe.data.preprocess import fit
from probe.data.spec import InputSpec, Item, UnreadableError

Form = Literal["jpeg", "png"]

_ENDINGS = {"jpeg": ".JPEG", "png": ".png"}
_QUALITY = 85
"""The JPEG quality of the published copies."""


@dataclass(frozen=True)
class Copies:
    """What was written: how many files of how many images, and which were skipped."""

    written: int
    images: int
    skipped: tuple[Skipped, ...]


def corrupt_folder(
    folder: Path,
    out: Path,
    kinds: Sequence[str],
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    *,
    side: int | None = None,
    form: Form = "jpeg",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Copies:
    """Write OUT/corruption/severity/class/image for every image of a folder with a subfolder for each class.

    With ``side``, and for images of at least 224 pixels, images are resized to 256/224 of the side and the centre is cropped, as
    published; smaller ones stay as they are. What is random depends on ``seed``, the kind, the severity and the image's class and
    name. JPEG has quality 85. Raises UsageError for a folder without classes, two images of one name, or an ``out`` that
    is not empty; CannotRunError where nothing can be written.
    """
    for severity in severities:
        check_severity(severity)
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder '{folder}': give a folder with a subfolder of images for each class."
        )
    _refuse_used(out)
    root = folder.resolve()
    images = load_images(root, n=ALL, progress=progress)
    if not images.labelled:
        raise UsageError(
            f"'{folder}' has no class folders: give a folder with a subfolder of images for each class."
        )
    items = list(images.items)
    names = _names(items, root)
    skipped, written = list(images.skipped), 0
    total = len(items) * len(kinds) * len(severities)
    try:
        for kind in kinds:
            for severity in severities:
                (out / kind / str(severity)).mkdir(parents=True, exist_ok=True)
        with progress.task("Corrupting", total) as advance:
            for item, name in zip(items, names, strict=True):
                try:
                    pixels = _prepared(item, side)
                    written += _write(name, pixels, out, kinds, severities, form, seed)
                except (UnreadableError, NotApplicableError) as error:
                    skipped.append(Skipped(item.name, str(error)))
                advance(len(kinds) * len(severities))
    except OSError as error:
        raise CannotRunError(f"'{out}' cannot be written: {error.strerror or error}.") from error
    if not written:
        raise CannotRunError(
            f"No image of '{folder}' could be corrupted ({skipped[0].name}: {skipped[0].reason})."
        )
    return Copies(written, written // (len(kinds) * len(severities)), tuple(skipped))


def _refuse_used(out: Path) -> None:
    """Raise UsageError where something would be overwritten."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"'{out}' exists and is not empty: give a new folder with --out.")


def _write(
    name: tuple[str, str],
    pixels: NDArray[np.float32],
    out: Path,
    kinds: Sequence[str],
    severities: Sequence[int],
    form: Form,
    seed: int,
) -> int:
    """Write all copies of one image and return how many; none where one of them does not apply."""
    group, stem = name
    made: list[tuple[Path, Image.Image]] = []
    for kind in kinds:
        for severity in severities:
            draws = generator(seed, "corruption", kind, severity, group, stem)
            copy = CORRUPTIONS.get(kind)().apply(torch.from_numpy(pixels)[None], severity, [draws])
            place = out / kind / str(severity) / group / (stem + _ENDINGS[form])
            made.append((place, Image.fromarray(to_uint8(copy[0]))))
    for place, picture in made:
        place.parent.mkdir(exist_ok=True)
        if form == "jpeg":
            picture.save(place, "JPEG", quality=_QUALITY, optimize=True)
        else:
            picture.save(place, "PNG")
    return len(made)


def _prepared(item: Item, side: int | None) -> NDArray[np.float32]:
    """Return an image as (1 or 3, H, W) in [0, 1], resized and cropped where that is wanted."""
    image = item.read()
    if isinstance(image, np.ndarray):
        raise UnreadableError("not a picture")
    channels = 3 if image.mode == "RGB" else 1
    if side is None and min(image.size) >= LARGE:
        side = LARGE
    if side is None:
        return fit(image, InputSpec((channels, image.height, image.width), as_is=True), framed=False)
    return fit(image, InputSpec((channels, side, side)), framed=False)


def _names(items: Sequence[Item], root: Path) -> list[tuple[str, str]]:
    """Return each image's class folder and name without ending; raises UsageError where two are the same."""
    seen: dict[tuple[str, str], str] = {}
    for item in items:
        path = item.path or root / item.name
        name = path.relative_to(root).parts[0], path.stem
        if name in seen:
            raise UsageError(
                f"The copies of {seen[name]} and {item.name} would have one name: rename one of them."
            )
        seen[name] = item.name
    return list(seen)
