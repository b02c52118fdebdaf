"""What a structure does beyond accuracy: robustness and calibration of every arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.core import stats
from probe.core.document import Axis, Block, Cell, Column, Figure, Result, Section, Series, Table, percent
from probe.graph.cost.summary import Anatomy
from studies.ablation.arms import ROBUST_STEPS, TrainedArm
from studies.ablation.evaluate import interval, mean, paired
from studies.ablation.lesion import Lesioned
from studies.ablation.retrain import Retrained, Variant, label_of, named

_Measure = Callable[[TrainedArm], float]


def also_sections(made: Retrained) -> list[Section]:
    """Return the sections that were asked for by --also."""
    sections = []
    if "robustness" in made.setting.also:
        sections.append(_robustness(made))
    if "calibration" in made.setting.also:
        sections.append(_calibration(made))
    return sections


def calibration_error(one: TrainedArm) -> float:
    """Return the expected calibration error of a training on held-out images; NaN when it diverged."""
    if one.fault is not None or not len(one.confidence):
        return float("nan")
    return stats.expected_calibration_error(one.confidence.tolist(), one.right.tolist())[0]


def robust_accuracy(one: TrainedArm) -> float:
    """Return the part of the attacked images that stay right; NaN for a training that diverged."""
    return float(one.robust.mean()) if len(one.robust) else float("nan")


def _robustness(made: Retrained) -> Section:
    setting = made.setting
    size = max((len(one.robust) for arms in made.arms.values() for one in arms), default=0)
    table = _table(
        made,
        robust_accuracy,
        "Robust accuracy",
        f"Right and still right under PGD with {ROBUST_STEPS} steps within {setting.norm} {setting.epsilon:g}, on "
        f"{size} held-out images of every seed. Worth: intact minus this arm.",
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
        "below it the network is surer than it should be.",
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


_COLUMNS = (
    Column("Network", help="The network as it is, or what was done to it."),
    Column("Sites cut", help="Places where something was taken away or exchanged."),
    Column("Parameters", help="Weights and biases, each counted once."),
    Column("of intact", proportion=True, help="Parameters as a part of the intact network's."),
    Column("MACs", help="Multiply-accumulates for one image."),
    Column("of intact", proportion=True, help="MACs as a part of the intact network's."),
    Column("Paths", help="Ways from the image to the logits; 2^L for L residual blocks in a chain."),
    Column("Depth", help="Layers with weights on the longest path."),
    Column("Receptive field", unit="pixels", help="Height × width that a unit of the last map sees."),
    Column("Widened", help="Factor on the channels by --match-parameters."),
)


def ledger_section(lesions: tuple[Lesioned, ...], made: Retrained | None) -> Section:
    """Return the confound ledger of all cuts and arms."""
    rows: list[tuple[Cell, ...]] = []
    if made is None:
        for one in lesions:
            rows += _lesion_rows(one)
        rows = list(dict.fromkeys(rows))
    else:
        for depth in made.depths:
            whole = made.anatomy((), depth)
            for variant in made.variants:
                arm = made.of(variant, depth)[0]
                name = named(variant, depth, len(made.depths) > 1)
                rows.append(_row(name, arm.removed, arm.anatomy, whole, arm.widening))
    table = Table(
        "Confounds",
        _COLUMNS,
        tuple(rows),
        "A difference in accuracy is that of the structure alone only where the other columns stay the same. A cut "
        "that also removes parameters or computation confounds structure with capacity; --match-parameters "
        "retrains the cut arm at the intact one's number of parameters.",
    )
    return Section("ledger", "What else changes", "", (table,))


def _lesion_rows(one: Lesioned) -> list[tuple[Cell, ...]]:
    if one.whole is None:
        return []
    rows = [_row("intact", 0, one.whole, one.whole, 1.0)]
    if one.without is not None:
        rows.append(_row(f"without {one.structure.name}", len(one.sites), one.without, one.whole, 1.0))
    return rows


def _row(name: str, sites: int, own: Anatomy, whole: Anatomy, widening: float) -> tuple[Cell, ...]:
    return (
        name,
        sites,
        own.parameters,
        own.parameters / whole.parameters if whole.parameters else None,
        own.macs,
        own.macs / whole.macs if whole.macs else None,
        _paths(own.paths),
        own.depth,
        None if own.field is None else "×".join(map(str, own.field)),
        widening if widening != 1.0 else None,
    )


def _paths(count: int | None) -> Cell:
    """Write a number of paths; those beyond what a table can hold as a power of two."""
    if count is None or count < 10**12:
        return count
    return f"about 2^{count.bit_length() - 1}"


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
        "good: all layers learn. A line that falls towards the input is a vanishing gradient, one that rises an "
        "exploding one.",
        tuple(series),
    )


def _heat(one: TrainedArm, name: str, largest: float) -> Figure:
    layers = list(range(len(one.layers)))
    if len(layers) > _ROWS:
        layers = sorted({round(i * (len(layers) - 1) / (_ROWS - 1)) for i in range(_ROWS)})
    logs = np.log10(np.maximum(one.norms[:, layers], _LEAST) / largest).T
    return Figure(
        f"Gradient norms along training, {name}",
        "heatmap",
        Axis("step", categories=tuple(str(step) for step in one.steps)),
        Axis("layer", categories=tuple(one.layers[layer].removeprefix("network.") for layer in layers)),
        f"Seed {one.arm.seed}. 0 is the largest gradient of all arms ({largest:.2g}), -3 a thousandth of it. Dark "
        "throughout a row: this layer hardly learns. Dark towards the input: the gradient vanishes on its way.",
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
