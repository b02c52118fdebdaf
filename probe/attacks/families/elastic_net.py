"""Elastic-net attacks: the smallest perturbation in a mixture of L1 and L2, by iterated shrinkage.

The two attacks of torchattacks stop early for the whole batch at once; that of foolbox runs longer by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torchattacks
from torch import nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.foolbox_adapter import FoolboxAttack, foolbox
from probe.attacks.norms import Norm
from probe.attacks.torchattacks_adapter import ModelWrapper, PositiveLogits, TorchattacksAttack, WrappedInputs

_PAPER = 'Chen et al., "EAD: Elastic-Net Attacks to Deep Neural Networks via Adversarial Examples", 2018'


@dataclass(frozen=True)
class _ElasticNet(TorchattacksAttack):
    """The common options of the two attacks of torchattacks."""

    steps: int = 100
    searches: int = 9
    lr: float = 0.01
    constant: float = 0.001
    beta: float = 0.001
    kappa: float = 0.0

    # The loss masks logits by multiplication.
    network: ClassVar[type[ModelWrapper]] = PositiveLogits

    def _common(self) -> dict[str, Any]:
        return {
            "kappa": self.kappa,
            "lr": self.lr,
            "binary_search_steps": self.searches,
            # With fewer than ten steps, the check of the progress divides by zero.
            "max_iterations": max(self.steps, 10),
            "initial_const": self.constant,
            "beta": self.beta,
        }


@ATTACKS.register("eaden")
@dataclass(frozen=True)
class EADEN(_ElasticNet):
    """Elastic-net attack that keeps the smallest L2² + beta·L1 (Chen et al. 2018).

    ``searches`` constants are tried, starting from ``constant``, with ``steps`` (at least 10) steps each.
    """

    traits: ClassVar[Traits] = Traits(
        norms=("L1", "L2"),
        access="white-box",
        paper=_PAPER,
        targeted=True,
        minimum_norm=True,
        origin="torchattacks",
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.EADEN(model, **self._common())


@ATTACKS.register("eadl1")
@dataclass(frozen=True)
class EADL1(_ElasticNet):
    """Elastic-net attack that keeps the smallest L1 (Chen et al. 2018).

    ``searches`` constants are tried, starting from ``constant``, with ``steps`` (at least 10) steps each.
    """

    traits: ClassVar[Traits] = Traits(
        norms=("L1",),
        access="white-box",
        paper=_PAPER,
        targeted=True,
        minimum_norm=True,
        origin="torchattacks",
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.EADL1(model, **self._common())


@ATTACKS.register("ead")
@dataclass(frozen=True)
class EAD(FoolboxAttack):
    """Elastic-net attack, implementation of foolbox (Chen et al. 2018).

    ``rule`` is the size that is minimised: L1, or EN for L2² + regularization·L1.
    """

    steps: int = 1000
    searches: int = 9
    lr: float = 0.01
    constant: float = 0.001
    regularization: float = 0.01
    confidence: float = 0.0
    rule: Literal["EN", "L1"] = "L1"

    traits: ClassVar[Traits] = Traits(
        norms=("L1", "L2"),
        access="white-box",
        paper=_PAPER,
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.EADAttack(
            binary_search_steps=self.searches,
            steps=self.steps,
            initial_stepsize=self.lr,
            confidence=self.confidence,
            initial_const=self.constant,
            regularization=self.regularization,
            decision_rule=self.rule,
        )
