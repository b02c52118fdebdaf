"""Noise, blur and contrast reduction, increased until the prediction changes; run by foolbox.

Not included, because they have no norm: foolbox' spatial attack (it rotates and shifts), the dataset
attack (it returns other images of the data set) and the binarization refinement (it needs a binarising network).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from probe.attacks.base import ATTACKS, Access, Traits
from probe.attacks.foolbox_adapter import FoolboxAttack, distance, foolbox
from probe.attacks.norms import Norm
from probe.core.errors import UsageError

_RAUBER = 'Rauber et al., "Foolbox Native: Fast adversarial attacks to benchmark the robustness of machine learning '
_FOOLBOX = _RAUBER + 'models in PyTorch, TensorFlow, and JAX", 2020'
_CLIPPING = 'Rauber and Bethge, "Fast Differentiable Clipping-Aware Normalization and Rescaling", 2020'
_ANY = ("Linf", "L2", "L1")


def _traits(
    paper: str,
    *norms: str,
    access: Access = "decision-based",
    targeted: bool = True,
    minimum_norm: bool = True,
) -> Traits:
    return Traits(
        norms=norms,
        access=access,
        paper=paper,
        targeted=targeted,
        minimum_norm=minimum_norm,
        origin="foolbox",
    )


@ATTACKS.register("salt-and-pepper")
@dataclass(frozen=True)
class SaltAndPepper(FoolboxAttack):
    """Salt-and-pepper noise, increased until the prediction changes.

    Keeps the smallest perturbation in L2. ``across_channels``: change all channels of a pixel together.
    """

    steps: int = 1000
    across_channels: bool = True

    traits: ClassVar[Traits] = _traits(_FOOLBOX, "L0", "L2")

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.SaltAndPepperNoiseAttack(
            steps=self.steps, across_channels=self.across_channels
        )


@ATTACKS.register("blended-noise")
@dataclass(frozen=True)
class BlendedNoise(FoolboxAttack):
    """The smallest blend with an adversarial uniform-noise image that changes the prediction.

    Up to ``directions`` noise images are tried, with ``steps`` weights.
    """

    directions: int = 1000
    steps: int = 1000

    traits: ClassVar[Traits] = _traits(_FOOLBOX, *_ANY)

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(
            distance=distance(norm), directions=self.directions, steps=self.steps
        )


@ATTACKS.register("gaussian-noise")
@dataclass(frozen=True)
class GaussianNoiseAttack(FoolboxAttack):
    """Gaussian noise of size epsilon, drawn until the prediction changes (Rauber and Bethge 2020).

    Up to ``repeats`` draws. ``clipping_aware`` noise has this size after clipping to [0, 1].
    """

    repeats: int = 100
    clipping_aware: bool = True

    traits: ClassVar[Traits] = _traits(_CLIPPING, "L2", minimum_norm=False)

    def _build(self, norm: Norm) -> Any:
        if self.clipping_aware:
            return foolbox.attacks.L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack(repeats=self.repeats)
        return foolbox.attacks.L2RepeatedAdditiveGaussianNoiseAttack(repeats=self.repeats)


class _LinfUniform(foolbox.attacks.LinfRepeatedAdditiveUniformNoiseAttack):  # type: ignore[misc]
    """Uniform noise scaled by the largest |value|; foolbox scales by the largest value and leaves the ball."""

    def get_epsilons(self, x: Any, p: Any, epsilon: float, min_: float, max_: float) -> Any:
        largest = p.abs().flatten(start=1).max(axis=-1)
        return epsilon / largest.reshape((-1, *[1] * (p.ndim - 1)))


@ATTACKS.register("uniform-noise")
@dataclass(frozen=True)
class UniformNoise(FoolboxAttack):
    """Uniform noise of size epsilon, drawn until the prediction changes (Rauber and Bethge 2020).

    Up to ``repeats`` draws. ``clipping_aware`` noise has its L2 size after clipping to [0, 1].
    """

    repeats: int = 100
    clipping_aware: bool = True

    traits: ClassVar[Traits] = _traits(_CLIPPING, "Linf", "L2", minimum_norm=False)

    def _build(self, norm: Norm) -> Any:
        if norm.name == "Linf":
            return _LinfUniform(repeats=self.repeats)
        if self.clipping_aware:
            return foolbox.attacks.L2ClippingAwareRepeatedAdditiveUniformNoiseAttack(repeats=self.repeats)
        return foolbox.attacks.L2RepeatedAdditiveUniformNoiseAttack(repeats=self.repeats)


@ATTACKS.register("contrast-reduction")
@dataclass(frozen=True)
class ContrastReduction(FoolboxAttack):
    """The smallest contrast reduction that changes the prediction.

    The image is blended with ``grey``; ``search``: ``binary`` halves the range ``steps`` times, ``linear`` tries
    ``steps`` weights in order.
    """

    search: Literal["binary", "linear"] = "binary"
    steps: int = 15
    grey: float = 0.5

    traits: ClassVar[Traits] = _traits(_FOOLBOX, *_ANY)

    def _build(self, norm: Norm) -> Any:
        if self.search not in ("binary", "linear"):
            raise UsageError(f"The search must be binary or linear, not {self.search}.")
        if self.search == "binary":
            return foolbox.attacks.BinarySearchContrastReductionAttack(
                distance=distance(norm), binary_search_steps=self.steps, target=self.grey
            )
        return foolbox.attacks.LinearSearchContrastReductionAttack(
            distance=distance(norm), steps=self.steps, target=self.grey
        )


@ATTACKS.register("inversion")
@dataclass(frozen=True)
class Inversion(FoolboxAttack):
    """The negative of the image, whatever the size of the perturbation (Hosseini et al. 2017)."""

    traits: ClassVar[Traits] = _traits(
        'Hosseini et al., "On the Limitation of Convolutional Neural Networks in Recognizing Negative Images", 2017',
        *_ANY,
        access="none",
    )

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.InversionAttack(distance=distance(norm))


@ATTACKS.register("gaussian-blur")
@dataclass(frozen=True)
class GaussianBlurAttack(FoolboxAttack):
    """The smallest Gaussian blur that changes the prediction.

    ``steps`` widths are tried, up to ``max_sigma`` pixels (0: the image's longer side).
    """

    steps: int = 1000
    max_sigma: float = 0.0

    traits: ClassVar[Traits] = _traits(_FOOLBOX, *_ANY)

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.GaussianBlurAttack(
            distance=distance(norm), steps=self.steps, max_sigma=self.max_sigma or None
        )
