"""Structural similarity against explicit loops over windows and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from probe.core.seeds import generator
from probe.core.ssim import ssim

Array = NDArray[np.float64]
C1, C2 = 1e-4, 9e-4


def slow_ssim(a: Array, b: Array) -> float:
    """Follow equations 14 to 17 of the paper for one image (C, H, W), one window after the other."""
    channels, height, width = a.shape
    size = max(s for s in (1, 3, 5, 7, 9, 11) if s <= min(height, width))
    window = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            window[i, j] = np.exp(-((i - size // 2) ** 2 + (j - size // 2) ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for channel in range(channels):
        for top in range(height - size + 1):
            for left in range(width - size + 1):
                x = a[channel, top : top + size, left : left + size]
                y = b[channel, top : top + size, left : left + size]
                mx, my = (window * x).sum(), (window * y).sum()
                sx, sy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                sxy = (window * (x - mx) * (y - my)).sum()
                values.append((2 * mx * my + C1) * (2 * sxy + C2) / ((mx**2 + my**2 + C1) * (sx + sy + C2)))
    return float(np.mean(values))


def pixels(*shape: int, key: str = "a") -> Tensor:
    return torch.rand(shape, generator=generator(0, "ssim", key))


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 16, 13), (1, 1, 11, 11), (2, 1, 10, 12), (1, 3, 8, 8), (1, 1, 5, 30), (1, 2, 2, 3), (1, 1, 1, 1)],
)
def test_agrees_with_explicit_loops(shape: tuple[int, ...]) -> None:
    a = pixels(*shape)
    b = (0.7 * a + 0.3 * pixels(*shape, key="b")).clamp(0, 1)
    expected = [slow_ssim(x, y) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    found = ssim(a, b)
    assert found.dtype == torch.float32
    assert found.shape == (shape[0],)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_agrees_on_nearly_flat_images_where_float32_would_not() -> None:
    a = 0.9 + 1e-4 * pixels(1, 1, 20, 20)
    b = a + 1e-4 * pixels(1, 1, 20, 20, key="b")
    expected = slow_ssim(a[0].double().numpy(), b[0].double().numpy())
    np.testing.assert_allclose(ssim(a, b).numpy(), [expected], rtol=1e-7)


sizes = st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 24), st.integers(1, 24))


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 10**6))
def test_lies_in_range_is_symmetric_and_1_for_equal_images(shape: tuple[int, ...], seed: int) -> None:
    a = torch.rand(shape, generator=generator(seed, "a"))
    b = torch.rand(shape, generator=generator(seed, "b"))
    kept = a.clone(), b.clone()
    found = ssim(a, b)
    assert bool((found.abs() <= 1).all())
    assert bool((found < 1).all())
    torch.testing.assert_close(ssim(b, a), found, rtol=0, atol=1e-7)
    torch.testing.assert_close(ssim(a, a), torch.ones(shape[0]), rtol=0, atol=1e-7)
    assert torch.equal(a, kept[0])
    assert torch.equal(b, kept[1])


@pytest.mark.parametrize(("p", "q"), [(0.0, 1.0), (0.2, 0.6), (0.5, 0.5), (0.0, 0.0)])
def test_flat_images_are_compared_by_brightness_alone(p: float, q: float) -> None:
    a, b = torch.full((1, 3, 15, 15), p), torch.full((1, 3, 15, 15), q)
    expected = (2 * p * q + C1) / (p * p + q * q + C1)
    assert float(ssim(a, b)) == pytest.approx(expected, rel=1e-5)


def test_a_negative_is_dissimilar_in_structure() -> None:
    a = pixels(2, 1, 32, 32)
    assert bool((ssim(a, 1 - a) < -0.5).all())


def test_falls_as_noise_grows() -> None:
    a = torch.linspace(0.2, 0.8, 64).expand(1, 3, 64, 64)
    noise = torch.randn(a.shape, generator=generator(3))
    values = [float(ssim(a, a + size * noise)) for size in (0.0, 0.01, 0.03, 0.1, 0.3)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0
    assert values[-1] < 0.1


def test_a_shift_of_brightness_costs_less_than_noise_of_the_same_error() -> None:
    """The point of the paper's figure 2: images of equal mean squared error differ in similarity."""
    a = 0.3 + 0.4 * pixels(1, 1, 64, 64)
    noise = torch.randn(a.shape, generator=generator(4))
    noise = 0.1 * noise / noise.square().mean().sqrt()
    assert float(ssim(a, a + 0.1)) > float(ssim(a, a + noise)) + 0.1


def test_many_images_are_each_compared_with_their_own_partner() -> None:
    a, b = pixels(37, 1, 12, 12), pixels(37, 1, 12, 12, key="b")
    single = torch.cat([ssim(a[i : i + 1], b[i : i + 1]) for i in range(37)])
    torch.testing.assert_close(ssim(a, b), single, rtol=0, atol=1e-7)
    assert ssim(a[:0], b[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 3, 8, 8), (1, 1, 8, 8)),
        ((3, 8, 8), (3, 8, 8)),
        ((1, 3, 0, 8), (1, 3, 0, 8)),
        ((2, 1, 8, 8), (1, 1, 8, 8)),
    ],
)
def test_refuses_other_shapes(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of one shape"):
        ssim(torch.zeros(one), torch.zeros(other))


def test_carries_no_gradient() -> None:
    assert not ssim(pixels(1, 1, 12, 12).requires_grad_(), pixels(1, 1, 12, 12)).requires_grad
