"""The figures of a check-up: loss, learning rates, gradients, the signal on its way, dead units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from probe.core.document import Axis, Block, Column, Figure, Result, Section, Series, Table, finite
from probe.tools.doctor.diagnosis import Findings, course_in_words, status_of
from probe.tools.doctor.evidence import TINY, short
from probe.tools.doctor.training_run import TrainingRun

_ROWS, _COLUMNS = 40, 30


def loss_section(findings: Findings) -> Section:
    """Return the loss of every batch."""
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
        "A training that works falls below the level line, the loss of an answer that knows only how frequent "
        "the classes "
        "are. A line that ends early stopped being finite there.",
        tuple(series),
    )
    return Section(
        "loss", "Loss", f"At a learning rate of {course.lr:.3g} {course_in_words(course)}.", (figure,)
    )


def rates_section(findings: Findings) -> Section:
    """Return the loss that each learning rate comes to."""
    tried = findings.evidence.sweep
    if tried is None:
        return Section("rates", "Learning rates", reason=findings.evidence.unswept)
    drawn = [one for one in tried.points if math.isfinite(one.after)]
    used = findings.evidence.plan.lr
    series = [
        Series("loss after the steps", tuple(one.lr for one in drawn), tuple(one.after for one in drawn))
    ]
    series.append(Series("loss at the start", (tried.points[0].lr, tried.points[-1].lr), (tried.before,) * 2))
    here = tried.at(used)
    if here is not None and math.isfinite(here.after):
        series.append(Series("the rate of this run", (used,), (here.after,)))
    figure = Figure(
        f"Loss after {tried.steps} steps at each learning rate",
        "line",
        Axis("learning rate", scale="log"),
        _loss_axis([one.after for one in drawn]),
        "Each point starts from the same weights and sees the same batches. Left, where the line is level, the "
        "rate is too "
        "small to learn in so few steps; right, where it rises or ends, too large. Rates that stop being finite are "
        "in the table only.",
        tuple(one for one in series if all(map(math.isfinite, one.y))),
    )
    rows = tuple((one.lr, finite(one.after), one.outcome, one.steps) for one in tried.points)
    table = Table(
        "Learning rates tried",
        (
            Column("learning rate", help="The rate of this short training."),
            Column("loss after", help="The loss on the same images after it."),
            Column("outcome", help="What became of it."),
            Column("steps", help="Steps that were made."),
        ),
        rows,
        "stalled: the loss fell by less than 5%; grew: it rose by half or more; diverged: it stopped being finite.",
    )
    if tried.stable is None or tried.suggestion is None:
        words = f"No rate of {len(tried.points)} learns in {tried.steps} steps."
    else:
        limit = "the largest stable rate" if tried.bounded else "stable up to the largest rate tried"
        words = (
            f"{tried.stable:.2g} is {limit}; {tried.suggestion:.2g} is suggested. Both are for {tried.steps} steps "
            "of this batch size."
        )
    blocks: tuple[Block, ...] = (figure, table) if figure.series else (table,)
    return Section("rates", "Learning rates", words, blocks)


def gradients_section(findings: Findings) -> Section:
    """Return gradient norms by layer at the first step, and by layer and step."""
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
        "Before anything is learned. A level line is good: all layers learn. A line that falls towards the input is a "
        "vanishing gradient, values above 10 are exploding ones.",
        (Series("first step", place, tuple(max(share, TINY) for _, _, share in gradients)),),
    )
    blocks = (first, _heat(course, [name for name, _, _ in gradients]))
    ratio = gradients[0][2] / max(gradients[-1][2], TINY)
    words = f"Relative to the weights, the first layer's gradient starts at {ratio:.2g} times the last one's."
    return Section("gradients", "Gradients", words, blocks)


def _heat(course: TrainingRun, names: list[str]) -> Figure:
    layers = _spread([course.layers.index(name) for name in names], _ROWS)
    steps = _spread(list(range(len(course.norms))), _COLUMNS)
    values = np.maximum(course.norms[np.ix_(steps, layers)], TINY)
    largest = float(values.max())
    logs = np.maximum(np.log10(values / largest), -12).T
    return Figure(
        "Gradient norms along the run",
        "heatmap",
        Axis("step", categories=tuple(str(step + 1) for step in steps)),
        Axis("layer", categories=tuple(short(course.layers[layer]) for layer in layers)),
        f"0 is the largest gradient of the run ({largest:.2g}), −3 a thousandth of it, −12 that or less. Dark "
        "throughout a row: this layer "
        "hardly learns. Rows that brighten all together: the updates are too large.",
        matrix=tuple(tuple(float(value) for value in row) for row in logs),
        value_label="log10 of gradient / largest",
    )


def signal_section(findings: Findings) -> Section:
    """Return what each layer receives and gives before training."""
    layers = findings.evidence.layer_stats.layers
    if not layers:
        return Section("signal", "Signal", reason="No layer with weights was called.")
    first = layers[0]
    rows = tuple(
        (
            short(one.name),
            finite(one.mean),
            finite(one.std),
            finite(one.low),
            finite(one.high),
            finite(one.rms),
        )
        for one in layers
    )
    columns = (
        Column("layer", help="The layer's name in the network."),
        Column("mean", help="Of what the layer receives."),
        Column("std", help="Of what the layer receives."),
        Column("smallest", help="The smallest value that was seen."),
        Column("largest", help="The largest value that was seen."),
        Column("output", help="Root mean square of what the layer returns."),
    )
    reading = "An en dash is a value that is not finite. The first row is the input as the network sees it."
    blocks: list[Block] = [Table("What layers receive before training", columns, rows, reading)]
    drawn = [(float(i), one.rms) for i, one in enumerate(layers, 1) if math.isfinite(one.rms) and one.rms > 0]
    if len(drawn) > 1:
        blocks.insert(
            0,
            Figure(
                "Size of each layer's output before training",
                "line",
                Axis("layer with weights, from input to output"),
                Axis("root mean square", scale="log"),
                "A level line is good. One that falls or rises over many powers of ten is a signal that is lost "
                "or explodes, and "
                "the gradients with it. The line ends where a value is not finite.",
                (Series("output", tuple(x for x, _ in drawn), tuple(y for _, y in drawn)),),
            ),
        )
    words = f"{short(first.name)} receives mean {first.mean:.3g} and standard deviation {first.std:.3g}."
    return Section("signal", "Signal", words, tuple(blocks))


def dead_section(findings: Findings) -> Section:
    """Return the share of dead units of every ReLU, before and after the run."""
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
    if not any(any(one.y) for one in series):
        return Section("dead", "Dead units", f"{words}.")
    figure = Figure(
        "Units that never fire",
        "bar",
        Axis("ReLU", categories=tuple(short(start.relus[i].name) for i in chosen)),
        Axis("dead units, %"),
        "A unit (channel) is dead when it is 0 everywhere in all images looked at: no gradient reaches what is "
        "before it. "
        "Some are usual; a bar near 100 stops the training.",
        tuple(series),
    )
    return Section("dead", "Dead units", f"{words}.", (figure,))


def _loss_axis(values: list[float]) -> Axis:
    """Return a logarithmic axis where losses differ by powers of ten."""
    wide = bool(values) and min(values) > 0 and max(values) > 100 * min(values)
    return Axis("loss", scale="log" if wide else "linear")


def _spread(values: list[int], most: int) -> list[int]:
    """Return at most so many of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def findings_section(findings: Findings) -> Section:
    """Return one row for each cause that was looked for, the findings first."""
    # Where nothing is to be changed the last column would be empty.
    width = 4 if any(one.advice for one in findings.all) else 3
    rows = tuple((one.title, status_of(one, findings), one.text, one.advice)[:width] for one in findings.all)
    columns = (
        Column("cause", help="What was looked for."),
        Column("verdict", help="A consequence would not be there without the cause above it."),
        Column("evidence", help="The numbers that speak for or against it."),
        Column("what to change", help="The first thing to try."),
    )
    reading = (
        "A cause was seen directly, or its removal made the training work; a probable one fits the numbers. Not found "
        "says that the numbers of this short run do not show it, not that it cannot come later."
    )
    return Section(
        "causes",
        "Causes",
        _summary(findings),
        (Table("What was looked for", columns[:width], rows, reading),),
    )


