"""Network in network: Lin, Chen and Yan, "Network In Network", 2013.

An MLPconv layer is a k×k convolution followed by two 1×1 convolutions, each with a ReLU: a small dense network that
slides over the image, so that each receptive field is processed by more than one linear filter. The last
MLPconv layer has one channel for each class, and the mean of its map is the logit (global average pooling), so
there is no dense layer that could overfit. To try: the last maps show where the network sees each class
(``probe filters --layers block3``), and ``probe ablate --remove layer`` removes single 1×1 convolutions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO

Norm = Literal["batch", "none"]


class MLPConv(nn.Sequential):
    """A k×k convolution and two 1×1 convolutions with a ReLU after each, ``norm`` in front of it."""

    def __init__(self, in_channels: int, channels: tuple[int, int, int], kernel: int, norm: Norm) -> None:
        layers: list[nn.Module] = []
        for number, out_channels in enumerate(channels):
            size = 1 if number else kernel
            layers.append(nn.Conv2d(in_channels, out_channels, size, padding=size // 2))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.ReLU())
            in_channels = out_channels
        super().__init__(*layers)


class NIN(nn.Module):
    """Three MLPconv layers, as in the paper's networks for CIFAR-10, with ``width`` channels (the paper's: 192).

    ``dropout`` follows the first two, 0 for none; ``norm`` is ``none`` as published, or ``batch``.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        dropout: float = 0.5,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            raise UsageError(f"There is no norm '{norm}': write norm=batch or norm=none.")
        if width < 2:
            raise UsageError(f"A network in network needs at least 2 channels, not {width}.")
        self.input_size = (in_channels, 32, 32)
        # 192, 160 and 96 of the paper's first block, in proportion.
        first = (width, max(1, round(width * 5 / 6)), width // 2)
        self.block1 = MLPConv(in_channels, first, 5, norm)
        self.pool1 = nn.MaxPool2d(3, 2, 1)
        self.dropout1 = nn.Dropout(dropout)
        self.block2 = MLPConv(width // 2, (width, width, width), 5, norm)
        self.pool2 = nn.AvgPool2d(3, 2, 1)
        self.dropout2 = nn.Dropout(dropout)
        self.block3 = MLPConv(width, (width, width, num_classes), 3, norm)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, H, W) images."""
        x = self.dropout1(self.pool1(self.block1(images)))
        x = self.dropout2(self.pool2(self.block2(x)))
        return torch.flatten(self.avgpool(self.block3(x)), 1)


@ZOO.register("nin")
def nin(
    num_classes: int = 10,
    in_channels: int = 3,
    width: int = 64,
    dropout: float = 0.5,
    norm: Norm = "batch",
) -> nn.Module:
    """Network in network: MLPconv layers and global average pooling."""
    return NIN(num_classes, in_channels, width, dropout, norm)
