"""Layer-wise relevance propagation against its formulas in numpy, and what it keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.attribution_networks import (
    Branches,
    Excited,
    Moody,
    Residual,
    Smooth,
    drawn,
    linear_network,
    pixels,
)
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.core.state import fingerprint
from studies.filters.attribution.attribute import Lrp, prepare
from studies.filters.attribution.lrp import GammaLayer, GatedProduct

TARGETS = torch.tensor([2, 0, 3])


def without_biases(net: nn.Module) -> nn.Module:
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    return net


class Plain(nn.Module):
    """Convolutions, pools, a shortcut and a gate, nothing else that could add to a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.squeeze, self.fc = nn.Conv2d(6, 6, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.silu(self.second(x)) + x
        x = x * torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return self.fc(F.relu6(F.avg_pool2d(x, 2)).mean((2, 3)))


def test_without_biases_relevance_adds_up_to_the_logit() -> None:
    net, images = without_biases(drawn(Plain())), pixels()
    maps = Lrp().attribute(prepare(net, images[:1]), images, TARGETS)
    assert maps.shape == (3, 1, 12, 14)
    logits = net(images)[torch.arange(3), TARGETS]
    torch.testing.assert_close(maps.sum((1, 2, 3)), logits, rtol=1e-3, atol=1e-5)


def test_epsilon_of_a_dense_network_is_the_formula() -> None:
    """R_i = Σ_j x_i w_ij / z_j R_j from layer to layer (Bach et al. 2015)."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3 * 12 * 14, 7), nn.Linear(7, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(F.relu(self.one(x.flatten(1))))

    net, images = drawn(Dense()), pixels()
    assert isinstance(net, Dense)
    maps = Lrp().attribute(prepare(net, images[:1]), images, TARGETS)
    w1, b1, w2, b2 = (t.numpy() for t in (net.one.weight, net.one.bias, net.two.weight, net.two.bias))
    for image, target, found in zip(images.numpy(), TARGETS.tolist(), maps.numpy(), strict=True):
        x = image.ravel()
        z1 = w1 @ x + b1
        a = z1.clip(0)
        z2 = w2[target] @ a + b2[target]
        hidden = a * w2[target] / z2 * z2
        expected = x * (w1 / z1[:, None] * hidden[:, None]).sum(0)
        np.testing.assert_allclose(found[0], expected.reshape(3, 12, 14).sum(0), rtol=1e-3, atol=1e-6)


def test_gamma_of_a_layer_is_the_formula() -> None:
    """Contributions of the sign of the output count 1 + γ times: R_i = Σ_j c'_ij / Σ_i c'_ij R_j."""
    layer, gamma = drawn(nn.Linear(9, 5)), 0.25
    assert isinstance(layer, nn.Linear)
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    output = GammaLayer(layer, gamma)(x)
    torch.testing.assert_close(output, layer(x))
    relevance = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(output, x, relevance / output.detach())
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    for n in range(4):
        expected = np.zeros(9)
        for j in range(5):
            share, z = weight[j] * x[n].detach().numpy(), float(output[n, j].detach())
            favoured = share + gamma * np.where(share * z > 0, share, 0)
            held = bias[j] * (1 + gamma * (bias[j] * z > 0))
            expected += favoured / (favoured.sum() + held) * float(relevance[n, j])
        np.testing.assert_allclose((x[n] * gradient[n]).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_gate_gets_nothing_and_equal_factors_share() -> None:
    x = torch.rand(
        1, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    gate = torch.rand(
        1, 2, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).requires_grad_()
    toward, none = torch.autograd.grad(GatedProduct()(x, gate).sum(), (x, gate), allow_unused=True)
    torch.testing.assert_close(toward, gate.expand_as(x))
    assert none is None
    other = (x.detach() + 1).requires_grad_()
    product = GatedProduct()(x, other)
    torch.testing.assert_close(product, x * other)
    halves = torch.autograd.grad(product.sum(), (x, other))
    torch.testing.assert_close(halves[0] * x + halves[1] * other, product)


def test_the_first_convolution_spreads_evenly_over_what_each_output_sees() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).flatten(2).amax(2)

    images = pixels()
    with pytest.raises(NotApplicableError, match="amax"):
        Lrp().attribute(prepare(drawn(One()), images[:1]), images, TARGETS)

    class Mean(One):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv((x - 0.5) / 0.25).mean((2, 3))

    net = drawn(Mean())
    maps = Lrp().attribute(prepare(net, images[:1]), images, TARGETS)
    cells = net.conv((images - 0.5) / 0.25)[torch.arange(3), TARGETS]  # type: ignore[operator]
    expected = cells.repeat_interleave(3, 1).repeat_interleave(3, 2) / 9 / cells[0].numel()
    torch.testing.assert_close(maps[:, 0, :12, :12], expected, rtol=1e-4, atol=1e-8)
    assert float(maps[:, 0, :, 12:].abs().max()) == 0.0


@pytest.mark.parametrize("make", [Residual, Branches, Excited, Plain], ids=lambda make: make.__name__)
def test_real_structures_are_followed_and_left_alone(make: type) -> None:
    net, images = drawn(make()), pixels()
    before, kept = fingerprint(net), images.clone()
    subject = prepare(net, images[:1])
    rewritten = fingerprint(subject.rewritten) if subject.rewritten is not None else ""
    maps = Lrp().attribute(subject, images, TARGETS)
    assert bool(maps.isfinite().all())
    assert float(maps.abs().max()) > 0
    torch.testing.assert_close(Lrp().attribute(subject, images, TARGETS), maps, rtol=0, atol=0)
    assert fingerprint(net) == before
    assert subject.rewritten is not None
    assert fingerprint(subject.rewritten) == rewritten
    assert torch.equal(images, kept)


def test_what_has_no_rule_is_refused_by_name() -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(self.conv(x)).mean((2, 3)))

    images = pixels()
    for net, says in ((Norm(), "GroupNorm|group_norm"), (Moody(), "rewritten"), (Smooth(), "pow")):
        with pytest.raises(NotApplicableError, match=says):
            Lrp().attribute(prepare(drawn(net), images[:1]), images, TARGETS)
    assert Lrp().attribute(prepare(drawn(linear_network()), images[:1]), images, TARGETS).shape == (
        3,
        1,
        12,
        14,
    )
