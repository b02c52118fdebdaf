"""Network dissection: where a channel fires strongly, against the masks of concepts (Bau et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from probe.core.errors import NotApplicableError, UsageError
from probe.core.state import captured, last_map
from probe.data.images import ImageSet
from probe.data.load import ALL, load_images
from probe.data.preprocess import fit, size_of
from probe.data.spec import InputSpec
from probe.models.loaded import LoadedModel

Array = NDArray[np.float64]

FIRING = 0.005
"""A channel fires strongly at this part of all positions of all images, as published."""

DETECTOR = 0.04
"""A channel whose overlap with a concept is larger detects it, as published."""

GRID = 56
"""Maps and masks are compared on at most this many cells a side."""

MOST = 500
"""At most this many images are compared."""


def grid_of(size: tuple[int, int, int]) -> tuple[int, int]:
    """Return the cells (rows, columns) on which maps and masks are compared, for images (C, H, W)."""
    return min(GRID, size[1]), min(GRID, size[2])


def on_grid(mask: NDArray[np.bool_], grid: tuple[int, int]) -> Tensor:
    """Return a mask (H, W) on the grid, flat: the cells of which at least half is inside."""
    inside = torch.from_numpy(mask.astype(np.float32))[None, None]
    return (F.adaptive_avg_pool2d(inside, grid) >= 0.5).flatten()


@dataclass(frozen=True)
class MaskedImages:
    """Images, and concept → the file with the mask of an image by its index; a concept without a mask is not in the image."""

    images: ImageSet
    files: Mapping[str, Mapping[int, Path]]

    def masks(self, spec: InputSpec, indices: Sequence[int]) -> Tensor:
        """Return the masks (N, concepts, cells) of images as the network sees them.

        Raises NotApplicableError for a mask that cannot be read or is not as large as its image.
        """
        grid = grid_of(spec.size)
        one_channel = InputSpec(
            (1, *spec.size[1:]), spec.crop, "nearest", spec.aspect, spec.resize, spec.as_is, spec.asked
        )
        found = torch.zeros(len(indices), len(self.files), grid[0] * grid[1], dtype=torch.bool)
        for row, index in enumerate(indices):
            size = size_of(self.images.items[index].read())
            for place, files in enumerate(self.files.values()):
                if index in files:
                    mask = fit(_read(files[index], size), one_channel, self.images.framed)[0] > 0
                    found[row, place] = on_grid(mask, grid)
        return found


def _read(file: Path, size: tuple[int, int]) -> Image.Image:
    """Return a mask as a picture that is black outside and white inside."""
    try:
        with Image.open(file) as opened:
            grey = np.asarray(opened.convert("L"))
    except OSError as error:
        raise NotApplicableError(f"The mask {file} cannot be read: {error}.") from error
    if grey.shape != size:
        raise NotApplicableError(
            f"The mask {file} has {grey.shape[1]} × {grey.shape[0]} pixels, and its image {size[1]} × {size[0]}."
        )
    return Image.fromarray(np.where(grey > 0, 255, 0).astype(np.uint8))


def load_masks(folder: str | Path) -> MaskedImages:
    """Return the images in ``folder/images`` and their masks ``folder/masks/CONCEPT/NAME.png``, black outside.

    Raises UsageError for a folder of another form, and for a concept without a mask for any of the images.
    """
    place = Path(folder).expanduser()
    if not (place / "images").is_dir() or not (place / "masks").is_dir():
        raise UsageError(
            f"{folder} is no folder of masks: it needs images/NAME.jpg and masks/CONCEPT/NAME.png (black: not there)."
        )
    images = load_images(place / "images", n=ALL)
    known = {Path(images.item_name(index)).stem: index for index in range(len(images))}
    files: dict[str, dict[int, Path]] = {}
    for concept in sorted(path for path in (place / "masks").iterdir() if path.is_dir()):
        found = {known[path.stem]: path for path in sorted(concept.iterdir()) if path.stem in known}
        if not found:
            raise UsageError(
                f"The concept '{concept.name}' in {folder} has no mask named as one of its images."
            )
        files[concept.name] = found
    if not files:
        raise UsageError(f"{folder}/masks has no folder of a concept.")
    return MaskedImages(images, files)


@dataclass(frozen=True)
class Overlaps:
    """How the C channels of a layer fire on n images with masks of K concepts, in cells of the grid.

    ``both`` (n, C, K): cells inside the mask where the channel fires strongly; ``firing`` (n, C); ``inside`` (n, K).
    """

    both: Array
    firing: Array
    inside: Array

    def iou(self, rows: NDArray[np.int64] | None = None) -> Array:
        """Return the intersection over union (C, K), of all images or of those in ``rows``; 0 where both are empty."""
        both, firing, inside = (
            part.sum(0) if rows is None else part[rows].sum(0)
            for part in (self.both, self.firing, self.inside)
        )
        union = firing[:, None] + inside[None] - both
        found: Array = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
        return found


@dataclass(frozen=True)
class Detectors:
    """The best concept of each of C channels, its IoU, and whether that makes the channel a detector."""

    concept: NDArray[np.int64]
    iou: Array

    @classmethod
    def of(cls, iou: Array) -> Detectors:
        """Choose from IoUs (C, K); the first concept among equals."""
        return cls(iou.argmax(1), iou.max(1))

    @property
    def count(self) -> int:
        """The number of detectors."""
        return int((self.iou > DETECTOR).sum())

    @property
    def unique(self) -> int:
        """The number of concepts that have a detector."""
        return len(np.unique(self.concept[self.iou > DETECTOR]))


def thresholds(
    model: LoadedModel,
    batches: Callable[[], Iterator[Tensor]],
    layers: Sequence[str],
    count: int,
    advance: Callable[[float], None],
) -> dict[str, Tensor]:
    """Return layer → (C,): the activation that a channel exceeds at a part ``FIRING`` of the positions of ``count`` images."""
    strongest: dict[str, Tensor] = {}
    for maps in _maps(model, batches(), layers, advance):
        for layer, found in maps.items():
            values = found.transpose(0, 1).flatten(1)
            most = int(FIRING * count * found.shape[2] * found.shape[3]) + 1
            if layer in strongest:
                values = torch.cat([strongest[layer], values], 1)
            strongest[layer] = values.topk(min(most, values.shape[1]), dim=1).values
    return {layer: values[:, -1] for layer, values in strongest.items()}


def overlaps(
    model: LoadedModel,
    batches: Callable[[], Iterator[Tensor]],
    masks: Sequence[Tensor],
    grid: tuple[int, int],
    limits: Mapping[str, Tensor],
    advance: Callable[[float], None],
) -> list[dict[str, Overlaps]]:
    """Return for each of several sets of masks (n, K, cells) layer → the overlaps of its channels with them."""
    parts: list[dict[str, list[tuple[Array, Array]]]] = [{layer: [] for layer in limits} for _ in masks]
    start = 0
    for maps in _maps(model, batches(), list(limits), advance):
        size = len(next(iter(maps.values())))
        for layer, found in maps.items():
            for row in range(size):  # one by one: all enlarged maps of a batch would take much memory
                large = F.interpolate(found[row : row + 1], grid, mode="bilinear", align_corners=False)[0]
                fires = (large > limits[layer][:, None, None]).flatten(1).float()
                firing = fires.sum(1).double().numpy()
                for one, own in zip(parts, masks, strict=True):
                    both = fires @ own[start + row].float().T
                    one[layer].append((both.double().numpy(), firing))
        start += size
    return [
        {
            layer: Overlaps(
                np.stack([both for both, _ in found]),
                np.stack([firing for _, firing in found]),
                own.sum(2).double().numpy(),
            )
            for layer, found in one.items()
        }
        for one, own in zip(parts, masks, strict=True)
    ]


def _maps(
    model: LoadedModel, batches: Iterator[Tensor], layers: Sequence[str], advance: Callable[[float], None]
) -> Iterator[dict[str, Tensor]]:
    """Yield layer → maps (N, C, H, W), float32 on the CPU, of each batch."""
    for images in batches:
        with torch.inference_mode(), captured(model.network, layers) as outputs:
            model.module(images.to(model.device, memory_format=model.memory_format))
            found = {layer: last_map(outputs[layer]).float().cpu() for layer in layers}
        yield found
        advance(len(images))
