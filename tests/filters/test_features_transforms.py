"""The random movements, against a bilinear sampler of their own in pixel coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from studies.filters.optimise import Transforms

sizes = st.tuples(st.integers(4, 160), st.integers(4, 160))
seeds = st.integers(0, 2**31)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixel_map(movement: Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The 2 × 2 matrix and the shift in pixels (x, y) that a movement in grid units stands for."""
    half = np.array([size[1] / 2, size[0] / 2])
    matrix = movement.double().numpy()
    return matrix[:, :2] * half[:, None] / half[None, :], matrix[:, 2] * half


def test_nothing_is_moved_by_none() -> None:
    picture = torch.rand(3, 2, 9, 14, generator=seeded(0))
    still = Transforms.none()
    assert not still.moves
    moved = still.apply(picture, still.draw(3, (9, 14), seeded(1)))
    torch.testing.assert_close(moved, picture)


@given(sizes, seeds)
def test_movements_stay_within_their_ranges(size: tuple[int, int], seed: int) -> None:
    transforms = Transforms(jitter=6, scale=0.2, rotate=15, last_jitter=2)
    for movement in transforms.draw(8, size, seeded(seed)):
        linear, shift = pixel_map(movement, size)
        zoom = np.linalg.det(linear) ** -0.5
        assert 0.8 - 1e-4 <= zoom <= 1.2 + 1e-4
        turn = linear * zoom
        np.testing.assert_allclose(turn.T @ turn, np.eye(2), atol=1e-4)
        assert abs(math.degrees(math.atan2(turn[1, 0], turn[0, 0]))) <= 15.01
        # Half of either range, the second one seen through the change of size; the diagonal is the longest.
        assert np.linalg.norm(shift) <= (3 + 1 / 0.8) * math.sqrt(2) + 1e-3


def test_ranges_are_used_to_the_full() -> None:
    size = (100, 100)
    drawn = Transforms(jitter=6, scale=0.2, rotate=15, last_jitter=0).draw(2000, size, seeded(4))
    maps = [pixel_map(movement, size) for movement in drawn]
    zooms = np.array([np.linalg.det(linear) ** -0.5 for linear, _ in maps])
    angles = np.array([math.degrees(math.atan2(linear[1, 0], linear[0, 0])) for linear, _ in maps])
    shifts = np.array([shift for _, shift in maps])
    for values, bound in ((zooms - 1, 0.2), (angles, 15), (shifts[:, 0], 3), (shifts[:, 1], 3)):
        assert values.min() == pytest.approx(-bound, rel=0.02)
        assert values.max() == pytest.approx(bound, rel=0.02)
        assert abs(values.mean()) < 0.06 * bound
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.06), "drawn evenly"


def test_shifts_shrink_with_the_picture_and_can_be_bounded() -> None:
    assert Transforms.for_size((128, 300)) == Transforms()
    small = Transforms.for_size((32, 64))
    assert (small.jitter, small.last_jitter) == (2, 1)
    assert (small.scale, small.rotate) == (Transforms().scale, Transforms().rotate)
    bounded = Transforms().within(3)
    assert (bounded.jitter, bounded.last_jitter) == (3, 1.5)
    assert Transforms().within(100) == Transforms()


def bilinear(picture: np.ndarray, x: float, y: float) -> float:
    """The value at a point (x, y) in pixels from the corner, pixel centres at one half, mirrored at the edges."""
    height, width = picture.shape

    def mirrored(value: float, side: int) -> float:
        value = abs(value) % (2 * side)
        return min(max(min(value, 2 * side - value) - 0.5, 0.0), side - 1.0)

    column, row = mirrored(x, width), mirrored(y, height)
    left, top = min(int(column), max(width - 2, 0)), min(int(row), max(height - 2, 0))
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = column - left, row - top
    upper = (1 - a) * picture[top, left] + a * picture[top, right]
    lower = (1 - a) * picture[bottom, left] + a * picture[bottom, right]
    return float((1 - b) * upper + b * lower)


@pytest.mark.parametrize("size", [(12, 12), (9, 16)])
def test_pictures_are_sampled_where_the_movement_says(size: tuple[int, int]) -> None:
    height, width = size
    picture = torch.rand(2, 1, height, width, generator=seeded(2), dtype=torch.float64)
    movements = Transforms(jitter=8, scale=0.1, rotate=40, last_jitter=4).draw(2, size, seeded(3)).double()
    moved = Transforms.apply(picture, movements)
    for n, movement in enumerate(movements):
        linear, shift = pixel_map(movement, size)
        centre = np.array([width / 2, height / 2])
        for row in range(height):
            for column in range(width):
                x, y = linear @ (np.array([column + 0.5, row + 0.5]) - centre) + shift + centre
                expected = bilinear(picture[n, 0].numpy(), x, y)
                assert moved[n, 0, row, column].item() == pytest.approx(expected, abs=1e-6)


def test_draws_follow_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (Transforms().draw(5, (32, 32), seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
