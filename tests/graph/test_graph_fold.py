"""Folding of batch normalisation: the same logits, also where a convolution computes its weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from probe.core.state import fingerprint
from probe.graph.edit.fold import folded
from probe.graph.trace.trace import trace

COMPUTED = {
    "parametrised spectral norm": parametrizations.spectral_norm,
    "parametrised weight norm": parametrizations.weight_norm,
    "hook of spectral_norm": spectral_norm,
    "hook of weight_norm": weight_norm,
}


def network(change: object) -> nn.Sequential:
    """Two convolutions with norms; ``change`` is done to the second."""
    torch.manual_seed(0)
    second = nn.Conv2d(4, 6, 3)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), change(second), nn.BatchNorm2d(6), nn.ReLU()
    )
    net.train()(torch.rand(4, 3, 12, 12))
    return net.eval()


@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.filterwarnings("ignore:.*weight_norm", "ignore:.*spectral_norm")
def test_a_convolution_with_a_computed_weight_keeps_its_norm(kind: str) -> None:
    net, images = network(COMPUTED[kind]), torch.rand(2, 3, 12, 12)
    before = fingerprint(net)
    graph = trace(net, images)
    fast = folded(graph)
    assert torch.allclose(fast(images), net(images), atol=1e-5)
    norms = [sub for sub in fast.modules() if isinstance(sub, nn.BatchNorm2d)]
    assert len(norms) == 1
    assert norms[0].num_features == 6
    assert fingerprint(net) == before


def test_a_plain_convolution_takes_its_norm_in() -> None:
    net, images = network(lambda convolution: convolution), torch.rand(2, 3, 12, 12)
    fast = folded(trace(net, images))
    assert torch.allclose(fast(images), net(images), atol=1e-5)
    assert not any(isinstance(sub, nn.BatchNorm2d) for sub in fast.modules())
