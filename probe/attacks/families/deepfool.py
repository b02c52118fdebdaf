"""DeepFool for the whole batch at once: steps to the nearest linearised boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.losses import adversarial, at_once
from probe.attacks.model import AttackedModel
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
        for _ in range(self.steps):
            x = (images[where] + (1 + self.overshoot) * total).clamp(0, 1)
            result[where] = x
            logits = model.verdict(x)
            alive = ~adversarial(logits, labels[where], None)
            where, total, x, logits = where[alive], total[alive], x[alive], logits[alive]
            if len(where) == 0:
                return result
            deficit, normal = nearest_boundary(model, x, labels[where], norm, self.candidates, logits)
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


def nearest_boundary(
    model: AttackedModel,
    x: Tensor,
    labels: Tensor,
    norm: Norm,
    candidates: int | None,
    logits: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the nearest linearised boundary of each image: deficit (N,) and normal (N, D).

    ``logits`` (N, K) are the plain network's at ``x``: gradients may have reduced precision, distances do not. The
    deficit is the label's logit minus the other class's. ``candidates`` limits the search to this number of most
    likely other classes. Boundaries whose normal is 0 or not finite are never the nearest.
    """
    rows = torch.arange(len(x), device=x.device)
    parts = [
        _nearest(model, x[part], labels[part], norm, candidates, logits[part])
        for part in torch.split(rows, at_once(x))
    ]
    deficit, normal = (torch.cat(column) for column in zip(*parts, strict=True))
    return deficit, normal


def _nearest(
    model: AttackedModel, x: Tensor, labels: Tensor, norm: Norm, candidates: int | None, logits: Tensor
) -> tuple[Tensor, Tensor]:
    images = x.detach().requires_grad_()
    answers = model(images)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    count = min(candidates or others.shape[1], others.shape[1] - 1)
    classes = others.topk(count, dim=1).indices
    gains = answers.gather(1, classes) - answers.gather(1, labels[:, None])
    gaps = logits.gather(1, labels[:, None]) - logits.gather(1, classes)
    best = x.new_full((len(x),), torch.inf)
    deficit, normal = x.new_zeros(len(x)), x.new_zeros(len(x), x[0].numel())
    for column in range(count):
        if not gains.requires_grad:
            break
        gain_gradient = torch.autograd.grad(
            gains[:, column].sum(), images, retain_graph=column + 1 < count, materialize_grads=True
        )[0]
        gradient, gap = gain_gradient.flatten(1), gaps[:, column]
        distance = gap.abs() / _dual(gradient, norm).clamp_min(1e-30)
        usable = gradient.isfinite().all(1) & gradient.any(1)
        better = usable & (distance < best)
        best = torch.where(better, distance, best)
        deficit = torch.where(better, gap, deficit)
        normal = torch.where(better[:, None], gradient, normal)
    return deficit, normal


def _dual(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the size of a gradient (N, D) in the dual norm, (N,)."""
    order = {"Linf": 1.0, "L2": 2.0, "L1": float("inf")}[norm.name]
    size: Tensor = torch.linalg.vector_norm(gradient, order, dim=1)
    return size
