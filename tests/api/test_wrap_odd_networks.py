"""Networks in memory that are quantised, scripted, or have a batch size written into them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import probe
from probe.core.errors import CannotRunError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch deprecates both quantisation and TorchScript


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return nn.Sequential(*layers).eval()


def dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear})


def static() -> nn.Module:
    from torch.ao import quantization

    torch.backends.quantized.engine = "fbgemm"
    net = nn.Sequential(quantization.QuantStub(), plain(), quantization.DeQuantStub()).eval()
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    quantization.prepare(net, inplace=True)
    net(torch.rand(4, 3, 16, 16))
    quantization.convert(net, inplace=True)
    return net


@pytest.mark.parametrize("make", [dynamic, static])
def test_a_quantised_network_is_refused_with_what_to_give_instead(make: object) -> None:
    before = torch.backends.quantized.engine
    try:
        net = make()
        with pytest.raises(CannotRunError, match=r"quantised.*float32.*before convert"):
            probe.wrap(net)
    finally:
        torch.backends.quantized.engine = before


@pytest.mark.parametrize(
    "script", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(1, 3, 16, 16))]
)
def test_torchscript_in_memory_can_be_attacked(script: object) -> None:
    net, x = script(plain()), torch.rand(33, 3, 16, 16)
    y = torch.arange(33) % 4
    report = probe.adversarial(
        probe.wrap(net), probe.images(x, y), eps=0.01, steps=2, views=["attacks"], checks=[]
    )
    expected = (plain()(x).argmax(1) == y).float().mean().item()
    assert report["clean_accuracy"].value == pytest.approx(expected)
    assert all(parameter.requires_grad for parameter in net.parameters())


class _OnlyTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = plain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).view(2, 4)


def test_a_batch_size_of_two_that_is_written_in_is_named() -> None:
    with pytest.raises(CannotRunError, match=r"only batches of 2 images.*dynamic"):
        probe.wrap(_OnlyTwo())
    exported = torch.export.export(plain(), (torch.rand(2, 3, 16, 16),)).module()
    with pytest.raises(CannotRunError, match=r"only batches of 2 images.*dynamic_shapes"):
        probe.wrap(copy.deepcopy(exported), input_size=16)
