"""Variants of iterated FGSM, run by torchattacks.

``step`` is the step size as a fraction of epsilon; None: 2.5 / steps. Three entries of torchattacks are not included
because they are not attacks of this kind: VANILA returns the images unchanged, MultiAttack only chains others,
LGV trains more copies of the network and needs its training data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torchattacks
from torch import nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.torchattacks_adapter import (
    ModelWrapper,
    PositiveLogits,
    TorchattacksAttack,
    WrappedInputs,
    per_step,
)
from probe.core.errors import CannotRunError


def _traits(paper: str, *, targeted: bool = True) -> Traits:
    return Traits(norms=("Linf",), access="white-box", paper=paper, targeted=targeted, origin="torchattacks")


@ATTACKS.register("bim")
@dataclass(frozen=True)
class BIM(TorchattacksAttack):
    """Basic iterative method: FGSM in small steps (Kurakin et al. 2017)."""

    steps: int = 10
    step: float | None = None

    traits: ClassVar[Traits] = _traits('Kurakin et al., "Adversarial Examples in the Physical World", 2017')

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        alpha = per_step(self.step, case.epsilon, self.steps)
        return torchattacks.BIM(model, eps=case.epsilon, alpha=alpha, steps=self.steps)


@ATTACKS.register("rfgsm")
@dataclass(frozen=True)
class RFGSM(TorchattacksAttack):
    """Iterative FGSM from a random sign perturbation (Tramèr et al. 2018)."""

    steps: int = 10
    step: float | None = None

    traits: ClassVar[Traits] = _traits(
        'Tramèr et al., "Ensemble Adversarial Training: Attacks and Defenses", 2018'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        alpha = per_step(self.step, case.epsilon, self.steps)
        return torchattacks.RFGSM(model, eps=case.epsilon, alpha=alpha, steps=self.steps)


@ATTACKS.register("ffgsm")
@dataclass(frozen=True)
class FFGSM(TorchattacksAttack):
    """One FGSM step from a random start, as used in fast adversarial training (Wong et al. 2020)."""

    step: float = 1.25

    traits: ClassVar[Traits] = _traits(
        'Wong et al., "Fast Is Better Than Free: Revisiting Adversarial Training", 2020'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.FFGSM(model, eps=case.epsilon, alpha=self.step * case.epsilon)


@ATTACKS.register("eotpgd")
@dataclass(frozen=True)
class EOTPGD(TorchattacksAttack):
    """PGD on the mean gradient of several passes, for randomised networks (Liu et al. 2019).

    ``eot`` passes are averaged for each step.
    """

    steps: int = 10
    step: float | None = None
    eot: int = 2
    random_start: bool = True

    traits: ClassVar[Traits] = _traits(
        'Liu et al., "Adv-BNN: Improved Adversarial Defense through Robust Bayesian Neural Network", 2019'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.EOTPGD(
            model,
            eps=case.epsilon,
            alpha=per_step(self.step, case.epsilon, self.steps),
            steps=self.steps,
            eot_iter=self.eot,
            random_start=self.random_start,
        )


@ATTACKS.register("tpgd")
@dataclass(frozen=True)
class TPGD(TorchattacksAttack):
    """PGD on the KL divergence from the clean prediction, the inner loop of TRADES (Zhang et al. 2019)."""

    steps: int = 10
    step: float | None = None

    traits: ClassVar[Traits] = _traits(
        'Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", 2019',
        targeted=False,
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        alpha = per_step(self.step, case.epsilon, self.steps)
        return torchattacks.TPGD(model, eps=case.epsilon, alpha=alpha, steps=self.steps)


@ATTACKS.register("upgd")
@dataclass(frozen=True)
class UPGD(TorchattacksAttack):
    """PGD with momentum, averaged passes and a choice of loss: MI-FGSM, EOT-PGD and PGD combined by torchattacks.

    ``loss``: ce, dlr (3 classes, 4 with targets) or margin.
    """

    steps: int = 10
    step: float | None = None
    loss: Literal["ce", "dlr", "margin"] = "ce"
    decay: float = 1.0
    eot: int = 1
    random_start: bool = False

    traits: ClassVar[Traits] = _traits(
        'Kim, "Torchattacks: A PyTorch Repository for Adversarial Attacks", 2020'
    )
    # The margin loss masks logits by multiplication.
    network: ClassVar[type[ModelWrapper]] = PositiveLogits

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        needed = 3 if case.targets is None else 4
        if self.loss == "dlr" and case.classes < needed:
            raise CannotRunError(
                f"The loss dlr needs at least {needed} classes; this network has {case.classes}."
            )
        return torchattacks.UPGD(
            model,
            eps=case.epsilon,
            alpha=per_step(self.step, case.epsilon, self.steps),
            steps=self.steps,
            random_start=self.random_start,
            loss=self.loss,
            decay=self.decay,
            eot_iter=self.eot,
        )


@ATTACKS.register("jitter")
@dataclass(frozen=True)
class Jitter(TorchattacksAttack):
    """PGD on scaled and jittered softmax outputs (Schwinn et al. 2021).

    ``scale`` multiplies the normalised logits; ``std`` is the noise added to the outputs.
    """

    steps: int = 10
    step: float | None = None
    scale: float = 10.0
    std: float = 0.1
    random_start: bool = True

    traits: ClassVar[Traits] = _traits(
        'Schwinn et al., "Exploring Misclassifications of Robust Neural Networks to Enhance Adversarial Attacks", '
        "2021"
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.Jitter(
            model,
            eps=case.epsilon,
            alpha=per_step(self.step, case.epsilon, self.steps),
            steps=self.steps,
            scale=self.scale,
            std=self.std,
            random_start=self.random_start,
        )
