"""ResNeXt for 32×32 images: Xie, Girshick, Dollár, Tu and He, "Aggregated Residual Transformations for Deep Neural
Networks", 2016.

A bottleneck block whose 3×3 convolution is grouped: ``cardinality`` parallel transformations of the same shape,
which are added to the shortcut. Every block with C groups multiplies the number of paths through the
network by 1 + C, where a ResNet's block multiplies it by 2: depth is the exponent, cardinality the base. To
try: ``probe anatomy --compare "resnext?cardinality=1&width=32,resnext?cardinality=8"``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO


class ResNeXtBlock(nn.Module):
    """1×1, grouped 3×3 and 1×1 convolutions with batch normalisation; the input is added before the last ReLU."""

    def __init__(
        self, in_channels: int, inner: int, channels: int, stride: int, cardinality: int, shortcut: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride) if shortcut else None
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out: Tensor = self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
        out = self.bn3(self.conv3(out))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        activated: Tensor = self.relu3(out)
        return activated


class ResNeXt(nn.Module):
    """ResNeXt of ``depth`` = 9n + 2 layers: three stages of n blocks with 1, 2 and 4 times ``channels``.

    ``cardinality`` groups of ``width`` channels in the first stage, twice and four times as wide in the next
    ones (the paper's ResNeXt-29 for CIFAR has 8 groups of 64, and 256 ``channels``). ``shortcut=False`` gives
    the plain network.
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        in_channels: int = 3,
        cardinality: int = 8,
        width: int = 4,
        channels: int = 64,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 9)
        if rest or blocks < 1:
            raise UsageError(f"A ResNeXt for 32×32 images has 9n + 2 layers (11, 20, 29, …), not {depth}.")
        if cardinality < 1 or width < 1:
            raise UsageError("A ResNeXt has at least one group of one channel: write cardinality=8&width=4.")
        self.input_size = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        stages, before = [], 64
        for stage, outputs in enumerate((channels, 2 * channels, 4 * channels)):
            inner = cardinality * width * 2**stage
            layers = [
                ResNeXtBlock(
                    outputs if number else before,
                    inner,
                    outputs,
                    2 if stage and not number else 1,
                    cardinality,
                    shortcut,
                )
                for number in range(blocks)
            ]
            stages.append(nn.Sequential(*layers))
            before = outputs
        self.layer1, self.layer2, self.layer3 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, H, W) images."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(channels))


@ZOO.register("resnext")
def resnext(
    depth: int = 20,
    num_classes: int = 10,
    in_channels: int = 3,
    cardinality: int = 8,
    width: int = 4,
    channels: int = 64,
    shortcut: bool = True,
) -> nn.Module:
    """Residual blocks of ``cardinality`` parallel groups, any depth 9n + 2."""
    return ResNeXt(depth, num_classes, in_channels, cardinality, width, channels, shortcut)
