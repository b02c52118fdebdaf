"""The smallest perturbation of each image, refined by bisection from an adversarial image that is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.attacks.families.gradient import PGD
from probe.attacks.losses import LOSSES, adversarial, ascent, broken, pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, Norm, per_image
from probe.attacks.select import SelectedAttack
from probe.core.state import frozen_parameters
from studies.adversarial.outcome import just_beyond

ACCURACY = 0.08
"""How far quartiles of the same images may differ between two choices of epsilons, as a part of them.

The bisection itself ends at 5%; the rest is chance: which of several nearby adversarial images it starts from.
"""

END = 0.05
"""The bisection ends when PGD found nothing at a size that is smaller by this fraction."""

STEPS = 7
"""Steps of that PGD."""

_LARGEST_STEP = 0.7
"""Its first step as a part of the radius; they fall along a cosine, and add up to more than the ball's diameter."""

_WIDE = 1.1
"""As long as the bisection's bounds are further apart than this factor, PGD also starts at the clean image."""

_MOST = 16
"""Bisections at most: enough for a factor of two and the accuracy, and for eight halvings before."""


def is_refined(selected: SelectedAttack, norm: Norm) -> bool:
    """Tell whether the sizes that an attack finds are refined: not those of black boxes, and not in whole pixels.

    Minimum-norm attacks keep the sizes that they found.
    """
    return selected.fixed and selected.attack.traits.access == "white-box" and not isinstance(norm, L0)


@dataclass(frozen=True)
class RefineInputs:
    """The network, N images (N, C, H, W), their labels and targets (N,), and the norm."""

    model: AttackedModel
    images: Tensor
    labels: Tensor
    targets: Tensor | None
    norm: Norm

    def rows(self, rows: Tensor) -> RefineInputs:
        """Return the inputs of some of the images."""
        return RefineInputs(
            self.model, self.images[rows], self.labels[rows], pick(self.targets, rows), self.norm
        )


def refined(inputs: RefineInputs, known: Tensor, floor: Tensor, size: Tensor) -> Tensor:
    """Return a smaller bound on the smallest perturbation of each image, (N,).

    ``known`` (N, C, H, W) are adversarial images of the given ``size`` (N,); nothing below ``floor`` (N,) is returned or
    looked for. Every bound is the size of an image that the plain network confirmed to be adversarial, or ``floor`` where
    that size is smaller still.
    """
    high, low, best = size.clone(), floor.clone(), known.clone()
    for _ in range(_MOST):
        rows = ((high > low * (1 + END)) & (high > floor)).nonzero()[:, 0]
        if len(rows) == 0:
            break
        middle = torch.where(low > 0, (low * high).sqrt(), high / 2)[rows]
        images, hit = _search(inputs.rows(rows), best[rows], middle)
        # Far from the known image, another one may be nearer: the search begins anew at the clean image.
        wide = (~hit & (high[rows] > low[rows] * _WIDE)).nonzero()[:, 0]
        if len(wide):
            anew = inputs.rows(rows[wide])
            images[wide], hit[wide] = _search(anew, anew.images, middle[wide])
        found, missed = rows[hit], rows[~hit]
        sizes = inputs.norm.size(images[hit] - inputs.images[found])
        high[found] = torch.minimum(torch.maximum(sizes, floor[found]), middle[hit])
        best[found] = images[hit]
        low[missed] = middle[~hit]
        # A success inside a ball that was searched in vain: the search goes on below it.
        low = torch.where(low >= high, floor, low)
    return high


def leapt(
    inputs: RefineInputs, known: Tensor, size: Tensor, epsilons: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Return an adversarial image of each image in the smallest ball that a search from the known one reaches.

    ``known`` (N, C, H, W) are adversarial images of the given ``size`` (N,); ``epsilons`` are the balls' radii, ascending.
    Returns images (N, C, H, W) and sizes (N,): the known ones where nothing nearer was found.
    """
    best, sizes = known.clone(), size.clone()
    radii = torch.tensor(epsilons, dtype=size.dtype, device=size.device)
    edges = torch.tensor([just_beyond(e) for e in epsilons], dtype=size.dtype, device=size.device)
    missed, hit = torch.full_like(size, -1, dtype=torch.long), torch.searchsorted(edges, size)
    while True:
        rows = (hit - missed > 1).nonzero()[:, 0]
        if len(rows) == 0:
            return best, sizes
        middle = (missed[rows] + hit[rows]) // 2
        images, found = _search(inputs.rows(rows), best[rows], radii[middle])
        won, missed[rows[~found]] = rows[found], middle[~found]
        best[won], sizes[won] = images[found], inputs.norm.size(images[found] - inputs.images[won])
        hit[won] = torch.minimum(middle[found], torch.searchsorted(edges, sizes[won]))


def _search(inputs: RefineInputs, start: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return images within ``radius`` (N,) found by PGD on the margin from ``start``, and which are adversarial, (N,).

    After a step, a search ends whose gradient promises too little in all of the ball to change the prediction. Of 133
    searches on a resnet20 that succeeded after a step, none had been promised less than twice the margin.
    """
    model, norm = inputs.model, inputs.norm
    result = norm.project(inputs.images, start, radius)
    done = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    where = torch.arange(len(start), device=start.device)
    x = result.clone()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(frozen_parameters(model.module))
        for step in range(STEPS + 1):
            labels, goal = inputs.labels[where], pick(inputs.targets, where)
            logits, losses, gradient = ascent(model, x, labels, goal, LOSSES["margin"])
            hit = broken(model, x, logits, labels, goal)
            result[where[hit]], done[where[hit]] = x[hit], True
            hopeful = ~hit
            if step:
                hopeful &= _promise(inputs.images[where], x, gradient, norm, radius[where]) >= -losses
            where, x, gradient = where[hopeful], x[hopeful], gradient[hopeful]
            if step == STEPS or len(where) == 0:
                break
            part = _LARGEST_STEP * (1.02 + math.cos(math.pi * step / STEPS)) / 2
            # A value at the edge of the range cannot follow its gradient.
            free = (gradient > 0) & (x < 1) | (gradient < 0) & (x > 0)
            gradient = torch.where(free, gradient, 0.0)
            move = PGD().move(x, gradient, norm, 1.0, part)
            x = norm.project(inputs.images[where], x + per_image(radius[where], x) * move, radius[where])
    if bool(done.any()):
        rows = done.nonzero()[:, 0]
        logits = model.verdict(result[rows])
        hit = adversarial(logits, inputs.labels[rows], pick(inputs.targets, rows))
        done[rows] = hit & logits.isfinite().all(1)
    return result.detach(), done


def _promise(images: Tensor, x: Tensor, gradient: Tensor, norm: Norm, radius: Tensor) -> Tensor:
    """Return by how much a linear function with this gradient at ``x`` grows within the ball around ``images``, (N,)."""
    most = (norm.steepest(gradient) * gradient).flatten(1).sum(1)
    return radius * most - ((x - images) * gradient).flatten(1).sum(1)
