from __future__ import annotations

import pytest
import torch
from helpers import graph_networks as nets
from torch import Tensor, nn

from probe.core.state import captured, fingerprint
from probe.graph.edit.rewrite import hidden_activations, modular
from probe.graph.edit.truncate import truncate
from probe.graph.receptive_field.field import receptive_field
from probe.graph.trace.layers import feature_layers, stages
from probe.graph.trace.trace import trace

QUICK = [
    "torchvision:resnet18",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:squeezenet1_1",
    "timm:tf_efficientnet_lite0",
    "timm:resnet10t",
]
THOROUGH = [
    *(
        f"torchvision:{name}"
        for name in (
            "resnet50", "vgg11", "densenet121", "googlenet", "inception_v3", "convnext_tiny", "efficientnet_b0",
            "regnet_y_400mf", "alexnet",
        )
    ),
    *(f"timm:{name}" for name in ("mobilenetv4_conv_small", "repvgg_a0", "convnext_atto", "densenet121")),
]  # fmt: skip


def build(source: str) -> nn.Module:
    library, _, name = source.partition(":")
    if library == "timm":
        import timm

        network: nn.Module = timm.create_model(name)
        return network
    from torchvision import models

    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **quick)


def assert_same(found: Tensor, expected: Tensor) -> None:
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


def check(network: nn.Module, size: int) -> None:
    """Run everything on one network; compare with the network itself."""
    before = fingerprint(network)
    example, others = nets.images(1, size), nets.images(2, size, seed=6)
    layer = stages(feature_layers(network, example))[-1]
    traced, rewritten = trace(network, example), modular(network, example)
    head, field = truncate(network, layer, example), receptive_field(network, layer, example)
    assert fingerprint(network) == before
    network.eval()
    with torch.no_grad(), captured(network, [layer]) as outputs:
        expected = network(others)
    with torch.no_grad():
        assert_same(traced(others), expected)
        assert_same(rewritten(others), expected)
        assert_same(head(others), outputs[layer][-1])
    assert hidden_activations(rewritten) == ()
    assert (len(field.rows), len(field.cols)) == tuple(outputs[layer][-1].shape[2:])


@pytest.mark.parametrize("source", QUICK)
def test_library_networks(source: str) -> None:
    check(nets.seeded(lambda: build(source)).train(), 64)


@pytest.mark.slow
@pytest.mark.parametrize("source", THOROUGH)
def test_more_library_networks(source: str) -> None:
    check(nets.seeded(lambda: build(source)).train(), 96)


def test_a_plain_network() -> None:
    check(nets.seeded(nets.Plain).train(), 16)
