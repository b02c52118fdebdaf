"""Gradient attacks in L2 that look for the smallest perturbation, run by foolbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.foolbox_adapter import FoolboxAttack, eagerpy, foolbox
from probe.attacks.norms import L2, Norm


@ATTACKS.register("ddn")
@dataclass(frozen=True)
class DDN(FoolboxAttack):
    """Decoupled direction and norm: gradient steps on a sphere that grows and shrinks (Rony et al. 2019).

    ``start`` is the first radius, ``gamma`` the fraction by which a step changes the radius.
    """

    steps: int = 100
    start: float = 1.0
    gamma: float = 0.05

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="white-box",
        paper='Rony et al., "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and '
        'Defenses", 2019',
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.DDNAttack(init_epsilon=self.start, steps=self.steps, gamma=self.gamma)


class _NewtonFool(foolbox.attacks.NewtonFoolAttack):  # type: ignore[misc]
    """NewtonFool with the step of the paper; foolbox squares the lengths in it twice."""

    def run(self, model: Any, inputs: Any, criterion: Any, *, early_stop: Any = None, **more: Any) -> Any:
        x, restore = eagerpy.astensor_(inputs)
        images, labels = x.raw, criterion.labels.raw
        moved = images.clone()
        wide = (-1, *[1] * (images.dim() - 1))
        norm = L2()
        for _ in range(self.steps):
            moved.requires_grad_()
            logits = model(moved)
            own = logits.softmax(1).gather(1, labels[:, None])[:, 0]
            gradient = torch.autograd.grad(own.sum(), moved)[0]
            slope = norm.size(gradient)
            gain = torch.minimum(
                self.stepsize * norm.size(images) * slope, own.detach() - 1 / logits.shape[1]
            )
            moving = (logits.argmax(1) == labels) & (slope > 0)
            stride = torch.where(moving, gain / slope.square().clamp_min(1e-30), 0.0)
            moved = (moved.detach() - stride.reshape(wide) * gradient).clamp(0, 1)
        return restore(eagerpy.astensor(moved))


@ATTACKS.register("newtonfool")
@dataclass(frozen=True)
class NewtonFool(FoolboxAttack):
    """Newton steps that reduce the label's probability to chance (Jang et al. 2017).

    ``stepsize`` is the longest step, as a fraction of the image's L2 norm.
    """

    steps: int = 100
    stepsize: float = 0.01

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="white-box",
        paper='Jang et al., "Objective Metrics and Gradient Descent Algorithms for Adversarial Examples in Machine '
        'Learning", 2017',
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        return _NewtonFool(steps=self.steps, stepsize=self.stepsize)
