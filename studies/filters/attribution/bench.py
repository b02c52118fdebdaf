"""What attribution maps are judged by: deletion, insertion and ROAD, infidelity, max-sensitivity, Gini index, pointing game."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core.precision import exact_float32
from probe.core.seeds import derive, generator
from studies.filters.attribution.attribute import Method, baseline_of
from studies.filters.attribution.cells import SENSITIVITIES, CellGrid, blurred, evidence, imputed

Array = NDArray[np.float64]

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""The shares of the image that are deleted, or inserted: closer together where the curves are steep."""

ROAD_SHARES = (0.2, 0.5, 0.8)
ROAD_NOISE = 0.01
"""The standard deviation of the noise on imputed cells, in units of the pixel range."""

WINDOWS = 16
RADIUS = 0.02
"""By how much a pixel is changed at most for max-sensitivity, in units of the pixel range."""

DRAWS = 2
"""How many changed images max-sensitivity looks at."""

_TOGETHER = 4


@dataclass(frozen=True)
class Bench:
    """Images (N, C, H, W) in [0, 1], the logit of each that is explained, and what all methods share of the tests.

    ``module`` answers with logits; random numbers derive from ``seed``.
    """

    module: nn.Module
    images: Tensor
    targets: Tensor
    seed: int = 0

    @cached_property
    def grid(self) -> CellGrid:
        """The cells in which pixels are removed."""
        return CellGrid.of((self.images.shape[2], self.images.shape[3]))

    @cached_property
    def flat(self) -> Tensor:
        """The baseline of deletion: each image's mean colour."""
        return baseline_of(self.images, "mean")

    @cached_property
    def blurred(self) -> Tensor:
        """What insertion begins with."""
        return blurred(self.images)

    @cached_property
    def ends(self) -> tuple[Array, Array, Array]:
        """The probabilities (N,) of the explained classes on the images, the flat ones and the blurred ones."""
        whole, flat, smooth = (
            self.probabilities(images) for images in (self.images, self.flat, self.blurred)
        )
        return whole, flat, smooth

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of images, a few at a time."""
        with torch.inference_mode(False), torch.no_grad(), exact_float32():
            return torch.cat([self.module(part) for part in torch.split(images, _TOGETHER)])

    def probabilities(self, images: Tensor) -> Array:
        """Return the softmax probability of each image's explained class, (N,)."""
        shares = self.logits(images).cpu().double().softmax(1).gather(1, self.targets.cpu()[:, None])
        return np.asarray(shares[:, 0].numpy(), dtype=np.float64)

    def ranks(self, method: Method, maps: Tensor) -> Tensor:
        """Return the place of every cell by a method's maps, (N, cells)."""
        return self.grid.ranks(evidence(method, maps), self.seed)

    def deletion(self, ranks: Tensor) -> Array:
        """Return the probability when the first ``SHARES`` of the cells have the mean colour, (N, shares)."""
        whole, flat, _ = self.ends
        return self._curve(ranks, self.images, self.flat, whole, flat)

    def insertion(self, ranks: Tensor) -> Array:
        """Return the probability when the first ``SHARES`` of the cells are sharp and the rest blurred, (N, shares)."""
        whole, _, smooth = self.ends
        return self._curve(ranks, self.blurred, self.images, smooth, whole)

    def _curve(self, ranks: Tensor, before: Tensor, after: Tensor, start: Array, end: Array) -> Array:
        inside = []
        for share in SHARES[1:-1]:
            changed = self.grid.pixels(self.grid.removed(ranks, share))[:, None].to(before.device)
            inside.append(self.probabilities(torch.where(changed, after, before)))
        return np.stack([start, *inside, end], axis=1)

    def road(self, ranks: Tensor) -> Array:
        """Return by how much more probability is left without the last cells than without the first, (N,).

        Removed cells are imputed by noisy linear interpolation; the mean over ``ROAD_SHARES`` (Rong et al. 2022).
        """
        gaps = []
        for share in ROAD_SHARES:
            left = [
                self.probabilities(self._imputed(self.grid.removed(ranks, share, last=last)))
                for last in (True, False)
            ]
            gaps.append(left[0] - left[1])
        return np.asarray(np.mean(gaps, axis=0), dtype=np.float64)

    def _imputed(self, removed: Tensor) -> Tensor:
        means = self.grid.means(self.images).cpu().double().numpy()
        filled = []
        for number, (cells, gone) in enumerate(zip(means, removed.numpy(), strict=True)):
            if not gone.any() or gone.all():
                filled.append(cells)
                continue
            rng = np.random.default_rng(derive(self.seed, "imputation", number, int(gone.sum())))
            filled.append(imputed(cells, gone, rng.normal(0, ROAD_NOISE, cells.shape)))
        values = torch.from_numpy(np.stack(filled)).to(self.images)
        wide = self.grid.pixels(values)
        if self.grid.side > 1:
            # Between the middles of the cells the colour runs on, so that no new edges appear.
            full = [count * self.grid.side for count in self.grid.shape]
            wide = F.interpolate(values, full, mode="bilinear", align_corners=False)
            wide = wide[..., : self.grid.height, : self.grid.width]
        gone = self.grid.pixels(removed)[:, None].to(self.images.device)
        return torch.where(gone, wide, self.images)

    @cached_property
    def windows(self) -> Tensor:
        """Random rectangles, a quarter to half of each side, (windows, H, W), True inside."""
        source = generator(self.seed, "windows")
        boxes = torch.zeros(WINDOWS, *self.images.shape[-2:], dtype=torch.bool)
        for box in boxes:
            spans = []
            for side in box.shape:
                length = int(torch.randint(-(-side // 4), max(2, side // 2 + 1), (), generator=source))
                start = int(torch.randint(0, side - length + 1, (), generator=source))
                spans.append(slice(start, start + length))
            box[spans[0], spans[1]] = True
        return boxes

    @cached_property
    def drops(self) -> Array:
        """By how much the explained logit falls when each window has the image's mean colour, (N, windows)."""
        own = self.logits(self.images).gather(1, self.targets[:, None])
        falls = []
        for box in self.windows.to(self.images.device):
            covered = self.logits(torch.where(box, self.flat, self.images))
            falls.append(own - covered.gather(1, self.targets[:, None]))
        return np.asarray(torch.cat(falls, 1).cpu().double().numpy(), dtype=np.float64)

    def infidelity(self, method: Method, maps: Tensor) -> Array:
        """Return the infidelity (Yeh et al. 2019) of each map to the drops of the windows, (N,), NaN where none drops.

        A gradient is multiplied by the change of the pixels; other maps are contributions already. With the best scale
        that is not negative, and as a share of the mean squared drop: 0 is exact, 1 says nothing.
        """
        whole = maps * (self.images - self.flat) if isinstance(method, SENSITIVITIES) else maps
        summed = torch.nan_to_num(whole.detach().cpu().double().sum(1), nan=0.0, posinf=0.0, neginf=0.0)
        said = torch.einsum("nhw,khw->nk", summed, self.windows.double()).numpy()
        return infidelity(said, self.drops)

    def sensitivity(self, attribute: Callable[[Tensor], Tensor], maps: Tensor) -> Array:
        """Return the largest relative change of each map when the image hardly changes (max-sensitivity), (N,).

        ``attribute`` makes the maps of other images; NaN where the map is 0.
        """
        source = generator(self.seed, "sensitivity")
        size = maps.flatten(1).norm(dim=1)
        changes = []
        for _ in range(DRAWS):
            noise = RADIUS * (2 * torch.rand(self.images.shape[1:], generator=source) - 1)
            near = attribute(self.images + noise.to(self.images))
            changes.append((near - maps).flatten(1).norm(dim=1))
        largest = torch.stack(changes).amax(0)
        found = torch.where(size > 0, largest / size.clamp_min(torch.finfo(size.dtype).tiny), math.nan)
        return np.asarray(found.cpu().double().numpy(), dtype=np.float64)


def infidelity(said: Array, drops: Array) -> Array:
    """Return E[(β said − drop)²] / E[drop²] over the last axis with the best β ≥ 0; NaN where nothing drops."""
    power = (drops**2).mean(1)
    product, square = (said * drops).mean(1), (said**2).mean(1)
    scale = np.where(square > 0, np.maximum(product, 0) / np.where(square > 0, square, 1), 0)
    error = ((scale[:, None] * said - drops) ** 2).mean(1)
    return np.where(power > 0, error / np.where(power > 0, power, 1), np.nan)


def area(curves: Array) -> Array:
    """Return the area under curves (N, shares) by trapezoids, (N,)."""
    widths = np.diff(SHARES)
    return np.asarray(((curves[:, 1:] + curves[:, :-1]) / 2 * widths).sum(1), dtype=np.float64)


def gini(maps: Tensor) -> Array:
    """Return the Gini index of Σ over colours of |map|, (N,): 0 all pixels alike, near 1 a single one; NaN for zeros."""
    sizes = maps.detach().abs().sum(1).flatten(1).cpu().double()
    ordered = torch.nan_to_num(sizes, nan=0.0, posinf=0.0).sort(dim=1).values.numpy()
    n = ordered.shape[1]
    total = ordered.sum(1)
    weighted = ((2 * np.arange(1, n + 1) - n - 1) * ordered).sum(1)
    return np.where(total > 0, weighted / np.where(total > 0, n * total, 1), np.nan)


@dataclass(frozen=True)
class Mosaics:
    """Mosaics (M, C, H, W) of 2 × 2 images, and the class of each cell, (M, 4), in reading order."""

    images: Tensor
    targets: Tensor

    @property
    def cases(self) -> tuple[Tensor, Tensor]:
        """Every mosaic four times (4M, C, H, W), and the class to explain (4M,)."""
        return self.images.repeat_interleave(4, 0), self.targets.flatten()

    def shares(self, found: Tensor) -> Array:
        """Return the share of the positive evidence (4M, H, W) in the explained cell, (4M,); 1/4 where there is none."""
        positive = found.clamp_min(0)
        height, width = positive.shape[-2:]
        rows, cols = (
            (slice(0, height // 2), slice(height // 2, None)),
            (
                slice(0, width // 2),
                slice(width // 2, None),
            ),
        )
        parts = torch.stack([positive[:, row, col].sum((1, 2)) for row in rows for col in cols], 1)
        own = parts.gather(1, (torch.arange(len(parts)) % 4)[:, None])[:, 0]
        total = parts.sum(1)
        share = torch.where(total > 0, own / total.clamp_min(1e-300), 0.25)
        return np.asarray(share.numpy(), dtype=np.float64)


def mosaic(images: Tensor) -> Tensor:
    """Return one image (C, H, W) whose quarters are four images (4, C, H, W) at half size, in reading order."""
    height, width = images.shape[-2:]
    sides = [(height // 2, height - height // 2), (width // 2, width - width // 2)]
    if min(sides[0][0], sides[1][0]) < 1:
        raise ValueError("a mosaic needs images of at least 2 × 2 pixels")
    cells = [
        F.interpolate(images[place][None], (rows, cols), mode="bilinear", antialias=True)[0]
        for place, (rows, cols) in enumerate((rows, cols) for rows in sides[0] for cols in sides[1])
    ]
    return torch.cat([torch.cat(cells[:2], 2), torch.cat(cells[2:], 2)], 1).clamp(0, 1)


def groups(labels: Sequence[int], confidences: Sequence[float], most: int) -> list[list[int]]:
    """Return at most ``most`` groups of four positions of different labels, the most confident first; none is used twice."""
    waiting = sorted(range(len(labels)), key=lambda place: (-confidences[place], place))
    found: list[list[int]] = []
    while len(found) < most:
        group: list[int] = []
        for place in waiting:
            if len(group) < 4 and labels[place] not in {labels[other] for other in group}:
                group.append(place)
        if len(group) < 4:
            break
        found.append(group)
        waiting = [place for place in waiting if place not in group]
    return found
