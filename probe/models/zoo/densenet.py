"""DenseNet for 32×32 images: Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks",
2016.

Every layer of a block sees the maps of all layers before it, concatenated, and adds ``growth`` maps of its own.
With ``bottleneck`` a 1×1 convolution to 4 ``growth`` channels comes first, ``compression`` is the share of maps
that a transition between blocks keeps: DenseNet-BC has both. To try: ``probe ablate --remove dense`` removes the
connections to the older maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.source import ZOO


class DenseLayer(nn.Module):
    """Normalisation, ReLU, convolution (twice with ``bottleneck``); the new maps are appended to the input."""

    def __init__(self, in_channels: int, growth: int, bottleneck: bool, dropout: float) -> None:
        super().__init__()
        inner = 4 * growth
        layers: list[nn.Module] = []
        if bottleneck:
            layers += [
                nn.BatchNorm2d(in_channels),
                nn.ReLU(),
                nn.Conv2d(in_channels, inner, 1, bias=False),
            ]
            in_channels = inner
        layers += [
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, growth, 3, padding=1, bias=False),
        ]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        self.new = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, in_channels + growth, H, W)."""
        return torch.cat([x, self.new(x)], 1)


class DenseNet(nn.Module):
    """Three dense blocks with transitions between them, global average pooling and one dense layer.

    ``depth`` is 3n + 4 without and 6n + 4 with ``bottleneck``, ``growth`` the maps that a layer adds,
    0 < ``compression`` ≤ 1 the share of maps that a transition keeps, ``dropout`` the rate after every convolution.
    """

    def __init__(
        self,
        depth: int = 22,
        num_classes: int = 10,
        in_channels: int = 3,
        growth: int = 12,
        bottleneck: bool = True,
        compression: float = 0.5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        step = 6 if bottleneck else 3
        layers, rest = divmod(depth - 4, step)
        if rest or layers < 1:
            raise UsageError(
                f"A DenseNet {'with' if bottleneck else 'without'} bottleneck has {step}n + 4 layers "
                f"({', '.join(str(step * n + 4) for n in (1, 2, 3))}, …), not {depth}."
            )
        if not 0 < compression <= 1 or growth < 1:
            raise UsageError(
                f"A DenseNet's compression is above 0 and at most 1, its growth at least 1; "
                f"got {compression:g} and {growth}."
            )
        self.input_size = (in_channels, 32, 32)
        # Twice the growth rate for DenseNet-BC, 16 for the others, as published.
        channels = 2 * growth if bottleneck and compression < 1 else 16
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        after = [channels]
        for number in range(3):
            grown = after[-1] + layers * growth
            after.append(max(1, int(grown * compression)) if number < 2 else grown)

        def block(number: int) -> nn.Sequential:
            before = [after[number] + i * growth for i in range(layers)]
            return nn.Sequential(*(DenseLayer(maps, growth, bottleneck, dropout) for maps in before))

        def transition(number: int) -> nn.Sequential:
            grown = after[number] + layers * growth
            conv = nn.Conv2d(grown, after[number + 1], 1, bias=False)
            return nn.Sequential(nn.BatchNorm2d(grown), nn.ReLU(), conv, nn.AvgPool2d(2))

        self.block1, self.transition1 = block(0), transition(0)
        self.block2, self.transition2 = block(1), transition(1)
        self.block3, channels = block(2), after[-1]
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) for (N, in_channels, H, W) images."""
        x = self.transition1(self.block1(self.conv1(images)))
        x = self.block3(self.transition2(self.block2(x)))
        x = self.relu(self.norm(x))
        logits: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


@ZOO.register("densenet")
def densenet(
    depth: int = 22,
    num_classes: int = 10,
    in_channels: int = 3,
    growth: int = 12,
    bottleneck: bool = True,
    compression: float = 0.5,
    dropout: float = 0.0,
) -> nn.Module:
    """DenseNet-BC of any depth 6n + 4, or 3n + 4 without bottleneck."""
    return DenseNet(depth, num_classes, in_channels, growth, bottleneck, compression, dropout)
