"""Pooling by hand against torch: values, recorded places, gradients, and what becomes of the error's sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand_draws import EACH, Array, Pooled, autograd, normal, pooled, same
from by_hand_pooling import Pooling, average_pool, average_pool_gradient, max_pool, max_pool_gradient
from hypothesis import given
from hypothesis import strategies as st

PADDED = pytest.mark.parametrize("padded", [False, True], ids=["unpadded", "padded"])
COUNTED = pytest.mark.parametrize("counted", [False, True], ids=["not counted", "counted"])


def sums(x: Array) -> Array:
    """The sum over each channel's map."""
    return x.sum(axis=(2, 3))


@PADDED
@COUNTED
@EACH
@given(st.data())
def test_average_pooling_and_its_gradient_equal_torchs(
    counted: bool, padded: bool, data: st.DataObject
) -> None:
    case: Pooled = data.draw(pooled(padded))

    def torchs(x: torch.Tensor) -> torch.Tensor:
        words = vars(case.pooling).copy()
        return F.avg_pool2d(x, words.pop("kernel"), **words, count_include_pad=counted)

    same(average_pool(case.x, case.pooling, counted), torchs(torch.from_numpy(case.x)))
    (gradient,) = autograd(torchs, case.error, case.x)
    same(average_pool_gradient(case.error, case.x.shape[2:], case.pooling, counted), gradient)


@EACH
@given(pooled())
def test_max_pooling_its_places_and_its_gradient_equal_torchs(case: Pooled) -> None:
    words = vars(case.pooling).copy()
    kernel = words.pop("kernel")
    y, places = max_pool(case.x, case.pooling)
    expected, indices = F.max_pool2d(torch.from_numpy(case.x), kernel, **words, return_indices=True)
    same(y, expected)
    np.testing.assert_array_equal(places, indices.numpy())
    (gradient,) = autograd(lambda x: F.max_pool2d(x, kernel, **words), case.error, case.x)
    same(max_pool_gradient(case.error, places, case.x.shape[2:]), gradient)


@EACH
@given(pooled())
def test_max_pooling_leaves_the_errors_sum_unchanged_padded_or_not(case: Pooled) -> None:
    _, places = max_pool(case.x, case.pooling)
    same(sums(max_pool_gradient(case.error, places, case.x.shape[2:])), sums(case.error))


@EACH
@given(pooled(padded=False), st.booleans())
def test_without_padding_average_pooling_leaves_the_errors_sum_unchanged(case: Pooled, counted: bool) -> None:
    gradient = average_pool_gradient(case.error, case.x.shape[2:], case.pooling, counted)
    same(sums(gradient), sums(case.error))


@EACH
@given(pooled(padded=True))
def test_padding_keeps_its_share_of_the_error_exactly_when_it_is_counted(case: Pooled) -> None:
    size = case.x.shape[2:]
    same(sums(average_pool_gradient(case.error, size, case.pooling, False)), sums(case.error))
    # The share of each window that lies on the input is the average of ones with counted padding.
    shares = F.avg_pool2d(
        torch.ones(1, 1, *size, dtype=torch.float64),
        case.pooling.kernel,
        case.pooling.stride,
        case.pooling.padding,
        count_include_pad=True,
    ).numpy()
    assert shares[0, 0, 0, 0] < 1, "the first window always reaches over the edge"
    kept = average_pool_gradient(case.error, size, case.pooling, True)
    same(sums(kept), sums(case.error * shares))


@PADDED
@EACH
@given(st.data())
def test_pooling_and_its_gradient_are_adjoint(padded: bool, data: st.DataObject) -> None:
    """⟨pool(x), e⟩ = ⟨x, gradient⟩: an average is linear, a maximum is linear once its places are recorded."""
    case: Pooled = data.draw(pooled(padded))
    size = case.x.shape[2:]
    for counted in (False, True):
        y = average_pool(case.x, case.pooling, counted)
        back = average_pool_gradient(case.error, size, case.pooling, counted)
        assert (case.x * back).sum() == pytest.approx((y * case.error).sum(), rel=0, abs=1e-10)
    y, places = max_pool(case.x, case.pooling)
    back = max_pool_gradient(case.error, places, size)
    assert (case.x * back).sum() == pytest.approx((y * case.error).sum(), rel=0, abs=1e-10)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_of_equal_values_the_first_in_row_major_order_is_taken(
    layout: torch.memory_format, padding: tuple[int, int]
) -> None:
    x = np.round(normal(4, 2, 3, 7, 8))  # whole numbers: most windows hold ties
    x[0, 0] = 1.0
    y, places = max_pool(x, Pooling((3, 3), (2, 1), padding))
    torchs = torch.from_numpy(x).contiguous(memory_format=layout)
    expected, indices = F.max_pool2d(torchs, 3, (2, 1), padding, return_indices=True)
    same(y, expected)
    np.testing.assert_array_equal(places, indices.numpy())
    error = normal(5, *y.shape)
    (gradient,) = autograd(
        lambda z: F.max_pool2d(z.contiguous(memory_format=layout), 3, (2, 1), padding), error, x
    )
    same(max_pool_gradient(error, places, x.shape[2:]), gradient)


def test_a_tie_by_hand() -> None:
    x = np.array([[[[1.0, 5, 5], [5, 0, 2], [2, 2, 2]]]])
    y, places = max_pool(x, Pooling((2, 2), (1, 1), (0, 0)))
    assert y[0, 0].tolist() == [[5, 5], [5, 2]]
    assert places[0, 0].tolist() == [[1, 1], [3, 5]]
    gradient = max_pool_gradient(np.array([[[[1.0, 10], [100, 1000]]]]), places, (3, 3))
    assert gradient[0, 0].tolist() == [[0, 11, 0], [100, 0, 1000], [0, 0, 0]]


def test_an_average_of_negative_numbers_at_the_edge() -> None:
    x = np.full((1, 1, 2, 2), -4.0)
    pooling = Pooling((2, 2), (2, 2), (1, 1))
    assert average_pool(x, pooling, True).tolist() == [[[[-1, -1], [-1, -1]]]]
    assert average_pool(x, pooling, False).tolist() == [[[[-4, -4], [-4, -4]]]]
    assert max_pool(x, pooling)[0].tolist() == [[[[-4, -4], [-4, -4]]]]
