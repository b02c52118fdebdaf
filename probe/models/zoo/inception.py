"""Inception for small images, versions 1 to 3.

Version 1: Szegedy et al., "Going Deeper with Convolutions", 2014: a module covers several scales at once, with
parallel 1×1, 3×3 and 5×5 convolutions and a pooling, preceded by 1×1 convolutions that keep it cheap.
Version 2: Ioffe and Szegedy, "Batch Normalization", 2015: the 5×5 becomes two 3×3. Version 3: Szegedy et al.,
"Rethinking the Inception Architecture for Computer Vision", 2015: an n×n becomes 1×n and n×1. To try:
``probe ablate --remove branch`` removes single branches, ``probe anatomy --compare
"inception?version=2,inception?version=3&n=3"`` shows what the factorisation costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO

Norm = Literal["lrn", "batch", "none"]
Kernel = int | tuple[int, int]


class Convolution(nn.Sequential):
    """A convolution that keeps the size, batch normalisation if ``batch``, and ReLU."""

    def __init__(self, in_channels: int, channels: int, kernel: Kernel, batch: bool) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        conv = nn.Conv2d(
            in_channels, channels, (height, width), padding=(height // 2, width // 2), bias=not batch
        )
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        super().__init__(conv, *([nn.BatchNorm2d(channels)] if batch else []), nn.ReLU())


class Inception(nn.Module):
    """Four parallel branches, concatenated: 1×1, middle, large, and pooling.

    The channels are in GoogLeNet's proportions: a quarter, a half, an eighth and an eighth of ``channels``, which
    must be a multiple of 16. ``n`` is the kernel that version 3 factorises.
    """

    def __init__(self, in_channels: int, channels: int, version: int, n: int, batch: bool) -> None:
        super().__init__()
        quarter, half, eighth, reduced = channels // 4, channels // 2, channels // 8, channels // 16

        middle, large = _kernels(version, n)

        def arm(inner: int, out: int, kernels: Sequence[Kernel]) -> nn.Sequential:
            before = [inner, *[out] * len(kernels)]
            rest = [
                Convolution(width, out, kernel, batch) for width, kernel in zip(before, kernels, strict=False)
            ]
            return nn.Sequential(Convolution(in_channels, inner, 1, batch), *rest)

        self.one = Convolution(in_channels, quarter, 1, batch)
        self.middle = arm(quarter, half, middle)
        self.large = arm(reduced, eighth, large)
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), Convolution(in_channels, eighth, 1, batch))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, H, W) for (N, in_channels, H, W)."""
        return torch.cat([self.one(x), self.middle(x), self.large(x), self.pool(x)], 1)


class Auxiliary(nn.Module):
    """A second classifier half-way through the network, for training only, as in version 1."""

    def __init__(self, in_channels: int, num_classes: int, batch: bool) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = Convolution(in_channels, 32, 1, batch)
        self.fc1 = nn.Linear(32 * 16, 64)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes)."""
        x = torch.flatten(self.conv(self.pool(x)), 1)
        logits: Tensor = self.fc2(self.dropout(self.relu(self.fc1(x))))
        return logits


class GoogLeNet(nn.Module):
    """A stem, two Inception modules on 16×16 maps and two on 8×8, global average pooling, dropout, a dense layer.

    ``version`` is 1, 2 or 3; ``norm`` is ``lrn`` (k = 1, n = 5, α = 1e-4, β = 0.75, after the stem's
    convolutions, as in version 1), ``batch`` (after every convolution, as in 2 and 3) or ``none``; the default
    depends on the version. With ``auxiliary`` the network returns (logits, auxiliary logits) in train mode, to be
    weighted 1 and 0.3.
    """

    def __init__(
        self,
        version: int = 1,
        num_classes: int = 10,
        in_channels: int = 3,
        norm: Norm | None = None,
        auxiliary: bool = False,
        n: int = 7,
        width: int = 64,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        if version not in (1, 2, 3):
            raise UsageError(f"There is no version {version} of inception: write version=1, 2 or 3.")
        norm = norm or ("lrn" if version == 1 else "batch")
        if norm not in ("lrn", "batch", "none"):
            raise UsageError(f"There is no norm '{norm}': write norm=lrn, norm=batch or norm=none.")
        if n < 3 or n % 2 == 0:
            raise UsageError(f"The factorised kernel must be odd and at least 3: write n=7, not n={n}.")
        if width < 16 or width % 16:
            raise UsageError(f"The width must be a multiple of 16: write width=64, not width={width}.")
        self.input_size = (in_channels, 32, 32)
        batch, half = norm == "batch", width // 2
        self.conv1 = Convolution(in_channels, half, 3, batch)
        self.pool1 = nn.MaxPool2d(3, 2, 1)
        self.norm1 = _lrn() if norm == "lrn" else nn.Identity()
        self.conv2 = nn.Sequential(Convolution(half, half, 1, batch), Convolution(half, width, 3, batch))
        self.norm2 = _lrn() if norm == "lrn" else nn.Identity()
        self.inception3a = Inception(width, width, version, n, batch)
        self.inception3b = Inception(width, 2 * width, version, n, batch)
        self.pool3 = nn.MaxPool2d(3, 2, 1)
        self.inception4a = Inception(2 * width, 2 * width, version, n, batch)
        self.inception4b = Inception(2 * width, 2 * width, version, n, batch)
        self.auxiliary = Auxiliary(2 * width, num_classes, batch) if auxiliary else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (N, num_classes) for (N, in_channels, H, W) images; in train mode see ``auxiliary``."""
        x = self.norm1(self.pool1(self.conv1(images)))
        x = self.norm2(self.conv2(x))
        x = self.pool3(self.inception3b(self.inception3a(x)))
        middle = self.inception4a(x)
        x = self.inception4b(middle)
        logits: Tensor = self.fc(self.dropout(torch.flatten(self.avgpool(x), 1)))
        if self.auxiliary is not None and self.training:
            return logits, self.auxiliary(middle)
        return logits


def _kernels(version: int, n: int) -> tuple[Sequence[Kernel], Sequence[Kernel]]:
    """Return the kernels of the middle and of the large branch, after their 1×1 convolution."""
    if version == 3:
        return [(1, n), (n, 1)], [(1, n), (n, 1), (1, n), (n, 1)]
    return [3], [5] if version == 1 else [3, 3]


def _lrn() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=1.0)  # PyTorch divides alpha by n


@ZOO.register("inception")
def inception(
    version: int = 1,
    num_classes: int = 10,
    in_channels: int = 3,
    norm: Norm | None = None,
    auxiliary: bool = False,
    n: int = 7,
    width: int = 64,
    dropout: float = 0.4,
) -> nn.Module:
    """Inception modules, version 1 (5×5), 2 (two 3×3) or 3 (1×n and n×1)."""
    return GoogLeNet(version, num_classes, in_channels, norm, auxiliary, n, width, dropout)
