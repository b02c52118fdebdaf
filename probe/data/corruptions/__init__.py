"""Ordinary corruptions at five severities: what happens to pictures without anybody wanting to mislead.

Kinds and amounts are those of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, for images of 224 pixels a side. Amounts that are lengths (the blur's σ
and the shift) are parts of the image's side, so that a severity means the same on a small image. The shift is not
among theirs. One file a kind; importing this loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.data.corruptions._base import Corruption

CORRUPTIONS: Registry[type[Corruption]] = Registry("corruption", "probe.data.corruptions")
