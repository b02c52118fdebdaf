"""A small network, its weights drawn anew, and the digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A small network with batch normalisation, for files of weights."""

    def __init__(self, num_classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def random_state(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of the network's shapes, every value drawn anew (variances positive)."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator) * 0.1
            state[key] = drawn.abs() + 0.5 if "var" in key else drawn
        else:
            state[key] = value.clone()
    return state


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
