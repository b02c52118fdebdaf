"""The section on the loss around the trained weights of every arm."""

from __future__ import annotations

import numpy as np

from probe.core import stats
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Table
from probe.core.document import Result, Section
from studies.ablation.arms import TrainedArm
from studies.ablation.evaluate import mean, paired_difference
from studies.ablation.landscape import IMAGES, REACH, rise, steps
from studies.ablation.retrain import RetrainResult, Variant, arm_name

_READING = (
    "The loss on a plane of two random directions, with the trained weights in the middle. In each direction every filter moves by up "
    "to its own norm, so that the scale of the weights does not matter, and arms share the directions where they share layers. The "
    "colour is the logarithm (base 10) of the mean cross-entropy. Two directions out of millions are a glimpse: that an arm looks "
    "sharper here does not show that it generalises worse, nor why."
)


def landscape_section(retrained: RetrainResult) -> Section:
    """Return the loss around the weights: a map for the first seed of each arm, and the rise over all seeds."""
    blocks: list[Block] = [_table(retrained)]
    for depth in retrained.depths:
        for variant in retrained.variants:
            known = [trained for trained in retrained.of(variant, depth) if len(trained.landscape)]
            if known:
                blocks.append(_figure(arm_name(variant, depth, len(retrained.depths) > 1), known[0]))
    return Section(
        "landscape",
        "Loss around the weights",
        f"On at most {IMAGES} training images, evenly over them, in eval mode; {len(steps())}² points within ±{REACH:g} of each "
        "filter's norm.",
        tuple(blocks),
        results=_results(retrained),
    )


def _rise(trained: TrainedArm) -> float:
    return rise(trained.landscape) if len(trained.landscape) else float("nan")


def _rises(retrained: RetrainResult, variant: Variant, depth: int | None) -> np.ndarray:
    return np.array([_rise(trained) for trained in retrained.of(variant, depth)])


def _figure(label: str, trained: TrainedArm) -> Figure:
    logarithms = np.log10(np.maximum(trained.landscape, 1e-6))
    names = tuple(f"{step:.1f}" for step in steps(len(trained.landscape)))
    return Figure(
        f"Loss around the weights: {label}, seed {trained.arm.seed}",
        "heatmap",
        Axis("first direction", categories=names),
        Axis("second direction", categories=names),
        _READING,
        matrix=tuple(tuple(float(v) if np.isfinite(v) else float("nan") for v in row) for row in logarithms),
        value_label="log10 of the loss",
    )


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    known = values[np.isfinite(values)]
    return stats.t_interval(known.tolist()) if len(known) > 1 else None


def _table(retrained: RetrainResult) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for depth in retrained.depths:
        for variant in retrained.variants:
            values = _rises(retrained, variant, depth)
            centres = [
                float(trained.landscape[len(trained.landscape) // 2, len(trained.landscape) // 2])
                for trained in retrained.of(variant, depth)
                if len(trained.landscape)
            ]
            low, high = _interval(values) or (None, None)
            effect: tuple[Cell, ...] = (None, None, None, None)
            if variant:
                difference, bounds, p = paired_difference(values, _rises(retrained, (), depth))
                effect = (difference, *(bounds or (None, None)), p)
            label = arm_name(variant, depth, len(retrained.depths) > 1)
            middle = mean(values[np.isfinite(values)].tolist())
            rows.append((label, int(np.isfinite(values).sum()), mean(centres), middle, low, high, *effect))
    return Table(
        "How fast the loss rises",
        (
            Column("Arm", help="One variant of the network, trained from random weights."),
            Column("Seeds", help="Trainings whose loss is finite around the weights."),
            Column("Loss", unit="nats", help="Mean cross-entropy at the trained weights, mean over seeds."),
            Column(
                "Rise",
                unit="nats",
                help="Mean loss within half of each filter's norm, less that at the weights; mean over seeds.",
            ),
            *Column.interval("its 95% t-interval over seeds"),
            Column(
                "Arm minus intact",
                unit="nats",
                help="Difference of the rises, mean over seeds; above 0 this arm is sharper.",
            ),
            *Column.interval("its 95% t-interval"),
            Column("p", help="Paired t-test over seeds.", digits=2),
        ),
        tuple(rows),
    )


def _results(retrained: RetrainResult) -> tuple[Result, ...]:
    found = []
    for depth in retrained.depths:
        at = f"@{depth}" if depth is not None else ""
        for variant in retrained.variants:
            values = _rises(retrained, variant, depth)
            known = values[np.isfinite(values)]
            label = f"retrain_landscape_rise:{'+'.join(variant) or 'intact'}{at}"
            found.append(
                Result(
                    label,
                    mean(known.tolist()),
                    len(known),
                    _interval(values),
                    unit="nats",
                    higher_is_better=False,
                )
            )
    return tuple(found)
