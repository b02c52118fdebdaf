"""The section on co-adaptation: units with and without dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.core.document import Result, Section
from studies.ablation.dropout.arm import units_of
from studies.ablation.dropout.coadaptation import BINS, Units
from studies.ablation.evaluate import bounded_interval, interval, mean, paired_difference, paired_points
from studies.ablation.retrain import RetrainResult, Variant

TITLE = "Co-adaptation: units with and without dropout"
_Pairs = list[tuple[int, Units, Units]]
"""(seed, units trained with dropout, units trained without) of every seed that has both."""


@dataclass(frozen=True)
class _Measure:
    """A measure of each site, and the effect that dropout is expected to have on it.

    ``unit`` is that of a result: proportion, points for a difference of proportions, nats, or none.
    """

    name: str
    key: str
    unit: str
    values: Callable[[Units], NDArray[np.float64]]
    help: str
    expected: str = ""
    words: str = ""


_MEASURES = (
    _Measure(
        "Mean |r|",
        "correlation",
        "",
        lambda units: units.correlation,
        "Mean absolute Pearson correlation between live units over the held-out images.",
        "lower",
        "units are less correlated (mean |r|",
    ),
    _Measure(
        "Loss without a unit",
        "removed_loss",
        "nats",
        lambda units: _row_means(units.removed_loss),
        "Rise of the mean negative log-likelihood, in nats, when one unit is set to 0; mean over units.",
        "lower",
        "removing a single unit has less effect (rise of the loss without it, mean over units,",
    ),
    _Measure(
        "Accuracy without a unit",
        "removed_accuracy",
        "points",
        lambda units: _row_means(units.removed_accuracy),
        "Fall of the accuracy, as a proportion, when one unit is set to 0; mean over units.",
    ),
    _Measure(
        "Loss without the worst unit",
        "removed_loss_worst",
        "nats",
        lambda units: np.fmax.reduce(units.removed_loss, axis=1),
        "Rise of the loss without the unit whose removal costs most.",
    ),
    _Measure(
        "Dead units",
        "dead",
        "proportion",
        lambda units: units.dead,
        "Part of the units that have the same value for all images.",
    ),
)


def coadaptation_section(retrained: RetrainResult, plain: Variant) -> Section:
    """Compare the units at every dropout with those of the network trained without; ``plain`` is that variant."""
    depth = retrained.depths[-1]
    pairs: _Pairs = [
        (first.arm.seed, with_dropout, without)
        for first, second in zip(retrained.of((), depth), retrained.of(plain, depth), strict=True)
        if (with_dropout := units_of(first.dropout)) is not None
        and (without := units_of(second.dropout)) is not None
    ]
    if not pairs:
        reason = "No seed ended with two trained networks that have a dropout whose units can be identified."
        return Section("coadaptation", TITLE, reason=reason)
    n = int(pairs[0][1].images.max(initial=0))
    return Section(
        "coadaptation",
        TITLE,
        "Co-adapted units are useful only together with certain others; dropout is said to prevent this, because "
        "no unit can rely on another to be present (Hinton et al. 2012; Srivastava et al. 2014). This predicts "
        "that with dropout units are less correlated, and that removing any single unit costs less. Both are "
        "measured on the value that each dropout acts on, and on the same value of the network trained without "
        "dropout; in maps, a unit is a channel, and its activity the spatial mean. Removals are measured on "
        f"{n:,} held-out images. Both also depend on how well a network has learned: compare them together with "
        "the accuracies of the arms.",
        (_table(pairs), _correlation_figure(pairs), _removal_figure(pairs)),
        results=_results(pairs),
        findings=(_words(pairs),),
    )


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(1) / np.maximum(known.sum(1), 1))


def _by_seed(
    pairs: _Pairs, measure: _Measure, site: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return one number for each seed, with dropout and without: of one site, or the mean over sites."""
    rows = []
    for _, first, second in pairs:
        values = np.stack([measure.values(first), measure.values(second)])
        known = np.isfinite(values).all(0)
        rows.append(values[:, site] if site is not None else _known_mean(values[:, known]))
    both = np.array(rows)
    return both[:, 0], both[:, 1]


def _known_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.mean(1) if values.shape[1] else np.full(2, np.nan)


def _table(pairs: _Pairs) -> Table:
    names = [str(name) for name in pairs[0][1].names]
    rows: list[tuple[Cell, ...]] = []
    for measure in _MEASURES:
        for site in [None, *range(len(names))] if len(names) > 1 else [0]:
            first, second = _by_seed(pairs, measure, site)
            difference, ci, p = paired_difference(first, second)
            where = "mean over sites" if site is None else names[site]
            count = None if site is None else int(pairs[0][1].count[site])
            low, high = ci or (None, None)
            rows.append(
                (
                    measure.name,
                    where,
                    count,
                    mean(first.tolist()),
                    mean(second.tolist()),
                    difference,
                    low,
                    high,
                    p,
                )
            )
    return Table(
        "Units",
        (
            Column("Measure", help=" ".join(f"{entry.name}: {entry.help}" for entry in _MEASURES)),
            Column("Dropout site", help="The dropout whose input is measured."),
            Column("Units", help="Features, or channels of a map."),
            Column("With dropout", help="Mean over seeds."),
            Column("Without", help="Mean over seeds."),
            Column("Difference", help="With minus without, mean over seeds."),
            *Column.interval("its 95% t-interval over seeds"),
            Column("p", help="Paired t-test over seeds.", digits=2),
        ),
        tuple(rows),
        "One number for each seed; the seeds are paired. The hypothesis predicts negative differences; an "
        "interval that contains 0 means that these seeds cannot tell. The measures and sites are tested one by one, "
        "without a correction.",
    )


