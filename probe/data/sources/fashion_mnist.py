"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 28×28 grey pictures of ten classes of clothing, read by torchvision."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

from torch import Tensor
from torchvision.datasets import FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import extract_archive

from probe.core.errors import CannotRunError
from probe.core.network import downloading
from probe.core.paths import DATA_DIR, data_roots, download_root, named_data_root
from probe.data.images import ImageSet, array_items
from probe.data.source import SOURCES, Request

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist installs the files."""

_LAYOUT = Path("FashionMNIST", "raw")
_SIDE = 28
_DAMAGE = (
    gzip.BadGzipFile, zlib.error, EOFError, ValueError, TypeError, RuntimeError, AssertionError, KeyError,
)  # fmt: skip
"""The errors that torchvision's readers raise for other files."""


@SOURCES.register("fashion-mnist")
def test_part(request: Request) -> ImageSet:
    """Fashion-MNIST, 10,000 test images: Debian's package, torchvision's copy, or a download."""
    return _load("fashion-mnist", "t10k", request)


@SOURCES.register("fashion-mnist-train")
def training_part(request: Request) -> ImageSet:
    """Fashion-MNIST, 60,000 training images: Debian's package, torchvision's copy, or a download."""
    return _load("fashion-mnist-train", "train", request)


def _load(name: str, prefix: str, request: Request) -> ImageSet:
    files = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    folder = _find_folder(files) or _download(name, request)
    try:
        pixels, labels = _read(folder, files)
    except _DAMAGE as error:
        raise CannotRunError(
            f"'{folder}' does not contain Fashion-MNIST ({error or 'damaged header'}). Remove its files that begin with "
            f"{prefix} and try again."
        ) from error
    except OSError as error:
        raise CannotRunError(f"'{folder}' cannot be read: {error.strerror or error}.") from error
    return ImageSet(
        name=name,
        items=array_items(pixels.numpy(), labels.numpy(), lambda i: f"{name} {i}"),
        class_names=tuple(FashionMNIST.classes),
        domain="fashion-mnist",
        source=f"Fashion-MNIST, {'test' if prefix == 't10k' else 'training'} images",
        licence="MIT (Zalando SE)",
        framed=True,
    )


def _find_folder(files: tuple[str, str]) -> Path | None:
    """Return the first folder with both files, compressed or not: the user's root, Debian's, the other data roots."""
    named = named_data_root()
    places = [DEBIAN, *(root / _LAYOUT for root in data_roots())]
    for folder in [named / _LAYOUT, *places] if named else places:
        if all(any((folder / f"{name}{end}").is_file() for end in ("", ".gz")) for name in files):
            return folder
    return None


def _download(name: str, request: Request) -> Path:
    if request.offline:
        raise CannotRunError(
            f"{name} is not on this machine, and --offline forbids downloads. Install Debian's package "
            f"dataset-fashion-mnist, set {DATA_DIR} to a folder with torchvision's copy, or remove --offline."
        )
    try:
        with downloading(FashionMNIST.mirrors[0] + "fashion-mnist", request.progress):
            FashionMNIST(str(download_root()), download=True)
    except (OSError, RuntimeError) as error:
        raise CannotRunError(f"Could not download Fashion-MNIST: {' '.join(str(error).split())}.") from error
    return download_root() / _LAYOUT


def _read(folder: Path, files: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Return the images (N, 28, 28) and labels (N,); raises ValueError and torchvision's errors for other files."""
    with tempfile.TemporaryDirectory(prefix="probe-data-") as unpacked:
        paths = [
            str(folder / name)
            if (folder / name).is_file()
            else extract_archive(str(folder / f"{name}.gz"), unpacked)
            for name in files
        ]
        pixels, labels = read_image_file(paths[0]), read_label_file(paths[1])
    if pixels.shape[1:] != (_SIDE, _SIDE) or len(pixels) != len(labels) or len(pixels) == 0:
        raise ValueError(f"{tuple(pixels.shape)} pixels and {len(labels)} labels")
    if int(labels.max()) >= len(FashionMNIST.classes):
        raise ValueError(f"label {int(labels.max())}")
    return pixels, labels
