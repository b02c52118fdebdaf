"""Residual networks for 32×32 images, version 1: He, Zhang, Ren and Sun, "Deep Residual Learning for
Image Recognition", 2015, section 4.2.

A 3×3 convolution to 16 channels, three stages of n basic blocks with 16, 32 and 64 channels, global average
pooling and one dense layer: 6n + 2 layers with weights.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO

Option = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A: the identity, subsampled by ``stride`` and padded with zero channels; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        extra = out_channels - in_channels
        self.before, self.after = extra // 2, extra - extra // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation; the input is added before the last ReLU.

    With ``shortcut=False`` nothing is added: a plain block with the same parameters (option A).
    """

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: bool, option: Option) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride, option) if shortcut else None
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out: Tensor = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        activated: Tensor = self.relu2(out)
        return activated


class ResNet(nn.Module):
    """CIFAR-style ResNet of ``depth`` = 6n + 2 layers (20, 32, 44, 56, 110, …).

    ``shortcut=False`` gives the plain network. ``option`` is the shortcut where the number of channels
    changes: A pads with zeros, as in the paper's CIFAR experiments, B projects by a 1×1 convolution with
    batch normalisation. Weights are drawn as in He et al., 2015 ("Delving Deep into Rectifiers"), by fan-out.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: bool = True,
        option: Option = "A",
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise UsageError(f"A ResNet for 32×32 images has 6n + 2 layers (8, 14, 20, 26, …), not {depth}.")
        if option not in ("A", "B"):
            raise UsageError(f"There is no shortcut option '{option}': write option=A or option=B.")
        self.input_size = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, 1, blocks, shortcut, option)
        self.layer2 = _stage(16, 32, 2, blocks, shortcut, option)
        self.layer3 = _stage(32, 64, 2, blocks, shortcut, option)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, H, W) images."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _shortcut(in_channels: int, channels: int, stride: int, option: Option) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels, channels, stride)
    projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(channels))


def _stage(
    in_channels: int, channels: int, stride: int, blocks: int, shortcut: bool, option: Option
) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, shortcut, option)
    rest = [BasicBlock(channels, channels, 1, shortcut, option) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


@ZOO.register("resnet")
def resnet(
    depth: int = 20, num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A"
) -> nn.Module:
    """CIFAR-style ResNet of any depth 6n + 2."""
    return ResNet(depth, num_classes, in_channels, shortcut, option)


@ZOO.register("resnet20")
def resnet20(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A"
) -> nn.Module:
    """CIFAR-style ResNet, 20 layers, 0.27 million parameters."""
    return ResNet(20, num_classes, in_channels, shortcut, option)


@ZOO.register("resnet32")
def resnet32(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A"
) -> nn.Module:
    """CIFAR-style ResNet, 32 layers, 0.46 million parameters."""
    return ResNet(32, num_classes, in_channels, shortcut, option)


@ZOO.register("resnet44")
def resnet44(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A"
) -> nn.Module:
    """CIFAR-style ResNet, 44 layers, 0.66 million parameters."""
    return ResNet(44, num_classes, in_channels, shortcut, option)


@ZOO.register("resnet56")
def resnet56(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A"
) -> nn.Module:
    """CIFAR-style ResNet, 56 layers, 0.85 million parameters."""
    return ResNet(56, num_classes, in_channels, shortcut, option)


@ZOO.register("resnet110")
def resnet110(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A"
) -> nn.Module:
    """CIFAR-style ResNet, 110 layers, 1.7 million parameters."""
    return ResNet(110, num_classes, in_channels, shortcut, option)
