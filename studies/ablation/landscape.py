"""The loss around trained weights, on a plane of two filter-normalised random directions (Li et al. 2018)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from probe.core import seeds
from probe.core.state import training_mode

REACH = 1.0
"""How far the plane reaches from the weights, in units of each filter's own norm."""

POINTS = 11
"""Points along each direction, the weights in the middle."""

IMAGES = 128
"""The loss is the mean over at most this many training images, evenly over them: folders are in the order of their classes."""

Direction = dict[str, Tensor]


def steps(points: int = POINTS) -> NDArray[np.float64]:
    """Return the coordinates along one direction."""
    return np.linspace(-REACH, REACH, points)


def direction(module: nn.Module, seed: int, which: int) -> Direction:
    """Return a random direction: parameter → change, in which each filter (row) has the norm of that of the weights.

    Biases and parameters of norms do not change. The numbers of a parameter depend on the seed, its name and its shape alone, so
    that networks which share layers share directions.
    """
    found = {}
    for name, weights in module.named_parameters():
        if weights.dim() < 2:
            continue
        draws = seeds.generator(seed, "landscape", which, name)
        drawn = torch.randn(tuple(weights.shape), generator=draws).to(weights.device).flatten(1)
        norms = weights.detach().flatten(1).norm(dim=1, keepdim=True)
        found[name] = (drawn * (norms / drawn.norm(dim=1, keepdim=True).clamp_min(1e-12))).view_as(weights)
    return found


def landscape(
    module: nn.Module, images: Tensor, labels: Tensor, seed: int, points: int = POINTS
) -> NDArray[np.float64]:
    """Return the mean cross-entropy (points, points) in eval mode; rows go along the second direction.

    Infinite where the loss is not finite. The weights are put back, also after an exception.
    """
    first, second = (direction(module, seed, which) for which in (0, 1))
    parameters = {name: value for name, value in module.named_parameters() if name in first}
    kept = {name: value.detach().clone() for name, value in parameters.items()}
    found = np.empty((points, points))
    try:
        with training_mode(module, False), torch.no_grad():
            for row, down in enumerate(steps(points)):
                for column, across in enumerate(steps(points)):
                    for name, value in parameters.items():
                        value.copy_(kept[name] + float(across) * first[name] + float(down) * second[name])
                    found[row, column] = _loss(module, images, labels)
    finally:
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(kept[name])
    return found


def _loss(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    logits = module(images).double()
    loss = float(F.cross_entropy(logits, labels)) if bool(logits.isfinite().all()) else float("inf")
    return loss if np.isfinite(loss) else float("inf")


def rise(losses: NDArray[np.float64], reach: float = REACH / 2) -> float:
    """Return how much larger the mean loss is within ``reach`` of the weights than at them, in nats; infinite where it diverges."""
    along = steps(len(losses))
    near = np.hypot(along[:, None], along[None]) <= reach + 1e-9
    middle = len(losses) // 2
    return float(losses[near].mean() - losses[middle, middle])
