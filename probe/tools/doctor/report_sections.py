"""The report sections of a check-up: causes, loss, learning rates, gradients, activations, dead units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from probe.core.blocks import Axis, Block, Column, Figure, Series, Table
from probe.core.document import Result, Section, finite
from probe.tools.doctor.diagnosis import Findings, course_in_words, status_of
from probe.tools.doctor.evidence import TINY, short
from probe.tools.doctor.training_run import Hits, TrainingRun

_ROWS, _COLUMNS = 40, 30


_LINE = (
    "The horizontal line is the loss of a constant prediction of the class frequencies: a network that learns from the "
    "images gets below it. "
)


def loss_section(findings: Findings) -> Section:
    """Return the section on the loss of every batch."""
    course = findings.course
    if course is None:
        return Section("loss", "Loss", reason=findings.evidence.refusal)
    shown = [(float(i), loss) for i, loss in enumerate(course.losses, 1) if math.isfinite(loss)]
    if not shown:
        return Section("loss", "Loss", reason=f"No loss to draw: {course_in_words(course)}.")
    series = [Series("loss of the batch", tuple(x for x, _ in shown), tuple(y for _, y in shown))]
    trivial = findings.evidence.plan.trivial
    if trivial is not None:
        ends = (1.0, float(len(course.losses)))
        series.append(Series("without looking at the images", ends, (trivial, trivial)))
    figure = Figure(
        "Loss of each batch",
        "line",
        Axis("step"),
        _loss_axis([y for _, y in shown]),
        f"{_LINE if trivial is not None else ''}If the line ends early, the loss stopped being finite.",
        tuple(series),
    )
    return Section(
        "loss", "Loss", f"At a learning rate of {course.lr:.3g} {course_in_words(course)}.", (figure,)
    )


def rates_section(findings: Findings) -> Section:
    """Return the section on the loss at each learning rate."""
    tried = findings.evidence.sweep
    if tried is None:
        return Section("rates", "Learning rates", reason=findings.evidence.unswept)
    drawn = [point for point in tried.points if math.isfinite(point.after)]
    used = findings.evidence.plan.lr
    series = [
        Series(
            "loss after the steps", tuple(point.lr for point in drawn), tuple(point.after for point in drawn)
        )
    ]
    series.append(Series("loss at the start", (tried.points[0].lr, tried.points[-1].lr), (tried.before,) * 2))
    here = tried.at(used)
    if here is not None and math.isfinite(here.after):
        series.append(Series("the rate of this run", (used,), (here.after,)))
    figure = Figure(
        f"Loss after {tried.steps} steps at each learning rate",
        "line",
        Axis("learning rate", scale="log"),
        _loss_axis([point.after for point in drawn]),
        "Each point starts from the same weights and uses the same batches. At small rates, the loss may hardly change in "
        "so few steps; a rate at which it rises or stops being finite is too large for these steps. Rates at which it stops "
        "being finite are only in the table.",
        tuple(line for line in series if all(map(math.isfinite, line.y))),
    )
    rows = tuple((point.lr, finite(point.after), point.outcome, point.steps) for point in tried.points)
    table = Table(
        "Learning rates tried",
        (
            Column("learning rate", help="The learning rate of this short training."),
            Column("loss after", help="The loss on the same images after the training."),
            Column("outcome", help="The outcome of this training."),
            Column("steps", help="The number of steps."),
        ),
        rows,
        f"{_outcomes(findings)}grew: it rose by more than 50%; diverged: it stopped being finite.",
    )
    if tried.stable is None or tried.suggestion is None:
        words = f"The network does not learn in {tried.steps} steps at any of {len(tried.points)} rates."
    else:
        limit = (
            "is the largest rate tried before the first at which the network no longer learns"
            if tried.bounded
            else "is the largest rate tried, and the network still learns at it"
        )
        words = (
            f"{tried.stable:.2g} {limit}; {tried.suggestion:.2g} is suggested. Both are for {tried.steps} steps "
            "of this batch size."
        )
    blocks: tuple[Block, ...] = (figure, table) if figure.series else (table,)
    return Section("rates", "Learning rates", words, blocks)


def _outcomes(findings: Findings) -> str:
    if findings.evidence.plan.trivial is None:
        return "learned: the loss fell by more than 5%; stalled: it did not; "
    return (
        "learned: the loss fell to more than 5% below both its start and the loss of a constant prediction of the class "
        "frequencies, or it ended at half of the latter or less; stalled: it did not; "
    )


def gradients_section(findings: Findings) -> Section:
    """Return the section on gradient norms, by layer at the first step, and by layer and step."""
    course = findings.course
    if course is None:
        return Section("gradients", "Gradients", reason=findings.evidence.refusal)
    gradients = findings.evidence.gradients
    if not gradients:
        return Section("gradients", "Gradients", reason="The first step already has no finite gradients.")
    place = tuple(float(i) for i in range(1, len(gradients) + 1))
    first = Figure(
        "Gradient of each layer at the first step",
        "line",
        Axis("layer with weights, from input to output"),
        Axis("gradient norm / weight norm", scale="log"),
        "Before any learning. In networks that train, the values are mostly between 0.001 and 10. A line that falls "
        "towards the input by many powers of ten indicates vanishing gradients, values above 100 exploding gradients.",
        (Series("first step", place, tuple(max(share, TINY) for _, _, share in gradients)),),
    )
    blocks = (first, _heat(course, [name for name, _, _ in gradients]))
    ratio = gradients[0][2] / max(gradients[-1][2], TINY)
    words = (
        "First layer's gradient norm over the last layer's, at the first step (each relative to the norm of the layer's "
        f"weights): {ratio:.2g}. Far below 1, gradients vanish towards the input; far above 1, they explode."
    )
    return Section("gradients", "Gradients", words, blocks)


def _heat(course: TrainingRun, names: list[str]) -> Figure:
    layers = _spread([course.layers.index(name) for name in names], _ROWS)
    steps = _spread(list(range(len(course.norms))), _COLUMNS)
    values = np.maximum(course.norms[np.ix_(steps, layers)], TINY)
    largest = float(values.max())
    logs = np.maximum(np.log10(values / largest), -12).T
    return Figure(
        "Gradient norms during the run",
        "heatmap",
        Axis("step", categories=tuple(str(step + 1) for step in steps)),
        Axis("layer", categories=tuple(short(course.layers[layer]) for layer in layers)),
        f"0 is the largest gradient of the run ({largest:.2g}), −3 is a thousandth of that, −12 is 1e-12 or less. A dark "
        "row is a layer with small gradients; if all rows become brighter together, the gradients grow during the run.",
        matrix=tuple(tuple(float(value) for value in row) for row in logs),
        value_label="log10 of gradient / largest",
    )


def signal_section(findings: Findings) -> Section:
    """Return the section on the inputs and outputs of each layer before training."""
    layers = findings.evidence.layer_stats.layers
    if not layers:
        return Section("signal", "Activations", reason="No layer with weights was called.")
    first = layers[0]
    rows = tuple(
        (
            short(layer.name),
            finite(layer.mean),
            finite(layer.std),
            finite(layer.low),
            finite(layer.high),
            finite(layer.rms),
        )
        for layer in layers
    )
    columns = (
        Column("layer", help="The layer's name in the network."),
        Column("mean", help="Mean of the layer's input."),
        Column("std", help="Standard deviation of the layer's input."),
        Column("smallest", help="The smallest value of the layer's input."),
        Column("largest", help="The largest value of the layer's input."),
        Column("output", help="Root mean square of the layer's output."),
    )
    how_to_read = "A dash is a value that is not finite. The first row is the input of the network."
    blocks: list[Block] = [Table("Inputs of the layers before training", columns, rows, how_to_read)]
    drawn = [
        (float(i), layer.rms)
        for i, layer in enumerate(layers, 1)
        if math.isfinite(layer.rms) and layer.rms > 0
    ]
    if len(drawn) > 1:
        blocks.insert(
            0,
            Figure(
                "Size of each layer's output before training",
                "line",
                Axis("layer with weights, from input to output"),
                Axis("root mean square", scale="log"),
                "If the line falls or rises over many powers of ten, the activations vanish or explode, and often the "
                "gradients do too. Values that are not finite, or 0, are left out.",
                (Series("output", tuple(x for x, _ in drawn), tuple(y for _, y in drawn)),),
            ),
        )
    words = (
        f"The input of {short(first.name)} has mean {first.mean:.3g} and standard deviation {first.std:.3g}."
    )
    return Section("signal", "Activations", words, tuple(blocks))


def dead_section(findings: Findings) -> Section:
    """Return the section on the share of dead units of every ReLU, before and after the run."""
    start, after = findings.evidence.layer_stats, findings.evidence.after
    if not start.units:
        return Section("dead", "Dead units", reason="No ReLU was called.")
    chosen = _spread(list(range(len(start.relus))), _ROWS)
    place = tuple(float(i) for i in range(len(chosen)))
    series = [
        Series("before", place, tuple(100 * start.relus[i].dead / start.relus[i].units for i in chosen))
    ]
    words = (
        f"{start.dead:,} of {start.units:,} units are 0 on all {start.images} images before the first step"
    )
    if after is not None and len(after.relus) == len(start.relus):
        series.append(
            Series("after", place, tuple(100 * after.relus[i].dead / after.relus[i].units for i in chosen))
        )
        words += f", {after.dead:,} after the last"
    if not any(any(bars.y) for bars in series):
        return Section("dead", "Dead units", f"{words}.")
    figure = Figure(
        "Units that never fire",
        "bar",
        Axis("ReLU", categories=tuple(short(start.relus[i].name) for i in chosen)),
        Axis("dead units, %"),
        "A unit (channel) is dead if it is 0 at every position of all images examined: for these images, no gradient passes "
        "through it. Some dead units are normal; at 100%, nothing passes through this ReLU.",
        tuple(series),
    )
    return Section("dead", "Dead units", f"{words}.", (figure,))


def _loss_axis(values: list[float]) -> Axis:
    """Return the axis of the loss, logarithmic if the losses differ by powers of ten."""
    wide = bool(values) and min(values) > 0 and max(values) > 100 * min(values)
    return Axis("loss", scale="log" if wide else "linear")


def _spread(values: list[int], most: int) -> list[int]:
    """Return at most ``most`` of the values, evenly spaced, including the first and the last."""
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def findings_section(findings: Findings) -> Section:
    """Return the section with one row for each cause that was tested, the findings first."""
    # Without any advice, the last column would be empty.
    width = 4 if any(diagnosis.advice for diagnosis in findings.all) else 3
    rows = tuple(
        (diagnosis.title, status_of(diagnosis, findings), diagnosis.text, diagnosis.advice)[:width]
        for diagnosis in findings.all
    )
    columns = (
        Column("cause", help="The cause that was tested."),
        Column("verdict", help="A consequence is something that a cause above it can bring about."),
        Column("evidence", help="The numbers that support or refute the cause."),
        Column("what to change", help="The first thing to try."),
    )
    how_to_read = (
        "A cause was observed directly, or removing it made the training better; a probable cause is consistent with the "
        "numbers, but nothing was done to confirm it. Not found means that the numbers of this short run do not show it; it "
        "may still occur later."
    )
    return Section(
        "causes",
        "Causes",
        _summary(findings),
        (Table("Causes tested", columns[:width], rows, how_to_read),),
    )


def _summary(findings: Findings) -> str:
    """Return how many causes were tested and found."""
    tested = sum(diagnosis.grade != "unknown" for diagnosis in findings.all)
    n_found = sum(diagnosis.found for diagnosis in findings.all)
    return f"{tested} of {len(findings.all)} causes could be tested; {n_found or 'none'} of them {'was' if n_found == 1 else 'were'} found."


def plain(findings: Findings) -> dict[str, Any]:
    """Return the diagnoses for results.json, the most likely cause first."""
    return {
        "cause": findings.cause,
        "healthy": findings.healthy,
        "outcome": None if findings.course is None else findings.course.outcome,
        "diagnoses": [
            {
                "cause": diagnosis.cause,
                "verdict": status_of(diagnosis, findings),
                "title": diagnosis.title,
                "evidence": diagnosis.text,
                "advice": diagnosis.advice,
            }
            for diagnosis in findings.all
        ],
    }


def _hits(name: str, hits: Hits | None) -> list[Result]:
    return [] if hits is None else [Result.proportion(name, hits.right, hits.n, higher_is_better=True)]


def results(findings: Findings) -> tuple[Result, ...]:
    """Return the numbers of the run; None for those that were not measured."""
    course, tried = findings.course, findings.evidence.sweep
    numbers: list[Result] = []
    if course is not None:
        numbers += [
            Result("loss_before", finite(course.before)),
            Result("loss_after", finite(course.after), higher_is_better=False),
            Result("steps", len(course.losses)),
            *_hits("accuracy_before", course.hits_before),
            *_hits("accuracy_after", course.hits_after),
            Result("failed_step", None if course.failed_at is None else course.failed_at + 1),
            Result("learning_rate", course.lr),
        ]
        gradients = findings.evidence.gradients
        if len(gradients) > 1 and gradients[-1][2] > 0:
            numbers.append(Result("gradient_first_to_last_layer", finite(gradients[0][2] / gradients[-1][2])))
    if tried is not None:
        numbers += [
            Result("largest_stable_learning_rate", tried.stable),
            Result("suggested_learning_rate", tried.suggestion),
        ]
    census = findings.evidence.layer_stats
    if census.units:
        numbers.append(Result("dead_units_before", census.dead, census.units, unit="units"))
    after = findings.evidence.after
    if after is not None and after.units:
        numbers.append(Result("dead_units_after", after.dead, after.units, unit="units"))
    return tuple(numbers)
