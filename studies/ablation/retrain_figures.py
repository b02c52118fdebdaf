"""Retrained arms as charts: along training, and against depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from probe.core.report import Axis, Figure, Series
from studies.ablation.over_seeds import interval, mean
from studies.ablation.retrain import Retrained, label_of, named


def _band(rows: Sequence[Sequence[float]], label: str) -> Series:
    """Return the mean over seeds along the epochs, with a band from the lowest to the highest seed."""
    shortest = min(map(len, rows), default=0)
    table = np.array([row[:shortest] for row in rows])
    return Series(
        label,
        tuple(float(epoch + 1) for epoch in range(shortest)),
        tuple(table.mean(0)) if shortest else (),
        tuple(table.min(0)) if shortest else (),
        tuple(table.max(0)) if shortest else (),
    )


def curves_figure(made: Retrained, depth: int | None) -> Figure:
    """Draw held-out accuracy along training, with the band of all seeds."""
    series = [
        _band([one.curve for one in made.of(v, depth) if one.curve], named(v, depth, False))
        for v in made.variants
        if any(one.curve for one in made.of(v, depth))
    ]
    where = f" at depth {depth}" if len(made.depths) > 1 else ""
    return Figure(
        f"Held-out accuracy along training{where}",
        "line",
        Axis("epoch"),
        Axis("held-out accuracy"),
        "Mean over seeds; the band goes from the lowest to the highest seed. Bands that part early show a "
        "structure that "
        "makes training easier; bands that meet at the end, one that only makes it faster.",
        tuple(series),
    )


def learning_curves(made: Retrained) -> list[dict[str, Any]]:
    """Return held-out accuracy along the epochs of every arm as plain values: label, x, y, low, high."""
    found = []
    for depth in made.depths:
        for series in curves_figure(made, depth).series:
            at = f" at depth {depth}" if len(made.depths) > 1 else ""
            found.append({**asdict(series), "label": f"{series.label}{at}"})
    return found


def loss_figure(made: Retrained, depth: int | None) -> Figure:
    """Draw the training loss along training, with the band of all seeds."""
    series = [
        _band([[e.loss for e in one.history] for one in made.of(v, depth) if one.history], label_of(v))
        for v in made.variants
        if any(one.history for one in made.of(v, depth))
    ]
    guess = float(np.log(made.setting.num_classes))
    return Figure(
        "Training loss" + (f" at depth {depth}" if len(made.depths) > 1 else ""),
        "line",
        Axis("epoch"),
        Axis("cross-entropy, nats"),
        f"Mean over seeds with the band of all seeds. A network that stays at {guess:.2f} (log of the number of "
        "classes) "
        "has learned nothing: it is dead.",
        tuple(series),
    )


def depth_figure(made: Retrained, train: bool) -> Figure:
    """Draw training or held-out error against depth, with t-intervals over seeds."""
    series = []
    for variant in made.variants:
        xs, ys, low, high = [], [], [], []
        for depth in made.depths:
            arms = made.of(variant, depth)
            errors = [one.train_error if train else 1 - one.accuracy for one in arms]
            middle = mean(errors)
            if middle is None or depth is None:
                continue
            bounds = interval(errors) or (middle, middle)
            xs.append(float(depth))
            ys.append(middle)
            low.append(max(0.0, bounds[0]))
            high.append(min(1.0, bounds[1]))
        series.append(Series(label_of(variant), tuple(xs), tuple(ys), tuple(low), tuple(high)))
    what = "Training" if train else "Held-out"
    return Figure(
        f"{what} error against depth",
        "line",
        Axis("depth (layers with weights)"),
        Axis(f"{what.lower()} error"),
        "Mean over seeds with its 95% t-interval. "
        + (
            "Rising with depth it shows degradation (He et al. 2015): deeper networks that fit even their "
            "training images "
            "worse, which is no overfitting."
            if train
            else "With shortcuts more depth does no harm; without them it does, once gradients no longer get through."
        ),
        tuple(series),
    )
