"""The attribution methods, each a frozen dataclass whose fields are its options.

All run through captum on copies that share the network's tensors, so nothing is left behind on the network,
and on clones of the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import torch
import torch.nn.functional as F
from captum import attr as captum
from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.graph.trace.class_activation import gradcam
from studies.filters.attribution.rules import DeepLiftRule as RescaleDeepLift
from studies.filters.attribution.rules import hookable
from studies.filters.attribution.subject import (
    AttributionSubject,
    Baseline,
    baseline_of,
    gradients_of,
    guidable,
    private,
)

BATCH = 8  # larger ones spend the time saved on fetching fresh memory
GRADIENT = 2.5
"""The work of one gradient in forward passes."""


class Method(Protocol):
    """A way to explain a logit: one map per image.

    ``signed`` maps have evidence for and against the class; ``complete`` maps should sum to
    f(image) − f(baseline); ``pixelwise`` maps are as fine as the image.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    signed: ClassVar[bool]
    complete: ClassVar[bool]
    pixelwise: ClassVar[bool]

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return detached (N, C, H, W) or (N, 1, H, W) maps for the logits ``targets`` (N,) of ``images``.

        Raises NotApplicableError with the reason where the method has no meaning.
        """
        ...

    def economical(self) -> Method:
        """Return the method with coarser options, for large networks and for many repetitions."""
        ...

    def passes(self, size: tuple[int, int]) -> float:
        """Return the work for one (H, W) image in forward passes."""
        ...


class OneGradient:
    """Base of the methods that need one gradient per map."""

    def economical(self) -> Self:
        """Return itself."""
        return self

    def passes(self, size: tuple[int, int]) -> float:
        """Return the cost of one gradient in forward passes."""
        return GRADIENT


@dataclass(frozen=True)
class Gradient(OneGradient):
    """The gradient of the logit (Simonyan, Vedaldi, Zisserman 2013): the reference for the others."""

    key: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Gradient"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the signed gradient per pixel and colour, (N, C, H, W)."""
        with gradients_of(subject.module):
            maps: Tensor = captum.Saliency(subject.module).attribute(private(images), targets, abs=False)
        return maps.detach()


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients (Sundararajan, Taly, Yan 2017) with Gauss–Legendre quadrature."""

    steps: int = 32
    baseline: Baseline = "mean"
    batch: int = BATCH

    key: ClassVar[str] = "integrated_gradients"
    title: ClassVar[str] = "Integrated gradients"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = True
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return (image − baseline) × the mean gradient on the straight line between them, (N, C, H, W)."""
        with gradients_of(subject.module):
            inputs = private(images)
            maps: Tensor = captum.IntegratedGradients(subject.module).attribute(
                inputs,
                baseline_of(inputs.detach(), self.baseline),
                targets,
                n_steps=self.steps,
                method="gausslegendre",
                internal_batch_size=max(self.batch, len(images)),
            )
        return maps.detach()

    def economical(self) -> IntegratedGradients:
        """Return a quarter of the steps."""
        return replace(self, steps=max(1, self.steps // 4))

    def passes(self, size: tuple[int, int]) -> float:
        """Return the cost of one gradient per step."""
        return GRADIENT * self.steps


@dataclass(frozen=True)
class GradCam(OneGradient):
    """GradCAM (Selvaraju et al. 2017) on the last layer whose output is a map larger than 1 × 1."""

    key: ClassVar[str] = "gradcam"
    title: ClassVar[str] = "GradCAM"
    signed: ClassVar[bool] = False
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = False

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the rectified map, bilinearly upsampled to the image, (N, 1, H, W)."""
        if not subject.layer:
            raise NotApplicableError("GradCAM needs a layer whose output is a map larger than 1 × 1")
        with gradients_of(subject.module):
            cam = gradcam(subject.module, subject.layer, private(images), targets)
        size = images.shape[-2:]
        return F.interpolate(cam, size=tuple(size), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class GuidedBackprop(OneGradient):
    """Guided backpropagation (Springenberg et al. 2014): ReLUs let only positive gradients back."""

    key: ClassVar[str] = "guided_backprop"
    title: ClassVar[str] = "Guided backprop"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the guided gradient per pixel and colour, (N, C, H, W)."""
        module = guidable(subject.graph("Guided backpropagation"))
        with gradients_of(module):
            maps: Tensor = captum.GuidedBackprop(module).attribute(private(images), targets)
        return maps.detach()


@dataclass(frozen=True)
class DeepLift:
    """DeepLIFT (Shrikumar, Greenside, Kundaje 2017) with the rescale rule."""

    baseline: Baseline = "mean"

    key: ClassVar[str] = "deeplift"
    title: ClassVar[str] = "DeepLIFT"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = True
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return (image − baseline) × the multipliers, (N, C, H, W)."""
        module = hookable(subject.graph("DeepLIFT"), products=True)
        with gradients_of(module):
            inputs = private(images)
            maps: Tensor = RescaleDeepLift(module).attribute(
                inputs, baseline_of(inputs.detach(), self.baseline), targets
            )
        return maps.detach()

    def economical(self) -> DeepLift:
        """Return itself."""
        return self

    def passes(self, size: tuple[int, int]) -> float:
        """Return the cost of a gradient for the image and one for the baseline."""
        return 2 * GRADIENT


@dataclass(frozen=True)
class RepeatedImages:
    """The different images of a batch with all their target logits: each covered image is computed only once.

    ``firsts`` are the rows of the different images, ``targets`` (images, logits) their target logits, and ``places``
    the position of each row of the batch in images × logits.
    """

    firsts: tuple[int, ...]
    targets: Tensor
    places: tuple[int, ...]

    @classmethod
    def of(cls, images: Tensor, targets: Tensor) -> RepeatedImages:
        """Find the rows of a batch that hold the same image."""
        groups: list[list[int]] = []
        for row, image in enumerate(images):
            same = (group for group in groups if torch.equal(images[group[0]], image))
            group = next(same, None)
            if group is None:
                groups.append([row])
            else:
                group.append(row)
        width = max(map(len, groups))
        rows = [group + [group[0]] * (width - len(group)) for group in groups]
        where = {row: i * width + j for i, group in enumerate(groups) for j, row in enumerate(group)}
        places = tuple(where[row] for row in range(len(images)))
        return cls(tuple(group[0] for group in groups), targets[torch.tensor(rows)], places)


@dataclass(frozen=True)
class Occlusion:
    """Occlusion (Zeiler, Fergus 2013): how far the logit falls when a window is covered.

    The window's side is ``1 / windows`` of the image's, and it moves by ``step`` of its own side.
    """

    windows: int = 7
    step: float = 0.5
    baseline: Baseline = "mean"
    batch: int = 8

    key: ClassVar[str] = "occlusion"
    title: ClassVar[str] = "Occlusion"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = False

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return f(image) − f(covered), averaged over the windows that cover the pixel, (N, 1, H, W)."""
        once = RepeatedImages.of(images, targets)
        (height, down), (width, right) = self.window(images.shape[2]), self.window(images.shape[3])

        def logits(batch: Tensor) -> Tensor:
            answers: Tensor = subject.module(batch)
            return answers.gather(1, once.targets.repeat(len(batch) // len(once.firsts), 1))

        with torch.inference_mode(False), torch.no_grad():
            inputs = images.detach()[list(once.firsts)]
            maps: Tensor = captum.Occlusion(logits).attribute(
                inputs,
                sliding_window_shapes=(images.shape[1], height, width),
                strides=(images.shape[1], down, right),
                baselines=baseline_of(inputs, self.baseline),
                perturbations_per_eval=max(1, self.batch // len(inputs)),
            )
        # captum averages in float32 and repeats the map for every channel.
        return maps.detach()[list(once.places), :1].to(images.dtype)

    def window(self, side: int) -> tuple[int, int]:
        """Return the window's side and its stride in pixels, for an image side in pixels."""
        window = max(1, round(side / self.windows))
        return window, max(1, min(window, round(window * self.step)))

    def economical(self) -> Occlusion:
        """Return windows of a fifth of the image's side, or larger ones, that do not overlap."""
        return replace(self, windows=min(self.windows, 5), step=1.0)

    def passes(self, size: tuple[int, int]) -> float:
        """Return the number of window positions and one pass for the whole image."""
        positions = 1
        for side in size:
            window, stride = self.window(side)
            positions *= -(-(side - window) // stride) + 1
        return positions + 1.0
