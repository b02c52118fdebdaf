"""Ordinary corruptions against independent references: scipy, matplotlib, Pillow, closed forms."""

from __future__ import annotations

import io
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from torch import Tensor

from probe.core.seeds import generator
from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Corruption
from probe.data.corruptions.brightness import Brightness
from probe.data.corruptions.contrast import Contrast
from probe.data.corruptions.gaussian_blur import GaussianBlur
from probe.data.corruptions.gaussian_noise import GaussianNoise
from probe.data.corruptions.jpeg import JpegCompression
from probe.data.corruptions.shift import Shift

SEVERITIES = (1, 2, 3, 4, 5)
SHAPES = [(2, 3, 8, 8), (2, 1, 8, 8), (1, 3, 224, 224), (2, 1, 33, 20)]
KINDS = tuple(CORRUPTIONS.get(name)() for name in CORRUPTIONS)
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed, "corrupt"))


def scene(channels: int, side: int) -> Tensor:
    """A smooth picture with an edge and darker and lighter parts; one image."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    waves = [
        0.35 + 0.2 * torch.sin(3 * x + k) * torch.cos(2 * y - k) + 0.2 * (x > 0.6) for k in range(channels)
    ]
    return torch.stack(waves)[None].clamp(0, 1)


def drawn(seed: int = 0) -> torch.Generator:
    return generator(seed, "corruption")


def global_states() -> list[Any]:
    return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]


# --- what holds for every kind ----------------------------------------------------------------------------------


def test_kinds_have_names_units_and_published_amounts() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(kind.unit and len(kind.amounts) == 5 for kind in KINDS)
    assert GaussianNoise().amounts == (0.08, 0.12, 0.18, 0.26, 0.38)
    assert [amount * 224 for amount in GaussianBlur().amounts] == pytest.approx([1, 2, 3, 4, 6])
    assert JpegCompression().amounts == (25, 18, 15, 10, 7)
    assert Brightness().amounts == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert Contrast().amounts == (0.4, 0.3, 0.2, 0.1, 0.05)
    assert Shift().amounts == (0.02, 0.04, 0.08, 0.12, 0.16)


@kinds
@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 3), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)),
    severity=st.sampled_from(SEVERITIES),
    seed=st.integers(0, 2**32),
    level=st.sampled_from([0.0, 0.5, 1.0, None]),
)
def test_gives_images_of_the_same_shape_and_leaves_everything_else_alone(
    kind: Corruption, shape: tuple[int, ...], severity: int, seed: int, level: float | None
) -> None:
    images = pixels(*shape, seed=seed) if level is None else torch.full(shape, level)
    kept, states = images.clone(), global_states()
    first = kind.apply(images, severity, drawn(seed))
    assert first.shape == images.shape
    assert first.dtype == torch.float32
    assert first.device == images.device
    assert bool(((first >= 0) & (first <= 1)).all())
    assert first.data_ptr() != images.data_ptr() or not images.numel()
    assert torch.equal(first, kind.apply(images, severity, drawn(seed)))
    assert torch.equal(images, kept)
    assert global_states() == states


@kinds
@pytest.mark.parametrize(("channels", "side"), [(3, 224), (1, 224), (3, 32), (1, 32), (3, 8), (1, 8)])
def test_moves_further_from_the_original_at_higher_severities(
    kind: Corruption, channels: int, side: int
) -> None:
    image = scene(channels, side)
    far = [float((kind.apply(image, severity, drawn()) - image).abs().mean()) for severity in SEVERITIES]
    rounding = 1e-3 if isinstance(kind, JpegCompression) else 0.0  # of a block's few coefficients, either way
    assert all(after >= before - rounding for before, after in pairwise(far))
    assert far[-1] > far[0] >= 0 or (isinstance(kind, Shift) and side == 8)
    assert far[0] > 0 or (isinstance(kind, GaussianBlur) and side <= 32)


@kinds
def test_accepts_float64_and_gradients_and_gives_plain_float32(kind: Corruption) -> None:
    images = pixels(2, 3, 16, 16).double().requires_grad_()
    found = kind.apply(images, 3, drawn())
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, kind.apply(images.detach().float(), 3, drawn()))


@kinds
@pytest.mark.parametrize("severity", [0, 6, -1])
def test_refuses_other_severities(kind: Corruption, severity: int) -> None:
    with pytest.raises(ValueError, match="severity must be 1 to 5"):
        kind.apply(pixels(1, 3, 8, 8), severity, drawn())


@kinds
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 8, 8), (1, 3, 0, 8), (8, 8)])
def test_refuses_other_shapes(kind: Corruption, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected images of shape"):
        kind.apply(torch.zeros(shape), 1, drawn())


# --- each kind against its reference ----------------------------------------------------------------------------


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.93])
def test_noise_has_the_mean_and_spread_of_a_clipped_normal(severity: int, level: float) -> None:
    sigma = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    found = GaussianNoise().apply(torch.full((4, 3, 200, 200), level), severity, drawn()).double()
    low, high = -level / sigma, (1 - level) / sigma
    inside = norm.cdf(high) - norm.cdf(low)
    mean = level * inside + sigma * (norm.pdf(low) - norm.pdf(high)) + (1 - norm.cdf(high))
    grid = np.linspace(0, 1, 200_001)
    density = norm.pdf((grid - level) / sigma) / sigma
    square = np.trapezoid(grid**2 * density, grid) + (1 - norm.cdf(high))
    spread = float(np.sqrt(square - mean**2))
    n = found.numel()
    assert float(found.mean()) == pytest.approx(mean, abs=5 * spread / n**0.5)
    assert float(found.std()) == pytest.approx(spread, rel=0.01)
    assert float((found == 0).double().mean()) == pytest.approx(norm.cdf(low), abs=5 * 0.5 / n**0.5)
    assert float((found == 1).double().mean()) == pytest.approx(1 - norm.cdf(high), abs=5 * 0.5 / n**0.5)


def test_noise_is_independent_between_images_channels_and_neighbours() -> None:
    noise = (GaussianNoise().apply(torch.full((2, 3, 100, 100), 0.5), 1, drawn()) - 0.5).double()
    rows = noise.reshape(6, -1).numpy()
    assert np.abs(np.corrcoef(rows) - np.eye(6)).max() < 0.05
    assert abs(np.corrcoef(rows[:, :-1].ravel(), rows[:, 1:].ravel())[0, 1]) < 0.02
    other = GaussianNoise().apply(torch.full((2, 3, 100, 100), 0.5), 1, drawn(1)) - 0.5
    assert not torch.equal(other.double(), noise)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_scipys_gaussian_filter(shape: tuple[int, ...], severity: int) -> None:
    images = pixels(*shape)
    sigma = (1, 2, 3, 4, 6)[severity - 1] / 224 * min(shape[2:])
    expected = gaussian_filter(
        images.double().numpy(), sigma=(0, 0, sigma, sigma), mode="nearest", truncate=4.0
    )
    np.testing.assert_allclose(GaussianBlur().apply(images, severity, drawn()).numpy(), expected, atol=2e-6)


def test_blur_is_the_same_picture_at_another_resolution() -> None:
    large, small = scene(1, 224), scene(1, 112)
    blurred = [GaussianBlur().apply(image, 5, drawn()) for image in (large, small)]
    reduced = torch.nn.functional.avg_pool2d(blurred[0], 2)
    assert float((reduced - blurred[1]).abs().max()) < 0.02


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_jpeg_is_pillows_round_trip(shape: tuple[int, ...], severity: int) -> None:
    images = pixels(*shape)
    found = JpegCompression().apply(images, severity, drawn())
    for image, got in zip(images.numpy(), found.numpy(), strict=True):
        eight = (image * 255).round().astype(np.uint8)
        picture = (
            Image.fromarray(eight[0])
            if len(eight) == 1
            else Image.merge("RGB", list(map(Image.fromarray, eight)))
        )
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
        again = np.stack([np.asarray(band) for band in Image.open(file).split()]) / 255
        np.testing.assert_allclose(got, again, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_raises_the_value_of_hsv(severity: int) -> None:
    images = pixels(2, 3, 24, 24)
    images[0, :, :4], images[0, :, 4:8], images[1, :, 0, 0] = 0.0, 1.0, 0.3
    hsv = rgb_to_hsv(images.double().permute(0, 2, 3, 1).numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + severity / 10, 0, 1)
    expected = np.moveaxis(hsv_to_rgb(hsv), 3, 1)
    np.testing.assert_allclose(Brightness().apply(images, severity, drawn()).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_of_grey_images_is_an_addition(severity: int) -> None:
    images = pixels(2, 1, 8, 8)
    images[0, 0, 0] = 0.0
    images[1, 0, 0, 0] = 1e-42
    expected = (images.double() + severity / 10).clamp(0, 1).numpy()
    np.testing.assert_allclose(Brightness().apply(images, severity, drawn()).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_contrast_keeps_the_means_and_scales_the_deviations(shape: tuple[int, ...], severity: int) -> None:
    images = pixels(*shape)
    found = Contrast().apply(images, severity, drawn()).double().numpy()
    factor = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    for image, got in zip(images.double().numpy(), found, strict=True):
        for channel, seen in zip(image, got, strict=True):
            np.testing.assert_allclose(seen, channel.mean() + factor * (channel - channel.mean()), atol=2e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (40, 1, 33, 20), (8, 3, 224, 224)])
def test_shift_moves_by_whole_pixels_one_of_four_ways(shape: tuple[int, ...], severity: int) -> None:
    images = pixels(*shape)
    part = (0.02, 0.04, 0.08, 0.12, 0.16)[severity - 1]
    down, right = (max(1, round(part * side)) for side in shape[2:])
    found = Shift().apply(images, severity, drawn()).numpy()
    seen = set()
    for image, got in zip(images.numpy(), found, strict=True):
        padded = np.pad(image, ((0, 0), (down, down), (right, right)), mode="edge")
        height, width = shape[2:]
        ways = {
            "down": padded[:, :height, right : right + width],
            "up": padded[:, 2 * down :, right : right + width],
            "right": padded[:, down : down + height, :width],
            "left": padded[:, down : down + height, 2 * right :],
        }
        matching = [way for way, expected in ways.items() if np.array_equal(got, expected)]
        assert len(matching) == 1
        seen.update(matching)
    assert len(seen) == 4 or len(images) < 40


def test_shift_goes_the_same_way_at_every_severity_of_one_seed() -> None:
    """So that a curve over severities compares like with like."""
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    signs = {float((Shift().apply(ramp, s, drawn(5)) - ramp).mean().sign()) for s in SEVERITIES}
    assert len(signs) == 1
