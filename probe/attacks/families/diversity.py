"""Transfer attacks that blur or resize the input or gradient; run by torchattacks.

The blurring attacks of torchattacks need three channels. Images with one or two are filled up with copies of the last
one, which the network does not read; this is equivalent, because every channel is blurred by itself. More are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torchattacks
from torch import Tensor, nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.torchattacks_adapter import (
    BestSeen,
    FirstChannels,
    TorchattacksAttack,
    WrappedInputs,
    as_colour,
    per_step,
    run_wrapped,
)


def _traits(paper: str, *, targeted: bool = True) -> Traits:
    return Traits(
        norms=("Linf",),
        access="white-box",
        paper=paper,
        targeted=targeted,
        transfer=True,
        origin="torchattacks",
    )


_COLOURS = 3


@dataclass(frozen=True)
class _Colour(TorchattacksAttack):
    """An attack for three channels; fewer are filled up to three."""

    def refusal(self, size: tuple[int, ...]) -> str:
        """Return why images cannot be attacked."""
        if size[0] > _COLOURS:
            return f"it blurs three colour channels, and these images have {size[0]}"
        return ""

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        channels = case.images.shape[1]
        if channels == _COLOURS:
            return super()._run(case, rescue)
        peer = self._build(FirstChannels(case.model, channels), case)
        return run_wrapped(peer, as_colour(self._with_labels(case)))[:, :channels]


def _not_square(size: tuple[int, ...]) -> str:
    _, height, width = size
    if height != width:
        return f"it resizes images to squares, and these are {height} by {width}"
    if int(0.9 * width) == width:
        return f"it shrinks images by a tenth, and these have only {height} by {width} pixels"
    return ""


@ATTACKS.register("difgsm")
@dataclass(frozen=True)
class DIFGSM(TorchattacksAttack):
    """Iterative FGSM on randomly resized and padded images (Xie et al. 2019).

    ``step`` is a fraction of epsilon, None: 2.5 / steps; ``decay`` is the momentum factor; with probability
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

    def refusal(self, size: tuple[int, ...]) -> str:
        """Return why images cannot be attacked."""
        return _not_square(size)

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
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

    ``step`` is a fraction of epsilon, None: 2.5 / steps; ``kernel`` is the width of the blur in pixels; with
    probability ``probability`` the images are resized as in DI-FGSM.
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

    def refusal(self, size: tuple[int, ...]) -> str:
        """Return why images cannot be attacked."""
        return super().refusal(size) or _not_square(size)

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
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
    """Patch-wise iterative FGSM: large steps whose excess is distributed to neighbouring pixels (Gao et al. 2020).

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

    A step is ``amplification``·epsilon/steps; ``project_factor`` scales the distributed excess.
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
