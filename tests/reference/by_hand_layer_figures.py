"""The figures of dropout, ReLU, response and batch normalisation, from the reference's own numbers."""

from __future__ import annotations

import numpy as np
from by_hand_drawing import STRONG, Sheet, bars, quiet
from by_hand_layers import (
    batch_norm_gradient,
    batch_statistics,
    dropout,
    dropout_gradient,
    local_response_norm,
    local_response_norm_gradient,
    normalised,
    relu,
    relu_gradient,
)
from matplotlib.figure import Figure


def dropout_mask() -> Figure:
    x, error = np.array([3.0, -1, 2, 5, -4, 1, 0.5, -2]), np.array([1.0, 2, -1, 0.5, 3, -2, 1, -0.5])
    kept = np.array([1, 0, 1, 1, 0, 1, 0, 1], dtype=bool)
    rows = (
        ("input", x),
        ("mask", kept.astype(float)),
        ("output", dropout(x, kept, 0.5)),
        ("error", error),
        ("input gradient", dropout_gradient(error, kept, 0.5)),
    )
    sheet = Sheet(6.2)
    sheet.strips(6, 0.3, rows, ~kept)
    return sheet.figure


def relu_gate() -> Figure:
    x, error = np.array([3.0, -1, 0, 5, -4, 1, 0, 0.5]), np.array([1.0, 2, -1, -0.5, 3, -2, 1, 4])
    rows = (("input", x), ("output", relu(x)), ("error", error), ("input gradient", relu_gradient(error, x)))
    sheet = Sheet(5)
    sheet.strips(6, 0.3, rows, x <= 0)
    return sheet.figure


def response_normalisation() -> Figure:
    x = np.array([1.0, 1, 2, 1, 3, 2, 1, 1, 2]).reshape(1, 9, 1)
    error = np.zeros_like(x)
    error[0, 4] = 1
    y = local_response_norm(x, n=5, alpha=1.0, beta=0.75, k=1.0)
    gradient = local_response_norm_gradient(error, x, n=5, alpha=1.0, beta=0.75, k=1.0)
    figure = Figure(figsize=(7, 2.7), facecolor="white")
    left, right = (figure.add_axes((at, 0.2, 0.41, 0.65)) for at in (0.07, 0.57))
    bars(left, x.ravel(), 0.4, -0.2, "#b8b8b8")
    bars(left, y.ravel(), 0.4, 0.2)
    quiet(left, "input (grey) and output (blue)", "channel")
    bars(right, gradient.ravel())
    quiet(right, "input gradient of an error at channel 4 alone", "channel")
    for axes in (left, right):
        axes.set_xticks(range(9))
    return figure


def batch_normalisation() -> Figure:
    x = np.array([-1.5, -1.0, -0.4, 0.1, 0.3, 0.9, 1.4, 2.2]).reshape(8, 1)
    error = np.array([-0.2, -1.0, 0.3, 0.7, -0.4, 1.4, 0.6, 1.8]).reshape(8, 1)
    unit = normalised(x, *batch_statistics(x), eps=0.0).ravel()
    gradient = batch_norm_gradient(error, x, np.ones(1), eps=0.0)[0].ravel()
    residual = gradient * x.std()  # γ = 1: the gradient is the residual over σ
    figure = Figure(figsize=(7, 2.9), facecolor="white")
    left, right = (figure.add_axes((at, 0.2, 0.4, 0.62)) for at in (0.09, 0.58))
    line = error.ravel() - residual
    left.plot(unit, line, color="#777777", linewidth=1.2)
    for at, low, high in zip(unit, line, error.ravel(), strict=True):
        left.plot([at, at], [low, high], color=STRONG, linewidth=1.5)
    left.plot(unit, error.ravel(), "o", color="#4682b4", markersize=5)
    quiet(left, "error against x̂ and its line", "x̂", "error")
    bars(right, gradient, 0.6, colour=STRONG)
    products = f"⟨·, 1⟩ = {abs(gradient.sum()):.2f}, ⟨·, x̂⟩ = {abs(gradient @ unit):.2f}"
    quiet(right, f"input gradient: what the line leaves, over σ\n{products}", "number in the batch")
    return figure
