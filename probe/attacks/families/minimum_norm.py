"""Gradient attacks that look for the smallest perturbation, run by foolbox."""

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


class _L2FMN(foolbox.attacks.L2FMNAttack):  # type: ignore[misc]
    """FMN with projection to the sphere; foolbox divides a length by itself and never projects."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        delta = x.raw - x0.raw
        length = L2().size(delta).clamp_min(1e-12)
        factor = (epsilon.raw / length).clamp_max(1)
        return x0 + eagerpy.astensor(delta * factor.reshape(-1, 1, 1, 1))


class _L0FMN(foolbox.attacks.L0FMNAttack):  # type: ignore[misc]
    """FMN that keeps epsilon values; foolbox keeps one more, and fails when epsilon is the number of values."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        delta = (x.raw - x0.raw).flatten(1)
        rank = delta.abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        sparse = torch.where(rank < epsilon.raw.reshape(-1, 1), delta, 0.0)
        return x0 + eagerpy.astensor(sparse.reshape(x0.shape))


@ATTACKS.register("fmn")
@dataclass(frozen=True)
class FMN(FoolboxAttack):
    """Fast minimum norm: a ball whose radius follows the boundary (Pintor et al. 2021).

    ``step`` is the first step's length, ``gamma`` the fraction by which the radius changes; both fall to a hundredth. In
    L0 the search counts values, not pixels.
    """

    steps: int = 100
    step: float = 1.0
    gamma: float = 0.05

    traits: ClassVar[Traits] = Traits(
        norms=("L0", "L1", "L2", "Linf"),
        access="white-box",
        paper='Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", 2021',
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        peers = {
            "L0": _L0FMN,
            "L1": foolbox.attacks.L1FMNAttack,
            "L2": _L2FMN,
            "Linf": foolbox.attacks.LInfFMNAttack,
        }
        return peers[norm.name](steps=self.steps, max_stepsize=self.step, gamma=self.gamma)


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
