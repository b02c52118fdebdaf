"""One network in several spellings, and one whose modules are each called twice."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Weights(nn.Module):
    """The layers with weights; subclasses spell the rest."""

    def __init__(self, exported: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            self.conv3 = nn.Conv2d(16, 6, 5, padding=2)
            self.fc1, self.fc2 = nn.Linear(6, 7), nn.Linear(7, 5)
            for norm in (self.bn1, self.bn2):
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0, 0.2)
        self.exported = exported

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; ``exported``: with a line that torch.fx cannot follow but torch.export can."""
        return self.logits(x * torch.ones(x.size(0), 1, 1, 1) if self.exported else x)

    def logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class AsModules(Weights):
    def __init__(self, exported: bool = False) -> None:
        super().__init__(exported)
        self.act1, self.act2, self.act3, self.act4 = nn.ReLU(), nn.ReLU(), nn.ReLU6(), nn.SiLU()
        self.lrn, self.pool1, self.pool2 = nn.LocalResponseNorm(3, k=2.0), nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.gap, self.drop1, self.drop2 = nn.AdaptiveAvgPool2d(1), nn.Dropout2d(0.3), nn.Dropout(0.4)
        self.flat = nn.Flatten()

    def logits(self, x: Tensor) -> Tensor:
        x = self.pool1(self.lrn(self.act1(self.bn1(self.conv1(x)))))
        y = self.act2(self.bn2(self.conv2(x)) + x)
        y = self.drop1(self.pool2(self.act3(self.conv3(torch.cat([x, y], 1)))))
        return self.fc2(self.drop2(self.act4(self.fc1(self.flat(self.gap(y))))))


