"""Random perturbations: what an attack must beat to be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, Traits
from probe.attacks.families.apgd import boundary_start
from probe.attacks.losses import adversarial, pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm


@ATTACKS.register("noise")
@dataclass(frozen=True)
class Noise(Attack):
    """The first of several random perturbations of size epsilon that happens to work."""

    draws: int = 10

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2", "L1", "L0"),
        access="none",
        targeted=True,
        paper='A control, after Carlini et al., "On Evaluating Adversarial Robustness", 2019',
    )

    def _perturb(
        self,
        model: AttackedModel,
        images: Tensor,
        labels: Tensor,
        norm: Norm,
        epsilon: float,
        generator: torch.Generator,
        targets: Tensor | None,
    ) -> Tensor:
        result = images.clone()
        left = torch.arange(len(images), device=images.device)
        for _ in range(self.draws):
            if len(left) == 0:
                break
            moved = boundary_start(images[left], norm, epsilon, generator)
            result[left] = moved
            left = left[~adversarial(model.verdict(moved), labels[left], pick(targets, left))]
        return result
