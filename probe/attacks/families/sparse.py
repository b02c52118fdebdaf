"""Attacks that change few pixels, run by torchattacks. A pixel counts once, however many channels change."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torchattacks
from torch import Tensor, nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.torchattacks_adapter import BestSeen, TorchattacksAttack, WrappedInputs

_JSMA_VALUES = 8192
"""Maximum number of values of an image for JSMA, which needs several tables of values² numbers."""


@ATTACKS.register("sparsefool")
@dataclass(frozen=True)
class SparseFool(TorchattacksAttack):
    """Crosses DeepFool's hyperplanes along few coordinates (Modas et al. 2019).

    ``lam`` is how far beyond DeepFool's boundary to move; larger is sparser.
    """

    steps: int = 10
    lam: float = 3.0
    overshoot: float = 0.02

    traits: ClassVar[Traits] = Traits(
        norms=("L0", "L1"),
        access="white-box",
        paper='Modas et al., "SparseFool: a Few Pixels Make a Big Difference", 2019',
        minimum_norm=True,
        origin="torchattacks",
    )
    one_by_one: ClassVar[bool] = True

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.SparseFool(model, steps=self.steps, lam=self.lam, overshoot=self.overshoot)


@ATTACKS.register("onepixel")
@dataclass(frozen=True)
class OnePixel(TorchattacksAttack):
    """Few pixels found by differential evolution (Su et al. 2019).

    Epsilon is the number of pixels; ``population`` candidates evolve for ``steps`` generations.
    """

    steps: int = 75
    population: int = 400
    batch: int = 128

    traits: ClassVar[Traits] = Traits(
        norms=("L0",),
        access="score-based",
        paper='Su et al., "One Pixel Attack for Fooling Deep Neural Networks", 2019',
        targeted=True,
        origin="torchattacks",
    )
    one_by_one: ClassVar[bool] = True

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.OnePixel(
            model,
            pixels=math.floor(case.epsilon),
            steps=self.steps,
            popsize=self.population,
            inf_batch=self.batch,
        )

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        return case.images if case.epsilon < 1 else super()._run(case, rescue)


class _Pixle(torchattacks.Pixle):  # type: ignore[misc]
    """Pixle with rows and columns in the right order, so that images need not be square."""

    def _perturb(self, source: Tensor, solution: Any, destination: Tensor | None = None) -> Tensor:
        left, top, width, height = solution[:4]
        moved = (source if destination is None else destination).clone()
        places = torch.tensor(solution[4:], device=source.device)
        patch = source[0, :, top : top + height, left : left + width].flatten(1)
        moved[0, :, places[:, 1], places[:, 0]] = patch
        return moved


@ATTACKS.register("pixle")
@dataclass(frozen=True)
class Pixle(TorchattacksAttack):
    """Copies the pixels of a patch to random positions (Pomponi et al. 2022).

    Epsilon is the number of pixels. ``restarts`` patches are used in turn; each is the best of ``steps`` random ones,
    with sides of up to √(epsilon/restarts) pixels, so that together they stay within epsilon.
    """

    restarts: int = 20
    steps: int = 10

    traits: ClassVar[Traits] = Traits(
        norms=("L0",),
        access="score-based",
        paper='Pomponi et al., "Pixle: a Fast and Effective Black-box Attack Based on Rearranging Pixels", 2022',
        targeted=True,
        origin="torchattacks",
    )
    one_by_one: ClassVar[bool] = True

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        restarts = min(self.restarts, math.floor(case.epsilon))
        side = min(math.isqrt(math.floor(case.epsilon) // restarts), *case.images.shape[2:])
        return _Pixle(
            model,
            x_dimensions=(1, side),
            y_dimensions=(1, side),
            restarts=restarts,
            max_iterations=self.steps,
        )

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        return case.images if case.epsilon < 1 else super()._run(case, rescue)


@ATTACKS.register("jsma")
@dataclass(frozen=True)
class JSMA(TorchattacksAttack):
    """Changes the pairs of values with the largest saliency from the Jacobian (Papernot et al. 2016).

    Epsilon is the number of pixels, two per step; ``theta`` is the change per step. Without targets, the target class is
    the class after the label. Memory grows with the square of the image's values: more than 8,192 are refused.
    """

    theta: float = 1.0

    traits: ClassVar[Traits] = Traits(
        norms=("L0",),
        access="white-box",
        paper='Papernot et al., "The Limitations of Deep Learning in Adversarial Settings", 2016',
        targeted=True,
        origin="torchattacks",
    )
    one_by_one: ClassVar[bool] = True

    def refusal(self, size: tuple[int, ...]) -> str:
        """Return why images cannot be attacked."""
        values = math.prod(size)
        most = f"it compares all pairs of an image's values, of which there can be at most {_JSMA_VALUES:,}"
        return f"{most}, and these images have {values:,}" if values > _JSMA_VALUES else ""

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        values = case.images[0].numel()
        pairs = math.floor(case.epsilon / 2)
        # torchattacks makes ceil(values·gamma/2) steps of two values each; subtracting 0.5 avoids rounding errors.
        return torchattacks.JSMA(model, theta=self.theta, gamma=(2 * pairs - 0.5) / values)

    def _with_labels(self, case: WrappedInputs) -> WrappedInputs:
        # torchattacks would take the next class modulo 10, whatever the number of classes.
        aim = (case.labels + 1) % case.classes if case.targets is None else case.targets
        return replace(case, targets=aim)
