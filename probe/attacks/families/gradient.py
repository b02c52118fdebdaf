"""Projected gradient ascent: FGSM and PGD in all four norms."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.losses import LOSSES, LossName, ascent, broken, pick
from probe.attacks.norms import L0, L1, Norm, per_image

_ALL = ("Linf", "L2", "L1", "L0")
_SHARE = 0.05
"""The fraction of the values that one L1 step changes."""

_L0_STEP = 0.15
"""Length of an L0 step relative to the number of values of the image, as in Croce and Hein 2019 for CIFAR-10."""


@dataclass
class Trace:
    """The record of a run of PGD, for N images and S steps.

    ``losses`` are S + 1 tensors (N,), NaN once an image was dropped; ``gradients`` (N,) is the largest |gradient| of the
    first step; ``passed`` (N,): whether any iterate was adversarial; ``ended`` (N,): whether the last one was.
    """

    losses: list[Tensor] = field(default_factory=list)
    gradients: Tensor | None = None
    passed: Tensor | None = None
    ended: Tensor | None = None


@ATTACKS.register("pgd")
@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent with random starts (Madry et al. 2018).

    ``step`` is the step size as a fraction of epsilon; None: 2.5 / steps. Images are not changed further once they are
    broken. For L1 a step changes the 5% of the values with the largest gradient (after Tramèr and Boneh 2019), for L0
    it follows PGD_0 (Croce and Hein 2019). ``loss``: ce, dlr or margin. ``eot``: passes averaged per gradient. With
    ``stop=False`` broken images continue, until the network is as confident as possible of its mistake.
    """

    steps: int = 40
    restarts: int = 1
    step: float | None = None
    loss: LossName = "ce"
    random_start: bool = True
    eot: int = 1
    stop: bool = True

    traits: ClassVar[Traits] = Traits(
        norms=_ALL,
        access="white-box",
        targeted=True,
        paper='Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018',
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        images, norm = inputs.images, inputs.norm
        # The pixels chosen for a smaller L0 ball are rarely right for a larger one.
        start = None if isinstance(norm, L0) else inputs.start
        result = images.clone()
        remaining = torch.arange(len(images), device=images.device)
        for restart in range(self.restarts):
            first = images[remaining] if start is None or restart else start[remaining]
            if self.random_start and (start is None or restart):
                first = norm.start(first, inputs.epsilon, inputs.generator)
            # From the result in a smaller ball, large steps explore the new space and small ones refine.
            falling = start is not None and not restart
            moved, done = self.climb(inputs.rows(remaining).begin_at(first), falling=falling)
            result[remaining] = moved
            remaining = remaining[~done]
            if len(remaining) == 0:
                break
        return result

    @property
    def rules_out_smaller(self) -> bool:
        """True from ten steps on, unless broken images continue."""
        return self.stop and self.steps >= 10

    def climb(
        self, inputs: AttackInputs, trace: Trace | None = None, falling: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the final images of one run from the inputs' start, (N, C, H, W), and which are adversarial, (N,).

        A broken image stays at its first adversarial iterate (``stop=False``: the one with the largest loss); others
        end at the iterate with the largest loss. ``trace`` is filled during the run.
        With ``falling``, steps decrease along a cosine from a quarter of epsilon to a hundredth, so that a few suffice.
        """
        model, images, labels = inputs.model, inputs.images, inputs.labels
        n, loss, start = len(images), LOSSES[self.loss], inputs.begin
        result, done = start.clone(), torch.zeros(n, dtype=torch.bool, device=images.device)
        best = torch.full((n,), -torch.inf, device=images.device)
        where = torch.arange(n, device=images.device)
        x = start
        for step in range(self.steps + 1):
            goal = pick(inputs.targets, where)
            logits, losses, gradient = ascent(model, x, labels[where], goal, loss, self.eot)
            hit = broken(model, x, logits, labels[where], goal)
            # An adversarial iterate is better than any other; otherwise the larger loss is better.
            known = done[where]
            better = (hit & ~known) | ((losses > best[where]) & (hit == known) & ~(known & self.stop))
            result[where[better]], best[where[better]] = x[better], losses[better]
            done[where[hit]] = True
            if trace is not None:
                self._note(trace, n, where, losses, gradient, hit)
            if self.stop and bool(hit.any()):
                where, x, gradient = where[~hit], x[~hit], gradient[~hit]
            if step == self.steps or len(where) == 0:
                break
            size = 0.01 + 0.12 * (1 + math.cos(math.pi * step / self.steps)) if falling else None
            moved = x + self.move(x, gradient, inputs.norm, inputs.epsilon, size)
            x = inputs.norm.project(images[where], moved, inputs.epsilon)
        return result, done

    def move(
        self, x: Tensor, gradient: Tensor, norm: Norm, epsilon: float, part: float | None = None
    ) -> Tensor:
        """Return the step (N, C, H, W) from ``x``, before projection: ``part`` of epsilon, None: from the options."""
        if part is None:
            part = self.step if self.step is not None else 2.5 / max(self.steps, 1)
        size = epsilon * part
        if isinstance(norm, L1 | L0):
            # A value at the edge of the range cannot follow its gradient and would displace another value.
            gradient = torch.where((gradient > 0) & (x < 1) | (gradient < 0) & (x > 0), gradient, 0.0)
        if isinstance(norm, L1):
            return size * sparse(gradient, _SHARE)
        if isinstance(norm, L0):
            size = _L0_STEP * gradient[0].numel()
        return size * norm.steepest(gradient)

    @staticmethod
    def _note(trace: Trace, n: int, where: Tensor, losses: Tensor, gradient: Tensor, hit: Tensor) -> None:
        row = torch.full((n,), torch.nan, device=losses.device)
        row[where] = losses
        trace.losses.append(row)
        if trace.passed is None:
            trace.passed = torch.zeros(n, dtype=torch.bool, device=losses.device)
            trace.gradients = gradient.flatten(1).abs().amax(1)
        trace.passed[where] |= hit
        trace.ended = torch.zeros_like(trace.passed)
        trace.ended[where] = hit


@ATTACKS.register("fgsm")
@dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method: one step of full size (Goodfellow et al. 2015).

    In L2 the step is along the gradient; in L1 and L0 it is one step of ``pgd``.
    """

    loss: LossName = "ce"

    traits: ClassVar[Traits] = Traits(
        norms=_ALL,
        access="white-box",
        targeted=True,
        paper='Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", 2015',
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        images, norm, epsilon = inputs.images, inputs.norm, inputs.epsilon
        model, labels, targets = inputs.model, inputs.labels, inputs.targets
        _, _, gradient = ascent(model, images, labels, targets, LOSSES[self.loss])
        move = PGD(steps=1, step=1.0).move(images, gradient, norm, epsilon)
        return norm.project(images, images + move, epsilon)


def sparse(gradient: Tensor, share: float | Tensor) -> Tensor:
    """Return the signs of the fraction ``share`` of values with the largest |gradient|, scaled to L1 size 1.

    ``share`` is one number or one per image (N,); at least one value is used. Zero gradients give zero.
    """
    size = gradient.flatten(1).abs()
    count = (torch.as_tensor(share, device=size.device).expand(len(size)) * size.shape[1]).long().clamp_min(1)
    ordered = size.sort(dim=1, descending=True).values
    least = ordered.gather(1, count[:, None] - 1)
    signs = gradient.sign() * (size >= least).reshape(gradient.shape)
    return signs / per_image(signs.flatten(1).abs().sum(1).clamp_min(1), signs)
