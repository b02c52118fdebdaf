"""Further attribution methods, beside the six of the attribution view: three of them sample, with seeds of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from captum import attr as captum
from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.core.seeds import generator
from probe.graph.trace.class_activation import layercam
from studies.filters.attribution.methods import BATCH, GRADIENT, OneGradient, RepeatedImages
from studies.filters.attribution.subject import (
    AttributionSubject,
    Baseline,
    baseline_of,
    gradients_of,
    private,
)


@dataclass(frozen=True)
class SmoothGrad:
    """SmoothGrad (Smilkov et al. 2017): the mean gradient over noisy copies of the image.

    ``noise`` is the standard deviation as a share of the image's range, its largest minus its smallest value. Every image
    gets the same draws.
    """

    noise: float = 0.15
    samples: int = 16
    seed: int = 0

    key: ClassVar[str] = "smoothgrad"
    title: ClassVar[str] = "SmoothGrad"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the signed mean gradient per pixel and colour, (N, C, H, W)."""
        source = generator(self.seed, self.key)
        scale = self.noise * _range(images)
        total = torch.zeros_like(images)
        for _ in range(self.samples):
            total += _gradient(subject, images + scale * _normal(images, source), targets)
        return total / self.samples

    def economical(self) -> SmoothGrad:
        """Return half of the samples."""
        return replace(self, samples=max(1, self.samples // 2))

    def passes(self, size: tuple[int, int]) -> float:
        """Return the cost of one gradient per sample."""
        return GRADIENT * self.samples


@dataclass(frozen=True)
class GradientShap:
    """GradientSHAP (Lundberg, Lee 2017): gradients at random points between the baseline and noisy copies of the image.

    ``noise`` is the standard deviation as a share of the image's range. The points are stratified: one in each of
    ``samples`` equal parts of the way. Every image gets the same draws.
    """

    noise: float = 0.05
    samples: int = 16
    baseline: Baseline = "mean"
    seed: int = 0

    key: ClassVar[str] = "gradient_shap"
    title: ClassVar[str] = "GradientSHAP"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = True  # in expectation
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of (noisy image − baseline) × gradient over the samples, (N, C, H, W)."""
        source = generator(self.seed, self.key)
        scale, baseline = self.noise * _range(images), baseline_of(images, self.baseline)
        total = torch.zeros_like(images)
        for sample in range(self.samples):
            way = images + scale * _normal(images, source) - baseline
            place = (sample + float(torch.rand((), generator=source))) / self.samples
            total += way * _gradient(subject, baseline + place * way, targets)
        return total / self.samples

    def economical(self) -> GradientShap:
        """Return half of the samples."""
        return replace(self, samples=max(1, self.samples // 2))

    def passes(self, size: tuple[int, int]) -> float:
        """Return the cost of one gradient per sample."""
        return GRADIENT * self.samples


@dataclass(frozen=True)
class LayerCam(OneGradient):
    """LayerCAM (Jiang et al. 2021) at the layer of GradCAM: each place is weighted by its own positive gradient."""

    key: ClassVar[str] = "layercam"
    title: ClassVar[str] = "LayerCAM"
    signed: ClassVar[bool] = False
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = False

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the rectified map, bilinearly upsampled to the image, (N, 1, H, W)."""
        if not subject.layer:
            raise NotApplicableError("LayerCAM needs a layer whose output is a map larger than 1 × 1")
        with gradients_of(subject.module):
            cam = layercam(subject.module, subject.layer, private(images), targets)
        size = images.shape[-2:]
        return F.interpolate(cam, size=tuple(size), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Rise:
    """RISE (Petsiuk, Das, Saenko 2018): how the logit varies with what random masks leave of the image.

    A mask is a grid of ``cells`` × ``cells`` that are kept with probability ``kept``, enlarged bilinearly and shifted at
    random; what it covers fades to the baseline. A logit has no natural zero, so the map is its covariance with the mask,
    over the variance of a cell. Every image gets the same masks.
    """

    masks: int = 256
    cells: int = 7
    kept: float = 0.5
    baseline: Baseline = "mean"
    seed: int = 0
    batch: int = BATCH

    key: ClassVar[str] = "rise"
    title: ClassVar[str] = "RISE"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = False

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the covariance per pixel, (N, 1, H, W)."""
        once = RepeatedImages.of(images, targets)
        with torch.inference_mode(False), torch.no_grad():
            inputs = images.detach()[list(once.firsts)]
            baseline = baseline_of(inputs, self.baseline)
            covers = self.covers((images.shape[2], images.shape[3])).to(images)
            answers = []
            for part in torch.split(covers, max(1, self.batch // len(inputs))):
                mixed = part[:, None] * inputs + (1 - part[:, None]) * baseline
                logits: Tensor = subject.module(mixed.flatten(0, 1))
                wanted = logits.view(len(part), len(inputs), -1).gather(
                    2, once.targets.expand(len(part), -1, -1)
                )
                answers.append(wanted.flatten(1))
            logit = torch.cat(answers)
            # Masks that happen to cover little must not count as evidence everywhere.
            spread = (logit - logit.mean(0)).T @ (covers - covers.mean(0)).flatten(1)
            maps = spread / (self.masks * self.kept * (1 - self.kept))
        return maps.view(-1, 1, *images.shape[2:])[list(once.places)].to(images.dtype)

    def covers(self, size: tuple[int, int]) -> Tensor:
        """Return the masks (masks, 1, H, W), 1 where the image is kept, for an image of (H, W)."""
        source = generator(self.seed, self.key)
        counts = [min(self.cells, side) for side in size]
        grids = (torch.rand(self.masks, 1, *counts, generator=source) < self.kept).float()
        steps = [-(-side // count) for side, count in zip(size, counts, strict=True)]
        # The grid is enlarged by one cell more than fits, so that it can be shifted by up to a cell.
        full = [(count + (step > 1)) * step for step, count in zip(steps, counts, strict=True)]
        wide = F.interpolate(grids, full, mode="bilinear", align_corners=False).clamp(0, 1)
        tops, lefts = (torch.randint(0, step, (self.masks,), generator=source).tolist() for step in steps)
        cut = [
            mask[:, top : top + size[0], left : left + size[1]]
            for mask, top, left in zip(wide, tops, lefts, strict=True)
        ]
        return torch.stack(cut)

    def economical(self) -> Rise:
        """Return a quarter of the masks."""
        return replace(self, masks=max(1, self.masks // 4))

    def passes(self, size: tuple[int, int]) -> float:
        """Return one pass per mask."""
        return float(self.masks)


def _gradient(subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
    with gradients_of(subject.module):
        maps: Tensor = captum.Saliency(subject.module).attribute(private(images), targets, abs=False)
    return maps.detach()


def _range(images: Tensor) -> Tensor:
    return images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)


def _normal(images: Tensor, source: torch.Generator) -> Tensor:
    """Return noise of variance 1 for one image, the same on every device."""
    return torch.randn(images.shape[1:], generator=source, dtype=torch.float32).to(images)