def _summary(findings: Findings) -> str:
    """Count what was looked for and found."""
    tested = sum(one.grade != "unknown" for one in findings.all)
    seen = sum(one.found for one in findings.all)
    return f"{tested} of {len(findings.all)} causes could be tested; {seen or 'none'} of them left a trace."


def plain(findings: Findings) -> dict[str, Any]:
    """Return the diagnoses as results.json keeps them, the most likely cause first."""
    return {
        "cause": findings.cause,
        "healthy": findings.healthy,
        "outcome": None if findings.course is None else findings.course.outcome,
        "diagnoses": [
            {
                "cause": one.cause,
                "verdict": status_of(one, findings),
                "title": one.title,
                "evidence": one.text,
                "advice": one.advice,
            }
            for one in findings.all
        ],
    }


def results(findings: Findings) -> tuple[Result, ...]:
    """Return the numbers of the run; what was not measured is None."""
    course, tried = findings.course, findings.evidence.sweep
    found: list[Result] = []
    if course is not None:
        found += [
            Result("loss_before", finite(course.before)),
            Result("loss_after", finite(course.after), higher_is_better=False),
            Result("steps", len(course.losses)),
            Result("failed_step", None if course.failed_at is None else course.failed_at + 1),
            Result("learning_rate", course.lr),
        ]
        gradients = findings.evidence.gradients
        if len(gradients) > 1 and gradients[-1][2] > 0:
            found.append(Result("gradient_first_to_last_layer", finite(gradients[0][2] / gradients[-1][2])))
    if tried is not None:
        found += [
            Result("largest_stable_learning_rate", tried.stable),
            Result("suggested_learning_rate", tried.suggestion),
        ]
    census = findings.evidence.layer_stats
    if census.units:
        found.append(Result("dead_units_before", census.dead, census.units, unit="units"))
    after = findings.evidence.after
    if after is not None and after.units:
        found.append(Result("dead_units_after", after.dead, after.units, unit="units"))
    return tuple(found)
