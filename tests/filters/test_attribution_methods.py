"""Attribution methods against closed forms, loops and the network's own sums."""

from __future__ import annotations

import random
from collections.abc import Callable

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
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.core.state import fingerprint
from studies.filters.attribution.attribute import (
    METHODS,
    DeepLift,
    GradCam,
    Gradient,
    GuidedBackprop,
    IntegratedGradients,
    Method,
    Occlusion,
    baseline_of,
    in_batches,
    prepare,
)

TARGETS = torch.tensor([2, 0, 3])


def change(net: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor) -> Tensor:
    rows = torch.arange(len(images))
    return net(images)[rows, targets] - net(baseline)[rows, targets]


# --- integrated gradients -------------------------------------------------------------------------------------


def test_integrated_gradients_of_a_linear_network_are_gradient_times_input() -> None:
    net, images = drawn(linear_network()), pixels()
    maps = IntegratedGradients(steps=3, baseline="black").attribute(prepare(net, images[:1]), images, TARGETS)
    weight = net[1].weight[TARGETS].view_as(images)  # type: ignore[index, union-attr, operator]
    torch.testing.assert_close(maps, weight * images, rtol=1e-6, atol=1e-9)


def test_integrated_gradients_become_complete_with_more_steps() -> None:
    net, images = drawn(Smooth()), 4 * pixels()
    subject = prepare(net, images[:1])
    expected = change(net, images, TARGETS, baseline_of(images, "mean"))
    errors = []
    for steps in (1, 3, 9, 24):
        maps = IntegratedGradients(steps=steps).attribute(subject, images, TARGETS)
        errors.append(float(((maps.flatten(1).sum(1) - expected) / expected).abs().max()))
    assert errors[0] > 1e-2
    assert errors == sorted(errors, reverse=True)
    # captum keeps the quadrature's weights in float32.
    assert errors[-1] < 1e-6


def test_integrated_gradients_do_not_depend_on_the_internal_batch() -> None:
    net, images = drawn(Residual()), pixels()
    subject = prepare(net, images[:1])
    maps = [IntegratedGradients(steps=5, batch=b).attribute(subject, images, TARGETS) for b in (1, 7, 1000)]
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[0], maps[2])


# --- DeepLIFT -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Residual, Branches, Excited, Smooth], ids=lambda make: make.__name__)
@pytest.mark.parametrize("baseline", ["mean", "black"])
def test_deeplift_is_complete_where_captum_alone_is_not(make: Callable[[], nn.Module], baseline: str) -> None:
    """Functional and reused ReLUs, overlapping and shared pools, bounded and smooth activations, products.

    ``Smooth`` squares a hidden value, which is no product of two nodes: only it may miss completeness.
    """
    net, images = drawn(make()), pixels()
    method = DeepLift(baseline=baseline)  # type: ignore[arg-type]
    maps = method.attribute(prepare(net, images[:1]), images, TARGETS)
    expected = change(net, images, TARGETS, baseline_of(images, method.baseline))
    error = ((maps.flatten(1).sum(1) - expected) / expected).abs().max()
    assert (error < 1e-9) == (make is not Smooth)


