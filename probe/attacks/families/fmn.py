"""Fast minimum norm: a ball whose radius follows the boundary, between a search of classes and a polish at the boundary."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.families.apgd import likeliest_others
from probe.attacks.families.fab import biased_step, towards
from probe.attacks.losses import Loss, ascent, broken, cross_entropy, difference
from probe.attacks.norms import L0, L1, L2, Norm, per_image
from probe.attacks.smallest import Smallest

_FIRST = {"Linf": 0.5, "L2": 0.5, "L1": 2.0, "L0": 10.0}
"""The first step: a fraction of the radius in Linf and L2, an L2 length in L1 and L0."""
_LAST_SHARE, _LAST_GAMMA = 0.01, 0.001
_EXPLORED, _CLASS_STEPS = 0.25, 8
_POLISHED, _PRUNED = 0.25, 0.2
_OUTSIDE, _FREE, _ENTROPY = 1.5, 0.7, 0.3
"""The first radius as a multiple of the smallest size; the shares down to which the radius may exceed that size, and down to
which steps follow the cross-entropy, whose direction is smoother than the margin's."""
_ALPHA, _BETA, _ETA = 0.1, 0.95, 1.02
_BLENDS = 10
_TIE = 0.01


@ATTACKS.register("fmn")
@dataclass(frozen=True)
class FMN(Attack):
    """Fast minimum norm: a ball whose radius follows the boundary (Pintor et al. 2021).

    ``steps`` counts the passes, most of them with gradients. In Linf and L2 a quarter of them first looks for the nearest of
    the ``classes`` most likely other classes, and half of the rest follows the boundary as FAB does; in L0 the last fifth
    reverts pixels that are not needed. ``step`` multiplies the first step's length and ``gamma`` is the fraction by which the
    radius changes; both fall along a cosine.
    """

    steps: int = 100
    step: float = 1.0
    gamma: float = 0.05
    classes: int = 9

    traits: ClassVar[Traits] = Traits(
        norms=("L0", "L1", "L2", "Linf"),
        access="white-box",
        paper='Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", 2021',
        targeted=True,
        minimum_norm=True,
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        with inputs.model.in_float32():
            search = BoundarySearch(inputs)
            left = self.steps
            if inputs.norm.name in ("Linf", "L2"):
                left -= self._explore(search, inputs)
            last = math.floor(left * {"L0": _PRUNED, "L1": 0.0}.get(inputs.norm.name, _POLISHED))
            search.follow(left - last, self.step * _FIRST[inputs.norm.name], self.gamma)
            search.best.blend(_BLENDS)
            if isinstance(inputs.norm, L0):
                search.prune(last)
            else:
                search.polish(last)
        return search.best.images

    def _explore(self, search: BoundarySearch, inputs: AttackInputs) -> int:
        """Walk to several classes' boundaries; returns the number of steps."""
        share = int(self.steps * _EXPLORED)
        count = min(self.classes, share // _CLASS_STEPS)
        if inputs.targets is not None or count < 2:
            return 0
        columns = likeliest_others(inputs.model, inputs.images, inputs.labels, count).unbind(1)
        for column in columns:
            search.walk(inputs.images, share // len(columns), column)
        return share // len(columns) * len(columns)


class BoundarySearch:
    """A search for the smallest perturbations; every image that it looks at is offered to ``best``."""

    def __init__(self, inputs: AttackInputs) -> None:
        self.inputs = inputs
        self.best = Smallest(inputs)

    def look(
        self, x: Tensor, loss: Loss = difference, goal: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return which are adversarial (N,), minus the loss (N,), and the loss's gradient (N, C, H, W)."""
        inputs = self.inputs
        goal = inputs.targets if goal is None else goal
        logits, gain, gradient = ascent(inputs.model, x, inputs.labels, goal, loss)
        hit = broken(inputs.model, x, logits, inputs.labels, inputs.targets)
        self.best.offer(hit, x)
        return hit, -gain, gradient

    def follow(self, steps: int, first: float, gamma: float) -> None:
        """Take steps in a ball that shrinks inside the adversarial region and grows outside of it."""
        clean, norm, best = self.inputs.images, self.inputs.norm, self.best
        x, radius, largest = best.images, _OUTSIDE * best.sizes, norm.largest(tuple(clean.shape[1:]))
        smooth = not isinstance(norm, L0)
        for share in _cosine(steps):
            rate = _LAST_GAMMA + (gamma - _LAST_GAMMA) * share
            entropy = smooth and share > _ENTROPY and bool(best.found.all())
            hit, deficit, gradient = self.look(x, cross_entropy if entropy else difference)
            if isinstance(norm, L0):
                radius = _pixels(hit, radius, best.sizes, rate)
            else:
                reach = norm.size(x - clean) + deficit.abs() / _dual(gradient, norm).clamp_min(1e-12)
                grown = torch.where(radius.isfinite(), radius * (1 + rate), 0.0)
                grown = torch.where(best.found, grown, torch.maximum(grown, reach))
                bound = radius if smooth and share > _FREE else torch.minimum(radius, best.sizes)
                radius = torch.where(hit, bound * (1 - rate), grown)
            radius = radius.clamp_max(largest)
            length = first * (_LAST_SHARE + (1 - _LAST_SHARE) * share)
            moved = x + _step(gradient, norm, length, radius)
            x = (
                _keep(clean, moved, gradient, radius)
                if isinstance(norm, L0)
                else norm.project(clean, moved, radius)
            )
        if steps:
            self.best.try_out(x)

    def polish(self, steps: int) -> None:
        """Walk on from the smallest images, with ever smaller overshoots and steps back."""
        if steps:
            self.walk(self.best.images, steps)

    def walk(self, x: Tensor, steps: int, towards_class: Tensor | None = None) -> None:
        """Step onto linearised boundaries, biased to the original, and back a little after each success (FAB)."""
        clean = self.inputs.images
        for share in _cosine(steps) if towards_class is None else [1.0] * steps:
            hit, deficit, gradient = self.look(
                x, difference if towards_class is None else towards, towards_class
            )
            back = torch.where(hit, 1 - (1 - _BETA) * share, 1.0)
            moved = clean + per_image(back, clean) * (x - clean)
            deficit = deficit - (gradient * (moved - x)).flatten(1).sum(1)
            overshoot = 1 + (_ETA - 1) * max(share, 0.05)
            x = biased_step(moved, clean, deficit, gradient.flatten(1), self.inputs.norm, _ALPHA, overshoot)
        self.best.try_out(x)

    def prune(self, passes: int) -> None:
        """Revert pixels that are not needed."""
        if passes > 1:
            _, _, gradient = self.look(self.best.images)
            self.best.drop_pixels(gradient, passes - 1)


def _cosine(steps: int) -> Iterator[float]:
    """Yield shares that fall from 1 towards 0 along half a cosine."""
    for index in range(steps):
        yield (1 + math.cos(math.pi * index / steps)) / 2


def _pixels(hit: Tensor, radius: Tensor, smallest: Tensor, rate: float) -> Tensor:
    """Return the next number of pixels: at least one less than the smallest so far, or at least one more."""
    least = torch.minimum(radius, smallest)
    fewer = torch.minimum(least - 1, (least * (1 - rate)).floor())
    known = torch.where(radius.isfinite(), radius, 0.0)
    more = torch.maximum(known + 1, (known * (1 + rate)).floor())
    return torch.where(hit, fewer, more).clamp_min(1)


def _keep(clean: Tensor, moved: Tensor, gradient: Tensor, count: Tensor) -> Tensor:
    """Keep the ``count`` (N,) pixels with the largest changes, of equal ones (to black or white) those that promise more."""
    moved = moved.clamp(0, 1)
    promise = ((moved - clean) * gradient).sum(1).flatten(1)
    change = (moved - clean).square().sum(1).flatten(1)
    share = promise / promise.abs().amax(1, keepdim=True).clamp_min(1e-38)
    rank = (change + _TIE * share).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    kept = (rank < count[:, None]).reshape(len(clean), 1, *clean.shape[2:])
    return torch.where(kept, moved, clean)


def _step(gradient: Tensor, norm: Norm, length: float, radius: Tensor) -> Tensor:
    """Return the step: the norm's steepest in Linf and L2, along the gradient itself in L1 and L0.

    The steepest step in L1 changes a single value, and in L0 there is none.
    """
    if isinstance(norm, (L1, L0)):
        return length * L2().steepest(gradient)
    return length * per_image(radius, gradient) * norm.steepest(gradient)


def _dual(gradient: Tensor, norm: Norm) -> Tensor:
    order = {"Linf": 1.0, "L2": 2.0, "L1": math.inf}[norm.name]
    size: Tensor = torch.linalg.vector_norm(gradient.flatten(1), order, dim=1)
    return size
