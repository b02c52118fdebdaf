"""Networks that mislead an evaluation in further ways, and sound ones: each alarm with its reason, no false ones."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.adversarial_networks import NoRunningStatistics, batch, trained
from torch import Tensor, nn

import probe
from probe.core.document import Check, Report


class Behind(nn.Module):
    """The trained network of the digits, behind or before something else."""

    def __init__(self) -> None:
        super().__init__()
        self.network = copy.deepcopy(trained())

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


class TrainsInside(Behind):
    def forward(self, x: Tensor) -> Tensor:
        self.train()
        return super().forward(x)


class MinusTheBatch(Behind):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True) / 2)


class QuantisedLogits(Behind):
    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) * 2).round() / 2


class QuantisedPixels(Behind):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.floor(x * 16) / 16)


class Oscillating(Behind):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.02 * torch.sin(2000 * x))


class NoisyLogits(Behind):
    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits + 2 * torch.randn_like(logits)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class ReversedGradient(Behind):
    def forward(self, x: Tensor) -> Tensor:
        reversed_: Tensor = _Reversed.apply(x)
        return super().forward(reversed_)


class GroupNorms(Behind):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.GroupNorm(1, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * self.pool(x).sum((1, 2, 3))[:, None]


class InstanceNorms(Behind):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * F.instance_norm(x).flatten(1)[:, :10]


def linear() -> nn.Module:
    weights = torch.linspace(-1, 1, 640).reshape(10, 64)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        network[1].weight.copy_(weights)  # type: ignore[union-attr, operator]
        network[1].bias.zero_()  # type: ignore[union-attr, operator]
    return network


def attacked(network: nn.Module, **how: Any) -> Report:
    images, labels = batch(n=16)
    model = probe.wrap(network.eval(), mean=0, std=1, input_size=(1, 8, 8))
    data = images if isinstance(network, nn.Sequential) else (images, labels)
    return probe.adversarial(model, data, **{"eps": 0.1, "views": ["curve"], **how})


def alarms(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks if check.status in ("warn", "fail")}


BROKEN = [
    (NoRunningStatistics, "Batch dependence", "without running statistics"),
    (TrainsInside, "Train mode", "do not call train\\(\\) inside forward"),
    (MinusTheBatch, "Batch dependence", "depends on the other images"),
    (QuantisedLogits, "Zero gradients", "cannot follow"),
    (QuantisedPixels, "Unstable predictions", "deterministic"),
    (Oscillating, "Unstable predictions", "oscillates"),
    (NoisyLogits, "Randomised forward", "average the gradients"),
    (ReversedGradient, "Gradient free", "points to masked gradients"),
]


@pytest.mark.parametrize(("kind", "check", "reason"), BROKEN)
def test_what_is_wrong_is_found_with_its_reason(kind: type[nn.Module], check: str, reason: str) -> None:
    report = attacked(kind())
    found = alarms(report)
    assert found[check].status == "fail"
    assert re.search(reason, found[check].detail)
    assert report.verdict.status == "fail"
    assert report.extra["verdict"]["reliable"] is False


@pytest.mark.parametrize("kind", [QuantisedLogits, QuantisedPixels, Oscillating, ReversedGradient])
def test_a_deterministic_network_is_not_called_random(kind: type[nn.Module]) -> None:
    assert not [
        name for name, check in alarms(attacked(kind())).items() if "random" in check.detail.split(":")[-1]
    ]


def test_for_a_random_network_no_other_cause_is_given() -> None:
    found = alarms(attacked(NoisyLogits()))
    causes = {name: check.detail for name, check in found.items() if name != "Randomised forward"}
    assert causes
    assert all("random" in detail for detail in causes.values())
    assert not any("reduced precision" in detail or "masked" in detail for detail in causes.values())


@pytest.mark.parametrize("kind", [Behind, GroupNorms, InstanceNorms, linear])
def test_sound_networks_raise_no_alarm(kind: Any) -> None:
    report = attacked(kind())
    assert alarms(report) == {}
    assert report.verdict.word == "Reliable"
    assert str(len(report.checks)) in report.verdict.why


def test_with_fewer_checks_nothing_is_called_reliable() -> None:
    images, labels = batch(n=8)
    model = probe.wrap(Behind().eval(), mean=0, std=1, input_size=(1, 8, 8))
    report = probe.adversarial(model, (images, labels), eps=0.1, views=["curve"], checks=["zero-epsilon"])
    assert report.verdict.word == "No fault found"
    assert "not made" in report.verdict.why
    assert report.extra["verdict"]["reliable"] is None
    assert not any("reliable" in line.lower() for line in report.headline)


@pytest.mark.parametrize(("norm", "eps"), [("L1", 1.5), ("L0", 3)])
def test_a_search_without_gradients_is_made_in_every_norm(norm: str, eps: float) -> None:
    # In L0 the search breaks one image that PGD does not, which is a reservation.
    assert attacked(GroupNorms(), eps=eps, norm=norm).verdict.word.startswith("Reliable")


def test_reversed_gradients_are_seen_in_l0() -> None:
    report = attacked(ReversedGradient(), eps=3, norm="L0")
    assert alarms(report)["Gradient free"].status == "fail"
    assert "square" not in alarms(report)["Gradient free"].detail
    assert report.verdict.status == "fail"
