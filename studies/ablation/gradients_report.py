"""Gradients along training: vanishing and exploding seen layer by layer."""

from __future__ import annotations

import numpy as np

from probe.core.report import Axis, Block, Figure, Section, Series
from studies.ablation.arms import Trained
from studies.ablation.retrain import Retrained, label_of, named

_LEAST = 1e-12
_ROWS = 60


def gradients_section(made: Retrained) -> Section:
    """Return gradient norms by layer at the start, and as heat maps of layer × step for each arm."""
    depth = made.depths[-1]
    blocks: list[Block] = [_start(made, depth)]
    # One scale for all arms, so that their maps can be compared.
    largest = max((float(made.of(v, depth)[0].norms.max(initial=_LEAST)) for v in made.variants), default=1.0)
    for variant in made.variants:
        one = made.of(variant, depth)[0]
        if len(one.steps):
            blocks.append(_heat(one, named(variant, depth, len(made.depths) > 1), largest))
    return Section("gradients", "Gradients", _summary(made, depth), tuple(blocks))


def _start(made: Retrained, depth: int | None) -> Figure:
    series = []
    for variant in made.variants:
        rows = [one.norms[0] for one in made.of(variant, depth) if len(one.norms)]
        if not rows:
            continue
        logs = np.log10(np.maximum(np.stack(rows), _LEAST))
        place = tuple(float(number) for number in range(1, logs.shape[1] + 1))
        series.append(
            Series(
                label_of(variant),
                place,
                tuple(10.0 ** logs.mean(0)),
                tuple(10.0 ** logs.min(0)),
                tuple(10.0 ** logs.max(0)),
            )
        )
    return Figure(
        "Gradient of each layer at the first step",
        "line",
        Axis("layer with weights, from input to output"),
        Axis("L2 norm of the gradient", scale="log"),
        "Before anything is learned; geometric mean over seeds, band: lowest to highest seed. A level line is "
        "good: all "
        "layers learn. A line that falls towards the input is a vanishing gradient, one that rises an exploding one.",
        tuple(series),
    )


def _heat(one: Trained, name: str, largest: float) -> Figure:
    layers = list(range(len(one.layers)))
    if len(layers) > _ROWS:
        layers = sorted({round(i * (len(layers) - 1) / (_ROWS - 1)) for i in range(_ROWS)})
    logs = np.log10(np.maximum(one.norms[:, layers], _LEAST) / largest).T
    return Figure(
        f"Gradient norms along training, {name}",
        "heatmap",
        Axis("step", categories=tuple(str(step) for step in one.steps)),
        Axis("layer", categories=tuple(one.layers[layer].removeprefix("network.") for layer in layers)),
        f"Seed {one.arm.seed}. 0 is the largest gradient of all arms ({largest:.2g}), -3 a thousandth of it. "
        "Dark throughout "
        "a row: this layer hardly learns. Dark towards the input: the gradient vanishes on its way.",
        matrix=tuple(tuple(float(value) for value in row) for row in logs),
        value_label="log10 of gradient / largest",
    )


def _summary(made: Retrained, depth: int | None) -> str:
    parts = []
    for variant in made.variants:
        rows = [one.norms[0] for one in made.of(variant, depth) if len(one.norms)]
        if rows:
            logs = np.log10(np.maximum(np.stack(rows), _LEAST)).mean(0)
            parts.append(f"{label_of(variant)} {10 ** float(logs[-1] - logs[0]):.2g}")
    return (
        "At the first step the last layer's gradient is this many times the first one's (geometric mean over seeds): "
        f"{', '.join(parts)}."
    )
