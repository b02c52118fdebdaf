"""Small networks that hold, one each, what attribution methods stumble over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def drawn(net: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Give a network normally distributed weights of unit gain, eval mode and frozen parameters."""
    source = torch.Generator().manual_seed(seed)
    net = net.to(dtype).eval().requires_grad_(False)
    for parameter in net.parameters():
        fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 10
        parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=dtype) * (2 / fan) ** 0.5)
    return net


def pixels(count: int = 3, side: int = 12, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images (count, 3, side, side + 2) in [0, 1]."""
    return torch.rand(count, 3, side, side + 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Residual(nn.Module):
    """One ReLU module used three times, a functional ReLU in place, a shortcut, overlapping max-pool, BN."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu(self.norm(self.first(x))), 3, 2, padding=1)
        x = self.relu(self.second(self.relu(x - 0.1)) + x)
        x = F.relu(x - 0.2, inplace=True)
        return self.fc(x.mean((2, 3)))


class Branches(nn.Module):
    """An inception block: a max-pool reads a tensor that other branches read too; the pool's input is linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3)
        self.left = nn.Conv2d(5, 4, 1)
        self.fc = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.cat([F.relu(self.left(x)), F.max_pool2d(x, 3, 1, 1)], 1)
        return self.fc(both.mean((2, 3)))


class Excited(nn.Module):
    """Squeeze-and-excitation between smooth activations: products of hidden tensors, SiLU, GELU, Hardswish, ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.squeeze = nn.Conv2d(6, 6, 1)
        self.body = nn.Conv2d(6, 6, 3)
        self.fc = nn.Linear(6, 4)
        self.act = nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        x = x * torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        x = F.relu6(4 * self.body(self.act(x)))
        return self.fc(F.gelu(x.mean((2, 3))))


class Moody(nn.Module):
    """Control flow that depends on the data, which no graph can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        if x.mean() > 0:
            x = x * 2
        return self.fc(x.mean((2, 3)))


class Smooth(nn.Module):
    """A network without kinks, so that quadrature converges fast."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.conv(x)).pow(2).mean((2, 3)))


def linear_network() -> nn.Module:
    """A linear map from (3, 12, 14) images to four logits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 14, 4))
