"""σ-zero: descent on a smooth approximation of the number of changed pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.losses import ascent, broken, difference
from probe.attacks.norms import per_image
from probe.attacks.smallest import Smallest

_PRUNED, _MOST_PRUNED = 0.2, 50
_FIRST_DECAY, _SECOND_DECAY = 0.9, 0.999
_LEAST_STEP = 0.1


@ATTACKS.register("sigma-zero")
@dataclass(frozen=True)
class SigmaZero(Attack):
    """σ-zero: descent on the margin and a smooth number of changed pixels (Cinà et al. 2025).

    The smooth number is the sum of q / (q + ``sigma``), where q is a pixel's sum of squared changes over the channels; the
    paper counts values instead. Changes below a threshold, ``threshold`` at first, become 0: the threshold grows by
    ``rate`` × the step where an image is adversarial, and falls elsewhere. ``step`` falls to a tenth along a cosine. The last
    fifth of the ``steps`` passes, at most 50, reverts pixels that are not needed; ``prune=False`` is the attack of the paper.
    """

    steps: int = 1000
    step: float = 1.0
    sigma: float = 0.001
    threshold: float = 0.3
    rate: float = 0.01
    prune: bool = True

    traits: ClassVar[Traits] = Traits(
        norms=("L0",),
        access="white-box",
        paper='Cinà et al., "σ-zero: Gradient-based Optimization of ℓ0-norm Adversarial Examples", 2025',
        targeted=True,
        minimum_norm=True,
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        best = Smallest(inputs)
        last = min(math.floor(self.steps * _PRUNED), _MOST_PRUNED) if self.prune else 0
        with inputs.model.in_float32():
            self._descend(inputs, best, self.steps - last)
            if last > 1:
                _, _, gradient = ascent(inputs.model, best.images, inputs.labels, inputs.targets, difference)
                best.drop_pixels(gradient, last - 1)
        return best.images

    def _descend(self, inputs: AttackInputs, best: Smallest, steps: int) -> None:
        clean = inputs.images
        x, first, second = clean, torch.zeros_like(clean), torch.zeros_like(clean)
        threshold, step = best.sizes.new_full((len(clean),), self.threshold), self.step
        for index in range(steps):
            logits, gain, uphill = ascent(inputs.model, x, inputs.labels, inputs.targets, difference)
            hit = broken(inputs.model, x, logits, inputs.labels, inputs.targets)
            best.offer(hit, x)
            delta = x - clean
            # Beyond the boundary only the number of pixels counts.
            slope = self._slope(delta) - torch.where(per_image(gain < 0, x).bool(), uphill, 0.0)
            slope = slope / per_image(slope.flatten(1).abs().amax(1).clamp_min(1e-12), slope)
            first = _FIRST_DECAY * first + (1 - _FIRST_DECAY) * slope
            second = _SECOND_DECAY * second + (1 - _SECOND_DECAY) * slope.square()
            mean = first / (1 - _FIRST_DECAY ** (index + 1))
            scale = (second / (1 - _SECOND_DECAY ** (index + 1))).sqrt() + 1e-8
            delta = (x - step * mean / scale).clamp(0, 1) - clean
            cosine = (1 + math.cos(math.pi * index / steps)) / 2
            step = self.step * (_LEAST_STEP + (1 - _LEAST_STEP) * cosine)
            threshold = (threshold + torch.where(hit, 1.0, -1.0) * self.rate * step).clamp(0, 1)
            small = delta.abs().amax(1, keepdim=True) < per_image(threshold, x)
            x = torch.where(small, clean, clean + delta)
        if steps:
            best.try_out(x)

    def _slope(self, delta: Tensor) -> Tensor:
        """Return the gradient of the mean of q / (q + σ) over the pixels."""
        energy = delta.square().sum(1, keepdim=True)
        return 2 * delta * self.sigma / (energy + self.sigma).square() / energy[0].numel()
