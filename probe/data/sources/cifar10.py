"""CIFAR-10 (Krizhevsky 2009): 32×32 colour photographs of ten kinds of things."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.errors import CannotRunError
from probe.core.paths import DATA_DIR, data_roots, download_root
from probe.data.fetch import Remote, fetch
from probe.data.images import ImageSet, array_items
from probe.data.plain_pickle import PlainArray, load_plain
from probe.data.source import SOURCES, Request

ARCHIVE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 200 << 20
)
_FOLDER = "cifar-10-batches-py"
_TEST = ("test_batch",)
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIDE = 32


@SOURCES.register("cifar10")
def test_part(request: Request) -> ImageSet:
    """CIFAR-10, 10,000 test images: torchvision's copy (extracted or not), or a download."""
    return _load("cifar10", _TEST, request)


@SOURCES.register("cifar10-train")
def training_part(request: Request) -> ImageSet:
    """CIFAR-10, 50,000 training images: torchvision's copy (extracted or not), or a download."""
    return _load("cifar10-train", _TRAIN, request)


@dataclass(frozen=True)
class _CifarPart:
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def _load(name: str, files: tuple[str, ...], request: Request) -> ImageSet:
    place = _find(files) or _download(name, request)
    parts = list(_parts(place, files))
    pixels = np.concatenate([part.pixels for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return ImageSet(
        name=name,
        items=array_items(pixels, labels, lambda i: f"{name} {i}"),
        class_names=_CLASSES,
        domain="cifar10",
        source=f"CIFAR-10, {'test' if files is _TEST else 'training'} images",
        licence="none stated by the publisher",
        framed=True,
    )


def _find(files: tuple[str, ...]) -> Path | None:
    """Return the first extracted folder that has the files, or the first archive."""
    for root in data_roots():
        if all((root / _FOLDER / name).is_file() for name in files):
            return root / _FOLDER
        archive = root / _archive_name()
        if archive.is_file():
            return archive
    return None


def _archive_name() -> str:
    return ARCHIVE.url.rpartition("/")[2]


def _download(name: str, request: Request) -> Path:
    if request.offline:
        raise CannotRunError(
            f"{name} is not on this machine and the network is not to be used. Set {DATA_DIR} to a folder "
            f"with torchvision's copy ({_FOLDER} or {_archive_name()}), or drop --offline."
        )
    target = download_root() / _archive_name()
    fetch(ARCHIVE, target, request.progress)
    return target


def _parts(place: Path, files: tuple[str, ...]) -> Iterator[_CifarPart]:
    """Yield the pickled parts called ``files``, in that order, from a folder or an archive."""
    for name in files:
        try:
            with _opened(place, name) as file:
                yield _part(load_plain(file))
        except (ValueError, KeyError, EOFError, tarfile.TarError) as error:
            why = str(error).strip("'\"") or "damaged"
            raise CannotRunError(
                f"'{place}' is not CIFAR-10 as published ({name}: {why}). Remove it and try again."
            ) from None
        except OSError as error:
            raise CannotRunError(f"'{place}' cannot be read: {error.strerror or error}.") from error


@contextmanager
def _opened(place: Path, name: str) -> Iterator[IO[bytes]]:
    """Open one part; an archive is read in place, nothing is extracted from it."""
    if place.is_dir():
        with open(place / name, "rb") as file:
            yield file
        return
    with tarfile.open(place, "r:gz") as archive:
        member = archive.extractfile(f"{_FOLDER}/{name}")
        if member is None:
            raise ValueError("not a regular file")
        with member:
            yield member


def _part(entry: Any) -> _CifarPart:
    """Check one part and return its images (N, 32, 32, 3) and labels (N,); raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("not a dictionary")
    data, labels = entry.get("data"), entry.get("labels")
    if not (isinstance(data, PlainArray) and data.values is not None and isinstance(labels, list)):
        raise ValueError("no 'data' array or no 'labels' list")
    if data.values.shape != (len(labels), 3 * _SIDE**2) or not labels:
        raise ValueError(f"{data.values.shape} pixels and {len(labels)} labels")
    if not all(type(label) is int and 0 <= label < len(_CLASSES) for label in labels):
        raise ValueError("labels outside 0 to 9")
    planes = data.values.reshape(-1, 3, _SIDE, _SIDE)
    return _CifarPart(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, dtype=np.int64))
