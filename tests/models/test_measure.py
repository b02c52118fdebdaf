from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from probe.core.errors import CannotRunError
from probe.core.state import fingerprint
from probe.models.first_pass import ShapeError
from probe.models.measure import choose_memory_format, first_channels, framing_of, measure
from probe.models.zoo.lenet import LeNet
from probe.models.zoo.resnet import ResNet


def test_macs_of_lenet_by_hand() -> None:
    by_hand = 6 * 28 * 28 * 25 + 16 * 10 * 10 * 25 * 6 + 400 * 120 + 120 * 84 + 84 * 10
    facts = measure(LeNet(), (1, 32, 32), "lenet")
    assert facts.macs == by_hand
    assert facts.num_classes == 10
    convolutions = 6 * 28 * 28 * 25 + 16 * 10 * 10 * 25 * 6
    assert facts.convolution_share == pytest.approx(convolutions / by_hand)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_macs_are_those_that_torchvision_publishes(name: str) -> None:
    """torchvision's weights carry GMACs counted by its own tool."""
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]
    facts = measure(torchvision.models.get_model(name), (3, 224, 224), name)
    assert facts.macs / 1e9 == pytest.approx(published, abs=0.002)


def test_macs_of_a_resnet20_by_hand() -> None:
    first = 32 * 32 * 16 * 27 + 6 * 32 * 32 * 16 * 16 * 9
    later = 16 * 16 * (16 * 32 + 5 * 32 * 32) * 9 + 8 * 8 * (32 * 64 + 5 * 64 * 64) * 9
    assert measure(ResNet(20), (3, 32, 32), "resnet20").macs == first + later + 64 * 10


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = torchvision.models.resnet18().train()
    before = fingerprint(network)
    measure(network, (3, 64, 64), "resnet18")
    assert fingerprint(network) == before


def test_a_size_that_is_too_small() -> None:
    with pytest.raises(ShapeError, match=r"3×40×40.*--img-size"):
        measure(torchvision.models.inception_v3(init_weights=False), (3, 40, 40), "inception_v3")
    with pytest.raises(ShapeError, match="1×32×32"):
        measure(ResNet(20), (1, 32, 32), "resnet20")


def test_no_parameters_at_all() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    facts = measure(Mean(), (3, 8, 8), "mean")
    assert (facts.num_classes, facts.macs, facts.convolution_share) == (3, 0, 0.0)


def test_an_error_of_probe_itself_is_not_wrapped() -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise CannotRunError("mine")

    with pytest.raises(CannotRunError, match=r"^mine$"):
        measure(Own(), (3, 8, 8), "own")


def test_layouts_are_a_rule() -> None:
    facts = measure(ResNet(20), (3, 32, 32), "resnet20")
    assert choose_memory_format(facts, torch.device("cpu")) == torch.channels_last
    assert choose_memory_format(facts, torch.device("cuda")) == torch.contiguous_format
    dense = measure(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2), "dense")
    assert choose_memory_format(dense, torch.device("cpu")) == torch.contiguous_format


def test_framing_read_off_a_network() -> None:
    assert first_channels(LeNet()) == 1
    assert first_channels(nn.Linear(2, 2)) == 3
    assert framing_of(ResNet(20, in_channels=1))[0].input.size == (1, 32, 32)
