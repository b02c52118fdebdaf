"""What the tests of attacks share: a small trained network on digits, and linear ones with known distances."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from probe.attacks.model import AttackedModel
from probe.attacks.norms import L1, L2, Linf, Norm
from probe.core.seeds import scoped

LINF, ONE, TWO = Linf(), L1(), L2()
DUAL = {"Linf": 1, "L2": 2, "L1": np.inf}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def _digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.images[:, None] / 16, dtype=torch.float32), torch.tensor(data.target)


@cache
def small_net() -> nn.Module:
    """A convolutional network on 8×8 digits, trained in about a second; in eval mode."""
    images, labels = (part[:1500] for part in _digits())
    with scoped(0, "small attacked network"), torch.enable_grad():
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(8):
            for rows in torch.randperm(len(images)).split(100):
                loss = F.cross_entropy(net(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        optimizer.zero_grad()
    return net.eval()


@cache
def unsure_net() -> nn.Module:
    """The same with logits a tenth as large: its cross-entropy has no gradients that float32 cannot tell."""
    net = copy.deepcopy(small_net())
    with torch.no_grad():
        net[-1].weight *= 0.1  # type: ignore[index,operator]
        net[-1].bias *= 0.1  # type: ignore[index,operator]
    return net


@cache
def small_batch(n: int = 20) -> tuple[Tensor, Tensor]:
    """Digits that the network was not trained on and has right."""
    images, labels = (part[1500:] for part in _digits())
    with torch.no_grad():
        right = (small_net()(images).argmax(1) == labels).nonzero()[:n, 0]
    return images[right].clone(), labels[right].clone()


class Linear(nn.Module):
    """Logits W·(x − 1/2) + b, with W (K, D)."""

    def __init__(self, weights: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.bias = nn.Parameter(torch.zeros(len(weights)) if bias is None else bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = (x.flatten(1) - 0.5) @ self.weights.T + self.bias
        return logits


@cache
def linear_scene(classes: int = 5, side: int = 4) -> tuple[AttackedModel, Tensor, Tensor]:
    """A linear network and 12 images well inside [0, 1] that it has right."""
    g = rng(7)
    module = Linear(torch.randn(classes, 3 * side * side, generator=g))
    images = 0.5 + 0.05 * torch.randn(12, 3, side, side, generator=g)
    model = AttackedModel(module)
    return model, images, model.verdict(images).argmax(1)


def distances(module: Linear, images: Tensor, labels: Tensor, norm: Norm) -> np.ndarray:
    """The distance to the boundary with each other class, (N, K), inf for the label; [0, 1] left aside, float64."""
    weights = module.weights.detach().double().numpy()
    bias = module.bias.detach().double().numpy()
    logits = (images.double().flatten(1).numpy() - 0.5) @ weights.T + bias
    result = np.full(logits.shape, np.inf)
    for i, y in enumerate(labels.tolist()):
        for k in range(len(weights)):
            if k != y:
                normal = weights[k] - weights[y]
                result[i, k] = (logits[i, y] - logits[i, k]) / np.linalg.norm(normal, DUAL[norm.name])
    return result


def between(values: np.ndarray) -> float:
    """A radius in the widest gap (in proportion) of the middle half of the sorted values, so that none is near it."""
    ordered = np.sort(values)[len(values) // 4 : -len(values) // 4]
    gap = (ordered[1:] / ordered[:-1]).argmax()
    return float(np.sqrt(ordered[gap] * ordered[gap + 1]))
