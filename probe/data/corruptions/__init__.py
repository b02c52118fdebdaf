"""Common corruptions at five severities: changes to images that are not adversarial.

Kinds and amounts are those of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, for images with a side of 224 pixels. Amounts that are lengths (the blur's σ
and the shift) are fractions of the image's side, so that a severity means the same for a small image. The shift is not
in their benchmark. One file per kind; importing this package does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.data.corruptions._base import Corruption

CORRUPTIONS: Registry[type[Corruption]] = Registry("corruption", "probe.data.corruptions")
