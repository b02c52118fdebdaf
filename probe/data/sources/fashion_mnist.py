"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 28×28 grey pictures of ten kinds of clothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import CannotRunError
from probe.core.paths import DATA_DIR, data_roots, download_root, named_data_root
from probe.data.fetch import Remote, fetch
from probe.data.idx import read_idx
from probe.data.images import ImageSet, array_items
from probe.data.source import SOURCES, Request

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_LAYOUT = Path("FashionMNIST", "raw")
_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_SIDE = 28
_MAX_IMAGES = 100_000
_MAX_DOWNLOAD = 64 << 20


@dataclass(frozen=True)
class _FashionPart:
    """The test or the training images: file names and the publisher's md5 of the compressed files."""

    name: str
    prefix: str
    images_md5: str
    labels_md5: str

    @property
    def files(self) -> tuple[str, str]:
        return f"{self.prefix}-images-idx3-ubyte", f"{self.prefix}-labels-idx1-ubyte"


_TEST = _FashionPart(
    "fashion-mnist", "t10k", "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"
)
_TRAIN = _FashionPart(
    "fashion-mnist-train", "train", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"
)


@SOURCES.register("fashion-mnist")
def test_part(request: Request) -> ImageSet:
    """Fashion-MNIST, 10,000 test images: Debian's package, torchvision's copy, or a download."""
    return _load(_TEST, request)


@SOURCES.register("fashion-mnist-train")
def training_part(request: Request) -> ImageSet:
    """Fashion-MNIST, 60,000 training images: Debian's package, torchvision's copy, or a download."""
    return _load(_TRAIN, request)


def _load(part: _FashionPart, request: Request) -> ImageSet:
    found = _find(part)
    if found is None:
        found = _download(part, request)
    pixels, labels = (_read(path, dimensions) for path, dimensions in zip(found, (3, 1), strict=True))
    if pixels.shape[1:] != (_SIDE, _SIDE) or len(pixels) != len(labels) or len(pixels) == 0:
        raise _damaged(found[0], f"{pixels.shape} pixels and {len(labels)} labels")
    if labels.max() >= len(_CLASSES):
        raise _damaged(found[1], f"label {labels.max()}")
    return ImageSet(
        name=part.name,
        items=array_items(pixels, labels.astype(np.int64), lambda i: f"{part.name} {i}"),
        class_names=_CLASSES,
        domain="fashion-mnist",
        source=f"Fashion-MNIST, {'test' if part is _TEST else 'training'} images",
        licence="MIT (Zalando SE)",
        framed=True,
    )


def _folders() -> list[Path]:
    """Return the folders to look in: the named root first, then Debian's, then the other data_roots."""
    named = named_data_root()
    places = [DEBIAN, *(root / _LAYOUT for root in data_roots())]
    return [named / _LAYOUT, *places] if named else places


def _find(part: _FashionPart) -> tuple[Path, Path] | None:
    """Return the first folder's images and labels files, compressed or not."""
    for folder in _folders():
        paths = [folder / f"{name}{end}" for name in part.files for end in ("", ".gz")]
        there = [path for path in paths if path.is_file()]
        images = [path for path in there if "-images-" in path.name]
        labels = [path for path in there if "-labels-" in path.name]
        if images and labels:
            return images[0], labels[0]
    return None


def _download(part: _FashionPart, request: Request) -> tuple[Path, Path]:
    if request.offline:
        raise CannotRunError(
            f"{part.name} is not on this machine and the network is not to be used. Install Debian's package "
            f"dataset-fashion-mnist, set {DATA_DIR} to a folder with torchvision's copy, or drop --offline."
        )
    folder = download_root() / _LAYOUT
    images, labels = (folder / f"{name}.gz" for name in part.files)
    for path, md5 in ((images, part.images_md5), (labels, part.labels_md5)):
        if not path.is_file():
            fetch(Remote(MIRROR + path.name, md5, _MAX_DOWNLOAD), path, request.progress)
    return images, labels


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        return read_idx(path, dimensions, max_bytes=_MAX_IMAGES * _SIDE**2)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise CannotRunError(f"'{path}' cannot be read: {error.strerror or error}.") from error


def _damaged(path: Path, why: str) -> CannotRunError:
    return CannotRunError(f"'{path}' is not a file of Fashion-MNIST ({why}). Remove it and try again.")
