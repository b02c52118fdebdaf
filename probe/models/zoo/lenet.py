"""LeNet-like baseline: two convolutions, each with pooling, then three dense layers.

After LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86, 1998, with ReLU in place of the scaled tanh, plain pooling without
trained coefficients, and a softmax classifier in place of the radial basis functions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO

Pooling = Literal["max", "average"]
_POOLINGS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


class LeNet(nn.Module):
    """LeNet-5's shape: 6 and 16 filters of 5×5, dense layers of 120 and 84, for 32×32 images."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, pooling: Pooling = "max") -> None:
        super().__init__()
        if pooling not in _POOLINGS:
            raise UsageError(f"lenet has no pooling '{pooling}': write pooling=max or pooling=average.")
        self.input_size = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.relu1 = nn.ReLU()
        self.pool1 = _POOLINGS[pooling](2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = _POOLINGS[pooling](2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, 32, 32) images."""
        x = self.pool1(self.relu1(self.conv1(images)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.fc3(self.relu4(self.fc2(x)))
        return logits


@ZOO.register("lenet")
def lenet(num_classes: int = 10, in_channels: int = 1, pooling: Pooling = "max") -> nn.Module:
    """LeNet-like baseline for 32×32 images; ``pooling`` is max or average."""
    return LeNet(num_classes, in_channels, pooling)
