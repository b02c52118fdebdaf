"""Transfer attacks with momentum; run by torchattacks.

``step`` is the step size as a fraction of epsilon; None: 2.5 / steps. ``decay`` is the momentum factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torchattacks
from torch import nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.torchattacks_adapter import TorchattacksAttack, WrappedInputs, per_step


def _traits(paper: str) -> Traits:
    return Traits(
        norms=("Linf",), access="white-box", paper=paper, targeted=True, transfer=True, origin="torchattacks"
    )


@dataclass(frozen=True)
class _Momentum(TorchattacksAttack):
    """The common options of these attacks."""

    steps: int = 10
    step: float | None = None
    decay: float = 1.0

    def _common(self, case: WrappedInputs) -> dict[str, Any]:
        alpha = per_step(self.step, case.epsilon, self.steps)
        return {"eps": case.epsilon, "alpha": alpha, "steps": self.steps, "decay": self.decay}


@ATTACKS.register("mifgsm")
@dataclass(frozen=True)
class MIFGSM(_Momentum):
    """Momentum iterative FGSM (Dong et al. 2018)."""

    traits: ClassVar[Traits] = _traits('Dong et al., "Boosting Adversarial Attacks with Momentum", 2018')

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.MIFGSM(model, **self._common(case))


@ATTACKS.register("nifgsm")
@dataclass(frozen=True)
class NIFGSM(_Momentum):
    """Iterative FGSM with Nesterov momentum (Lin et al. 2020)."""

    traits: ClassVar[Traits] = _traits(
        'Lin et al., "Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks", 2020'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.NIFGSM(model, **self._common(case))


@ATTACKS.register("sinifgsm")
@dataclass(frozen=True)
class SINIFGSM(_Momentum):
    """Iterative FGSM with Nesterov momentum on copies of the image at several scales (Lin et al. 2020).

    ``copies``: the number of copies, each half as bright as the previous one.
    """

    copies: int = 5

    traits: ClassVar[Traits] = _traits(
        'Lin et al., "Nesterov Accelerated Gradient and Scale Invariance for Adversarial Attacks", 2020'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.SINIFGSM(model, **self._common(case), m=self.copies)


@dataclass(frozen=True)
class _Variance(_Momentum):
    """Options of variance tuning: ``neighbours`` images are drawn within ``beta`` · epsilon."""

    neighbours: int = 5
    beta: float = 1.5

    def _common(self, case: WrappedInputs) -> dict[str, Any]:
        return {**super()._common(case), "N": self.neighbours, "beta": self.beta}


@ATTACKS.register("vmifgsm")
@dataclass(frozen=True)
class VMIFGSM(_Variance):
    """Momentum iterative FGSM with variance tuning (Wang and He 2021).

    ``neighbours`` images are drawn within ``beta`` · epsilon to measure the variance of the gradient.
    """

    traits: ClassVar[Traits] = _traits(
        'Wang and He, "Enhancing the Transferability of Adversarial Attacks through Variance Tuning", 2021'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.VMIFGSM(model, **self._common(case))


@ATTACKS.register("vnifgsm")
@dataclass(frozen=True)
class VNIFGSM(_Variance):
    """Nesterov iterative FGSM with variance tuning (Wang and He 2021).

    ``neighbours`` images are drawn within ``beta`` · epsilon to measure the variance of the gradient.
    """

    traits: ClassVar[Traits] = _traits(
        'Wang and He, "Enhancing the Transferability of Adversarial Attacks through Variance Tuning", 2021'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.VNIFGSM(model, **self._common(case))
