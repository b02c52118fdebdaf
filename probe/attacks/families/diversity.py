"""Attacks that blur or resize on the way, made to carry over to other networks; run by torchattacks.

torchattacks wrote the blurring ones for three channels. Images with one channel are shown to them three times over,
and only the first copy is read, which comes to the same; other numbers of channels are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torchattacks
from torch import Tensor, nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.torchattacks_adapter import (
    BestSeen,
    FirstChannel,
    TorchattacksAttack,
    WrappedInputs,
    as_colour,
    per_step,
    run_wrapped,
)
from probe.core.errors import CannotRunError


def _traits(paper: str, *, targeted: bool = True) -> Traits:
    return Traits(
        norms=("Linf",),
        access="white-box",
        paper=paper,
        targeted=targeted,
        transfer=True,
        origin="torchattacks",
    )


@dataclass(frozen=True)
class _Colour(TorchattacksAttack):
    """For three channels; one is expanded to three."""

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        channels = case.images.shape[1]
        if channels == 3:
            return super()._run(case, rescue)
        if channels != 1:
            raise CannotRunError(f"{type(self).__name__} takes images of 1 or 3 channels, not {channels}.")
        return run_wrapped(self._build(FirstChannel(case.model), case), as_colour(self._shown(case)))[:, :1]


def _square(name: str, case: WrappedInputs) -> None:
    height, width = case.images.shape[2:]
    if height != width:
        raise CannotRunError(
            f"{name} resizes to squares: {height} by {width} images would change their shape."
        )
    if int(0.9 * width) == width:
        raise CannotRunError(f"{name} has nothing to resize in images of {height} by {width} pixels.")


@ATTACKS.register("difgsm")
@dataclass(frozen=True)
class DIFGSM(TorchattacksAttack):
    """Iterative FGSM on randomly resized and padded images (Xie et al. 2019).

    ``step`` is a part of epsilon, None takes 2.5 / steps; ``decay`` is the momentum's factor; with probability
    ``probability`` the images are shrunk to between 0.9 and 1 of their size.
    """

    steps: int = 10
    step: float | None = None
    decay: float = 0.0
    probability: float = 0.5
    random_start: bool = False

    traits: ClassVar[Traits] = _traits(
        'Xie et al., "Improving Transferability of Adversarial Examples with Input Diversity", 2019'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        _square("DIFGSM", case)
        return torchattacks.DIFGSM(
            model,
            eps=case.epsilon,
            alpha=per_step(self.step, case.epsilon, self.steps),
            steps=self.steps,
            decay=self.decay,
            diversity_prob=self.probability,
            random_start=self.random_start,
        )


@ATTACKS.register("tifgsm")
@dataclass(frozen=True)
class TIFGSM(_Colour):
    """Iterative FGSM on gradients blurred over translations (Dong et al. 2019).

    ``step`` is a part of epsilon, None takes 2.5 / steps; ``kernel`` is the blur's width in pixels; with
    probability ``probability`` the images are resized as DI-FGSM does it.
    """

    steps: int = 10
    step: float | None = None
    decay: float = 0.0
    kernel: int = 15
    probability: float = 0.5
    random_start: bool = False

    traits: ClassVar[Traits] = _traits(
        'Dong et al., "Evading Defenses to Transferable Adversarial Examples by Translation-Invariant Attacks", 2019'
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        _square("TIFGSM", case)
        return torchattacks.TIFGSM(
            model,
            eps=case.epsilon,
            alpha=per_step(self.step, case.epsilon, self.steps),
            steps=self.steps,
            decay=self.decay,
            len_kernel=self.kernel,
            diversity_prob=self.probability,
            random_start=self.random_start,
        )


@ATTACKS.register("pifgsm")
@dataclass(frozen=True)
class PIFGSM(_Colour):
    """Patch-wise iterative FGSM: large steps whose overflow is spread around (Gao et al. 2020).

    A step is ``amplification``·epsilon/steps.
    """

    steps: int = 10
    amplification: float = 10.0

    traits: ClassVar[Traits] = _traits(
        'Gao et al., "Patch-wise Attack for Fooling Deep Neural Network", 2020', targeted=False
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.PIFGSM(
            model, max_epsilon=case.epsilon, num_iter_set=self.steps, amplification=self.amplification
        )


@ATTACKS.register("pifgsmpp")
@dataclass(frozen=True)
class PIFGSMPP(_Colour):
    """Patch-wise iterative FGSM with blurred gradients (Gao et al. 2020).

    A step is ``amplification``·epsilon/steps; ``project_factor`` scales the overflow that is spread around.
    """

    steps: int = 10
    amplification: float = 10.0
    project_factor: float = 0.8

    traits: ClassVar[Traits] = _traits(
        'Gao et al., "Patch-wise++ Perturbation for Adversarial Targeted Attacks", 2020'
    )
    targets_as_labels: ClassVar[bool] = True

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.PIFGSMPP(
            model,
            max_epsilon=case.epsilon,
            num_iter_set=self.steps,
            amplification=self.amplification,
            project_factor=self.project_factor,
        )
