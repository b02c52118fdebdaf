"""Common corruptions at five severities, after ImageNet-C and CIFAR-10-C: changes to images that are not adversarial.

The kinds, the parameters and the arithmetic (8-bit images in and out, rounded where it rounds) are those with which Hendrycks
& Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019, made the two data
sets: 15 kinds of the benchmark, and 4 that are held out for development. There are two sets of parameters, for 224 and for 32
pixels. An image of another size has the set that is nearer to its shorter side, by ratio (from 85 pixels on that of 224),
with lengths scaled by the ratio. One thing is not as published: frost has no photographs (see ``frost``).

One file per kind; importing this package does not load torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from probe.core.errors import UsageError
from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.data.corruptions._base import Corruption

CORRUPTIONS: Registry[type[Corruption[Any]]] = Registry("corruption", "probe.data.corruptions")

BENCHMARK = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 kinds over which the mean corruption error is defined."""

FEW = ("gaussian_noise", "defocus_blur", "snow", "fog", "contrast", "jpeg_compression")
"""The kinds that are used where none are named: quick ones of all four families (noise, blur, weather, digital).

Their mean error is near that of all 15: 49.5% and 51% for the embedded ImageNet network on its photographs.
"""


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the kinds that a user asked for, without repetitions: none is ``FEW``, all is ``BENCHMARK``.

    Raises UsageError for an unknown name.
    """
    wanted: dict[str, None] = {}
    for name in names:
        wanted |= dict.fromkeys(BENCHMARK if name == "all" else (name.lower().replace("-", "_"),))
    for name in wanted:
        if name not in CORRUPTIONS:
            CORRUPTIONS.get(name)
    return tuple(wanted) or FEW


def check_severity(severity: int) -> None:
    """Raise UsageError unless a severity is 1 to 5."""
    if severity not in range(1, 6):
        raise UsageError(f"A severity is 1 to 5, not {severity}.")
