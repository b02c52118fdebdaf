"""Random perturbations: the control that every attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.families.apgd import boundary_start
from probe.attacks.losses import adversarial, pick


@ATTACKS.register("noise")
@dataclass(frozen=True)
class Noise(Attack):
    """The first successful one of several random perturbations of size epsilon."""

    draws: int = 10

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2", "L1", "L0"),
        access="none",
        targeted=True,
        paper='A control, after Carlini et al., "On Evaluating Adversarial Robustness", 2019',
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        model, images, labels = inputs.model, inputs.images, inputs.labels
        norm, epsilon, generator, targets = inputs.norm, inputs.epsilon, inputs.generator, inputs.targets
        result = images.clone()
        remaining = torch.arange(len(images), device=images.device)
        for _ in range(self.draws):
            if len(remaining) == 0:
                break
            moved = boundary_start(images[remaining], norm, epsilon, generator)
            result[remaining] = moved
            remaining = remaining[
                ~adversarial(model.verdict(moved), labels[remaining], pick(targets, remaining))
            ]
        return result
