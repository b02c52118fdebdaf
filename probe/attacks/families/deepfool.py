"""DeepFool for the whole batch at once: steps to the nearest linearised boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.linearised import NearestBoundary
from probe.attacks.losses import adversarial
from probe.attacks.norms import L2, Norm


@ATTACKS.register("deepfool")
@dataclass(frozen=True)
class DeepFool(Attack):
    """DeepFool in L2 or Linf (Moosavi-Dezfooli et al. 2016).

    ``candidates`` is the number of most likely classes whose boundaries are considered (None: all); the nearest
    boundary is rarely that of an unlikely class, and each one costs a backward pass. Images are not changed further
    once they have crossed the boundary.
    """

    steps: int = 50
    overshoot: float = 0.02
    candidates: int | None = 10

    traits: ClassVar[Traits] = Traits(
        norms=("L2", "Linf"),
        access="white-box",
        minimum_norm=True,
        paper='Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural '
        'networks", 2016',
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        model, images, labels, norm = inputs.model, inputs.images, inputs.labels, inputs.norm
        result = images.clone()
        where = torch.arange(len(images), device=images.device)
        total = torch.zeros_like(images)
        boundary = NearestBoundary(model, len(images), norm, self.candidates)
        for _ in range(self.steps):
            x = (images[where] + (1 + self.overshoot) * total).clamp(0, 1)
            result[where] = x
            logits = model.verdict(x)
            alive = ~adversarial(logits, labels[where], None)
            where, total, x, logits = where[alive], total[alive], x[alive], logits[alive]
            if len(where) == 0:
                return result
            deficit, normal = boundary(x, labels[where], logits, where)
            total = total + _to_plane(deficit, normal, norm).reshape(total.shape)
        result[where] = (images[where] + (1 + self.overshoot) * total).clamp(0, 1)
        return result


def _to_plane(deficit: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    """Return the smallest step (N, D) that crosses the plane, ignoring the pixel range; 0 if the normal is 0."""
    # With a tie the step would have length 0, but it still has to cross.
    need = deficit.clamp_min(1e-4)
    if isinstance(norm, L2):
        length = normal.square().sum(1)
        direction = normal
    else:
        length = normal.abs().sum(1)
        direction = normal.sign()
    step = torch.where(length > 0, need / length.clamp_min(1e-30), torch.zeros_like(need))
    return step[:, None] * direction
