"""What the tests of the hand-written gradients draw: shapes by hypothesis, numbers of order one by a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from by_hand_convolution import Geometry
from by_hand_pooling import Pooling
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

SEEDS = st.integers(0, 2**32 - 1)
EACH = settings(max_examples=200, deadline=None)


def normal(seed: int, *shape: int) -> Array:
    """Draw standard normal numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def same(ours: Array, theirs: Tensor | Array) -> None:
    """Assert equality to an absolute 1e-10 in float64; all that is drawn here is of order one."""
    assert ours.dtype == np.float64
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=0, atol=1e-10)


def autograd(layer: Callable[..., Tensor], error: Array, *inputs: Array) -> tuple[Tensor, ...]:
    """Return torch's gradients of Σ error · layer(inputs) with respect to each input."""
    leaves = [torch.from_numpy(x.copy()).requires_grad_() for x in inputs]
    return torch.autograd.grad(layer(*leaves), leaves, torch.from_numpy(error))


@dataclass(frozen=True)
class Layer:
    """A drawn convolution layer with an input and an error."""

    x: Array
    kernel: Array
    bias: Array
    error: Array
    geometry: Geometry

    @property
    def words(self) -> dict[str, object]:
        """Return the geometry as torch's functions want it."""
        return dict(vars(self.geometry))


@st.composite
def layers(draw: st.DrawFn, dims: int) -> Layer:
    """Draw stride, padding, dilation, groups and an input that the kernel fits, often with a rest."""

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    groups = draw(st.integers(1, 3))
    geometry = Geometry(each(1, 3), each(0, 2), each(1, 3), groups)
    kernel = each(1, 3)
    spans = zip(geometry.reach(kernel), geometry.padding, each(0, 3), strict=True)
    size = tuple(max(1, reach - 2 * p) + rest for reach, p, rest in spans)
    images, inputs, outputs = (draw(st.integers(1, 2)) for _ in range(3))
    rng = np.random.default_rng(draw(SEEDS))
    return Layer(
        rng.normal(size=(images, groups * inputs, *size)),
        rng.normal(size=(groups * outputs, inputs, *kernel)),
        rng.normal(size=groups * outputs),
        rng.normal(size=(images, groups * outputs, *geometry.output(size, kernel))),
        geometry,
    )


@dataclass(frozen=True)
class Pooled:
    """A drawn pooling layer with an input and an error."""

    x: Array
    error: Array
    pooling: Pooling


@st.composite
def pooled(draw: st.DrawFn, padded: bool | None = None) -> Pooled:
    """Draw a pooling over two axes; strides below the kernel's size make its windows overlap.

    ``padded`` asks for padding on the first axis, or for none at all. Normal numbers have no ties.
    """
    kernel = (draw(st.integers(2 if padded else 1, 4)), draw(st.integers(1, 4)))
    low, high = int(padded is True), 0 if padded is False else 2
    padding = tuple(draw(st.integers(min(low, 1 - i), min(k // 2, high))) for i, k in enumerate(kernel))
    pooling = Pooling(kernel, (draw(st.integers(1, 4)), draw(st.integers(1, 4))), padding)
    spans = zip(kernel, padding, strict=True)
    size = tuple(max(1, k - 2 * p) + draw(st.integers(0, 4)) for k, p in spans)
    images, channels = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(SEEDS))
    x = rng.normal(size=(images, channels, *size))
    return Pooled(x, rng.normal(size=(images, channels, *pooling.output(size))), pooling)
