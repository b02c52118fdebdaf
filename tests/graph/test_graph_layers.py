from __future__ import annotations

import pytest
import torch
from helpers import graph_networks as nets
from torch import Tensor, nn

from probe.core.state import fingerprint
from probe.graph.trace.layers import LayerInfo, convolutions, feature_layers, last_map_layer, stages


def test_layers_come_in_the_order_in_which_they_finish_last() -> None:
    network, example = nets.seeded(nets.Plain).train(), nets.images(2, 16)
    before, kept = fingerprint(network), example.clone()
    found = {info.name: (info.shape, info.kind, info.depth) for info in feature_layers(network, example)}
    assert list(found) == ["conv1", "bn1", "relu", "conv2", "body.0", "body.1", "body"]
    assert found["body.0"] == ((8, 3, 3), "Conv2d", 2)
    assert found["body"] == ((8, 3, 3), "Sequential", 1)
    assert fingerprint(network) == before
    assert torch.equal(example, kept)


def test_convolutions_are_the_networks_own() -> None:
    network = nets.seeded(nets.Plain)
    found = convolutions(network, nets.images(2, 16))
    assert [(conv.name, conv.shape) for conv in found] == [
        ("conv1", (6, 16, 16)),
        ("conv2", (6, 16, 16)),
        ("body.0", (8, 3, 3)),
    ]
    assert all(conv.module is network.get_submodule(conv.name) for conv in found)


def test_outputs_that_are_no_maps_are_left_out() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1)

    class Scores(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(-1, 1, 4, 4)

    network = nn.Sequential(nn.Conv2d(3, 5, 1), Last(), Scores())
    assert [info.name for info in feature_layers(network, nets.images(2, 16))] == ["0"]


def test_the_last_map_is_larger_than_a_pixel() -> None:
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.pool = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.act(self.conv(self.act(x))))

    network = Reused().train()
    before = fingerprint(network)
    assert last_map_layer(network, nets.images(2, 16)) == "act"
    assert last_map_layer(nn.Sequential(nn.Flatten()), nets.images(2, 16)) == ""
    assert fingerprint(network) == before


def test_an_error_in_the_forward_pass_leaves_the_network_alone() -> None:
    network = nets.Raises()
    before = fingerprint(network)
    for function in (feature_layers, convolutions, last_map_layer):
        with pytest.raises(RuntimeError, match="broken network"):
            function(network, nets.images())
    assert fingerprint(network) == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ("relu", "layer1", "layer2", "layer3", "layer4")),
        ("resnet50", ("relu", "layer1", "layer2", "layer3", "layer4")),
        ("vgg11", ("features.1", "features.4", "features.9", "features.14", "features.19")),
    ],
)
def test_stages_of_known_networks(name: str, expected: tuple[str, ...]) -> None:
    from torchvision import models

    network = models.get_model(name, weights=None)
    assert stages(feature_layers(network, nets.images(1, 64))) == expected


def infos(*layers: tuple[str, int, str]) -> list[LayerInfo]:
    return [LayerInfo(name, (4, size, size), kind, name.count(".") + 1) for name, size, kind in layers]


def test_first_and_last_stage_are_always_chosen() -> None:
    layers = infos(*[(f"stage{i}", 64 >> i, "Block") for i in range(6)])
    assert stages(layers, most=2) == ("stage0", "stage5")
    assert stages(layers, most=6) == tuple(f"stage{i}" for i in range(6))
    chosen = stages(layers, most=4)
    assert len(set(chosen)) == 4
    assert (chosen[0], chosen[-1]) == ("stage0", "stage5")


def test_poolings_and_global_maps_are_no_stages() -> None:
    layers = infos(("a", 32, "Conv2d"), ("pool", 16, "MaxPool2d"), ("b", 8, "Conv2d"), ("c", 1, "Conv2d"))
    assert stages(layers) == ("a", "b")


def test_sizes_that_differ_by_padding_are_one_stage() -> None:
    assert stages(infos(("a", 149, "Conv2d"), ("b", 147, "Conv2d"), ("c", 73, "Conv2d"))) == ("b", "c")


def test_one_resolution_is_sampled_evenly() -> None:
    blocks = [(f"blocks.{i}", 8, "Block") for i in range(9)]
    layers = infos(*blocks, ("blocks", 8, "Sequential"))
    assert stages(layers, most=3) == ("blocks.0", "blocks.4", "blocks.8")
