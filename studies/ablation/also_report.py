"""What a structure does beyond accuracy: robustness and calibration of every arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.core import stats
from probe.core.report import Axis, Block, Cell, Column, Figure, Result, Section, Series, Table, percent
from studies.ablation.arms import ROBUST_STEPS, Trained
from studies.ablation.over_seeds import interval, mean, paired
from studies.ablation.retrain import Retrained, Variant, label_of, named

_Measure = Callable[[Trained], float]


def also_sections(made: Retrained) -> list[Section]:
    """Return the sections that were asked for by --also."""
    sections = []
    if "robustness" in made.setting.also:
        sections.append(_robustness(made))
    if "calibration" in made.setting.also:
        sections.append(_calibration(made))
    return sections


def calibration_error(one: Trained) -> float:
    """Return the expected calibration error of a training on held-out images; NaN when it diverged."""
    if one.fault is not None or not len(one.confidence):
        return float("nan")
    return stats.expected_calibration_error(one.confidence.tolist(), one.right.tolist())[0]


def robust_accuracy(one: Trained) -> float:
    """Return the part of the attacked images that stay right; NaN for a training that diverged."""
    return float(one.robust.mean()) if len(one.robust) else float("nan")


def _robustness(made: Retrained) -> Section:
    setting = made.setting
    size = max((len(one.robust) for arms in made.arms.values() for one in arms), default=0)
    table = _table(
        made,
        robust_accuracy,
        "Robust accuracy",
        f"Right and still right under PGD with {ROBUST_STEPS} steps within {setting.norm} {setting.epsilon:g}, "
        f"on {size} "
        "held-out images of every seed. Worth: intact minus this arm.",
    )
    return Section(
        "robustness",
        "Robustness of the arms",
        _words(made, robust_accuracy, "robust accuracy"),
        (table,),
        results=_results(made, robust_accuracy, "robust_accuracy", True),
    )


def _calibration(made: Retrained) -> Section:
    table = _table(
        made,
        calibration_error,
        "Expected calibration error",
        "The mean distance between confidence and accuracy in 15 bins of equal width (Guo et al. 2017), on held-out "
        "images of every seed. 0 is best: what is said with 80% confidence is right in 80% of the cases.",
    )
    blocks: list[Block] = [table, _diagram(made)]
    return Section(
        "calibration",
        "Calibration of the arms",
        _words(made, calibration_error, "expected calibration error"),
        tuple(blocks),
        results=_results(made, calibration_error, "calibration_error", False),
    )


def _values(made: Retrained, measure: _Measure, variant: Variant, depth: int | None) -> NDArray[np.float64]:
    return np.array([measure(one) for one in made.of(variant, depth)])


def _table(made: Retrained, measure: _Measure, name: str, reading: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for depth in made.depths:
        for variant in made.variants:
            values = _values(made, measure, variant, depth)
            low, high = interval(values.tolist()) or (None, None)
            worth: tuple[Cell, ...] = (None, None, None, None)
            if variant:
                difference, bounds, p = paired(_values(made, measure, (), depth), values)
                worth = (
                    *(None if v is None else 100 * v for v in (difference, *(bounds or (None, None)))),
                    p,
                )
            label = named(variant, depth, len(made.depths) > 1)
            rows.append((label, len(values), mean(values.tolist()), low, high, *worth))
    return Table(
        name,
        (
            Column("Arm", help="One variant of the network, trained from random weights."),
            Column("Seeds", help="Trainings of this arm."),
            Column(name, proportion=True, help="Mean over seeds."),
            Column("low", proportion=True, help="Lower end of the mean's 95% t-interval."),
            Column("high", proportion=True, help="Upper end of the mean's 95% t-interval."),
            Column(
                "Intact minus arm",
                unit="points",
                help="Mean over seeds; above 0 the intact network is better where more is better.",
            ),
            Column("low", help="Lower end of its 95% t-interval."),
            Column("high", help="Upper end of its 95% t-interval."),
            Column("p", help="Paired t-test over seeds.", digits=2),
        ),
        tuple(rows),
        reading,
    )


def _words(made: Retrained, measure: _Measure, name: str) -> str:
    depth = made.depths[-1]
    parts = []
    for variant in made.variants:
        values = _values(made, measure, variant, depth).tolist()
        middle = mean(values)
        if middle is not None:
            parts.append(f"{label_of(variant)} {percent(middle, interval(values))}")
    return f"Mean {name} over seeds, with its 95% t-interval: {', '.join(parts)}."


def _results(made: Retrained, measure: _Measure, name: str, better: bool) -> tuple[Result, ...]:
    found = []
    for depth in made.depths:
        at = f"@{depth}" if depth is not None else ""
        for variant in made.variants:
            values = _values(made, measure, variant, depth).tolist()
            label = f"retrain_{name}:{'+'.join(variant) or 'intact'}{at}"
            found.append(Result(label, mean(values), len(values), interval(values), "proportion", better))
    return tuple(found)


def _diagram(made: Retrained) -> Figure:
    depth = made.depths[-1]
    series = [Series("perfect", (0.0, 1.0), (0.0, 1.0))]
    for variant in made.variants:
        arms = [one for one in made.of(variant, depth) if one.fault is None and len(one.confidence)]
        if not arms:
            continue
        confidence = np.concatenate([one.confidence for one in arms]).tolist()
        right = np.concatenate([one.right for one in arms]).tolist()
        series.append(_bins(label_of(variant), stats.expected_calibration_error(confidence, right, 10)[1]))
    return Figure(
        "Reliability",
        "line",
        Axis("confidence"),
        Axis("accuracy"),
        "All seeds together, in 10 bins, with 95% Wilson intervals. On the diagonal confidence can be believed; "
        "below it the "
        "network is surer than it should be.",
        tuple(series),
    )


def _bins(label: str, rows: Sequence[tuple[float, float, int]]) -> Series:
    bounds = [stats.wilson(round(accuracy * n), n) for _, accuracy, n in rows]
    return Series(
        label,
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        tuple(low for low, _ in bounds),
        tuple(high for _, high in bounds),
    )
