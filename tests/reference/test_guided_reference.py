"""Guided backpropagation and deconvnet against float64 loops: explicit convolutions, switches and unpooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.core.state import fingerprint
from probe.graph.edit.rewrite import modular
from studies.filters.attribution.attribute import GuidedBackprop, prepare, unit_backprop
from studies.filters.attribution.subject import guidable

Array = NDArray[np.float64]
RULES = ("guided", "deconvnet")


class Twice(nn.Module):
    """conv, ReLU, overlapping max-pool, conv, ReLU: functional, in place, and one ReLU module used twice."""

    def __init__(self, ceiling: float | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=1, padding=1)
        self.second = nn.Conv2d(4, 3, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True) if ceiling is None else nn.ReLU6(inplace=True)
        self.ceiling = ceiling

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu(self.first(x)), 3, 2, padding=1)
        return self.relu(self.second(x))


def convolve(x: Array, weight: Array, bias: Array, stride: int, padding: int) -> Array:
    """One image (C, H, W), written as the definition says."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    out, _, k, _ = weight.shape
    rows, cols = ((side - k) // stride + 1 for side in x.shape[1:])
    y = np.empty((out, rows, cols))
    for r in range(rows):
        for c in range(cols):
            patch = x[:, r * stride : r * stride + k, c * stride : c * stride + k]
            y[:, r, c] = (weight * patch).sum(axis=(1, 2, 3)) + bias
    return y


def transposed(signal: Array, weight: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    """Send a signal back through a convolution: every output adds its filter where it looked."""
    channels, height, width = shape
    k = weight.shape[2]
    x = np.zeros((channels, height + 2 * padding, width + 2 * padding))
    for o, r, c in np.ndindex(*signal.shape):
        x[:, r * stride : r * stride + k, c * stride : c * stride + k] += signal[o, r, c] * weight[o]
    return x[:, padding : padding + height, padding : padding + width]


def pool(
    x: Array, k: int, stride: int, padding: int
) -> tuple[Array, dict[tuple[int, int, int], tuple[int, int]]]:
    """Max-pool one image and record the switches: where each maximum was."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=-np.inf)
    rows, cols = ((side - k) // stride + 1 for side in padded.shape[1:])
    y, switches = np.empty((x.shape[0], rows, cols)), {}
    for ch, r, c in np.ndindex(*y.shape):
        window = padded[ch, r * stride : r * stride + k, c * stride : c * stride + k]
        i, j = np.unravel_index(window.argmax(), window.shape)
        y[ch, r, c] = window[i, j]
        switches[ch, r, c] = (r * stride + int(i) - padding, c * stride + int(j) - padding)
    return y, switches


def unpool(
    signal: Array, switches: dict[tuple[int, int, int], tuple[int, int]], shape: tuple[int, ...]
) -> Array:
    x = np.zeros(shape)
    for ch, r, c in np.ndindex(*signal.shape):
        i, j = switches[ch, r, c]
        x[ch, i, j] += signal[ch, r, c]
    return x


@dataclass
class Reference:
    """The network above in numpy, one image at a time."""

    net: Twice

    def _parameters(self, layer: nn.Conv2d) -> tuple[Array, Array]:
        assert layer.bias is not None
        return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()

    def _clip(self, x: Array) -> Array:
        return x.clip(0, self.net.ceiling)

    def _back(self, signal: Array, before: Array, rule: str) -> Array:
        if self.net.ceiling is not None:
            signal = signal * (before < self.net.ceiling)
        signal = signal.clip(0)
        return signal * (before > 0) if rule == "guided" else signal

    def back(self, image: Array, start: Array, rule: str) -> Array:
        """Send ``start``, a signal at the output, back to the image."""
        w1, b1 = self._parameters(self.net.first)
        w2, b2 = self._parameters(self.net.second)
        z1 = convolve(image, w1, b1, 1, 1)
        a1 = self._clip(z1)
        p1, switches = pool(a1, 3, 2, 1)
        z2 = convolve(p1, w2, b2, 2, 1)
        signal = self._back(start, z2, rule)
        signal = transposed(signal, w2, p1.shape, 2, 1)
        signal = self._back(unpool(signal, switches, a1.shape), z1, rule)
        return transposed(signal, w1, image.shape, 1, 1)

    def output_shape(self, image: Array) -> tuple[int, ...]:
        with torch.no_grad():
            return tuple(self.net(torch.from_numpy(image)[None])[0].shape)


@pytest.fixture(params=[None, 6.0], ids=["ReLU", "ReLU6"])
def net(request: pytest.FixtureRequest) -> Twice:
    torch.manual_seed(0)
    made = Twice(request.param).double().eval().requires_grad_(False)
    # Some hidden values above six and some windows of the pool all off, so that ceiling and rules matter,
    # and most outputs on but below the ceiling.
    made.first.weight *= 6
    made.second.weight *= 0.3
    assert made.first.bias is not None
    assert made.second.bias is not None
    made.first.bias -= 5
    made.second.bias += 1.5
    return made


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 2, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_of_units_equals_the_reference_one_by_one(net: Twice, rule: str) -> None:
    reference, batch = Reference(net), images()
    channels, rows, cols = torch.tensor([0, 1, 2, 1, 0]), [0, 1, 2, 2, 1], torch.tensor([2, 0, 1, 2, 1])
    before = fingerprint(net)
    maps = unit_backprop(guidable(modular(net, batch[:1])), batch, channels, rows, cols, rule)  # type: ignore[arg-type]
    assert fingerprint(net) == before
    seen = 0
    for i, image in enumerate(batch.numpy()):
        start = np.zeros(reference.output_shape(image))
        start[int(channels[i]), rows[i], int(cols[i])] = 1.0
        expected = reference.back(image, start, rule)
        np.testing.assert_allclose(maps[i].numpy(), expected, rtol=0, atol=1e-12)
        seen += bool(np.abs(expected).max() > 0)
    assert seen >= 3


@pytest.mark.parametrize("rule", RULES)
def test_one_number_stands_for_all_images(net: Twice, rule: str) -> None:
    batch = images(3)
    graph = guidable(modular(net, batch[:1]))
    once = unit_backprop(graph, batch, 1, 1, 2, rule)  # type: ignore[arg-type]
    each = unit_backprop(graph, batch, [1] * 3, [1] * 3, [2] * 3, rule)  # type: ignore[arg-type]
    assert torch.equal(once, each)


def test_guided_and_deconvnet_and_the_gradient_differ(net: Twice) -> None:
    batch = images(5)
    graph = guidable(modular(net, batch))
    guided, deconvnet = (unit_backprop(graph, batch, 1, 1, 1, rule) for rule in ("guided", "deconvnet"))
    inputs = batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(inputs)[:, 1, 1, 1].sum(), inputs)
    assert not torch.allclose(guided, deconvnet)
    assert not torch.allclose(guided, gradient)


def test_the_class_map_equals_the_reference_with_the_classifier_s_weights(net: Twice) -> None:
    """Guided backpropagation of a logit starts with the classifier's weights and passes both ReLUs."""
    batch = images(4)
    reference = Reference(net)
    shape = reference.output_shape(batch[0].numpy())
    classifier = nn.Linear(int(np.prod(shape)), 5).double().requires_grad_(False)
    whole = nn.Sequential(net, nn.Flatten(), classifier).eval()
    targets = torch.tensor([4, 0, 2, 4])
    maps = GuidedBackprop().attribute(prepare(whole, batch[:1]), batch, targets)
    for i, image in enumerate(batch.numpy()):
        start = classifier.weight[targets[i]].reshape(shape).numpy()
        np.testing.assert_allclose(
            maps[i].numpy(), reference.back(image, start, "guided"), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("rule", RULES)
def test_max_pool_sends_the_signal_to_the_recorded_positions(rule: str) -> None:
    """With an identity filter the picture of a pooled unit is 1 at the window's maximum and 0 elsewhere."""
    identity = nn.Conv2d(1, 1, 1, bias=False).double().requires_grad_(False)
    identity.weight.fill_(1.0)
    net = nn.Sequential(identity, nn.ReLU(inplace=True), nn.MaxPool2d(4)).eval()
    batch = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    spots = [(0, 1, 2), (1, 6, 5), (2, 3, 7)]
    for i, r, c in spots:
        batch[i, 0, r, c] = 2.0
    rows, cols = [r // 4 for _, r, _ in spots], [c // 4 for _, _, c in spots]
    maps = unit_backprop(guidable(modular(net, batch[:1])), batch, 0, rows, cols, rule)  # type: ignore[arg-type]
    expected = torch.zeros_like(batch)
    for i, r, c in spots:
        expected[i, 0, r, c] = 1.0
    assert torch.equal(maps, expected)


def test_only_the_backward_signal_is_rectified_by_deconvnet() -> None:
    """A unit with a negative weight behind a silent ReLU: deconvnet shows what guided and gradient do not."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    net = net.double().eval().requires_grad_(False)
    net[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    net[2].weight.copy_(torch.tensor([-2.0, 3.0]).view(1, 2, 1, 1))
    pixel = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    graph = guidable(modular(net, pixel))
    # Forward: the first hidden unit is on, the second off. Backward signal: −2 and 3.
    assert unit_backprop(graph, pixel, 0, 0, 0, "deconvnet").item() == -3.0
    assert unit_backprop(graph, pixel, 0, 0, 0, "guided").item() == 0.0


def test_a_relu_shares_its_input_with_another_branch() -> None:
    """The rule is for the signal through the ReLU; what reaches the same tensor past it is left alone."""

    class Skip(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            doubled = 2 * x
            return F.relu(doubled) - 5 * doubled

    pixel = torch.full((1, 1, 2, 2), 3.0, dtype=torch.float64)
    maps = unit_backprop(guidable(modular(Skip().eval(), pixel)), pixel, 0, 0, 1, "guided")
    expected = torch.zeros_like(pixel)
    expected[0, 0, 0, 1] = 2 * (1 - 5)
    assert torch.equal(maps, expected)


def test_without_relu_the_rules_do_not_apply() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Conv2d(2, 1, 1)).eval().requires_grad_(False)
    image = torch.rand(1, 1, 5, 5)
    with pytest.raises(NotApplicableError, match="GELU"):
        guidable(modular(net, image))


def test_without_any_activation_both_are_the_gradient() -> None:
    net = nn.Conv2d(1, 2, 3).double().eval().requires_grad_(False)
    image = torch.rand(1, 1, 3, 3, dtype=torch.float64)
    graph = guidable(modular(nn.Sequential(net), image))
    for rule in RULES:
        assert torch.equal(unit_backprop(graph, image, 1, 0, 0, rule)[0], net.weight[1])  # type: ignore[arg-type]


def test_an_unknown_rule_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()).eval()
    image = torch.rand(1, 1, 2, 2)
    with pytest.raises(ValueError, match="guided"):
        unit_backprop(guidable(modular(net, image)), image, 0, 0, 0, "gradient")  # type: ignore[arg-type]
