"""The further attribution methods and the controls, against closed forms, loops and captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum import attr as captum
from helpers.attribution_networks import Residual, Smooth, drawn, linear_network, pixels
from scipy.ndimage import sobel
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.core.state import fingerprint
from studies.filters.attribution.attribute import (
    FURTHER,
    METHODS,
    GradCam,
    Gradient,
    GradientShap,
    LayerCam,
    Method,
    Rise,
    SmoothGrad,
    baseline_of,
    in_batches,
    prepare,
)
from studies.filters.attribution.controls import Centre, Edges, RandomMap

TARGETS = torch.tensor([2, 0, 3])
ALL = (*FURTHER, RandomMap(), Edges(), Centre())


def weights(net: nn.Module, images: Tensor) -> Tensor:
    return net[1].weight[TARGETS].view_as(images)  # type: ignore[index, union-attr, operator]


def test_smoothgrad_of_a_linear_network_is_its_gradient() -> None:
    net, images = drawn(linear_network()), pixels()
    maps = SmoothGrad(samples=3).attribute(prepare(net, images[:1]), images, TARGETS)
    torch.testing.assert_close(maps, weights(net, images))


def test_smoothgrad_without_noise_is_the_gradient_and_with_noise_the_smoothed_one() -> None:
    """For f(x) = Σ x³ under noise of variance v, the mean gradient tends to 3x² + 3v."""

    class Cubes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).pow(3).sum(1, keepdim=True).expand(-1, 4)

    images, net = pixels(), Cubes().eval()
    subject = prepare(net, images[:1])
    still = SmoothGrad(noise=0.0, samples=2).attribute(subject, images, TARGETS)
    torch.testing.assert_close(still, Gradient().attribute(subject, images, TARGETS))
    noisy = SmoothGrad(noise=0.2, samples=800).attribute(subject, images, TARGETS)
    spread = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
    expected = 3 * images**2 + 3 * (0.2 * spread) ** 2
    assert float((noisy - expected).mean().abs()) < 0.005
    assert float((noisy - expected).std()) < 0.06


def test_gradient_shap_of_a_linear_network_adds_up_in_expectation() -> None:
    net, images = drawn(linear_network()), pixels()
    subject, rows = prepare(net, images[:1]), torch.arange(3)
    base = baseline_of(images, "mean")
    change = (net(images) - net(base))[rows, TARGETS]
    exact = GradientShap(noise=0.0, samples=1).attribute(subject, images, TARGETS)
    torch.testing.assert_close(exact, weights(net, images) * (images - base))
    seeds = range(200)
    sums = torch.stack(
        [
            GradientShap(noise=0.3, samples=2, seed=s).attribute(subject, images, TARGETS).sum((1, 2, 3))
            for s in seeds
        ]
    )
    error = sums.std(0) / len(seeds) ** 0.5
    assert bool(((sums.mean(0) - change).abs() < 4 * error).all())
    assert bool((sums.std(0) > 0).all())


def test_gradient_shap_tends_to_what_captum_tends_to() -> None:
    net, images = drawn(Smooth()), pixels()
    subject = prepare(net, images[:1])
    ours = GradientShap(noise=0.05, samples=400).attribute(subject, images, TARGETS)
    spread = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
    assert float(spread.std()) < 0.01  # captum takes one deviation for all images
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = np.random.get_state()
        np.random.seed(0)
        theirs = torch.cat(
            [
                captum.GradientShap(net).attribute(
                    images[i : i + 1],
                    baseline_of(images[i : i + 1], "mean"),
                    n_samples=400,
                    stdevs=0.05 * float(spread[i]),
                    target=int(TARGETS[i]),
                )
                for i in range(3)
            ]
        )
        np.random.set_state(state)
    assert float(F.cosine_similarity(ours.flatten(1), theirs.flatten(1)).min()) > 0.98


class Hand(nn.Module):
    """One convolution, then one weight for each place and channel of its map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.weight = nn.Parameter(torch.zeros(4, 2, 12, 14))

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x)[:, None] * self.weight).sum((2, 3, 4))


