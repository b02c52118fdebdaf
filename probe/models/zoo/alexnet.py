"""AlexNet for small images: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional
Neural Networks", 2012.

Five convolutions, of which the first two are followed by local response normalisation, overlapping 3×3 max
pooling with stride 2, and dropout in front of the dense layers, as published; torchvision's AlexNet is a later
variant without the normalisation. Sizes are for 32×32 images.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO

Norm = Literal["lrn", "batch", "none"]


class AlexNet(nn.Module):
    """AlexNet with ``width`` channels in its first convolution.

    ``norm``: ``lrn`` as published (k = 2, n = 5, α = 1e-4, β = 0.75; PyTorch divides α by n, hence 5e-4 here),
    ``batch`` or ``none``. ``dropout`` is the rate in front of the two hidden dense layers, 0 for none.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        norm: Norm = "lrn",
        dropout: float = 0.5,
        width: int = 32,
    ) -> None:
        super().__init__()
        if norm not in ("lrn", "batch", "none"):
            raise UsageError(f"There is no norm '{norm}': write norm=lrn, norm=batch or norm=none.")
        self.input_size = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, width, 5, padding=2)
        self.norm1 = _norm(norm, width)
        self.conv2 = nn.Conv2d(width, 2 * width, 5, padding=2)
        self.norm2 = _norm(norm, 2 * width)
        self.conv3 = nn.Conv2d(2 * width, 3 * width, 3, padding=1)
        self.conv4 = nn.Conv2d(3 * width, 3 * width, 3, padding=1)
        self.conv5 = nn.Conv2d(3 * width, 2 * width, 3, padding=1)
        self.relu1, self.relu2, self.relu3, self.relu4, self.relu5 = (nn.ReLU() for _ in range(5))
        self.pool1, self.pool2, self.pool5 = (nn.MaxPool2d(3, 2, 1) for _ in range(3))
        self.dropout6 = nn.Dropout(dropout)
        self.fc6 = nn.Linear(2 * width * 16, 8 * width)
        self.dropout7 = nn.Dropout(dropout)
        self.relu6 = nn.ReLU()
        self.fc7 = nn.Linear(8 * width, 8 * width)
        self.relu7 = nn.ReLU()
        self.fc8 = nn.Linear(8 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, 32, 32) images."""
        x = self.pool1(self.norm1(self.relu1(self.conv1(images))))
        x = self.pool2(self.norm2(self.relu2(self.conv2(x))))
        x = self.relu4(self.conv4(self.relu3(self.conv3(x))))
        x = torch.flatten(self.pool5(self.relu5(self.conv5(x))), 1)
        x = self.relu6(self.fc6(self.dropout6(x)))
        x = self.relu7(self.fc7(self.dropout7(x)))
        logits: Tensor = self.fc8(x)
        return logits


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0) if norm == "lrn" else nn.Identity()


@ZOO.register("alexnet")
def alexnet(
    num_classes: int = 10, in_channels: int = 3, norm: Norm = "lrn", dropout: float = 0.5, width: int = 32
) -> nn.Module:
    """AlexNet of 2012 with local response normalisation and dropout, for 32×32 images."""
    return AlexNet(num_classes, in_channels, norm, dropout, width)
