"""Carlini and Wagner's L2 attack with the search over c, for the whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.judge import margin
from probe.attacks.losses import pick
from probe.attacks.model import AttackedModel

_EDGE = 1 - 1e-6
"""Pixels at exactly 0 or 1 would have no gradient, so the range is scaled by this factor at the start."""

_BETA1, _BETA2 = 0.9, 0.999


@dataclass
class _Search:
    """The search over c, one row per image: bounds, the current c, and the smallest success."""

    low: Tensor
    high: Tensor
    c: Tensor
    best: Tensor
    images: Tensor

    def narrow(self, succeeded: Tensor) -> None:
        """Decrease c after success and increase it after failure: by bisection, or by a factor of ten."""
        self.high = torch.where(succeeded, torch.minimum(self.high, self.c), self.high)
        self.low = torch.where(succeeded, self.low, torch.maximum(self.low, self.c))
        middle = (self.low + self.high) / 2
        self.c = torch.where(self.high < 1e9, middle, self.c * 10)


@ATTACKS.register("cw")
@dataclass(frozen=True)
class CarliniWagner(Attack):
    """Carlini and Wagner's L2 attack with a search over c (2017).

    Minimises ‖x' − x‖² + c · max(margin, −confidence) with Adam, in a variable that keeps pixels in [0, 1]: a sine
    instead of the authors' hyperbolic tangent, whose flat ends hold pixels at 0 or 1 for hundreds of steps.
    ``searches`` values of c are tried, with at most ``steps`` steps each; for an image, a value ends early
    if its loss has not fallen by 0.01% within a tenth of the steps, as in the authors' code.
    """

    searches: int = 9
    steps: int = 200
    lr: float = 0.01
    first_c: float = 0.01
    confidence: float = 0.0

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="white-box",
        targeted=True,
        minimum_norm=True,
        paper='Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017',
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        model, images, labels, targets = inputs.model, inputs.images, inputs.labels, inputs.targets
        row = images.new_zeros(len(images))
        search = _Search(row, row + 1e10, row + self.first_c, row + torch.inf, images.clone())
        with model.full_precision():
            for _ in range(self.searches):
                search.narrow(self._descend(model, images, labels, targets, search))
        return search.images

    def _descend(
        self,
        model: AttackedModel,
        images: Tensor,
        labels: Tensor,
        targets: Tensor | None,
        search: _Search,
    ) -> Tensor:
        """Run Adam with the current c; record successes in ``search`` and return which images had one, (N,)."""
        succeeded = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        where = torch.arange(len(images), device=images.device)
        w = torch.asin((2 * images - 1) * _EDGE)
        mean, square = torch.zeros_like(w), torch.zeros_like(w)
        reference = images.new_full((len(images),), torch.inf)
        for step in range(1, self.steps + 1):
            loss, gradient, x, distance, hit = self._evaluate(
                model, w, images[where], labels[where], pick(targets, where), search.c[where]
            )
            smaller = hit & (distance < search.best[where])
            search.best[where[smaller]], search.images[where[smaller]] = distance[smaller], x[smaller]
            succeeded[where[hit]] = True
            mean = _BETA1 * mean + (1 - _BETA1) * gradient
            square = _BETA2 * square + (1 - _BETA2) * gradient.square()
            rate = self.lr * (1 - _BETA2**step) ** 0.5 / (1 - _BETA1**step)
            w = w - rate * mean / (square.sqrt() + 1e-8)
            if step % max(self.steps // 10, 1) == 0:
                alive = loss <= reference * 0.9999
                where, w, mean, square = where[alive], w[alive], mean[alive], square[alive]
                reference = loss[alive]
                if len(where) == 0:
                    break
        return succeeded

    def _evaluate(
        self,
        model: AttackedModel,
        w: Tensor,
        images: Tensor,
        labels: Tensor,
        targets: Tensor | None,
        c: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return loss (N,), its gradient with respect to ``w``, images, squared distance and success (N,)."""
        leaf = w.detach().requires_grad_()
        x = (torch.sin(leaf) + 1) / 2
        distance = (x - images).flatten(1).square().sum(1)
        gap = margin(model(x), labels, targets)
        loss = distance + c * (gap + self.confidence).clamp_min(0)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return (
            loss.detach(),
            gradient.nan_to_num(0.0, 0.0, 0.0),
            x.detach(),
            distance.detach(),
            gap.detach() < -self.confidence if self.confidence else gap.detach() < 0,
        )