def test_layercam_and_gradcam_of_a_hand_made_network() -> None:
    net, images = drawn(Hand()), pixels()
    assert isinstance(net, Hand)
    subject = prepare(net, images[:1])
    assert subject.layer == "conv"
    maps, weight = net.conv(images), net.weight[TARGETS]
    layer = LayerCam().attribute(subject, images, TARGETS)
    torch.testing.assert_close(layer, (weight.relu() * maps).sum(1, keepdim=True).relu())
    grad = GradCam().attribute(subject, images, TARGETS)
    torch.testing.assert_close(grad, (weight.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu())


def test_layercam_is_gradcam_where_gradients_are_constant_and_positive() -> None:
    net, images = drawn(Hand()), pixels()
    assert isinstance(net, Hand)
    net.weight.copy_(torch.tensor([0.3, 1.2], dtype=torch.float64)[None, :, None, None].expand(4, 2, 12, 14))
    subject = prepare(net, images[:1])
    both = [method.attribute(subject, images, TARGETS) for method in (LayerCam(), GradCam())]
    torch.testing.assert_close(*both)


def test_rise_of_a_linear_network_tends_to_gradient_times_change() -> None:
    """With cells of one pixel, the covariance of the logit with a pixel's mask over its variance is w(x − baseline)."""
    net, images = drawn(linear_network()), pixels()
    method = Rise(masks=20_000, cells=14, batch=500)
    maps = method.attribute(prepare(net, images[:1]), images, TARGETS)
    expected = (weights(net, images) * (images - baseline_of(images, "mean"))).sum(1, keepdim=True)
    spread = expected.flatten(1).norm(dim=1)  # of the logit over masks, times 2
    assert bool(((maps - expected).abs().flatten(1) < 5 * spread[:, None] / 20_000**0.5).all())
    assert float(F.cosine_similarity(maps.flatten(1), expected.flatten(1)).min()) > 0.98


def test_rise_is_the_covariance_over_its_masks() -> None:
    net, images = drawn(Residual()), pixels()
    method = Rise(masks=9, cells=4, batch=4)
    maps = method.attribute(prepare(net, images[:1]), images, TARGETS)
    covers = method.covers((12, 14)).double()
    for i, target in enumerate(TARGETS.tolist()):
        base = images[i].mean((1, 2), keepdim=True)
        logits = torch.stack([net((m * images[i] + (1 - m) * base)[None])[0, target] for m in covers])
        expected = sum(
            (value - logits.mean()) * (mask - covers.mean(0))
            for value, mask in zip(logits, covers, strict=True)
        )
        torch.testing.assert_close(maps[i], expected / (9 * 0.25))


def test_rise_masks_keep_half_and_are_shifted() -> None:
    covers = Rise(masks=400, cells=5).covers((33, 47))
    assert covers.shape == (400, 1, 33, 47)
    assert float(covers.min()) == 0.0
    assert float(covers.max()) == 1.0
    assert abs(float(covers.mean()) - 0.5) < 0.02
    assert float((covers.mean(0) - 0.5).abs().max()) < 0.12  # no place is favoured
    assert Rise(masks=2, cells=9).covers((4, 3)).shape == (2, 1, 4, 3)


def test_rise_shares_the_passes_of_an_image_that_is_explained_for_several_classes() -> None:
    net, images = drawn(Residual()), pixels()
    seen: list[int] = []
    net.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    subject = prepare(net, images[:1])
    seen.clear()
    targets = torch.tensor([0, 1, 2, 3])
    together = Rise(masks=8).attribute(subject, images[:1].repeat(4, 1, 1, 1), targets)
    assert sum(seen) == 8
    single = [Rise(masks=8).attribute(subject, images[:1], targets[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(single))


def test_the_blob_is_in_the_middle() -> None:
    images = pixels()
    (found,) = Centre().attribute(prepare(drawn(linear_network()), images[:1]), images[:1], TARGETS[:1])
    torch.testing.assert_close(found, found.flip(1).flip(2))
    values = found[0].numpy()
    y, x = (np.arange(12) - 5.5) / 12, (np.arange(14) - 6.5) / 14
    np.testing.assert_allclose(values, np.exp(-(y[:, None] ** 2 + x**2) / (2 * 0.25**2)), rtol=1e-5)


def test_edges_are_sobels() -> None:
    images = pixels()
    maps = Edges().attribute(prepare(drawn(linear_network()), images[:1]), images, TARGETS)
    for image, found in zip(images.numpy(), maps.numpy(), strict=True):
        parts = [np.hypot(sobel(c, 0, mode="nearest"), sobel(c, 1, mode="nearest")) for c in image]
        np.testing.assert_allclose(found[0], np.mean(parts, axis=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.key)
def test_every_method_says_the_same_twice_alone_or_in_a_batch_and_leaves_everything_alone(
    method: Method,
) -> None:
    net, images = drawn(Residual()), pixels()
    subject = prepare(net, images[:1])
    before, kept, state = fingerprint(net), images.clone(), torch.get_rng_state()
    maps = in_batches(method, subject, images, TARGETS)
    assert maps.shape[0] == 3
    assert maps.shape[1] in (1, 3)
    assert maps.shape[2:] == images.shape[2:]
    assert not maps.requires_grad
    torch.testing.assert_close(in_batches(method, subject, images, TARGETS), maps, rtol=0, atol=0)
    alone = torch.cat([in_batches(method, subject, images[i : i + 1], TARGETS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, maps)
    assert fingerprint(net) == before
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert method.economical().passes((12, 14)) <= method.passes((12, 14))


@pytest.mark.parametrize("make", [SmoothGrad, GradientShap, Rise, RandomMap])
def test_another_seed_gives_other_maps(make: type) -> None:
    net, images = drawn(Residual()), pixels()
    subject = prepare(net, images[:1])
    first, second = (make(seed=seed).attribute(subject, images, TARGETS) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_layercam_without_a_map_says_so() -> None:
    net = drawn(linear_network())
    with pytest.raises(NotApplicableError, match="larger than 1 × 1"):
        LayerCam().attribute(prepare(net, pixels()[:1]), pixels(), TARGETS)


def test_keys_and_titles_are_used_once() -> None:
    every = (*METHODS, *ALL)
    assert len({method.key for method in every}) == len({method.title for method in every}) == len(every)
