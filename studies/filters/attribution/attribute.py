"""Attribution: which pixels support a class, or activate one unit. Tensors in, maps out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from captum import attr as captum
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from studies.filters.attribution.further import GradientShap, LayerCam, Rise, SmoothGrad
from studies.filters.attribution.lrp import Lrp
from studies.filters.attribution.methods import (
    DeepLift,
    GradCam,
    Gradient,
    GuidedBackprop,
    IntegratedGradients,
    Method,
    Occlusion,
)
from studies.filters.attribution.subject import (
    AttributionSubject,
    Baseline,
    baseline_of,
    gradients_of,
    prepare,
    private,
)

__all__ = [
    "FURTHER",
    "METHODS",
    "AttributionSubject",
    "Baseline",
    "DeepLift",
    "GradCam",
    "Gradient",
    "GradientShap",
    "GuidedBackprop",
    "IntegratedGradients",
    "LayerCam",
    "Lrp",
    "Method",
    "Occlusion",
    "Rise",
    "SmoothGrad",
    "baseline_of",
    "in_batches",
    "prepare",
    "unit_backprop",
]

_IMAGES = 16

METHODS: tuple[Method, ...] = (
    Gradient(),
    GuidedBackprop(),
    IntegratedGradients(),
    DeepLift(),
    GradCam(),
    Occlusion(),
)
"""The methods of the attribution view with their default options, in the order in which a report shows them."""

FURTHER: tuple[Method, ...] = (SmoothGrad(), GradientShap(), LayerCam(), Rise(), Lrp())
"""Further methods, which the attribution view does not show."""


def in_batches(method: Method, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
    """Run a method on any number of images, at most 16 at a time.

    Raises NotApplicableError where the method is not defined or captum does not support the network.
    """
    starts = range(0, len(images), _IMAGES)
    parts = [slice(start, start + _IMAGES) for start in starts]
    try:
        return torch.cat([method.attribute(subject, images[part], targets[part]) for part in parts])
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotApplicableError(f"captum does not support this network: {reason}") from error


def unit_backprop(
    module: nn.Module,
    images: Tensor,
    channels: int | Sequence[int] | Tensor,
    rows: int | Sequence[int] | Tensor,
    cols: int | Sequence[int] | Tensor,
    rule: Literal["guided", "deconvnet"],
) -> Tensor:
    """Return the signal that activates one unit per image, (N, C, H, W), in one forward and one backward pass.

    ``module`` is a network cut off after the layer, with output (N, channels, rows, cols), as ``guidable`` returns it; image i is
    explained for unit (channels[i], rows[i], cols[i]), and a single number applies to all images. At each ReLU
    'deconvnet' lets the positive part of the backward signal pass (Zeiler, Fergus 2013), 'guided' only where the
    ReLU's input was positive too (Springenberg et al. 2014). Max-pools send the signal back to the recorded positions
    of the maxima.

    Raises ValueError for an unknown rule.
    """
    kinds = {"guided": captum.GuidedBackprop, "deconvnet": captum.Deconvolution}
    if rule not in kinds:
        raise ValueError(f"rule is 'guided' or 'deconvnet', not '{rule}'")
    units = [_numbers(value, len(images)) for value in (channels, rows, cols)]
    with gradients_of(module):
        maps: Tensor = kinds[rule](module).attribute(private(images), list(zip(*units, strict=True)))
    return maps.detach()


def _numbers(value: int | Sequence[int] | Tensor, count: int) -> list[int]:
    if isinstance(value, int):
        return [value] * count
    return [int(number) for number in value]
