"""Attacks that use random noise: on randomised smoothing, and with finite differences; run by torchattacks.

``step`` is the step size as a fraction of epsilon; None: 2.5 / steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torchattacks
from torch import nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.torchattacks_adapter import TorchattacksAttack, WrappedInputs, per_step


@dataclass(frozen=True)
class _Smoothed(TorchattacksAttack):
    """The common options of both attacks on randomised smoothing."""

    steps: int = 10
    step: float | None = None
    noise: float = 0.25
    draws: int = 5

    def _common(self, case: WrappedInputs) -> dict[str, Any]:
        return {
            "eps": case.epsilon,
            "alpha": per_step(self.step, case.epsilon, self.steps),
            "steps": self.steps,
            "noise_sd": self.noise,
            "noise_batch_size": self.draws,
            # Never split the batch: the targets would be those of another part.
            "batch_max": self.draws * len(case.images),
        }


def _traits(norm: str) -> Traits:
    return Traits(
        norms=(norm,),
        access="white-box",
        paper='Salman et al., "Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers", 2019',
        targeted=True,
        origin="torchattacks",
    )


@ATTACKS.register("pgdrs")
@dataclass(frozen=True)
class PGDRS(_Smoothed):
    """PGD on the network averaged over Gaussian noise (Salman et al. 2019).

    ``noise`` is the standard deviation in pixel units, ``draws`` the number of noise samples per step.
    """

    traits: ClassVar[Traits] = _traits("Linf")

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.PGDRS(model, **self._common(case))


@ATTACKS.register("pgdrsl2")
@dataclass(frozen=True)
class PGDRSL2(_Smoothed):
    """PGD in L2 on the network averaged over Gaussian noise (Salman et al. 2019).

    ``noise`` is the standard deviation in pixel units, ``draws`` the number of noise samples per step.
    """

    traits: ClassVar[Traits] = _traits("L2")

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.PGDRSL2(model, **self._common(case))


@ATTACKS.register("spsa")
@dataclass(frozen=True)
class SPSA(TorchattacksAttack):
    """Gradients from random finite differences of the logits (Uesato et al. 2018).

    ``samples`` pairs of queries, ``difference`` apart in pixel units, give one gradient for each of ``steps`` Adam steps.
    """

    steps: int = 100
    step: float | None = None
    samples: int = 128
    difference: float = 0.01
    batch: int = 64

    traits: ClassVar[Traits] = Traits(
        norms=("Linf",),
        access="score-based",
        paper='Uesato et al., "Adversarial Risk and the Dangers of Evaluating Against Weak Attacks", 2018',
        targeted=True,
        origin="torchattacks",
    )
    targets_as_labels: ClassVar[bool] = True

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.SPSA(
            model,
            eps=case.epsilon,
            delta=self.difference,
            lr=per_step(self.step, case.epsilon, self.steps),
            nb_iter=self.steps,
            nb_sample=self.samples,
            max_batch_size=self.batch,
        )