class AsSequences(AsModules):
    """Nested in sequences, activations in place."""

    def __init__(self, exported: bool = False) -> None:
        super().__init__(exported)
        for act in (self.act1, self.act2, self.act3, self.act4):
            act.inplace = True
        self.stem = nn.Sequential(nn.Sequential(self.conv1, self.bn1, self.act1), self.lrn, self.pool1)
        self.branch = nn.Sequential(self.conv2, self.bn2)
        self.late = nn.Sequential(self.conv3, self.act3, nn.Sequential(self.pool2, self.drop1))
        self.classifier = nn.Sequential(self.gap, self.flat, self.fc1, self.act4, self.drop2, self.fc2)
        for name in [name for name, _ in self.named_children() if name not in _KEPT]:
            delattr(self, name)

    def logits(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.branch(x)
        y += x
        return self.classifier(self.late(torch.cat((x, self.act2(y)), dim=1)))


_KEPT = ("stem", "branch", "late", "classifier", "act2")


class AsFunctions(Weights):
    def logits(self, x: Tensor) -> Tensor:
        x = F.relu(_norm(F.conv2d(x, self.conv1.weight, self.conv1.bias, padding=1), self.bn1))
        x = F.max_pool2d(F.local_response_norm(x, 3, k=2.0), 2)
        y = torch.relu(torch.add(_norm(F.conv2d(x, self.conv2.weight, padding="same"), self.bn2), x))
        y = F.relu6(F.conv2d(torch.cat(tensors=(x, y), dim=1), self.conv3.weight, self.conv3.bias, 1, 2))
        y = F.dropout2d(F.avg_pool2d(y, 2), 0.3, self.training)
        y = F.adaptive_avg_pool2d(y, (1, 1)).view(-1, 6)
        y = F.dropout(F.silu(F.linear(y, self.fc1.weight, self.fc1.bias)), 0.4, self.training)
        return F.linear(y, self.fc2.weight, self.fc2.bias)


class AsMethods(Weights):
    def logits(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).clamp(min=0)
        x = F.max_pool2d(F.local_response_norm(x, 3, k=2.0), kernel_size=2)
        y = self.bn2(self.conv2(x)).add(x).relu()
        y = self.conv3(torch.hstack([x, y])).clamp(0, 6)
        y = F.dropout2d(F.avg_pool2d(y, (2, 2)), training=self.training, p=0.3)
        y = self.fc1(y.mean((2, 3)))
        return self.fc2(F.dropout(y * y.sigmoid(), 0.4, self.training))


class InPlace(Weights):
    def logits(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu_()
        x = torch.max_pool2d(F.local_response_norm(x, 3, k=2.0), 2)
        y = self.bn2(self.conv2(x))
        y = operator.iadd(y, x)
        y = y.clamp_(min=0)
        y = F.hardtanh_(self.conv3(torch.concat([x, y], -3)), 0.0, 6.0)
        y = F.dropout2d(F.avg_pool2d(y, 2), 0.3, self.training, inplace=True)
        y = F.silu(self.fc1(F.avg_pool2d(y, y.shape[2:]).flatten(1)), inplace=True)
        return self.fc2(F.dropout(y, 0.4, self.training, inplace=True))


class AsParameters(Weights):
    """The weights are the network's own, without layers; one ReLU serves twice."""

    def __init__(self, exported: bool = False) -> None:
        super().__init__(exported)
        for name, layer in list(self.named_children()):
            for key, value in (*layer.named_parameters(), *layer.named_buffers()):
                if isinstance(value, nn.Parameter):
                    self.register_parameter(f"{name}_{key}", value)
                else:
                    self.register_buffer(f"{name}_{key}", value)
            delattr(self, name)
        self.relu = nn.ReLU()

    def logits(self, x: Tensor) -> Tensor:
        x = self.relu(self._norm(F.conv2d(x, self.conv1_weight, self.conv1_bias, 1, 1), "bn1"))
        square = x.pow(2).unsqueeze(1)
        mean = F.avg_pool3d(F.pad(square, (0, 0, 0, 0, 1, 1)), (3, 1, 1), stride=1).squeeze(1)
        x = F.max_pool2d(x / (mean * 1e-4 + 2.0).pow(0.75), 2, 2)
        y = self.relu(self._norm(F.conv2d(x, self.conv2_weight, None, 1, 1), "bn2").add_(x))
        y = F.conv2d(torch.concatenate([x, y], axis=1), self.conv3_weight, self.conv3_bias, padding=2)
        y = torch.clamp(torch.clamp(y, min=0), max=6)
        y = F.dropout2d(F.avg_pool2d(y, 2, 2), 0.3, self.training)
        y = F.linear(y.flatten(2).mean(-1), self.fc1_weight, self.fc1_bias)
        y = torch.dropout(torch.sigmoid(y) * y, 0.4, self.training)
        return F.linear(y, self.fc2_weight, self.fc2_bias)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        mean, var = getattr(self, f"{name}_running_mean"), getattr(self, f"{name}_running_var")
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        return F.batch_norm(x, mean, var, weight, bias, self.training)


def _norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training)


SPELLINGS: tuple[Callable[..., Weights], ...] = (
    AsModules,
    AsSequences,
    AsFunctions,
    AsMethods,
    InPlace,
    AsParameters,
)


class Twice(nn.Module):
    """One module of each kind that is called twice, the second time by the same name or by another one.

    ``without`` says what is left out (a structure's name), and ``calls`` at which of the two calls. ``spelling`` is
    ``fx``, ``export`` or ``none``: what can make a graph of it.
    """

    def __init__(
        self, spelling: str = "fx", alias: bool = False, without: str = "", calls: tuple[int, ...] = (0, 1)
    ) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(6)
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.norm.running_mean.normal_(0, 0.2)
            self.norm.running_var.uniform_(0.5, 1.5)
            self.relu, self.lrn, self.pool = (
                nn.ReLU(inplace=True),
                nn.LocalResponseNorm(3, alpha=1.0),
                nn.MaxPool2d(2),
            )
            self.drop, self.fc, self.head = nn.Dropout(0.4), nn.Linear(4, 4), nn.Linear(4, 3)
        if alias:
            self.again = nn.ModuleDict(dict(self.named_children()))
        self.spelling, self.alias, self.without, self.calls = spelling, alias, without, calls

    def forward(self, x: Tensor) -> Tensor:
        if self.spelling == "export":
            x = x * torch.ones(x.size(0), 1, 1, 1)
        if self.spelling == "none" and float(x.detach().sum()) < -1e9:
            x = x * 2
        for call in (0, 1):
            x = self._block(x, call)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        for call in (0, 1):
            x = self._layer(x, "fc", call)
        return self.head(x) if self.without != "bias" else F.linear(x, self.head.weight)

    def _block(self, x: Tensor, call: int) -> Tensor:
        y = self._layer(x, "conv", call)
        for name in ("norm", "relu", "lrn", "pool", "drop"):
            y = self._layer(y, name, call)
        return y

    def _layer(self, x: Tensor, name: str, call: int) -> Tensor:
        layer = self.again[name] if self.alias and call else getattr(self, name)
        if call not in self.calls:
            return layer(x)
        if self.without == "pool" and name == "pool":
            return F.avg_pool2d(x, 2)
        if self.without == "bias" and name in ("conv", "fc"):
            return F.conv2d(x, layer.weight, padding=1) if name == "conv" else F.linear(x, layer.weight)
        same = {"layer": "conv", "dropout": "drop"}.get(self.without, self.without)
        return x if name == same else layer(x)
