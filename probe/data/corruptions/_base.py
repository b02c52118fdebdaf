"""The interface of corruptions."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

Amounts = tuple[float, float, float, float, float]


class Corruption(Protocol):
    """One kind of corruption; ``amounts`` are its strengths at severities 1 to 5, measured in ``unit``."""

    @property
    def name(self) -> str:
        """The name in reports."""

    @property
    def unit(self) -> str:
        """The unit of the amounts."""

    @property
    def amounts(self) -> Amounts:
        """The strength at severities 1, 2, 3, 4, 5."""

    def apply(self, images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
        """Return corrupted copies of ``images``: pixels (N, 1 or 3, H, W) in [0, 1], float32, same device.

        ``severity`` is 1 to 5. All randomness comes from ``generator``; deterministic kinds do not use it.
        Raises ValueError for other severities and shapes.
        """


def begin(kind: Corruption, images: Tensor, severity: int) -> tuple[Tensor, float]:
    """Check the arguments and return the pixels as float32, detached from any graph, and the amount."""
    if severity not in range(1, 6):
        raise ValueError(f"severity must be 1 to 5, not {severity}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape[2:]) < 1:
        raise ValueError(f"expected images of shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    return images.detach().to(torch.float32), kind.amounts[severity - 1]
