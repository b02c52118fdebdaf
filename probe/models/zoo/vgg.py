"""VGG for small images: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", 2014.

A large kernel is replaced by a stack of 3×3 kernels with the same receptive field: two cover 5×5, three cover 7×7,
with fewer parameters (2 × 9 instead of 25, 3 × 9 instead of 49, for each pair of channels) and a ReLU between them.
``field`` is the receptive field of a stage; ``stacked=False`` builds it with one kernel of that size instead, for
comparison. To try: ``probe anatomy --compare "vgg?field=7,vgg?field=7&stacked=False"``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO

Norm = Literal["batch", "none"]


class VGG(nn.Module):
    """Four stages of convolutions with ``field``×``field`` receptive field, each with max pooling; then three
    dense layers.

    ``field`` is 3, 5 or 7; the stages have ``width``, 2, 4 and 4 ``width`` channels. ``norm`` is ``none`` as
    published, or ``batch``; ``dropout`` is the rate in front of the two last dense layers.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        field: int = 5,
        stacked: bool = True,
        width: int = 24,
        dropout: float = 0.5,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        if field not in (3, 5, 7):
            raise UsageError(
                f"The receptive field of a vgg stage must be 3, 5 or 7: write field=3, not field={field}."
            )
        if norm not in ("batch", "none"):
            raise UsageError(f"There is no norm '{norm}': write norm=batch or norm=none.")
        self.input_size = (in_channels, 32, 32)
        widths = (width, 2 * width, 4 * width, 4 * width)
        before = (in_channels, *widths)
        self.stage1, self.stage2, self.stage3, self.stage4 = (
            _stage(before[number], channels, field, stacked, norm) for number, channels in enumerate(widths)
        )
        self.fc5 = nn.Linear(4 * width * 4, 8 * width)
        self.relu5 = nn.ReLU()
        self.dropout5 = nn.Dropout(dropout)
        self.fc6 = nn.Linear(8 * width, 8 * width)
        self.relu6 = nn.ReLU()
        self.dropout6 = nn.Dropout(dropout)
        self.fc7 = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, 32, 32) images."""
        x = self.stage4(self.stage3(self.stage2(self.stage1(images))))
        x = self.dropout5(self.relu5(self.fc5(torch.flatten(x, 1))))
        x = self.dropout6(self.relu6(self.fc6(x)))
        logits: Tensor = self.fc7(x)
        return logits


def _stage(in_channels: int, channels: int, field: int, stacked: bool, norm: Norm) -> nn.Sequential:
    kernels = [3] * (field // 2) if stacked else [field]
    layers: list[nn.Module] = []
    for kernel in kernels:
        layers.append(nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU())
        in_channels = channels
    return nn.Sequential(*layers, nn.MaxPool2d(2))


@ZOO.register("vgg")
def vgg(
    num_classes: int = 10,
    in_channels: int = 3,
    field: int = 5,
    stacked: bool = True,
    width: int = 24,
    dropout: float = 0.5,
    norm: Norm = "none",
) -> nn.Module:
    """Stacks of 3×3 convolutions, or single 5×5 or 7×7 kernels for comparison."""
    return VGG(num_classes, in_channels, field, stacked, width, dropout, norm)
