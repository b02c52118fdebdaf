"""The Fourier basis against numpy and against the sum that defines it; the colour axes against photographs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from studies.filters.optimise.basis import FourierBasis, Parametrisation, colour_axes

SIZES = [(1, 1), (1, 6), (5, 1), (4, 4), (5, 5), (6, 9), (9, 6), (7, 2), (16, 15)]
sides = st.integers(1, 12)
seeds = st.integers(0, 2**32 - 1)


def coefficients(basis: FourierBasis, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=basis.shape)


def scale_by_definition(height: int, width: int, decay: float) -> NDArray[np.float64]:
    """frequency^-decay, frequency in cycles per pixel, not below that of one wave across the longer side."""
    scale = np.empty((height, width // 2 + 1))
    for row in range(height):
        for column in range(width // 2 + 1):
            up = min(row, height - row) / height
            frequency = (up**2 + (column / width) ** 2) ** 0.5
            scale[row, column] = max(frequency, 1 / max(height, width)) ** -decay
    return scale


def plane_by_definition(scaled: NDArray[np.complex128], height: int, width: int) -> NDArray[np.float64]:
    """The sum of waves; a column without its own mirror image stands for two of them."""
    y, x = np.mgrid[:height, :width]
    plane = np.zeros((height, width))
    for row in range(height):
        for column in range(width // 2 + 1):
            alone = column == 0 or 2 * column == width
            wave = np.exp(2j * np.pi * (row * y / height + column * x / width))
            plane += (1 if alone else 2) * (scaled[row, column] * wave).real
    return plane / np.sqrt(height * width)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_planes_are_the_sum_of_scaled_waves(height: int, width: int, decay: float) -> None:
    basis = FourierBasis(height, width, decay)
    given_ = coefficients(basis, 3)
    scaled = (given_[..., 0] + 1j * given_[..., 1]) * scale_by_definition(height, width, decay)
    planes = basis.planes(torch.from_numpy(given_)).numpy()
    assert planes.shape == (height, width)
    np.testing.assert_allclose(planes, plane_by_definition(scaled, height, width), atol=1e-5)


@given(sides, sides, seeds)
def test_planes_agree_with_numpys_inverse_transform(height: int, width: int, seed: int) -> None:
    basis = FourierBasis(height, width)
    given_ = coefficients(basis, seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = (given_[..., 0] + 1j * given_[..., 1]) / np.maximum(frequency, 1 / max(height, width))
    expected = np.fft.irfft2(spectrum, s=(height, width), norm="ortho")
    np.testing.assert_allclose(basis.planes(torch.from_numpy(given_)).numpy(), expected, rtol=1e-5, atol=1e-5)


@given(sides, sides, seeds)
def test_every_picture_can_be_written_in_the_basis(height: int, width: int, seed: int) -> None:
    plane = np.random.default_rng(seed).normal(size=(height, width))
    basis = FourierBasis(height, width)
    spectrum = np.fft.rfft2(plane, norm="ortho") / basis.scale().double().numpy()
    both = torch.from_numpy(np.stack([spectrum.real, spectrum.imag], axis=-1))
    np.testing.assert_allclose(basis.planes(both).numpy(), plane, atol=1e-5)


def test_planes_keep_leading_dimensions_apart() -> None:
    basis = FourierBasis(5, 6)
    both = torch.randn(2, 3, *basis.shape, generator=torch.Generator().manual_seed(0))
    planes = basis.planes(both)
    assert planes.shape == (2, 3, 5, 6)
    torch.testing.assert_close(planes[1, 2], basis.planes(both[1, 2]))


def test_colour_axes_are_normalised_and_reach_every_colour() -> None:
    axes = colour_axes().double()
    assert axes.norm(dim=0).max().item() == pytest.approx(1)
    assert torch.linalg.matrix_rank(axes).item() == 3


def test_colour_axes_are_uncorrelated_and_the_first_is_brightness() -> None:
    axes = colour_axes().double().numpy()
    unit = axes / np.linalg.norm(axes, axis=0)
    assert np.abs(unit.T @ unit - np.eye(3)).max() < 0.15, "published with two decimals"
    assert unit[:, 0] @ np.full(3, 3**-0.5) > 0.99
    lengths = np.linalg.norm(axes, axis=0)
    assert lengths[0] > lengths[1] > lengths[2]


def test_colour_axes_remove_the_correlation_of_photographs() -> None:
    spec = find_spec("foolbox")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    photographs = [
        Image.open(path).convert("RGB").resize((64, 64)) for path in sorted(folder.glob("imagenet*.jpg"))
    ]
    colours = np.concatenate(
        [np.asarray(photograph, dtype=np.float64).reshape(-1, 3) for photograph in photographs]
    )
    assert len(colours) == 20 * 64 * 64
    planes = np.linalg.solve(colour_axes().double().numpy(), (colours - colours.mean(0)).T)
    before, after = np.corrcoef(colours.T), np.corrcoef(planes)
    above = np.triu_indices(3, 1)
    assert np.abs(before[above]).min() > 0.7
    assert np.abs(after[above]).max() < 0.2
    # Undoing the axes gives planes of one spread, as the coefficients of one standard deviation assume.
    assert planes.std(1).max() / planes.std(1).min() < 2


@pytest.mark.parametrize(
    ("channels", "grey", "planes"), [(3, False, 3), (3, True, 1), (1, False, 1), (2, False, 2)]
)
def test_pictures_are_pixels_of_the_right_kind(channels: int, grey: bool, planes: int) -> None:
    parametrisation = Parametrisation(FourierBasis(9, 8), channels, grey)
    start = parametrisation.start(torch.Generator().manual_seed(1))
    assert start.shape == (planes, 9, 5, 2)
    pictures = parametrisation.pictures(torch.stack([start, 1000 * start]))
    assert pictures.shape == (2, channels, 9, 8)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert (pictures[0] - 0.5).abs().max() < 0.1, "the first picture is near grey"
    same = bool((pictures[1] == pictures[1, :1]).all())
    assert same == (grey or channels == 1)


def test_three_channels_are_mixed_by_the_colour_axes() -> None:
    parametrisation = Parametrisation(FourierBasis(1, 1))
    coefficients_ = torch.zeros(1, 3, 1, 1, 2)
    coefficients_[0, :, 0, 0, 0] = torch.tensor([4.0, -8.0, 12.0])
    mixed = colour_axes().double() @ torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    expected = 1 / (1 + (-mixed).exp())
    torch.testing.assert_close(parametrisation.pictures(coefficients_)[0, :, 0, 0].double(), expected)
