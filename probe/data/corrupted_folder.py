"""Corrupted copies of a class folder in ImageNet-C's layout: FOLDER/CORRUPTION/SEVERITY/CLASS/IMAGE."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from probe.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from probe.data.spec import InputSpec, Item

_LEVELS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True)
class CorruptedFolder:
    """A folder of corrupted copies; ``kinds`` are its subfolders with five severities, those of the benchmark first."""

    root: Path
    kinds: tuple[str, ...]

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


def open_corrupted(path: str | Path) -> CorruptedFolder:
    """Return the corrupted copies in a folder; raises UsageError where it does not have the layout."""
    from probe.data.corruptions import CORRUPTIONS

    root = Path(path).expanduser()
    layout = "ImageNet-C's layout is CORRUPTION/1 to 5/CLASS/IMAGE"
    if not root.is_dir():
        raise UsageError(f"There is no folder '{path}' of corrupted images; {layout}.")
    folders = {entry.name for entry in root.iterdir() if any((entry / level).is_dir() for level in _LEVELS)}
    if not folders:
        raise UsageError(f"'{path}' has no corrupted images: {layout}.")
    known = {name: place for place, name in enumerate(CORRUPTIONS)}
    kinds = tuple(sorted(folders, key=lambda name: (known.get(name, len(known)), name)))
    for kind in kinds:
        missing = [level for level in _LEVELS if not (root / kind / level).is_dir()]
        if missing:
            raise UsageError(f"'{path}/{kind}' lacks the severities {', '.join(missing)}: {layout}.")
    return CorruptedFolder(root, kinds)


def _near(level: Path, path: Path) -> list[Path]:
    """Return the folders in which the copy may be: those called like a folder around the image, the nearest first."""
    return [level / parent.name for parent in path.parents if parent.name]


@lru_cache(maxsize=8192)
def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their names without endings; empty where there is no such folder."""
    return {path.stem: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def kinds_or_folder(words: tuple[str, ...]) -> tuple[str, ...] | CorruptedFolder:
    """Return the kinds of corruption that a user named, or the folder of corrupted copies.

    One word that is no kind and contains a separator, or is a folder, is one. Raises UsageError for unknown names and for a
    folder without the layout.
    """
    from probe.data.corruptions import CORRUPTIONS, chosen

    word = words[0] if len(words) == 1 else "all"
    if word != "all" and word not in CORRUPTIONS and ("/" in word or Path(word).expanduser().is_dir()):
        return open_corrupted(word)
    return chosen(words)