def _by_training(pairs: _Pairs) -> tuple[list[Units], list[Units]]:
    return [first for _, first, _ in pairs], [second for _, _, second in pairs]


def _labels() -> tuple[str, str]:
    return "trained with dropout", "trained without"


def _lines(x: Sequence[float], by_seed: Sequence[Sequence[NDArray[np.float64]]]) -> tuple[Series, ...]:
    """Return a line for each kind of training: mean over seeds, band from the lowest to the highest seed."""
    series = []
    for label, rows in zip(_labels(), by_seed, strict=True):
        table = np.array(rows)
        series.append(Series(label, tuple(x), tuple(table.mean(0)), tuple(table.min(0)), tuple(table.max(0))))
    return tuple(series)


def _correlation_figure(pairs: _Pairs) -> Figure:
    def part(units: Units) -> NDArray[np.float64]:
        counts = units.histogram[units.histogram.sum(1) > 0]
        if not len(counts):
            return np.zeros(BINS)
        return np.asarray((counts / counts.sum(1, keepdims=True)).mean(0))

    by_seed = [[part(units) for units in trainings] for trainings in _by_training(pairs)]
    return Figure(
        "Correlation between units",
        "line",
        Axis("|r| of two units"),
        Axis("part of the pairs"),
        f"Pairs of live units in {BINS} bins by their absolute correlation over held-out images, with equal "
        "weight for each site; mean over seeds, band from the lowest to the highest. In favour of the "
        "hypothesis: with dropout the mass lies further left. Against it: a heavier tail on the right, that is, "
        "redundant units. Images of few classes correlate units that distinguish these classes, whatever the "
        "training: only the difference between the lines counts.",
        _lines([(place + 0.5) / BINS for place in range(BINS)], by_seed),
    )


def _removal_figure(pairs: _Pairs) -> Figure:
    def sort_losses(units: Units) -> NDArray[np.float64]:
        values = units.removed_loss[np.isfinite(units.removed_loss)]
        return np.sort(values)[::-1]

    by_seed = [[sort_losses(units) for units in trainings] for trainings in _by_training(pairs)]
    length = min(len(row) for rows in by_seed for row in rows)
    by_seed = [[row[:length] for row in rows] for rows in by_seed]
    return Figure(
        "Loss without single units",
        "line",
        Axis("units, the most harmful to lose first"),
        Axis("rise of the loss, nats"),
        "One unit at a time is set to 0; units of all sites, sorted by the rise of the loss; mean over seeds, "
        "band from the lowest to the highest. In favour of the hypothesis: with dropout the line is low and "
        "flat: losing any single unit costs little. Against it: a high start: losing a few single units costs much. Below 0 the "
        "network is better without the unit.",
        _lines([float(rank + 1) for rank in range(length)], by_seed),
    )


def _words(pairs: _Pairs) -> str:
    parts = [_verdict(pairs, measure) for measure in _MEASURES if measure.expected]
    return "Dropout is predicted to reduce co-adaptation in two ways. " + " ".join(parts)


def _verdict(pairs: _Pairs, measure: _Measure) -> str:
    first, second = _by_seed(pairs, measure)
    difference, ci, p = paired_difference(first, second)
    if difference is None:
        return f"That {measure.words} …): not measured, because fewer than two units are alive."
    seeds = len(pairs)
    means = f"{mean(first.tolist()):.3g} with, {mean(second.tolist()):.3g} without"
    if ci is None or p is None:
        return f"That {measure.words} {means}): one seed is not enough for a test."
    test_text = f"difference {difference:.2g} [{ci[0]:.2g}, {ci[1]:.2g}], paired t-test over {seeds} seeds p = {p:.2g}"
    verdict = f"not significant with {seeds} seeds"
    if ci[1] < 0:
        verdict = "the data support it"
    elif ci[0] > 0:
        verdict = "the data show the opposite"
    return f"That {measure.words} {means}; {test_text}): {verdict}."


def _results(pairs: _Pairs) -> tuple[Result, ...]:
    results = []
    for measure in _MEASURES:
        first, second = _by_seed(pairs, measure)
        name = f"coadaptation_{measure.key}"
        for label, values in (("with_dropout", first.tolist()), ("without_dropout", second.tolist())):
            ci = interval(values) if measure.unit in ("nats", "points") else bounded_interval(values)
            results.append(_result(f"{name}:{label}", measure.unit, mean(values), len(values), ci))
        share = measure.unit == "proportion"
        difference, ci, p = (paired_points if share else paired_difference)(first, second)
        unit = "points" if share else measure.unit
        results.append(_result(f"{name}:difference", unit, difference, len(pairs), ci))
        results.append(Result(f"{name}_p:difference", p, len(pairs)))
    return tuple(results)


def _result(name: str, unit: str, value: float | None, n: int, ci: tuple[float, float] | None) -> Result:
    if unit == "points":
        return Result.points(name, value, n, ci, higher_is_better=False)
    return Result(name, value, n, ci, unit, False)
