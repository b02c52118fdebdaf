"""ALMA: descent on the size of the perturbation and a penalty whose weight follows the constraint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.families.fmn import BoundarySearch
from probe.attacks.losses import dlr
from probe.attacks.norms import L2, Norm, per_image

_POLISHED, _BLENDS = 0.2, 10
_LAST_STEP = 0.01
_CHECK, _IMPROVED, _GROWTH = 10, 0.95, 1.2
"""Every so many steps, the penalty grows by this factor where the constraint is not below this part of what it was."""
_MARGIN = 1e-4
"""By how much the constraint is exceeded, so that the boundary itself is not aimed at."""
_WEIGHTS = (1e-6, 1e12)


@ATTACKS.register("alma")
@dataclass(frozen=True)
class ALMA(Attack):
    """ALMA: an augmented Lagrangian of the size and of the difference of logits ratio (Rony et al. 2021).

    ``steps`` counts the passes with gradients; the last fifth walks along the boundary as FAB does, ``polish=False`` is the
    attack of the paper. ``first`` is the length of the first step, as a part of the linearised distance to the boundary;
    steps shrink to a hundredth from the first adversarial image on. ``smoothing`` is the weight of the past in the averages
    of the multiplier, of the squared gradient, and of the step.
    """

    steps: int = 1000
    first: float = 0.5
    smoothing: float = 0.9
    polish: bool = True

    traits: ClassVar[Traits] = Traits(
        norms=("L2", "L1"),
        access="white-box",
        paper='Rony et al., "Augmented Lagrangian Adversarial Attacks", 2021',
        targeted=True,
        minimum_norm=True,
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        with inputs.model.in_float32():
            search = BoundarySearch(inputs)
            last = int(self.steps * _POLISHED) if self.polish else 0
            self._descend(search, self.steps - last)
            if self.polish:
                search.best.blend(_BLENDS)
                search.polish(last)
        return search.best.images

    def _descend(self, search: BoundarySearch, steps: int) -> None:
        """Descend on the Lagrangian; every image on the way is offered to the search."""
        inputs, best, keep = search.inputs, search.best, self.smoothing
        clean = inputs.images
        x, square, step = clean, torch.ones_like(clean), torch.zeros_like(clean)
        weight = clean.new_ones(len(clean))
        strength, rate = weight.clone(), weight.clone()
        began, earlier = weight * steps, weight
        for index in range(steps):
            _, constraint, slope = search.look(x, dlr)
            constraint = constraint + _MARGIN
            if index % _CHECK == 0:
                lagging = ~best.found & (constraint >= _IMPROVED * earlier) & (index > 0)
                strength, earlier = torch.where(lagging, _GROWTH * strength, strength), constraint
            if index:
                pushed = penalty_slope(constraint, strength, weight)
                weight = (keep * weight + (1 - keep) * pushed).clamp(*_WEIGHTS)
            began = torch.where(best.found, began.clamp_max(index), began)
            push = per_image(penalty_slope(constraint, strength, weight), clean)
            gradient = _size_gradient(x - clean, inputs.norm) - push * slope
            if not index:
                reach = self.first * inputs.norm.size(constraint_step(constraint, slope, inputs.norm))
                rate = _first_rate(clean, gradient, inputs.norm, reach)
            shrunk = _LAST_STEP ** ((index - began).clamp_min(0) / (steps - began).clamp_min(1))
            square = keep * square + (1 - keep) * gradient.square()
            step = keep * step + gradient / (square.sqrt() + 1e-8)
            x = (x - per_image(rate * shrunk, clean) * step).clamp(0, 1)
        if steps:
            best.try_out(x)


def penalty_slope(constraint: Tensor, strength: Tensor, weight: Tensor) -> Tensor:
    """Return the derivative of the penalty–Lagrangian P2 of the paper, (N,).

    P2(y) is μy + μρy² + ρ²y³/6 where the constraint is violated, y ≥ 0, and μy / (1 − ρy) elsewhere, with the multiplier
    μ = ``weight`` and ρ = ``strength``.
    """
    violated = weight + 2 * weight * strength * constraint + strength.square() * constraint.square() / 2
    return torch.where(constraint >= 0, violated, weight / (1 - strength * constraint.clamp_max(0)).square())


def constraint_step(constraint: Tensor, slope: Tensor, norm: Norm) -> Tensor:
    """Return the smallest step (N, C, H, W) to the constraint's linearised boundary, along the norm's steepest direction."""
    direction = norm.steepest(slope)
    gain = (direction * slope).flatten(1).sum(1).clamp_min(1e-12)
    return per_image(constraint.clamp_min(_MARGIN) / gain, slope) * direction


def _size_gradient(delta: Tensor, norm: Norm) -> Tensor:
    return norm.steepest(delta) if isinstance(norm, L2) else delta.sign()


def _first_rate(clean: Tensor, gradient: Tensor, norm: Norm, reach: Tensor) -> Tensor:
    """Return the rate (N,) at which a step against the gradient, within [0, 1], has the size ``reach``."""
    low, high = torch.zeros_like(reach), torch.ones_like(reach)

    def short(rate: Tensor) -> Tensor:
        return norm.size((clean - per_image(rate, clean) * gradient).clamp(0, 1) - clean) < reach

    for _ in range(40):
        high = torch.where(short(high), 2 * high, high)
    for _ in range(20):
        middle = (low + high) / 2
        less = short(middle)
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return high
