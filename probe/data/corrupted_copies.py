"""Corrupted copies of images: folders in ImageNet-C's layout (CORRUPTION/SEVERITY/CLASS/IMAGE), arrays in CIFAR-10-C's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probe.core.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from probe.data.spec import InputSpec, Item

_LEVELS = ("1", "2", "3", "4", "5")
_LABELS = "labels.npy"
_LAYOUTS = (
    "ImageNet-C's layout is CORRUPTION/1 to 5/CLASS/IMAGE, CIFAR-10-C's is CORRUPTION.npy of five times as many images as "
    f"the test images, and {_LABELS}"
)


@dataclass(frozen=True)
class CorruptedCopies(ABC):
    """Copies of images under several ``kinds`` of corruption, those of the benchmark first, at five severities."""

    root: Path
    kinds: tuple[str, ...]
    layout: ClassVar[str]

    @abstractmethod
    def copy_of(self, item: Item, kind: str, severity: int, spec: InputSpec, framed: bool) -> Tensor:
        """Return the corrupted copy of an image as (C, H, W) float32 in [0, 1] of the spec's size.

        Raises UnreadableError where there is none.
        """


class CorruptedFolder(CorruptedCopies):
    """A folder for each kind, severity and class."""

    layout = "a folder in ImageNet-C's layout"

    def copy_of(self, item: Item, kind: str, severity: int, spec: InputSpec, framed: bool) -> Tensor:
        """Return the corrupted copy of an image as (C, H, W) float32 in [0, 1] of the spec's size.

        The copy has the image's class folder and name, with any ending. A copy of the image's own size is resized and cropped
        like the image; another one has been cropped already, as those of ImageNet-C, and is only resized where it does not fit.
        Raises UnreadableError where there is none.
        """
        import torch

        from probe.data.pictures import read_picture
        from probe.data.preprocess import fit, size_of
        from probe.data.spec import UnreadableError

        if item.path is None:
            raise UnreadableError("not a file, so it has no corrupted copy")
        level = self.root / kind / str(severity)
        found = next(
            (
                files[item.path.stem]
                for files in map(_by_stem, _near(level, item.path))
                if item.path.stem in files
            ),
            None,
        )
        if found is None:
            raise UnreadableError(f"no corrupted copy in {kind}/{severity}")
        copy = read_picture(found)
        if size_of(copy) != size_of(item.read()):
            spec = replace(spec, crop=1.0, resize=None, as_is=True, asked=True)
        return torch.from_numpy(fit(copy, spec, framed))


class CorruptedArrays(CorruptedCopies):
    """An array for each kind, the severities one after another, each with the images in the order of the data set."""

    layout = "arrays in CIFAR-10-C's layout"

    @cached_property
    def labels(self) -> NDArray[Any]:
        """The labels of the images."""
        return _array(self.root / _LABELS)

    @cached_property
    def pixels(self) -> dict[str, NDArray[Any]]:
        """The copies of each kind."""
        return {kind: _array(self.root / f"{kind}.npy") for kind in self.kinds}

    def copy_of(self, item: Item, kind: str, severity: int, spec: InputSpec, framed: bool) -> Tensor:
        """Return the corrupted copy of an image as (C, H, W) float32 in [0, 1] of the spec's size.

        It is found by the image's place in its data set; raises UnreadableError where there is none, or with another label.
        """
        import torch
        from PIL import Image

        from probe.data.preprocess import fit
        from probe.data.spec import UnreadableError

        labels, pixels = self.labels, self.pixels[kind]
        count = len(pixels) // len(_LEVELS)
        place, label = item.published or (count, -1)
        if place >= count:
            raise UnreadableError("not one of the images that have copies")
        if label != int(labels[place]):
            raise UnreadableError(f"its copies have the label {int(labels[place])}, not {label}")
        return torch.from_numpy(
            fit(Image.fromarray(np.asarray(pixels[(severity - 1) * count + place])), spec, framed)
        )


def _array(path: Path) -> NDArray[Any]:
    """Open an array, which stays on the disk; raises UsageError where it is not one."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"Could not read '{path}': {error}.") from error
    return array


def _open_arrays(root: Path) -> CorruptedArrays:
    kinds = _ordered(path.stem for path in root.glob("*.npy") if path.name != _LABELS)
    found = CorruptedArrays(root, kinds)
    for kind, pixels in found.pixels.items():
        shape, dtype = pixels.shape, pixels.dtype
        if len(shape) not in (3, 4) or dtype != np.uint8 or shape[0] % len(_LEVELS):
            raise UsageError(
                f"'{root / kind}.npy' is {dtype} of shape {shape}, not five severities of bytes (5N, H, W, 3)."
            )
        if found.labels.ndim != 1 or len(found.labels) not in (shape[0], shape[0] // len(_LEVELS)):
            raise UsageError(
                f"'{root / _LABELS}' has {len(found.labels)} labels for the {shape[0]} images of '{kind}.npy'."
            )
    return found


def _ordered(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return kinds in the order of the benchmark, others after it."""
    from probe.data.corruptions import CORRUPTIONS

    known = {name: place for place, name in enumerate(CORRUPTIONS)}
    return tuple(sorted(kinds, key=lambda name: (known.get(name, len(known)), name)))


def open_corrupted(path: str | Path) -> CorruptedCopies:
    """Return the corrupted copies in a folder; raises UsageError where it has neither layout."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UsageError(f"There is no folder '{path}' of corrupted images; {_LAYOUTS}.")
    if (root / _LABELS).is_file():
        return _open_arrays(root)
    folders = {entry.name for entry in root.iterdir() if any((entry / level).is_dir() for level in _LEVELS)}
    if not folders:
        raise UsageError(f"'{path}' has no corrupted images: {_LAYOUTS}.")
    kinds = _ordered(folders)
    for kind in kinds:
        missing = [level for level in _LEVELS if not (root / kind / level).is_dir()]
        if missing:
            raise UsageError(f"'{path}/{kind}' lacks the severities {', '.join(missing)}: {_LAYOUTS}.")
    return CorruptedFolder(root, kinds)


def _near(level: Path, path: Path) -> list[Path]:
    """Return the folders in which the copy may be: those called like a folder around the image, the nearest first."""
    return [level / parent.name for parent in path.parents if parent.name]


@lru_cache(maxsize=8192)
def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their names without endings; empty where there is no such folder."""
    return {path.stem: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def kinds_or_folder(words: tuple[str, ...]) -> tuple[str, ...] | CorruptedCopies:
    """Return the kinds of corruption that a user named, or the folder of corrupted copies.

    One word that is no kind and contains a separator, or is a folder, is one. Raises UsageError for unknown names and for a
    folder without the layout.
    """
    from probe.data.corruptions import CORRUPTIONS, chosen

    word = words[0] if len(words) == 1 else "all"
    if word != "all" and word not in CORRUPTIONS and ("/" in word or Path(word).expanduser().is_dir()):
        return open_corrupted(word)
    return chosen(words)
