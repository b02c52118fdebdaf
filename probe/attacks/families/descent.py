"""Gradient descent attacks that only foolbox has: L1, Adam, and one step on the KL divergence.

``step`` is the step size as a fraction of epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.foolbox_adapter import FoolboxAttack, eagerpy, foolbox
from probe.attacks.norms import L1, Norm
from probe.attacks.torchattacks_adapter import BestSeen, WrappedInputs

_MADRY = 'Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018'
_TRAMER = 'Tramèr and Boneh, "Adversarial Training and Robustness for Multiple Perturbations", 2019'
_ALL = ("Linf", "L2", "L1")


def _traits(paper: str, *norms: str) -> Traits:
    return Traits(norms=norms, access="white-box", paper=paper, targeted=True, origin="foolbox")


@ATTACKS.register("l1-pgd")
@dataclass(frozen=True)
class L1PGD(FoolboxAttack):
    """Projected gradient descent in L1 along the gradient itself (Madry et al. 2018)."""

    steps: int = 50
    step: float = 0.025
    random_start: bool = True

    traits: ClassVar[Traits] = _traits(_MADRY, "L1")

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.L1ProjectedGradientDescentAttack(
            rel_stepsize=self.step, steps=self.steps, random_start=self.random_start
        )


@ATTACKS.register("l1-bim")
@dataclass(frozen=True)
class L1BIM(FoolboxAttack):
    """Basic iterative method in L1, from the image itself (Kurakin et al. 2017)."""

    steps: int = 10
    step: float = 0.2

    traits: ClassVar[Traits] = _traits(
        'Kurakin et al., "Adversarial Examples in the Physical World", 2017', "L1"
    )

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.L1BasicIterativeAttack(rel_stepsize=self.step, steps=self.steps)


class _SparseL1Descent(foolbox.attacks.SparseL1DescentAttack):  # type: ignore[misc]
    """Sparse L1 descent with two fixes: projection to the nearest image in the ball, and the sign of targeted steps.

    foolbox' projection uses one value too many, which leaves images outside the ball and even moves others out of it;
    in targeted mode it drops the values at 0 or 1 that can still move and keeps those that cannot.
    """

    descending = False

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **more: Any) -> Any:
        self.descending = hasattr(criterion, "target_classes")
        return super().run(model, inputs, criterion, epsilon=epsilon, **more)

    def normalize(self, gradients: Any, *, x: Any, bounds: Any) -> Any:
        if self.descending:
            return -super().normalize(-gradients, x=x, bounds=bounds)
        return super().normalize(gradients, x=x, bounds=bounds)

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        return eagerpy.astensor(L1().project(x0.raw, x.raw, epsilon))


@ATTACKS.register("sparse-l1-descent")
@dataclass(frozen=True)
class SparseL1Descent(FoolboxAttack):
    """Descent in L1 along the largest components of the gradient (Tramèr and Boneh 2019).

    A step changes the values above the ``quantile`` of |gradient|.
    """

    steps: int = 10
    step: float = 0.2
    quantile: float = 0.99
    random_start: bool = False

    traits: ClassVar[Traits] = _traits(_TRAMER, "L1")

    def _build(self, norm: Norm) -> Any:
        return _SparseL1Descent(
            quantile=self.quantile, rel_stepsize=self.step, steps=self.steps, random_start=self.random_start
        )


@ATTACKS.register("adam-pgd")
@dataclass(frozen=True)
class AdamPGD(FoolboxAttack):
    """Projected gradient descent with Adam's steps (Madry et al. 2018; Kingma and Ba 2015)."""

    steps: int = 50
    step: float = 0.025
    random_start: bool = True

    traits: ClassVar[Traits] = _traits(_MADRY, *_ALL)

    def _build(self, norm: Norm) -> Any:
        peers = {
            "Linf": foolbox.attacks.LinfAdamProjectedGradientDescentAttack,
            "L2": foolbox.attacks.L2AdamProjectedGradientDescentAttack,
            "L1": foolbox.attacks.L1AdamProjectedGradientDescentAttack,
        }
        return peers[norm.name](rel_stepsize=self.step, steps=self.steps, random_start=self.random_start)


@ATTACKS.register("fgm")
@dataclass(frozen=True)
class FGM(FoolboxAttack):
    """One step of length epsilon along the gradient, in L2 or L1 (Goodfellow et al. 2015)."""

    random_start: bool = False

    traits: ClassVar[Traits] = Traits(
        norms=("L2", "L1"),
        access="white-box",
        paper='Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015',
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        peers = {"L2": foolbox.attacks.L2FastGradientAttack, "L1": foolbox.attacks.L1FastGradientAttack}
        return peers[norm.name](random_start=self.random_start)


@ATTACKS.register("virtual-adversarial")
@dataclass(frozen=True)
class VirtualAdversarial(FoolboxAttack):
    """One step in the direction of largest curvature of the prediction's KL divergence (Miyato et al. 2016).

    ``steps`` of the power method, with differences of length ``xi`` in pixel units; foolbox' default of 1e-6 is below
    the rounding error of float32.
    """

    steps: int = 5
    xi: float = 0.01

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="white-box",
        paper='Miyato et al., "Distributional Smoothing with Virtual Adversarial Training", 2016',
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.VirtualAdversarialAttack(steps=self.steps, xi=self.xi)

    def _attack(self, case: WrappedInputs, rows: Tensor, rescue: BestSeen) -> tuple[Tensor, Tensor]:
        try:
            return rows, self._launch(case, rows)
        except RuntimeError as error:
            if "Gradient vanished" not in str(error):
                raise
        # foolbox gives up on the whole batch when one image's gradient vanishes.
        if len(rows) == 1:
            return rows[:0], case.images[:0]
        parts = []
        for row in rows[:, None]:
            with rescue.only(row):
                parts.append(self._attack(case, row, rescue))
        return torch.cat([done for done, _ in parts]), torch.cat([images for _, images in parts])
