"""The 20 labelled ImageNet photographs in the package foolbox.

Nineteen are squares of 512×512 around their subject. The other (1024×683) is cropped to its central square,
so that no image needs further cropping or is distorted.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from PIL import Image

from probe.core.errors import CannotRunError
from probe.data.images import ImageSet, LazyItems
from probe.data.pictures import read_picture
from probe.data.source import SOURCES, Request
from probe.data.spec import Item

_CLASSES = 1000
_FILE = re.compile(r"imagenet_(\d+)_(\d+)\.jpg")


@SOURCES.register("imagenet-samples")
def photographs(request: Request) -> ImageSet:
    """Twenty labelled, square ImageNet photographs that come with the package foolbox."""
    files = _files()
    if not files:
        raise CannotRunError(
            "The photographs of imagenet-samples come with the package foolbox, which is not installed "
            "or does not contain them. Install foolbox 3.3.4 or newer, or choose other data."
        )

    def make(i: int) -> Item:
        label, path = files[i]
        return Item(path.name, label, lambda: _square(read_picture(path)), path)

    return ImageSet(
        name="imagenet-samples",
        items=LazyItems(len(files), make),
        class_names=None,
        domain="imagenet",
        source="ImageNet photographs from the package foolbox",
        licence="photographs: ImageNet, terms of their owners; package: MIT",
        framed=True,
        num_classes=_CLASSES,
    )


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image if image.width == image.height else image.crop((left, top, left + side, top + side))


def _files() -> list[tuple[int, Path]]:
    """Return (label, file) in order of the files' numbers, without importing foolbox."""
    spec = importlib.util.find_spec("foolbox")
    folders = spec.submodule_search_locations if spec else None
    numbered: list[tuple[int, int, Path]] = []
    for folder in folders or ():
        for path in Path(folder, "data").glob("imagenet_*.jpg"):
            match = _FILE.fullmatch(path.name)
            if match and int(match[2]) < _CLASSES:
                numbered.append((int(match[1]), int(match[2]), path))
    return [(label, path) for _, label, path in sorted(numbered)]
