"""The filter bank against loops and planted duplicates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probe.core.seeds import generator
from probe.report.raster import framed, magnified, signed_tile, stacked
from studies.filters.views.weights import analyse, order_by_similarity


def draw(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((count, 3, 3, 3), generator=generator(seed))


@given(st.integers(2, 12), st.integers(0, 1000))
def test_nearest_and_cosine_are_those_of_a_loop(count: int, seed: int) -> None:
    weight = draw(count, seed)
    bank = analyse(weight)
    flat = weight.flatten(1).double().numpy()
    for i in range(count):
        cosines = [
            -np.inf
            if i == j
            else float(flat[i] @ flat[j] / np.sqrt((flat[i] @ flat[i]) * (flat[j] @ flat[j])))
            for j in range(count)
        ]
        assert bank.nearest[i] == int(np.argmax(cosines))
        assert bank.cosine[i] == pytest.approx(max(cosines))
        assert bank.norms[i] == pytest.approx(float(weight[i].double().norm()))
    assert sorted(bank.order.tolist()) == list(range(count))


def test_planted_duplicates_are_counted_and_stand_together() -> None:
    weight = draw(10)
    weight[7] = 3 * weight[2]  # the same direction, another strength
    weight[4] = -weight[1]  # the opposite is no duplicate
    bank = analyse(weight)
    assert bank.duplicates == 2
    order = bank.order.tolist()
    assert abs(order.index(7) - order.index(2)) == 1


def test_a_filter_of_zeros_is_like_none() -> None:
    weight = draw(4)
    weight[1] = 0
    bank = analyse(weight)
    assert bank.norms[1] == 0
    assert bank.cosine[1] == 0
    assert np.isfinite(bank.cosine).all()


def test_one_filter_has_no_nearest() -> None:
    bank = analyse(draw(1))
    assert np.isnan(bank.cosine).all()
    assert bank.duplicates == 0


def test_alike_neighbours_are_nearer_than_in_a_random_order() -> None:
    angles = torch.rand(40, generator=generator(3)).double() * 2 * np.pi
    unit = torch.stack([angles.cos(), angles.sin()], 1).numpy()
    order = order_by_similarity(unit)

    def length(sequence: np.ndarray) -> float:
        walked = unit[sequence]
        return float(np.linalg.norm(np.diff(walked, axis=0), axis=1).sum())

    assert length(order) < 2 * np.pi * 1.05  # around the circle once at most
    assert length(order) < length(np.arange(40)) / 3


def test_signed_tile_puts_zero_at_mid_grey() -> None:
    kernel = torch.tensor([[[-2.0, 0.0, 2.0]]])
    assert signed_tile(kernel, 2.0).tolist() == [[0, 128, 255]]
    assert signed_tile(kernel * 0, 0.0).tolist() == [[128, 128, 128]]


def test_framed_shows_what_lies_in_the_box_and_grey_elsewhere() -> None:
    image = torch.arange(16.0).view(1, 4, 4) / 16
    tile = framed(image, (0, 0, 2, 3), (-1, -1, 2, 4))
    assert tile.shape == (1, 3, 5)
    assert torch.equal(tile[0, 1:, 1:4], image[0, :2, :3])
    assert (tile[0, 0] == 0.5).all()
    assert (tile[0, :, 0] == 0.5).all()
    assert (tile[0, :, 4] == 0.5).all()


def test_magnified_keeps_pixels_crisp_and_stacked_keeps_them_in_order() -> None:
    image = torch.tensor([[[0.0, 1.0]]])
    big = magnified(image, 6)
    assert big.shape == (3, 6)
    assert set(big.ravel().tolist()) == {0, 255}
    tall = stacked([big, big], gap=2)
    assert tall.shape == (8, 6)
    assert (tall[3:5] == 128).all()
    assert stacked([big, np.zeros((3, 6, 3), np.uint8)]).shape == (9, 6, 3)
