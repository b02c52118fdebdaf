"""Small networks, each with one thing that makes graphs hard."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """Functional activations and pooling, a reused ReLU, a reused convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2), nn.ReLU6(inplace=True))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(x)
        y += x
        y = F.max_pool2d(F.relu(self.conv2(self.relu(y))), 2)
        y = self.body(y)
        y = F.dropout(y, 0.5, self.training)
        return self.fc(F.adaptive_avg_pool2d(y, 1).flatten(1))


class LateChange(nn.Module):
    """A value that is changed in place after it was read under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.bn(self.conv(x))
        kept2 = kept
        kept2 *= 2.0
        kept[:, 1] = 0.5
        self.act(kept)
        return self.last(kept) + kept2.mean()


class ChangedInput(nn.Module):
    """Works in place on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        x.mul_(2.0)
        return self.conv(x)


class Branching(nn.Module):
    """Decides by the values of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.first(x)))
        if x.mean() > 0:  # the line that cannot be traced
            x = x + 1
        return self.last(x)


class SizeDependent(nn.Module):
    """Decides by sizes: pads odd maps, checks the rank, iterates over rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        assert x.shape[1] == 3
        x = self.conv(x)
        if x.shape[-1] % 2:
            x = F.pad(x, (0, 1, 0, 1))
        n, c, h, w = x.shape
        scale = sum(1.0 / (row + 1) for row in range(h))
        return (x * scale).view(n, c, -1).mean(2) * int(w / 2)


class RankOnly(nn.Module):
    """Asks for the number of dimensions only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError("images only")
        return self.conv(x).flatten(1)


class BatchDependent(nn.Module):
    """Loops over the images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.conv(x[i : i + 1]).mean() for i in range(len(x))])


class Raises(nn.Module):
    """Raises in the middle of its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        raise RuntimeError("broken network")


class SideEffects(nn.Module):
    """Counts calls in a buffer, keeps its last input, draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last_input = x
        return self.conv(x) + 0 * torch.rand(1).item()


class Constants(nn.Module):
    """Uses tensors that are not parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x - self.mean) * torch.tensor(2.0)


class Several(nn.Module):
    """Has a part that gives a pair, a part that is never called, and a part with two names."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.unused = nn.Conv2d(3, 3, 1)
        self.tail = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5))
        self.alias = self.tail

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first, second = self.pair(x)
        return {"out": self.tail(first), "aux": second}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


class Functions(nn.Module):
    """Applies one function to a convolution's output."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return operator.add(self.function(self.conv(x)), 1)


class Gate(nn.Module):
    """A squeeze-and-excitation gate, written as its authors do, with ``expand_as``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        y = torch.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1).view(n, c))).view(n, c, 1, 1)
        return x * y.expand_as(x)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Make a network with weights, biases and batch statistics that are all different, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        for sub in network.modules():
            if isinstance(sub, nn.BatchNorm2d):
                nn.init.uniform_(sub.running_mean, -0.2, 0.2)
                nn.init.uniform_(sub.running_var, 0.5, 1.5)
                nn.init.uniform_(sub.weight, 0.5, 1.5)
                nn.init.uniform_(sub.bias, -0.3, 0.3)
    return network.eval()


def images(n: int = 2, size: int | tuple[int, int] = 16, seed: int = 1) -> Tensor:
    """Draw images in [0, 1]."""
    height, width = (size, size) if isinstance(size, int) else size
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))
