"""Sections beside accuracy: robustness, calibration, confounds and gradients of every arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.core import stats
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Series, Table
from probe.core.document import Result, Section, percent
from probe.graph.cost.summary import Anatomy
from studies.ablation.arms import ROBUST_STEPS, TrainedArm
from studies.ablation.evaluate import bounded_interval, mean, paired_points, proportion_interval
from studies.ablation.landscape_report import landscape_section
from studies.ablation.lesion import LesionResult
from studies.ablation.retrain import RetrainResult, Variant, arm_name, label_of

_Measure = Callable[[TrainedArm], float]


def also_sections(retrained: RetrainResult) -> list[Section]:
    """Return the sections that --also requests."""
    sections = []
    if "robustness" in retrained.setting.also:
        sections.append(_robustness(retrained))
    if "calibration" in retrained.setting.also:
        sections.append(_calibration(retrained))
    if "landscape" in retrained.setting.also:
        sections.append(landscape_section(retrained))
    return sections


def calibration_error(trained: TrainedArm) -> float:
    """Return the expected calibration error of a training on held-out images; NaN when it diverged."""
    if trained.fault is not None or not len(trained.confidence):
        return float("nan")
    return stats.expected_calibration_error(trained.confidence.tolist(), trained.right.tolist())[0]


def robust_accuracy(trained: TrainedArm) -> float:
    """Return the part of the attacked images that remain correct; NaN for a training that diverged."""
    return float(trained.robust.mean()) if len(trained.robust) else float("nan")


def _robustness(retrained: RetrainResult) -> Section:
    setting = retrained.setting
    size = max((len(trained.robust) for arms in retrained.arms.values() for trained in arms), default=0)
    table = _table(
        retrained,
        robust_accuracy,
        "Robust accuracy",
        f"Correct before and under PGD with {ROBUST_STEPS} steps within {setting.norm} {setting.epsilon:g}, on "
        f"{size} held-out images, evenly over them, for every seed. Effect of removing: intact minus this arm.",
    )
    return Section(
        "robustness",
        "Robustness of the arms",
        _words(retrained, robust_accuracy, "robust accuracy"),
        (table,),
        results=_results(retrained, robust_accuracy, "robust_accuracy", True),
    )


def _calibration(retrained: RetrainResult) -> Section:
    table = _table(
        retrained,
        calibration_error,
        "Expected calibration error",
        "The mean distance between confidence and accuracy in 15 bins of equal width (Guo et al. 2017), on "
        "held-out images for every seed. 0 is best: predictions with 80% confidence are correct in 80% of the "
        "cases.",
    )
    blocks: list[Block] = [table, _diagram(retrained)]
    return Section(
        "calibration",
        "Calibration of the arms",
        _words(retrained, calibration_error, "expected calibration error"),
        tuple(blocks),
        results=_results(retrained, calibration_error, "calibration_error", False),
    )


def _values(
    retrained: RetrainResult, measure: _Measure, variant: Variant, depth: int | None
) -> NDArray[np.float64]:
    return np.array([measure(trained) for trained in retrained.of(variant, depth)])


def _table(retrained: RetrainResult, measure: _Measure, name: str, reading: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for depth in retrained.depths:
        for variant in retrained.variants:
            values = _values(retrained, measure, variant, depth)
            low, high = _interval(retrained, measure, values.tolist()) or (None, None)
            effect: tuple[Cell, ...] = (None, None, None, None)
            if variant:
                difference, bounds, p = paired_points(_values(retrained, measure, (), depth), values)
                effect = (
                    *(None if v is None else 100 * v for v in (difference, *(bounds or (None, None)))),
                    p,
                )
            label = arm_name(variant, depth, len(retrained.depths) > 1)
            rows.append((label, len(values), mean(values.tolist()), low, high, *effect))
    return Table(
        name,
        (
            Column("Arm", help="One variant of the network, trained from random weights."),
            Column("Seeds", help="Trainings of this arm."),
            Column(name, proportion=True, help="Mean over seeds."),
            *Column.interval("the mean's 95% interval over seeds", proportion=True),
            Column(
                "Intact minus arm",
                unit="points",
                help="Mean over seeds; above 0 the intact network has the larger value.",
            ),
            *Column.interval("its 95% t-interval"),
            Column("p", help="Paired t-test over seeds.", digits=2),
        ),
        tuple(rows),
        reading,
    )


def _interval(
    retrained: RetrainResult, measure: _Measure, values: Sequence[float]
) -> tuple[float, float] | None:
    """Return the 95% interval of the mean over seeds: of a proportion of images, or of a calibration error."""
    if measure is calibration_error:
        return bounded_interval(values)
    counts = [len(trained.robust) for arms in retrained.arms.values() for trained in arms]
    return proportion_interval(values, max(counts, default=0) or len(retrained.setting.held_labels))


def _words(retrained: RetrainResult, measure: _Measure, name: str) -> str:
    depth = retrained.depths[-1]
    parts = []
    for variant in retrained.variants:
        values = _values(retrained, measure, variant, depth).tolist()
        middle = mean(values)
        if middle is not None:
            parts.append(f"{label_of(variant)} {percent(middle, _interval(retrained, measure, values))}")
    return f"Mean {name} over seeds, with its 95% interval: {', '.join(parts)}."


def _results(retrained: RetrainResult, measure: _Measure, name: str, better: bool) -> tuple[Result, ...]:
    results = []
    for depth in retrained.depths:
        at = f"@{depth}" if depth is not None else ""
        for variant in retrained.variants:
            values = _values(retrained, measure, variant, depth).tolist()
            label = f"retrain_{name}:{'+'.join(variant) or 'intact'}{at}"
            results.append(
                Result(
                    label,
                    mean(values),
                    len(values),
                    _interval(retrained, measure, values),
                    "proportion",
                    better,
                )
            )
    return tuple(results)


def _diagram(retrained: RetrainResult) -> Figure:
    depth = retrained.depths[-1]
    series = [Series("perfect", (0.0, 1.0), (0.0, 1.0))]
    for variant in retrained.variants:
        arms = [
            trained
            for trained in retrained.of(variant, depth)
            if trained.fault is None and len(trained.confidence)
        ]
        if not arms:
            continue
        confidence = np.concatenate([trained.confidence for trained in arms]).tolist()
        correct = np.concatenate([trained.right for trained in arms]).tolist()
        series.append(_bins(label_of(variant), stats.expected_calibration_error(confidence, correct, 10)[1]))
    return Figure(
        "Reliability",
        "line",
        Axis("confidence"),
        Axis("accuracy"),
        "All seeds together, in 10 bins, with 95% Wilson intervals. On the diagonal, confidence equals accuracy; "
        "below it the network is overconfident.",
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
    Column("Network", help="The intact network, or what was removed from it."),
    Column("Sites cut", help="Places where something was removed or exchanged."),
    Column("Parameters", help="Weights and biases, each counted once."),
    Column("of intact", proportion=True, help="Parameters as a part of the intact network's."),
    Column("MACs", help="Multiply-accumulates for one image."),
    Column("of intact", proportion=True, help="MACs as a part of the intact network's."),
    Column("Paths", help="Paths from the image to the logits; 2^L for L residual blocks in a chain."),
    Column("Depth", help="Layers with weights on the longest path."),
    Column("Receptive field", unit="pixels", help="Height × width that a unit of the last map sees."),
    Column("Widened", help="Factor on the channels by --match-parameters."),
)


def ledger_section(lesions: tuple[LesionResult, ...], retrained: RetrainResult | None) -> Section:
    """Return the confounds of all cuts and arms."""
    rows: list[tuple[Cell, ...]] = []
    if retrained is None:
        for lesion in lesions:
            rows += _lesion_rows(lesion)
        rows = list(dict.fromkeys(rows))
    else:
        for depth in retrained.depths:
            intact = retrained.anatomy((), depth)
            for variant in retrained.variants:
                arm = retrained.of(variant, depth)[0]
                name = arm_name(variant, depth, len(retrained.depths) > 1)
                rows.append(_row(name, arm.removed, arm.anatomy, intact, arm.widening))
    table = Table(
        "Confounds",
        _COLUMNS,
        tuple(rows),
        "Where a column differs between two rows, a difference in their accuracy may come from it as well as from the "
        "structure. A cut that also removes parameters or computation confounds structure with capacity; "
        "--match-parameters retrains the cut arm at the intact one's number of parameters.",
    )
    return Section("ledger", "What else changes", "", (table,))


def _lesion_rows(lesion: LesionResult) -> list[tuple[Cell, ...]]:
    if lesion.whole is None:
        return []
    rows = [_row("intact", 0, lesion.whole, lesion.whole, 1.0)]
    if lesion.without is not None:
        rows.append(
            _row(f"without {lesion.structure.name}", len(lesion.sites), lesion.without, lesion.whole, 1.0)
        )
    return rows


def _row(name: str, sites: int, own: Anatomy, intact: Anatomy, widening: float) -> tuple[Cell, ...]:
    return (
        name,
        sites,
        own.parameters,
        own.parameters / intact.parameters if intact.parameters else None,
        own.macs,
        own.macs / intact.macs if intact.macs else None,
        _paths(own.paths),
        own.depth,
        None if own.field is None else "×".join(map(str, own.field)),
        widening if widening != 1.0 else None,
    )


def _paths(count: int | None) -> Cell:
    """Write a number of paths; very large ones as a power of two."""
    if count is None or count < 10**12:
        return count
    return f"about 2^{count.bit_length() - 1}"


_LEAST = 1e-12
_ROWS = 60


def gradients_section(retrained: RetrainResult) -> Section:
    """Return gradient norms by layer at the start, and as heat maps of layer × step for each arm."""
    depth = retrained.depths[-1]
    blocks: list[Block] = [_start(retrained, depth)]
    # One scale for all arms, so that their maps can be compared.
    largest = max(
        (float(retrained.of(v, depth)[0].norms.max(initial=_LEAST)) for v in retrained.variants), default=1.0
    )
    for variant in retrained.variants:
        trained = retrained.of(variant, depth)[0]
        if len(trained.steps):
            blocks.append(_heat(trained, arm_name(variant, depth, len(retrained.depths) > 1), largest))
    return Section("gradients", "Gradients", _summary(retrained, depth), tuple(blocks))


def _start(retrained: RetrainResult, depth: int | None) -> Figure:
    series = []
    for variant in retrained.variants:
        rows = [trained.norms[0] for trained in retrained.of(variant, depth) if len(trained.norms)]
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
        "Before training; geometric mean over seeds, band: lowest to highest seed. A level line: "
        "gradients of a similar size in all layers. A line that falls towards the input: vanishing gradients; one that "
        "rises towards it: exploding ones.",
        tuple(series),
    )


def _heat(trained: TrainedArm, name: str, largest: float) -> Figure:
    layers = list(range(len(trained.layers)))
    if len(layers) > _ROWS:
        layers = sorted({round(i * (len(layers) - 1) / (_ROWS - 1)) for i in range(_ROWS)})
    logs = np.log10(np.maximum(trained.norms[:, layers], _LEAST) / largest).T
    return Figure(
        f"Gradient norms along training, {name}",
        "heatmap",
        Axis("step", categories=tuple(str(step) for step in trained.steps)),
        Axis("layer", categories=tuple(trained.layers[layer].removeprefix("network.") for layer in layers)),
        f"Seed {trained.arm.seed}. 0 is the largest gradient of all arms ({largest:.2g}), -3 a thousandth of it. A "
        "row that is dark throughout is a layer that receives hardly any gradient. Rows that get darker towards the "
        "input show a vanishing gradient.",
        matrix=tuple(tuple(float(value) for value in row) for row in logs),
        value_label="log10 of gradient / largest",
    )


def _summary(retrained: RetrainResult, depth: int | None) -> str:
    parts = []
    for variant in retrained.variants:
        rows = [trained.norms[0] for trained in retrained.of(variant, depth) if len(trained.norms)]
        if rows:
            logs = np.log10(np.maximum(np.stack(rows), _LEAST)).mean(0)
            parts.append(f"{label_of(variant)} {10 ** float(logs[0] - logs[-1]):.2g}")
    return (
        "First layer's gradient norm over the last layer's, at the first step (geometric mean over seeds): "
        f"{', '.join(parts)}. Far below 1, gradients vanish towards the input; far above 1, they explode."
    )
