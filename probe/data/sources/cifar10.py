"""CIFAR-10 (Krizhevsky 2009): 32×32 colour photographs of ten classes, read by torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity, extract_archive

from probe.core.errors import CannotRunError
from probe.core.network import downloading
from probe.core.paths import DATA_DIR, data_roots, download_root
from probe.data.images import ImageSet, array_items
from probe.data.source import SOURCES, Request


@SOURCES.register("cifar10")
def test_part(request: Request) -> ImageSet:
    """CIFAR-10, 10,000 test images: torchvision's copy (extracted or not), or a download."""
    return _load("cifar10", False, request)


@SOURCES.register("cifar10-train")
def training_part(request: Request) -> ImageSet:
    """CIFAR-10, 50,000 training images: torchvision's copy (extracted or not), or a download."""
    return _load("cifar10-train", True, request)


def _load(name: str, train: bool, request: Request) -> ImageSet:
    try:
        data = _dataset(name, train, request)
    except (OSError, RuntimeError) as error:
        raise CannotRunError(f"Could not download or unpack {CIFAR10.url}: {error}.") from error
    return ImageSet(
        name=name,
        items=array_items(data.data, np.array(data.targets, dtype=np.int64), lambda i: f"{name} {i}"),
        class_names=tuple(data.classes),
        domain="cifar10",
        source=f"CIFAR-10, {'training' if train else 'test'} images",
        licence="none stated by the publisher",
        framed=True,
    )


def _dataset(name: str, train: bool, request: Request) -> CIFAR10:
    """Open the first copy on this machine, or download one; torchvision checks every md5 before unpickling."""
    root, home = _find_root(), download_root()
    if root is not None:
        try:
            return CIFAR10(str(root), train)
        except RuntimeError:
            if root != home or request.offline:
                raise _damaged(root / CIFAR10.base_folder) from None
    elif request.offline:
        raise CannotRunError(
            f"{name} is not on this machine, and --offline forbids downloads. Set {DATA_DIR} to a folder with "
            f"torchvision's copy ({CIFAR10.base_folder} or {CIFAR10.filename}), or remove --offline."
        )
    with downloading(CIFAR10.url, request.progress):
        return CIFAR10(str(home), train, download=True)


def _find_root() -> Path | None:
    """Return the first root with the extracted folder; if there is only an archive, extract it to the download root.

    Archives are verified first; a damaged archive in the download folder is an incomplete download.
    """
    for root in data_roots():
        if (root / CIFAR10.base_folder).is_dir():
            return root
    for root in data_roots():
        archive = root / CIFAR10.filename
        if archive.is_file() and check_integrity(str(archive), CIFAR10.tgz_md5):
            extract_archive(str(archive), str(download_root()))
            return download_root()
        if archive.is_file() and root != download_root():
            raise _damaged(archive)
    return None


def _damaged(path: Path) -> CannotRunError:
    return CannotRunError(
        f"'{path}' is not the published CIFAR-10 (a file is missing or its md5 is wrong). Remove it and try again."
    )
