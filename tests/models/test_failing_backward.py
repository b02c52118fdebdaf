"""A network whose backward pass fails is studied without gradients, and that is said; plain PyTorch counts the same accuracy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import probe
from probe.core.errors import CannotRunError


class Overwriting(nn.Module):
    """Changes in place what the gradient of the second convolution needs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.head = nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = self.relu(self.first(x))
        f = self.relu(f.add_(self.second(f)))
        return self.head(f.mean((2, 3)))  # type: ignore[no-any-return]


class _OneWay(torch.autograd.Function):
    @staticmethod
    def forward(_context: object, x: Tensor) -> Tensor:
        return x.round(decimals=2)

    @staticmethod
    def backward(_context: object, *_gradients: Tensor) -> Tensor:
        raise KeyError("no way back")


class OneWay(Overwriting):
    """Has an operation whose backward pass raises."""

    def forward(self, x: Tensor) -> Tensor:
        f = self.relu(self.first(_OneWay.apply(x)))
        return self.head(self.relu(self.second(f)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("network", [Overwriting, OneWay])
def test_every_study_runs_without_gradients(network: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = network().eval()
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 3  # three answers are wrong
    model = probe.wrap(net, input_size=(1, 8, 8), mean=0.0, std=1.0)
    assert any("backward pass" in note and "without gradients" in note for note in model.info().notes)

    images = probe.images(x, y)
    looked = probe.filters(model, images, views=["weights", "activations"])
    attacked = probe.adversarial(model, images, eps=0.3, attacks=["pgd", "square"], views=["attacks"])
    cut = probe.ablate(model, images, remove=["relu"], mode="lesion")
    assert (
        looked["accuracy"].value == attacked["clean_accuracy"].value == cut["intact_accuracy"].value == 0.75
    )
    warned = {check.name for check in attacked.checks if check.status in ("fail", "warn")}
    assert {"Zero gradients", "Unavailable gradients"} <= warned
    with pytest.raises(CannotRunError, match="backward pass"):
        probe.doctor(model, images, steps=2)
