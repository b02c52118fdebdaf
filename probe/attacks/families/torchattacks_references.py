"""torchattacks' versions of attacks that probe has itself, to compare with.

``step`` is the step's size as a part of epsilon; None takes 2.5 / steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torchattacks
from torch import Tensor, nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.torchattacks_adapter import (
    BestSeen,
    ModelWrapper,
    PositiveLogits,
    TorchattacksAttack,
    WrappedInputs,
    per_step,
)


@ATTACKS.register("torchattacks-fgsm")
@dataclass(frozen=True)
class ReferenceFGSM(TorchattacksAttack):
    """Fast gradient sign method by torchattacks (Goodfellow et al. 2015)."""

    traits: ClassVar[Traits] = Traits(
        norms=("Linf",),
        access="white-box",
        paper='Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015',
        targeted=True,
        origin="torchattacks",
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.FGSM(model, eps=case.epsilon)


@ATTACKS.register("torchattacks-pgd")
@dataclass(frozen=True)
class ReferencePGD(TorchattacksAttack):
    """Projected gradient descent by torchattacks, in Linf and L2 (Madry et al. 2018)."""

    steps: int = 40
    step: float | None = None
    random_start: bool = True

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"),
        access="white-box",
        paper='Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018',
        targeted=True,
        origin="torchattacks",
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        peer = torchattacks.PGD if case.norm.name == "Linf" else torchattacks.PGDL2
        return peer(
            model,
            eps=case.epsilon,
            alpha=per_step(self.step, case.epsilon, self.steps),
            steps=self.steps,
            random_start=self.random_start,
        )


@ATTACKS.register("torchattacks-deepfool")
@dataclass(frozen=True)
class ReferenceDeepFool(TorchattacksAttack):
    """DeepFool by torchattacks (Moosavi-Dezfooli et al. 2016).

    Where the gradients vanish it divides by zero; such images come back as they were.
    """

    steps: int = 50
    overshoot: float = 0.02

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="white-box",
        paper='Moosavi-Dezfooli et al., "DeepFool: a Simple and Accurate Method to Fool Deep Neural Networks", 2016',
        minimum_norm=True,
        origin="torchattacks",
    )
    one_by_one: ClassVar[bool] = True

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.DeepFool(model, steps=self.steps, overshoot=self.overshoot)


@ATTACKS.register("torchattacks-cw")
@dataclass(frozen=True)
class ReferenceCW(TorchattacksAttack):
    """Carlini and Wagner's L2 attack by torchattacks, for one constant (Carlini and Wagner 2017).

    It does not search for ``c`` and stops for the whole batch at once.
    """

    c: float = 1.0
    kappa: float = 0.0
    steps: int = 50
    lr: float = 0.01

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="white-box",
        paper='Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017',
        targeted=True,
        minimum_norm=True,
        origin="torchattacks",
    )
    # The loss masks logits by multiplication.
    network: ClassVar[type[ModelWrapper]] = PositiveLogits

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.CW(model, c=self.c, kappa=self.kappa, steps=self.steps, lr=self.lr)

    def _shown(self, case: WrappedInputs) -> WrappedInputs:
        # At exactly 0 or 1 the change of variables is infinite and such values would never move.
        return replace(case, images=case.images.clamp(1e-6, 1 - 1e-6))


@ATTACKS.register("torchattacks-gn")
@dataclass(frozen=True)
class ReferenceGN(TorchattacksAttack):
    """Gaussian noise by torchattacks, projected to the ball.

    Its standard deviation is epsilon for Linf, and for L2 such that its expected length is epsilon.
    """

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"),
        access="none",
        paper='Kim, "Torchattacks: A PyTorch Repository for Adversarial Attacks", 2020',
        origin="torchattacks",
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        values = 1 if case.norm.name == "Linf" else case.images[0].numel()
        return torchattacks.GN(model, std=case.epsilon / values**0.5)

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        return case.norm.project(case.images, super()._run(case, rescue), case.epsilon)
