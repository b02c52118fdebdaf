"""Small networks with known structures, each with a twin written by hand without one of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def image(n: int = 2, channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand((n, channels, size, size), generator=torch.Generator().manual_seed(seed))


def random_statistics(module: nn.Module, seed: int = 1) -> nn.Module:
    """Give norms statistics that are not 0 and 1, so that cutting them shows."""
    draw = torch.Generator().manual_seed(seed)
    for sub in module.modules():
        if isinstance(sub, nn.BatchNorm2d):
            sub.running_mean.copy_(torch.randn(sub.num_features, generator=draw) * 0.1)
            sub.running_var.copy_(torch.rand(sub.num_features, generator=draw) + 0.5)
    return module.eval()


class Block(nn.Module):
    """A bottleneck-free residual block; ``first`` says which operand of the addition the shortcut is."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, first: bool = False, plain: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else None
        self.first, self.plain = first, plain

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if not self.plain:
            short = x if self.down is None else self.down(x)
            if self.first:
                y = short + y
            else:
                y += short
        return F.relu(y)


class Residual(nn.Module):
    """Identity and projection shortcuts, as either operand, in place and not."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = Block(8, 8, plain=plain)
        self.b = Block(8, 8, first=True, plain=plain)
        self.c = Block(8, 12, 2, plain=plain)
        self.d = Block(12, 12, 2, first=True, plain=plain)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.d(self.c(self.b(self.a(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


class Gated(nn.Module):
    """A shortcut beside a branch with squeeze-and-excitation."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)
        self.fc = nn.Linear(8, 5)
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.conv(x)
        if not self.plain:
            gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
            y = y * gate
        return self.fc((x + y).mean((2, 3)))


class Dense(nn.Module):
    """Three layers that see all earlier maps; plain, each sees the newest only."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(4 * (k + 1), 4, 3, padding=1) for k in range(3))
        self.fc = nn.Linear(16, 5)
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        maps = [F.relu(self.stem(x))]
        for layer in self.layers:
            maps.append(F.relu(layer(self._joined(maps))))
        return self.fc(self._joined(maps).mean((2, 3)))

    def _joined(self, maps: list[Tensor]) -> Tensor:
        if self.plain:
            maps = [torch.zeros_like(each) for each in maps[:-1]] + maps[-1:]
        return torch.cat(maps, 1)


class Inception(nn.Module):
    """Two modules of three arms; ``without`` names an arm of the second module that is left out."""

    def __init__(self, without: str = "") -> None:
        super().__init__()
        self.first = Arms(3)
        self.second = Arms(12, without)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(x)).mean((2, 3)))


class Arms(nn.Module):
    def __init__(self, inputs: int, without: str = "") -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, 4, 1)
        self.three = nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, 4, 1))
        self.without = without

    def forward(self, x: Tensor) -> Tensor:
        arms = {"one": self.one(x), "three": self.three(x), "pool": self.pool(x)}
        if self.without:
            arms[self.without] = torch.zeros_like(arms[self.without])
        return torch.cat(list(arms.values()), dim=1)


class Plain(nn.Module):
    """Norm, LRN as module and function, dropout as module and function, bias, pooling."""

    def __init__(self, without: str = "") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.lrn = nn.LocalResponseNorm(5, k=2.0)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(8, 5)
        self.without = without

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x if self.without == "norm" else self.bn(x)
        x = x if self.without == "relu" else F.relu(x)
        x = x if self.without == "lrn" else self.lrn(x)
        x = F.avg_pool2d(x, 2) if self.without == "pool" else self.pool(x)
        x = x if self.without == "layer" else self.conv2(x)
        x = x if self.without == "relu" else F.relu(x)
        x = x if self.without == "lrn" else F.local_response_norm(x, 3)
        x = x.mean((2, 3)) if self.without == "pool" else x.amax((2, 3))
        x = x if self.without == "dropout" else self.drop(x)
        if self.without != "dropout":
            x = F.dropout(x, 0.3, self.training)
        return self.fc(x)
