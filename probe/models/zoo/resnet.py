"""Residual networks for 32×32 images: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015,
section 4.2 (version 1), and "Identity Mappings in Deep Residual Networks", 2016 (version 2).

A 3×3 convolution to 16 channels, three stages of n blocks, global average pooling and one dense layer: 6n + 2
layers with weights for basic blocks (16, 32 and 64 channels), 9n + 2 for bottlenecks (64, 128 and 256). Version
2 puts normalisation and ReLU in front of every convolution, so that the shortcuts pass values unchanged from the
first block to the last. To try: ``probe ablate --remove shortcut``, ``probe ablate --remove shortcut
--depths 8,20,56``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO

Option = Literal["A", "B"]
Kind = Literal["basic", "bottleneck"]


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


class BottleneckBlock(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with batch normalisation; the input is added before the last ReLU.

    The 3×3 convolution has a quarter of ``channels`` and the stride.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: bool, option: Option) -> None:
        super().__init__()
        inner = channels // 4
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride, option) if shortcut else None
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out: Tensor = self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
        out = self.bn3(self.conv3(out))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        activated: Tensor = self.relu3(out)
        return activated


class PreActivationBlock(nn.Module):
    """Version 2: normalisation and ReLU in front of each convolution; nothing comes after the addition.

    Where the shape changes, and in the network's first block, the shortcut starts after the first ReLU, as in the
    authors' code. Two 3×3 convolutions, or with ``bottleneck`` 1×1, 3×3 and 1×1 with a quarter of ``channels`` in
    between.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, shortcut: bool, option: Option, bottleneck: bool
    ) -> None:
        super().__init__()
        inner = channels // 4 if bottleneck else channels
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        at = 1 if bottleneck else 0  # the convolution that has the stride
        widths = [in_channels, *[inner] * (len(kernels) - 1), channels]
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        layers: list[nn.Module] = []
        for number, kernel in enumerate(kernels):
            if number:
                layers += [nn.BatchNorm2d(widths[number]), nn.ReLU()]
            step = stride if number == at else 1
            layers.append(
                nn.Conv2d(widths[number], widths[number + 1], kernel, step, kernel // 2, bias=False)
            )
        self.branch = nn.Sequential(*layers)
        self.clear = stride == 1 and in_channels == channels
        """Whether the shortcut passes the input unchanged: not where the shape changes, nor in the first block."""
        self.shortcut = _shortcut(in_channels, channels, stride, option, plain=True) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        ready = self.relu1(self.bn1(x))
        out: Tensor = self.branch(ready)
        if self.shortcut is not None:
            out = out + self.shortcut(x if self.clear else ready)
        return out


class ResNet(nn.Module):
    """CIFAR-style ResNet of ``depth`` = 6n + 2 layers (20, 32, 44, 56, 110, …), or 9n + 2 with bottlenecks.

    ``shortcut=False`` gives the plain network. ``option`` is the shortcut where the number of channels changes:
    A pads with zeros, as in the paper's CIFAR experiments, B projects by a 1×1 convolution with batch
    normalisation (in version 1). ``version`` is 1, or 2 for pre-activation; ``block`` is basic or bottleneck.
    Weights are drawn as in He et al., 2015 ("Delving Deep into Rectifiers"), by fan-out.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: bool = True,
        option: Option = "A",
        version: int = 1,
        block: Kind = "basic",
    ) -> None:
        super().__init__()
        blocks = _blocks(depth, block)
        if option not in ("A", "B"):
            raise UsageError(f"There is no shortcut option '{option}': write option=A or option=B.")
        if version not in (1, 2):
            raise UsageError(f"There is no version {version} of resnet: write version=1 or version=2.")
        widen = 4 if block == "bottleneck" else 1
        self.input_size = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16) if version == 1 else nn.Identity()
        self.relu = nn.ReLU() if version == 1 else nn.Identity()
        stages, before = [], 16
        for stride, channels in ((1, 16 * widen), (2, 32 * widen), (2, 64 * widen)):
            layers = [
                _block(version, block)(
                    channels if number else before, channels, 1 if number else stride, shortcut, option
                )
                for number in range(blocks)
            ]
            stages.append(nn.Sequential(*layers))
            before = channels
        first = stages[0][0]
        if isinstance(first, PreActivationBlock):
            first.clear = False  # the stem's output is normalised and rectified before the paths split
        self.layer1, self.layer2, self.layer3 = stages
        # In version 2 nothing has normalised the last sum yet.
        self.head = nn.Sequential(*([nn.BatchNorm2d(before), nn.ReLU()] if version == 2 else []))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, H, W) images."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.head(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _blocks(depth: int, block: Kind) -> int:
    """Return the number of blocks in each stage; raises UsageError for an invalid depth or block."""
    if block not in ("basic", "bottleneck"):
        raise UsageError(f"There is no block '{block}': write block=basic or block=bottleneck.")
    step, known = (6, "8, 14, 20, 26") if block == "basic" else (9, "11, 20, 29, 38")
    blocks, rest = divmod(depth - 2, step)
    if rest or blocks < 1:
        raise UsageError(
            f"A ResNet of {block} blocks for 32×32 images has {step}n + 2 layers ({known}, …), not {depth}."
        )
    return blocks


def _block(version: int, block: Kind) -> Callable[[int, int, int, bool, Option], nn.Module]:
    if version == 2:
        return partial(PreActivationBlock, bottleneck=block == "bottleneck")
    return BasicBlock if block == "basic" else BottleneckBlock


def _shortcut(in_channels: int, channels: int, stride: int, option: Option, plain: bool = False) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels, channels, stride)
    projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
    return projection if plain else nn.Sequential(projection, nn.BatchNorm2d(channels))


@ZOO.register("resnet")
def resnet(
    depth: int = 20,
    num_classes: int = 10,
    in_channels: int = 3,
    shortcut: bool = True,
    option: Option = "A",
    version: int = 1,
    block: Kind = "basic",
) -> nn.Module:
    """CIFAR-style ResNet of any depth 6n + 2 (9n + 2 for bottlenecks), version 1 or 2."""
    return ResNet(depth, num_classes, in_channels, shortcut, option, version, block)


@ZOO.register("resnet20")
def resnet20(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A", version: int = 1
) -> nn.Module:
    """CIFAR-style ResNet, 20 layers, 0.27 million parameters."""
    return ResNet(20, num_classes, in_channels, shortcut, option, version)


@ZOO.register("resnet32")
def resnet32(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A", version: int = 1
) -> nn.Module:
    """CIFAR-style ResNet, 32 layers, 0.46 million parameters."""
    return ResNet(32, num_classes, in_channels, shortcut, option, version)


@ZOO.register("resnet44")
def resnet44(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A", version: int = 1
) -> nn.Module:
    """CIFAR-style ResNet, 44 layers, 0.66 million parameters."""
    return ResNet(44, num_classes, in_channels, shortcut, option, version)


@ZOO.register("resnet56")
def resnet56(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A", version: int = 1
) -> nn.Module:
    """CIFAR-style ResNet, 56 layers, 0.85 million parameters."""
    return ResNet(56, num_classes, in_channels, shortcut, option, version)


@ZOO.register("resnet110")
def resnet110(
    num_classes: int = 10, in_channels: int = 3, shortcut: bool = True, option: Option = "A", version: int = 1
) -> nn.Module:
    """CIFAR-style ResNet, 110 layers, 1.7 million parameters."""
    return ResNet(110, num_classes, in_channels, shortcut, option, version)