def test_deeplift_of_one_hidden_layer_is_the_rescale_formula() -> None:
    """Multiplier of input i: Σⱼ w₂ⱼ (Δhⱼ/Δzⱼ) w₁ⱼᵢ (Shrikumar et al. 2017)."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3 * 12 * 14, 7), nn.Linear(7, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(F.relu(self.one(x.flatten(1))))

    net, images = drawn(Hidden()), pixels()
    assert isinstance(net, Hidden)
    maps = DeepLift(baseline="black").attribute(prepare(net, images[:1]), images, TARGETS)
    w1, b1, w2 = (t.numpy() for t in (net.one.weight, net.one.bias, net.two.weight))
    for image, target, found in zip(images.numpy(), TARGETS.tolist(), maps.numpy(), strict=True):
        z = w1 @ image.ravel() + b1
        slope = (z.clip(0) - b1.clip(0)) / (z - b1)
        expected = ((w2[target] * slope) @ w1) * image.ravel()
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-9, atol=1e-12)


def test_deeplift_shares_a_product_equally() -> None:
    """For f = (a·x)(b·x), pixel i gets Δxᵢ (aᵢ·mean of b·x + bᵢ·mean of a·x), means over image and baseline."""

    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3 * 12 * 14, 4), nn.Linear(3 * 12 * 14, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.a(x).mul(self.b(x))

    net, images = drawn(Squared()), pixels()
    assert isinstance(net, Squared)
    maps = DeepLift().attribute(prepare(net, images[:1]), images, TARGETS)
    base = baseline_of(images, "mean")
    for i, target in enumerate(TARGETS.tolist()):
        x, x0 = images[i].flatten(), base[i].flatten()
        a, b = net.a.weight[target], net.b.weight[target]
        mean_a = ((net.a(x) + net.a(x0)) / 2)[target]
        mean_b = ((net.b(x) + net.b(x0)) / 2)[target]
        expected = (x - x0) * (a * mean_b + b * mean_a)
        torch.testing.assert_close(maps[i].flatten(), expected)


def test_deeplift_at_the_baseline_itself_is_zero_and_finite() -> None:
    net = drawn(Residual())
    flat = torch.full((2, 3, 12, 14), 0.5, dtype=torch.float64)
    maps = DeepLift().attribute(prepare(net, flat[:1]), flat, TARGETS[:2])
    assert torch.equal(maps, torch.zeros_like(maps))


# --- GradCAM, gradient, guided --------------------------------------------------------------------------------


def test_gradcam_is_the_paper_s_formula() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(inplace=True))
            self.fc = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            # The square makes the gradient differ from the weights.
            return self.fc(self.features(x).square().mean((2, 3)))

    net, images = drawn(Plain()), pixels(side=12)[..., :12]
    assert isinstance(net, Plain)
    subject = prepare(net, images[:1])
    assert subject.layer == "features"
    maps = GradCam().attribute(subject, images, TARGETS)
    assert maps.shape == (3, 1, 12, 12)
    activations = net.features(images).numpy()
    for i, target in enumerate(TARGETS.tolist()):
        gradient = net.fc.weight[target].numpy()[:, None, None] * 2 * activations[i] / 36
        weights = gradient.mean(axis=(1, 2))
        cam = np.maximum((weights[:, None, None] * activations[i]).sum(0), 0)
        expected = zoom(cam, 2, order=1, mode="nearest", grid_mode=True)
        np.testing.assert_allclose(maps[i, 0].numpy(), expected, rtol=1e-9, atol=1e-12)
    assert float(maps.max()) > 0


@pytest.mark.parametrize(
    ("net", "layer"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)), "0"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 14, 4)), ""),
    ],
)
def test_gradcam_reads_the_last_layer_with_a_map(net: nn.Module, layer: str) -> None:
    assert prepare(drawn(net), pixels(1)).layer == layer


def test_gradcam_takes_a_layer_that_runs_twice_too() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.conv(self.act(x))).mean((2, 3))

    net, images, targets = drawn(Again()), pixels(), torch.tensor([2, 0, 1])
    subject = prepare(net, images[:1])
    assert subject.layer == "act"
    # Behind the last ReLU is the mean, so that the weight of the class's own channel is 1 / area, of the others 0.
    area = images.shape[2] * images.shape[3]
    with torch.no_grad():
        last = net.act(net.conv(net.act(images)))[torch.arange(3), targets][:, None] / area
    torch.testing.assert_close(GradCam().attribute(subject, images, targets), last)


def test_gradcam_without_a_map_does_not_apply() -> None:
    images = pixels()
    with pytest.raises(NotApplicableError, match="1 × 1"):
        GradCam().attribute(prepare(drawn(linear_network()), images[:1]), images, TARGETS)


def test_gradient_is_autograd_s_with_its_sign() -> None:
    net, images = drawn(Residual()), pixels()
    maps = Gradient().attribute(prepare(net, images[:1]), images, TARGETS)
    inputs = images.clone().requires_grad_()
    net(inputs)[torch.arange(3), TARGETS].sum().backward()  # type: ignore[no-untyped-call]
    assert inputs.grad is not None
    torch.testing.assert_close(maps, inputs.grad)
    assert (maps < 0).any()


def test_guided_backprop_needs_a_relu() -> None:
    net = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 10 * 12, 4)))
    images = pixels()
    with pytest.raises(NotApplicableError, match="SiLU"):
        GuidedBackprop().attribute(prepare(net, images[:1]), images, TARGETS)


# --- occlusion ------------------------------------------------------------------------------------------------


def brute_force(net: nn.Module, image: Tensor, target: int, method: Occlusion) -> Tensor:
    """Cover one window after the other and average the fall of the logit over the windows at each pixel."""
    _, height, width = image.shape
    (h, down), (w, right) = method.window(height), method.window(width)
    grey = baseline_of(image[None], method.baseline)[0]
    total, count = torch.zeros(height, width, dtype=image.dtype), torch.zeros(height, width)
    whole = net(image[None])[0, target]
    tops = range(0, height - h + down, down)
    lefts = range(0, width - w + right, right)
    for top in tops:
        for left in lefts:
            spot = (slice(top, top + h), slice(left, left + w))
            covered = image.clone()
            covered[:, spot[0], spot[1]] = grey[:, spot[0], spot[1]]
            total[spot] += whole - net(covered[None])[0, target]
            count[spot] += 1
    assert len(tops) * len(lefts) == method.passes((height, width)) - 1
    return total / count


@pytest.mark.parametrize(
    "method",
    [
        Occlusion(windows=4, batch=5),
        Occlusion(windows=4, step=1.0),
        Occlusion(windows=3, step=0.5, baseline="black", batch=1),
        Occlusion(windows=100),
    ],
)
def test_occlusion_equals_a_loop_over_windows(method: Occlusion) -> None:
    net, images = drawn(Residual()), pixels(side=9)
    maps = method.attribute(prepare(net, images[:1]), images, TARGETS)
    assert maps.shape == (3, 1, 9, 11)
    for image, target, found in zip(images, TARGETS.tolist(), maps, strict=True):
        # captum averages in float32.
        torch.testing.assert_close(found[0], brute_force(net, image, target, method), rtol=1e-5, atol=1e-7)


def test_occlusion_covers_an_image_once_for_all_its_logits() -> None:
    net, images = drawn(Residual()), pixels(2)
    rows, targets = [0, 1, 0, 0, 1], torch.tensor([1, 2, 3, 1, 0])
    calls: list[int] = []
    subject = prepare(net, images[:1])
    subject.module.register_forward_hook(lambda _m, args, _o: calls.append(len(args[0])))
    method = Occlusion(windows=3)
    maps = method.attribute(subject, images[rows], targets)
    assert sum(calls) == 2 * method.passes((12, 14))
    for found, row, target in zip(maps, rows, targets.tolist(), strict=True):
        expected = brute_force(net, images[row], target, method)
        torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-7)


@given(side=st.integers(1, 400), windows=st.integers(1, 20), step=st.floats(0.05, 1.0))
def test_occlusion_windows_fit_and_leave_no_gap(side: int, windows: int, step: float) -> None:
    window, stride = Occlusion(windows=windows, step=step).window(side)
    assert 1 <= stride <= window <= side


# --- all methods: nothing left behind, any format, fallback ---------------------------------------------------


def all_of(methods: tuple[Method, ...] = METHODS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", methods, ids=[method.key for method in methods])


@all_of()
def test_nothing_is_left_behind(method: Method) -> None:
    net, images = drawn(Residual(), dtype=torch.float32), pixels(dtype=torch.float32)
    before, copy = fingerprint(net), images.clone()
    state, python = torch.get_rng_state(), random.getstate()
    maps = method.economical().attribute(prepare(net, images[:1]), images, TARGETS)
    assert fingerprint(net) == before
    assert torch.equal(images, copy)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    assert not maps.requires_grad
    assert maps.shape in (images.shape, (3, 1, 12, 14))
    assert maps.isfinite().all()
    assert maps.abs().sum() > 0


@all_of()
def test_nothing_is_left_behind_on_a_network_in_training_mode(method: Method) -> None:
    """BN statistics stay, parameters keep their flags, and the maps are those of eval mode."""
    net, images = drawn(Residual()), pixels()
    expected = method.economical().attribute(prepare(net, images[:1]), images, TARGETS)
    net.train().requires_grad_(True)
    before = fingerprint(net)
    maps = method.economical().attribute(prepare(net, images[:1]), images, TARGETS)
    assert fingerprint(net) == before
    torch.testing.assert_close(maps, expected)


@all_of()
def test_nothing_is_left_behind_by_a_failure(method: Method) -> None:
    net, images = drawn(Residual()), pixels()
    before, state = fingerprint(net), torch.get_rng_state()
    subject = prepare(net, images[:1])
    with pytest.raises((IndexError, RuntimeError, AssertionError)):
        method.economical().attribute(subject, images, torch.tensor([99, 99, 99]))
    assert fingerprint(net) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not images.requires_grad
    # And the next call on the same subject works as if nothing had happened.
    maps = method.economical().attribute(subject, images, TARGETS)
    expected = method.economical().attribute(prepare(net, images[:1]), images, TARGETS)
    assert torch.equal(maps, expected)


@all_of()
def test_channels_last_gives_the_same_maps(method: Method) -> None:
    net, images = drawn(Residual()), pixels()
    expected = method.economical().attribute(prepare(net, images[:1]), images, TARGETS)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images.contiguous(memory_format=torch.channels_last)
    maps = method.economical().attribute(prepare(net, images[:1]), images, TARGETS)
    torch.testing.assert_close(maps, expected)


@all_of()
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_methods_work_where_gradients_are_off(method: Method, mode: Callable[[], torch.no_grad]) -> None:
    net = drawn(Residual())
    expected = method.economical().attribute(prepare(net, pixels(1)), pixels(), TARGETS)
    with mode():
        images = pixels()
        maps = method.economical().attribute(prepare(net, images[:1]), images, TARGETS)
    assert torch.equal(maps, expected)


@all_of()
def test_an_image_s_map_does_not_depend_on_its_neighbours(method: Method) -> None:
    """Also where an image equals its baseline, whose gradient captum hands to the others."""
    net, images = drawn(Branches()), pixels()
    images[0] = 0.25
    subject = prepare(net, images[:1])
    together = method.economical().attribute(subject, images, TARGETS)
    alone = [method.economical().attribute(subject, images[i : i + 1], TARGETS[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("method", [Gradient(), DeepLift(), Occlusion(windows=2)])
def test_any_number_of_images_is_explained_in_batches(method: Method) -> None:
    net, images = drawn(Residual()), pixels(19)
    targets = torch.arange(19) % 4
    subject = prepare(net, images[:1])
    torch.testing.assert_close(
        in_batches(method, subject, images, targets), method.attribute(subject, images, targets)
    )


@all_of((GuidedBackprop(), DeepLift()))
def test_without_a_graph_the_methods_that_need_it_say_so(method: Method) -> None:
    images = pixels()
    with pytest.raises(NotApplicableError, match="cannot be rewritten"):
        method.attribute(prepare(drawn(Moody()), images[:1]), images, TARGETS)


@all_of((Gradient(), IntegratedGradients(steps=40), GradCam(), Occlusion()))
def test_without_a_graph_the_other_methods_work(method: Method) -> None:
    net, images = drawn(Moody()), pixels()
    maps = method.attribute(prepare(net, images[:1]), images, TARGETS)
    assert maps.isfinite().all()
    assert maps.abs().sum() > 0


def test_what_captum_cannot_follow_becomes_a_reason() -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().mean((2, 3))

    images = pixels()
    with pytest.raises(NotApplicableError, match="captum does not support"):
        in_batches(Gradient(), prepare(Detached().eval(), images[:1]), images, torch.tensor([0, 1, 2]))


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(2, 9), st.integers(0, 2**16))
def test_the_mean_baseline_is_flat_and_keeps_the_mean_colour(count: int, side: int, seed: int) -> None:
    images = pixels(count, side, seed)
    grey = baseline_of(images, "mean")
    assert grey.shape == images.shape
    torch.testing.assert_close(grey.mean((2, 3)), images.mean((2, 3)))
    assert float((grey - grey[:, :, :1, :1]).abs().max()) == 0
    assert not baseline_of(images, "black").any()


@all_of()
def test_coarser_options_cost_no_more(method: Method) -> None:
    assert method.economical().passes((224, 224)) <= method.passes((224, 224))
    assert method.economical().key == method.key
