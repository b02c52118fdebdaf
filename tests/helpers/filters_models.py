"""Small loaded models and image sets, made by hand, for the tests of the filters study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from probe.core.seeds import generator, scoped
from probe.data.images import ImageSet, InputSpec, Item
from probe.models.loaded import LoadedModel, PixelModel, Provenance


class SmallNet(nn.Module):
    """Two convolutions with norm, a reused in-place ReLU and a pool; three classes."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm1(self.conv1(x))))
        return self.fc(self.relu(self.conv2(x)).mean((2, 3)))


def loaded(
    network: nn.Module | None = None, size: tuple[int, int, int] = (3, 16, 16), classes: int = 3
) -> LoadedModel:
    """Wrap a network as the loading layer does, without loading anything."""
    with scoped(0):
        network = network or SmallNet(size[0])
    module = PixelModel(network, (0.5,) * size[0], (0.5,) * size[0]).eval().requires_grad_(False)
    return LoadedModel(
        name="small",
        module=module,
        input=InputSpec(size, crop=1.0),
        num_classes=classes,
        class_names=tuple(f"class {i}" for i in range(classes)),
        domain="unknown",
        device=torch.device("cpu"),
        memory_format=torch.contiguous_format,
        provenance=Provenance("test", "random"),
        factory=lambda: SmallNet(size[0]),
    )


def pictures(count: int, side: int = 16, labels: Sequence[int] | None = None, classes: int = 3) -> ImageSet:
    """Make images of seeded noise; labelled when labels are given."""
    noise = torch.rand((count, side, side, 3), generator=generator(1, "pictures"))
    pixels = (noise * 255).byte().numpy().astype(np.uint8)

    def item(i: int) -> Item:
        return Item(f"picture {i}", None if labels is None else labels[i], lambda: Image.fromarray(pixels[i]))

    names = tuple(f"class {i}" for i in range(classes)) if labels is not None else None
    return ImageSet("noise", [item(i) for i in range(count)], names, "unknown", framed=True)
