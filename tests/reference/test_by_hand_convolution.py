"""The hand-written convolution and its gradients against polynomials, numpy and torch's autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand_convolution import (
    Geometry,
    bias_gradient,
    convolve,
    correlate,
    input_gradient,
    kernel_gradient,
    pad,
    rotate,
    spread,
    sum_antidiagonals,
    tensor_product,
)
from by_hand_draws import EACH, SEEDS, Array, Layer, autograd, layers, normal, same
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import polynomial

CONV = {1: F.conv1d, 2: F.conv2d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d}
lengths = st.integers(1, 7)
sides = st.tuples(st.integers(1, 4), st.integers(1, 4))
any_layer = pytest.mark.parametrize("dims", [1, 2])


def torchs_full_convolution(f: Array, g: Array) -> torch.Tensor:
    """torch correlates: turn the kernel around and pad until they only just touch."""
    turned = torch.from_numpy(np.flip(g).copy())[None, None]
    padding = tuple(n - 1 for n in g.shape)
    return CONV[f.ndim](torch.from_numpy(f)[None, None], turned, padding=padding)[0, 0]


@EACH
@given(lengths, lengths, SEEDS)
def test_the_tensor_product_is_the_table_of_all_products(a: int, b: int, seed: int) -> None:
    f, g = normal(seed, a, 2), normal(seed + 1, b, 3)
    same(tensor_product(f, g), np.multiply.outer(f, g))
    table = tensor_product(f[:, 0], g[:, 0])
    sums = [np.fliplr(table).trace(offset) for offset in range(b - 1, -a, -1)]  # numpy's own diagonals
    same(sum_antidiagonals(table), np.array(sums))


@EACH
@given(lengths, lengths, SEEDS)
def test_folded_outer_products_multiply_polynomials(a: int, b: int, seed: int) -> None:
    f, g = normal(seed, a), normal(seed + 1, b)
    same(convolve(f, g), polynomial.polymul(f, g))
    same(convolve(f, g), np.convolve(f, g))
    same(convolve(f, g), torchs_full_convolution(f, g))
    same(convolve(f, g), convolve(g, f))


@EACH
@given(sides, sides, SEEDS)
def test_in_two_dimensions_they_multiply_polynomials_in_two_variables(
    a: tuple[int, int], b: tuple[int, int], seed: int
) -> None:
    f, g = normal(seed, *a), normal(seed + 1, *b)
    product = convolve(f, g)
    s, t = np.random.default_rng(seed).uniform(-1, 1, size=(2, 20))
    values = polynomial.polyval2d(s, t, f) * polynomial.polyval2d(s, t, g)
    same(polynomial.polyval2d(s, t, product), values)
    # Kronecker's substitution: rows that are long enough make two variables one, and no sum overflows.
    rows, columns = product.shape
    f_row, g_row = (np.pad(h, ((0, 0), (0, columns - h.shape[1]))).ravel() for h in (f, g))
    same(product, np.convolve(f_row, g_row)[: rows * columns].reshape(rows, columns))
    same(product, torchs_full_convolution(f, g))


def test_whole_numbers_are_convolved_exactly() -> None:
    f, g = np.array([1.0, 2, 3]), np.array([4.0, 5, 6, 7])
    assert convolve(f, g).tolist() == [4, 13, 28, 34, 32, 21]  # 123 × 4567 before carrying


@any_layer
@EACH
@given(st.data())
def test_a_layer_is_a_cross_correlation(dims: int, data: st.DataObject) -> None:
    case: Layer = data.draw(layers(dims))
    x, kernel, bias = (torch.from_numpy(a) for a in (case.x, case.kernel, case.bias))
    same(
        correlate(case.x, case.kernel, case.bias, case.geometry),
        CONV[dims](x, kernel, bias, **case.words),
    )
    same(correlate(case.x, case.kernel, None, case.geometry), CONV[dims](x, kernel, **case.words))


@any_layer
@EACH
@given(st.data())
def test_convolution_is_correlation_with_the_rotated_kernel(dims: int, data: st.DataObject) -> None:
    f = normal(data.draw(SEEDS), *(data.draw(st.integers(1, 4)) for _ in range(dims)))
    g = normal(data.draw(SEEDS), *(data.draw(st.integers(1, 4)) for _ in range(dims)))
    full = Geometry((1,) * dims, tuple(n - 1 for n in g.shape), (1,) * dims)
    same(correlate(f[None, None], rotate(g[None, None]), None, full)[0, 0], convolve(f, g))


@any_layer
@EACH
@given(st.data())
def test_kernel_and_bias_gradients_equal_autograd(dims: int, data: st.DataObject) -> None:
    case: Layer = data.draw(layers(dims))
    x = torch.from_numpy(case.x)
    kernel, bias = autograd(
        lambda w, b: CONV[dims](x, w, b, **case.words), case.error, case.kernel, case.bias
    )
    same(kernel_gradient(case.x, case.error, case.kernel.shape[2:], case.geometry), kernel)
    same(bias_gradient(case.error), bias)


@any_layer
@EACH
@given(st.data())
def test_the_input_gradient_equals_autograd(dims: int, data: st.DataObject) -> None:
    case: Layer = data.draw(layers(dims))
    kernel = torch.from_numpy(case.kernel)
    (gradient,) = autograd(lambda x: CONV[dims](x, kernel, **case.words), case.error, case.x)
    same(input_gradient(case.error, case.kernel, case.x.shape[2:], case.geometry), gradient)


@any_layer
@EACH
@given(st.data())
def test_the_input_gradient_is_the_transposed_convolution(dims: int, data: st.DataObject) -> None:
    """What the stride never reaches is what torch calls output padding."""
    case: Layer = data.draw(layers(dims))
    size, geometry = case.x.shape[2:], case.geometry
    spans = zip(size, geometry.padding, geometry.reach(case.kernel.shape[2:]), geometry.stride, strict=True)
    rest = tuple((n + 2 * p - reach) % s for n, p, reach, s in spans)
    error, kernel = torch.from_numpy(case.error), torch.from_numpy(case.kernel)
    expected = TRANSPOSED[dims](error, kernel, output_padding=rest, **case.words)
    same(input_gradient(case.error, case.kernel, size, geometry), expected)


@any_layer
@EACH
@given(st.data())
def test_the_input_gradient_is_the_folded_outer_product_of_error_and_kernel(
    dims: int, data: st.DataObject
) -> None:
    """A layer correlates, so its error is convolved with the kernel as it is: no rotation in ``convolve``."""
    case: Layer = data.draw(layers(dims))
    size, geometry = case.x.shape[2:], case.geometry
    padded = pad(np.zeros_like(case.x), geometry.padding)
    errors = spread(case.error, geometry.stride)
    kernels = spread(case.kernel, geometry.dilation)
    inputs, outputs = (n // geometry.groups for n in (case.x.shape[1], case.error.shape[1]))
    for n, o, c in np.ndindex(len(errors), errors.shape[1], inputs):
        full = convolve(errors[n, o], kernels[o, c])
        padded[n, o // outputs * inputs + c, *map(slice, full.shape)] += full
    inside = padded[:, :, *(slice(p, p + k) for p, k in zip(geometry.padding, size, strict=True))]
    same(input_gradient(case.error, case.kernel, size, geometry), inside)


@any_layer
@EACH
@given(st.data())
def test_layer_and_transpose_are_adjoint(dims: int, data: st.DataObject) -> None:
    """⟨conv(x, w), e⟩ = ⟨x, input gradient⟩ = ⟨w, kernel gradient⟩: the layer is linear in each."""
    case: Layer = data.draw(layers(dims))
    forward = (correlate(case.x, case.kernel, None, case.geometry) * case.error).sum()
    by_input = input_gradient(case.error, case.kernel, case.x.shape[2:], case.geometry)
    by_kernel = kernel_gradient(case.x, case.error, case.kernel.shape[2:], case.geometry)
    assert (case.x * by_input).sum() == pytest.approx(forward, rel=0, abs=1e-10)
    assert (case.kernel * by_kernel).sum() == pytest.approx(forward, rel=0, abs=1e-10)


def test_the_matrix_of_the_input_gradient_is_the_transpose_of_the_layers() -> None:
    geometry = Geometry((2,), (1,), (2,))
    kernel = np.array([[[2.0, 3, 5]]])
    outputs = geometry.output((8,), (3,))[0]
    layer = np.stack(
        [correlate(unit[None, None], kernel, None, geometry)[0, 0] for unit in np.eye(8)], axis=1
    )
    back = np.stack(
        [input_gradient(unit[None, None], kernel, (8,), geometry)[0, 0] for unit in np.eye(outputs)], axis=1
    )
    assert layer.shape == (3, 8)
    assert np.array_equal(back, layer.T)
    assert layer[1].tolist() == [0, 2, 0, 3, 0, 5, 0, 0]


def test_rows_that_the_stride_never_reaches_get_no_gradient() -> None:
    geometry = Geometry((3, 2), (0, 0), (1, 1))
    x, kernel = normal(0, 1, 1, 7, 6), normal(1, 1, 1, 2, 3)
    error = normal(2, 1, 1, 2, 2)
    gradient = input_gradient(error, kernel, (7, 6), geometry)[0, 0]
    assert (gradient[[2, 5, 6]] == 0).all()
    assert (gradient[:, 5] == 0).all()
    assert (gradient[[0, 1, 3, 4], :5] != 0).all()
    without = x.copy()
    without[..., [2, 5, 6], :] = np.nan
    without[..., 5] = np.nan
    np.testing.assert_array_equal(
        correlate(without, kernel, None, geometry), correlate(x, kernel, None, geometry)
    )
