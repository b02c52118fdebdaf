"""Layer-wise relevance propagation against zennit, with the same rules in the same layers.

Not compared, because the rules differ: zennit has none for a product of two maps, of which ours takes the smaller one for a
gate; batch normalisation that follows no convolution passes relevance on there and is a linear layer with the ε rule here;
what keeps denominators from 0 is a constant there and a share of the layer's root mean square here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from helpers.attribution_networks import drawn, pixels
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from zennit.attribution import Gradient
from zennit.canonizers import Canonizer, SequentialMergeBatchNorm
from zennit.composites import EpsilonGammaBox
from zennit.rules import Flat
from zennit.torchvision import ResNetCanonizer

from studies.filters.attribution.attribute import Lrp, prepare

TARGETS = torch.tensor([2, 0, 3])
TINY = 1e-12


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 18, 9), nn.ReLU(), nn.Linear(9, 4))


def plain() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * 3 * 3, 7), nn.ReLU(), nn.Linear(7, 4)),
    )


def normalised() -> nn.Module:
    """Depthwise and strided convolutions with batch normalisation and ReLU6."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU6()),
        *(nn.Conv2d(6, 6, 3, stride=2, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6()),
        *(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


def residual(block: type[BasicBlock | Bottleneck]) -> nn.Module:
    return ResNet(block, [1, 1, 1, 1], num_classes=4, width_per_group=64)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Canonizer] | None]] = {
    "dense": (dense, None),
    "plain": (plain, None),
    "normalised": (normalised, SequentialMergeBatchNorm),
    "basic block": (lambda: residual(BasicBlock), ResNetCanonizer),
    "bottleneck": (lambda: residual(Bottleneck), ResNetCanonizer),
}


def with_statistics(net: nn.Module) -> nn.Module:
    """Give batch normalisation the statistics of a trained network, and gains that let something through."""
    source = torch.Generator().manual_seed(2)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.weight.abs_().add_(0.5)
            norm.running_mean.copy_(0.1 * torch.randn(norm.num_features, generator=source))
            norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=source))
    return net


def by_zennit(net: nn.Module, images: Tensor, gamma: float, canonizer: Canonizer | None) -> Tensor:
    """Flat in a first convolution, γ in the others, ε in dense layers; the logit is what is passed back."""
    composite = EpsilonGammaBox(
        *(0.0, 1.0, TINY, gamma, TINY),
        first_map=[(nn.Conv2d, Flat(TINY))],
        canonizers=[canonizer] if canonizer else [],
    )
    # Its canonizers do not undo everything in every version.
    with Gradient(model=copy.deepcopy(net), composite=composite) as attributor:
        wanted = torch.eye(4, dtype=images.dtype)[TARGETS] * net(images)
        _, relevance = attributor(images.clone(), wanted)
    return relevance.sum(1, keepdim=True)


@pytest.mark.parametrize("gamma", [0.25, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_relevance_is_that_of_zennit(name: str, gamma: float) -> None:
    make, canonizer = NETWORKS[name]
    net, images = with_statistics(drawn(make())), pixels(side=16)
    ours = Lrp(gamma=gamma).attribute(prepare(net, images[:1]), images, TARGETS)
    theirs = by_zennit(net, images, gamma, canonizer() if canonizer else None)
    largest = float(theirs.abs().max())
    assert largest > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * largest)
