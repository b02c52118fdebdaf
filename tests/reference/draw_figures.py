"""Draw the figures of README.md from the reference's own numbers: ``python tests/reference/draw_figures.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    tensor_product,
)
from by_hand_drawing import INK, NOTHING, STRONG, TINTS, Sheet, style, svg
from by_hand_layer_figures import batch_normalisation, dropout_mask, relu_gate, response_normalisation
from by_hand_pooling import Pooling, average_pool_gradient, max_pool, max_pool_gradient
from matplotlib.figure import Figure

FOLDER = Path(__file__).with_name("figures")


def outer_product() -> Figure:
    f, g = np.array([1.0, 2, 3]), np.array([4.0, 5, 6, 7])
    sheet = Sheet(6)
    table, folded = tensor_product(f, g), convolve(f, g)
    diagonal = {(x, y): TINTS[x + y] for x, y in np.ndindex(*table.shape)}
    sheet.table(1, 2, f[:, None], "f", fills={(x, 0): "white" for x in range(3)})
    sheet.table(2.5, 0.7, g[None], "g", fills={(0, y): "white" for y in range(4)})
    sheet.table(2.5, 2, table, fills=diagonal)
    sheet.text(4.5, 5.5, "f ⊗ g: all products f(x) g(y)")
    sheet.text(8.2, 3.5, "→", size=16)
    sheet.table(10, 3, folded[None], "sums along x + y = n", fills={(0, n): TINTS[n] for n in range(6)})
    for n in range(6):
        sheet.text(10.5 + n, 4.35, str(n), size=8)
    sheet.text(9.6, 4.35, "n =", size=8)
    sheet.text(13, 5.5, "f ∗ g")
    return sheet.figure


def outer_product_2d() -> Figure:
    f, g = np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6], [7, 8]])
    sheet = Sheet(6.6)
    white = dict.fromkeys(np.ndindex(2, 2), "white")
    sheet.table(0.5, 2, f, "f", fills=white)
    sheet.text(3, 3, "⊗", size=14)
    sheet.table(3.5, 2, g, "g", fills=white)
    sheet.text(6.2, 3, "=", size=14)
    table = tensor_product(f, g)
    for x in np.ndindex(2, 2):
        fills = {y: TINTS[3 * (x[0] + y[0]) + x[1] + y[1]] for y in white}
        sheet.table(7 + 2.5 * x[1], 0.8 + 2.5 * x[0], table[x], fills=fills)
    sheet.text(9.25, 6.1, "one block f(x) · g for each x")
    sheet.text(12.6, 3, "→", size=16)
    sums = {(r, c): TINTS[3 * r + c] for r, c in np.ndindex(3, 3)}
    sheet.table(13.7, 1.5, convolve(f, g), "sums along x + y = n", fills=sums)
    sheet.text(15.2, 6.1, "f ∗ g")
    return sheet.figure


def correlation() -> Figure:
    x = np.array([[1.0, 0, 2, 1], [0, 3, 1, 0], [2, 1, 0, 1], [1, 0, 1, 2]])
    kernel = np.array([[1.0, 0, -1], [2, 1, 0], [0, -1, 1]])
    geometry = Geometry((2, 2), (1, 1), (1, 1))
    padded = pad(x[None, None], (1, 1))[0, 0]
    edge = {(r, c) for r, c in np.ndindex(6, 6) if {r, c} & {0, 5}}
    window = {(r, c) for r in (2, 3, 4) for c in (0, 1, 2)}
    sheet = Sheet(8)
    sheet.table(0.5, 1, padded, "input, padded by 1", empty=edge, strong=window)
    sheet.text(7.2, 4, "⋆", size=22)
    sheet.table(8, 2.5, kernel, "kernel")
    sheet.text(11.8, 4, "=", size=14)
    y = correlate(x[None, None], kernel[None, None], None, geometry)[0, 0]
    sheet.table(12.6, 3, y, "output, stride 2", strong={(1, 0)})
    sheet.text(9, 7.5, "the outlined window, times the kernel and summed, is the outlined output")
    return sheet.figure


def kernel_and_bias() -> Figure:
    x = np.array([[1.0, 0, 2, 1, 3], [2, 1, 0, 1, 0], [0, 3, 1, 2, 1], [1, 0, 2, 0, 1], [2, 1, 0, 1, 2]])
    error = np.array([[1.0, -2], [3, 1]])
    geometry = Geometry((2, 2), (0, 0), (1, 1))
    gradient = kernel_gradient(x[None, None], error[None, None], (3, 3), geometry)[0, 0]
    sheet = Sheet(7)
    sheet.table(0.4, 1, x, "input", strong={(r, c) for r in (1, 3) for c in (0, 2)})
    sheet.text(6.1, 3.5, "⋆", size=22)
    sheet.table(6.8, 2.5, error, "error")
    sheet.text(9.5, 3.5, "=", size=14)
    sheet.table(10.2, 2, gradient, "kernel gradient", strong={(1, 0)})
    sheet.table(15.4, 3, bias_gradient(error[None, None])[None], "bias gradient:\nsum of the error")
    sheet.text(
        9, 6.5, "layer of stride 2, dilation 1: the error looks at the input with dilation 2, stride 1"
    )
    return sheet.figure


def input_by_full_convolution() -> Figure:
    error, kernel = np.array([[1.0, 2], [-1, 3]]), np.array([[1.0, 2], [3, 4]])
    geometry = Geometry((2, 2), (0, 0), (1, 1))
    wide = pad(spread(error[None, None], (2, 2)), (1, 1))[0, 0]
    gaps = {(r, c) for r, c in np.ndindex(5, 5) if not (r in (1, 3) and c in (1, 3))}
    never = {(r, c) for r, c in np.ndindex(5, 5) if 4 in (r, c)}
    white = dict.fromkeys(np.ndindex(2, 2), "white")
    sheet = Sheet(8)
    sheet.table(0.3, 3, error, "error")
    sheet.text(2.85, 4, "→", size=14)
    sheet.table(3.4, 1.5, wide, "zeros between\nand around", empty=gaps)
    sheet.text(8.95, 5.2, "⋆", size=22)
    sheet.table(9.5, 1.1, kernel, "kernel", fills=white)
    sheet.text(10.5, 3.5, "↻ 180°", size=9)
    sheet.table(9.5, 4.2, rotate(kernel[None, None])[0, 0], fills=white)
    sheet.text(12.05, 4, "=", size=14)
    gradient = input_gradient(error[None, None], kernel[None, None], (5, 5), geometry)[0, 0]
    sheet.table(12.6, 1.5, gradient, "input gradient", fills=dict.fromkeys(never, NOTHING))
    sheet.text(9, 7.5, "layer of stride 2 on 5 × 5: it never reaches the last row and column, which get 0")
    return sheet.figure


def adjoint() -> Figure:
    geometry, kernel = Geometry((2,), (1,), (1,)), np.array([[[2.0, 3, 5]]])
    outputs = geometry.output((6,), (3,))[0]
    layer = np.stack([correlate(u[None, None], kernel, None, geometry)[0, 0] for u in np.eye(6)], axis=1)
    back = [input_gradient(u[None, None], kernel, (6,), geometry)[0, 0] for u in np.eye(outputs)]
    sheet = Sheet(8)
    zero = {(r, c) for r, c in np.ndindex(*layer.shape) if not layer[r, c]}
    sheet.table(1.5, 2.5, layer, "layer: output o from input i", empty=zero)
    sheet.text(9.3, 4, "transpose", size=9)
    sheet.text(9.3, 4.6, "⟷", size=16)
    sheet.table(12, 1, np.stack(back, axis=1), "back: input i from error o", empty={(c, r) for r, c in zero})
    sheet.text(9, 7.6, "kernel (2, 3, 5), stride 2, padding 1; built column by column from unit vectors")
    return sheet.figure


def average_pooling() -> Figure:
    error = np.array([[36.0, 72], [-36, 108]])
    sheet = Sheet(7)
    sheet.table(0.3, 2.5, error, "error")
    sheet.text(1.3, 6.5, f"sum {error.sum():g}")
    cases = (
        ("stride 1,\nno padding", Pooling((3, 3), (1, 1), (0, 0)), True),
        ("stride 2, padding 1\ncounted", Pooling((3, 3), (2, 2), (1, 1)), True),
        ("stride 2, padding 1\nnot counted", Pooling((3, 3), (2, 2), (1, 1)), False),
    )
    for i, (title, pooling, counted) in enumerate(cases):
        gradient = average_pool_gradient(error[None, None], (4, 4), pooling, counted)[0, 0]
        sheet.table(3.4 + 5 * i, 1.5, gradient, title)
        lost = gradient.sum() != error.sum()
        sheet.text(5.4 + 5 * i, 6.5, f"sum {gradient.sum():g}", color=STRONG if lost else INK)
    sheet.text(2.85, 3.5, "→", size=14)
    return sheet.figure


def max_pooling() -> Figure:
    x = np.array([[1.0, 3, 2, 0], [4, 0, 9, 1], [2, 8, 5, 3], [0, 1, 6, 7]])
    error = np.array([[1.0, 4], [-2, 3]])
    y, places = max_pool(x[None, None], Pooling((3, 2), (1, 2), (0, 0)))
    winners = {divmod(int(place), 4) for place in places.ravel()}
    sheet = Sheet(6.4)
    sheet.table(0.4, 1, x, "input", strong=winners)
    sheet.text(4.95, 3, "→", size=14)
    sheet.table(5.5, 2, y[0, 0], "largest")
    sheet.table(9.4, 2, error, "error")
    sheet.text(11.95, 3, "→", size=14)
    gradient = max_pool_gradient(error[None, None], places, (4, 4))[0, 0]
    sheet.table(12.6, 1, gradient, "input gradient", strong=winners)
    sums = f"the errors' sum {error.sum():g} stays {gradient.sum():g}"
    sheet.text(9, 5.9, f"windows of 3 × 2, stride (1, 2): two share each place; {sums}")
    return sheet.figure


FIGURES: tuple[Callable[[], Figure], ...] = (
    outer_product,
    outer_product_2d,
    correlation,
    kernel_and_bias,
    input_by_full_convolution,
    adjoint,
    average_pooling,
    max_pooling,
    dropout_mask,
    relu_gate,
    response_normalisation,
    batch_normalisation,
)


def draw() -> dict[str, str]:
    """Return every figure's file name and its SVG."""
    with style():
        return {f"{figure.__name__}.svg": svg(figure()) for figure in FIGURES}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in draw().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
