"""Removing the pixels that a map ranks first or last: in square cells, so that large images need no more steps than small ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from probe.core.seeds import generator
from studies.filters.attribution.further import SmoothGrad
from studies.filters.attribution.methods import Gradient, GuidedBackprop, Method

MOST = 56
"""Cells are squares of as few pixels as make at most so many of them a side; up to this size a cell is a pixel."""

SENSITIVITIES = (Gradient, GuidedBackprop, SmoothGrad)
"""Methods whose maps say how much a pixel matters if it changes, whatever the sign; the others' say for or against."""


def evidence(method: Method, maps: Tensor) -> Tensor:
    """Return what a map says in favour of the class per pixel, (N, H, W), from (N, C, H, W) or (N, 1, H, W) maps.

    The sum over colours; of gradients, whose sign does not say for or against, the sum of the absolute values. What is
    not finite is 0.
    """
    summed = maps.abs().sum(1) if isinstance(method, SENSITIVITIES) else maps.sum(1)
    return torch.nan_to_num(summed.detach().cpu().double(), nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class CellGrid:
    """An image of (height, width) pixels divided into rows × cols squares of ``side`` pixels; the last may be cut off."""

    height: int
    width: int
    side: int

    @classmethod
    def of(cls, size: tuple[int, int]) -> CellGrid:
        """Return the grid of an image of (H, W) pixels."""
        return cls(*size, max(1, -(-max(size) // MOST)))

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns."""
        return -(-self.height // self.side), -(-self.width // self.side)

    @property
    def count(self) -> int:
        """The number of cells."""
        return self.shape[0] * self.shape[1]

    def means(self, values: Tensor) -> Tensor:
        """Return the mean over each cell, (…, rows, cols), of values (…, H, W)."""
        flat = values.reshape(-1, 1, self.height, self.width)
        pooled = F.avg_pool2d(flat, self.side, ceil_mode=True, count_include_pad=False)
        return pooled.view(*values.shape[:-2], *self.shape)

    def pixels(self, cells: Tensor) -> Tensor:
        """Return (…, H, W) with the value of its cell at every pixel."""
        wide = cells.repeat_interleave(self.side, -2).repeat_interleave(self.side, -1)
        return wide[..., : self.height, : self.width]

    def ranks(self, values: Tensor, seed: int) -> Tensor:
        """Return the place of each cell among its image's, 0 for the most evidence, (N, cells); ties in a seeded order."""
        cells = self.means(values).flatten(1)
        order = torch.randperm(self.count, generator=generator(seed, "ties"))
        sorted_ = order[cells[:, order].argsort(dim=1, descending=True, stable=True)]
        places = torch.arange(self.count).expand(len(cells), -1)
        return torch.empty_like(sorted_).scatter_(1, sorted_, places)

    def removed(self, ranks: Tensor, share: float, *, last: bool = False) -> Tensor:
        """Return which cells are among the first ``share`` of the ranks, or among the last, (N, rows, cols)."""
        count = round(share * self.count)
        chosen = ranks >= self.count - count if last else ranks < count
        return chosen.view(len(ranks), *self.shape)


def blurred(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) under a Gaussian whose standard deviation is a tenth of the shorter side."""
    deviation = min(images.shape[-2:]) / 10
    reach = max(1, round(3 * deviation))
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = (weights / weights.sum()).to(images)
    flat = F.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    smooth = F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return smooth.view(images.shape)


def imputed(
    cells: NDArray[np.float64], removed: NDArray[np.bool_], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return cells (C, rows, cols) whose removed ones (rows, cols) are imputed from their neighbours (Rong et al. 2022).

    A removed cell is the mean of its eight neighbours, a direct one with weight 1/6 and a diagonal one with 1/12, removed
    ones among them; outside the image there are none. The linear system of all of them is solved, then ``noise`` of the
    shape of ``cells`` is added where cells were removed.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    if not removed.any() or removed.all():
        raise ValueError("there must be cells that are removed and cells that are kept")
    rows, cols = removed.shape
    numbers = np.full(removed.shape, -1)
    numbers[removed] = np.arange(removed.sum())
    here = np.argwhere(removed)
    diagonal = np.zeros(len(here))
    known = np.zeros((len(here), len(cells)))
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            if down == right == 0:
                continue
            weight = 1 / 6 if down * right == 0 else 1 / 12
            there = here + np.array([down, right])
            inside = ((there >= 0) & (there < (rows, cols))).all(1)
            places = np.flatnonzero(inside)
            y, x = there[inside].T
            diagonal[places] += weight
            kept = ~removed[y, x]
            known[places[kept]] += weight * cells[:, y[kept], x[kept]].T
            others = numbers[y[~kept], x[~kept]]
            entries.append((places[~kept], others, np.full(len(others), -weight)))
    entries.append((np.arange(len(here)), np.arange(len(here)), diagonal))
    row, col, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    system = coo_array((value, (row, col)), shape=(len(here), len(here))).tocsc()
    solved = splu(system, permc_spec="MMD_AT_PLUS_A").solve(known)
    result = cells.copy()
    result[:, removed] = solved.T + noise[:, removed]
    return result
