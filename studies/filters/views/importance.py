"""Importance: which channels matter, measured by taking them away, and how well cheaper measures foretell it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probe.core import stats
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Section, finite
from studies.filters.importance.evidence import (
    Ranks,
    accuracy_at,
    half_step,
    mean_over_layers,
    measurable_channels,
    most_important,
    named_results,
    rank_correlations,
    row_means,
)
from studies.filters.importance.measure import ORDERS, LayerImportance, measure
from studies.filters.importance.measures import LEAST_CHANNELS, mean_interval, served_classes
from studies.filters.importance.plan import jobs
from studies.filters.registries import VIEWS
from studies.filters.views.similarity import evenly
from studies.filters.workspace import FiltersWorkspace

_LAYERS = 4
_LISTED = 6
"""How many channels of a layer the table has."""

_NAMED = 3
"""How many classes are named for a channel."""

_MEASURES = {
    "weight_norm": "weight norm",
    "activation": "activation",
    "taylor": "Taylor",
    "selectivity": "class selectivity",
    "set_to_mean": "set to the mean",
    "split_half": "other half of the images",
}
_ORDERS = {
    "measured": "least measured importance first",
    "weight_norm": "smallest weight norm first",
    "taylor": "smallest Taylor importance first",
    "random": "random orders",
}

_LIMITS = (
    "What this cannot tell: without a channel the layers above get input that they never saw in training, so a part of the loss "
    "may come from that and not from what the channel knew; its mean in its place is less unusual than 0. Channels that do the "
    "same stand in for each other, so that each alone seems to matter little: every channel was taken away alone, except in the "
    "removal curves. The intervals are for one channel; the largest of many increases is likely estimated too large."
)


@VIEWS.register("importance", order=11, optional=True, passes=(1700, 0))
def importance(space: FiltersWorkspace) -> Section:
    """Measure which channels matter by taking them away, beside cheaper measures, and which classes they serve."""
    work = jobs(space, evenly(space.layers, _LAYERS))
    units = [len(job.images) * job.passes for job in work]
    with space.progress.task("Importance", sum(units)) as advance:
        found = space.spread(measure, work, advance, units, reads_images=True)
    ranks = {layer.job.layer: rank_correlations(layer, space.config.seed) for layer in found}
    blocks: list[Block] = [*_caution(ranks), Note(_LIMITS), _increases(found), _most_important(space, found)]
    if any(each.value is not None for measures in ranks.values() for each in measures.values()):
        blocks.append(_rank_figure(ranks))
    blocks += [_rank_table(ranks), *(_removal(layer, layer is found[0]) for layer in found)]
    blocks.append(_removal_table(found))
    return Section(
        "importance",
        "Importance of channels",
        _summary(space, found),
        tuple(blocks),
        results=tuple(result for layer in found for result in named_results(layer, ranks[layer.job.layer])),
        findings=_findings(found, ranks),
    )


def _caution(ranks: dict[str, Ranks]) -> list[Block]:
    """Warn where two halves of the images do not agree on which channels matter."""
    halves = {layer: measures["split_half"] for layer, measures in ranks.items()}
    # Fewer than five channels have no rank correlation, however many images there are.
    doubtful = [
        layer for layer, each in halves.items() if each.value is not None and each.ci and each.ci[0] <= 0
    ]
    if not doubtful:
        return []
    text = (
        f"In {', '.join(doubtful)} one half of the images does not order the channels as the other half does, beyond chance: with "
        "these images the order there, and how well a measure agrees with it, says little. Take more images (-n)."
    )
    return [Note(text, "warning")]


def _summary(space: FiltersWorkspace, found: Sequence[LayerImportance]) -> str:
    layer = found[0]
    n, right = len(layer.labels), int(layer.intact.right.sum())
    sizes = np.unique(layer.labels, return_counts=True)[1]
    each = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    listed = ", ".join(f"{len(one.job.channels)} of {one.job.total} in {one.job.layer}" for one in found)
    labelled = int((space.observed.labels >= 0).sum())
    how = "evenly spread" if space.config.channels is None else "those named and others evenly spread"
    return (
        f"{len(found)} of {len(space.layers)} layers; channels, {how}: {listed}. {n} of {labelled} labelled images of "
        f"{len(sizes)} classes ({each} each); with all channels {right} are right and the mean loss (cross-entropy) is "
        f"{mean_interval(layer.intact.losses)[0]:.3g} nats."
    )


def _increases(found: Sequence[LayerImportance]) -> Figure:
    series = []
    for layer in found:
        rows = [mean_interval(row) for row in layer.increases]
        rows = sorted((row for row in rows if np.isfinite(row[0])), key=lambda row: -row[0])
        if rows:
            series.append(
                Series(
                    layer.job.layer,
                    tuple(100 * (place + 0.5) / len(rows) for place in range(len(rows))),
                    tuple(mean for mean, _ in rows),
                    tuple(ci[0] if ci else mean for mean, ci in rows),
                    tuple(ci[1] if ci else mean for mean, ci in rows),
                )
            )
    reading = (
        "How much the mean loss grows when one channel is set to 0, the most important channel of each layer at the left; the "
        "bands are 95% t-intervals over images. A line at 0: no channel is needed as long as the others are there. Below 0 the "
        "network is better off without the channel, or it is chance. Sorted chance falls, too: look at the bands."
    )
    axis = Axis("channels measured, most important first (%)")
    return Figure(
        "Loss increase without each channel",
        "line",
        axis,
        Axis("loss increase (nats)"),
        reading,
        tuple(series),
    )


def _most_important(space: FiltersWorkspace, found: Sequence[LayerImportance]) -> Table:
    columns = (
        Column("layer", help="The layer whose output is changed."),
        Column("channel", help="Its number, from 0."),
        Column("loss increase", "nats", "Mean over images when the channel is set to 0."),
        *Column.interval("the 95% t-interval of the loss increase over images"),
        Column(
            "set to mean",
            "nats",
            "Loss increase when the channel is set to its mean over images and positions.",
        ),
        Column("accuracy change", help="When the channel is set to 0.", proportion=True),
        Column("lost", help="Images that are right with the channel and wrong without it."),
        Column("won", help="Images that are wrong with the channel and right without it."),
        Column(
            "classes served",
            help="Classes that lose the largest share of their right answers: how many fewer, of how many images.",
        ),
        Column(
            "weight norm",
            help="L1 norm of the channel's filter in the last convolution before the layer's output; none where what follows "
            "mixes channels or the numbers of channels differ.",
        ),
        Column("activation", help="Mean of the absolute value over images and positions."),
        Column(
            "Taylor",
            help="Mean over images of |Σ over positions of activation × gradient of the loss|: the first-order estimate of the "
            "loss change (Molchanov et al. 2017).",
        ),
        Column(
            "selectivity",
            help="(μ max − μ others) / (μ max + μ others) of the classes' mean activations after a ReLU: 1 is one class only, 0 "
            "all alike (Morcos et al. 2018).",
        ),
    )
    rows: list[tuple[Cell, ...]] = []
    for layer in found:
        means = row_means(layer.increases)
        for place in np.argsort(-np.nan_to_num(means, nan=-np.inf), kind="stable")[:_LISTED]:
            rows.append(_row(space, layer, int(place)))
    reading = f"The {_LISTED} most important channels of each layer, on all {len(found[0].labels)} images."
    return Table("The most important channels", columns, tuple(rows), reading)


def _row(space: FiltersWorkspace, layer: LayerImportance, place: int) -> tuple[Cell, ...]:
    before, after = layer.intact.right, layer.zero.right[place]
    mean, ci = mean_interval(layer.increases[place])
    other, _ = mean_interval(layer.mean.losses[place] - layer.intact.losses)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    served = served_classes(before, after, layer.labels)
    named = [f"{space.class_name(each.label)} {each.lost} of {each.n}" for each in served[:_NAMED]]
    more = [f"{len(served) - _NAMED} more"] if len(served) > _NAMED else []
    low, high = ci or (None, None)
    cells = [finite(float(values[place])) for values in layer.measures.values()]
    numbers = (finite(mean), low, high, finite(other), (won - lost) / len(before), lost, won)
    return (layer.job.layer, layer.job.channels[place], *numbers, ", ".join([*named, *more]) or None, *cells)


def _rank_figure(ranks: dict[str, Ranks]) -> Figure:
    series = []
    for layer, measures in ranks.items():
        known = [(place, each) for place, each in enumerate(measures.values()) if each.value is not None]
        bounds = [each.ci or (each.value, each.value) for _, each in known]
        series.append(
            Series(
                layer,
                tuple(float(place) for place, _ in known),
                tuple(each.value or 0.0 for _, each in known),
                tuple(low or 0.0 for low, _ in bounds),
                tuple(high or 0.0 for _, high in bounds),
            )
        )
    reading = (
        "Spearman's rank correlation of each measure with the loss increase when a channel is set to 0; lines are 95% bootstrap "
        "intervals over channels. 1: it puts the channels in the same order; 0: it says nothing. The last bar is the loss "
        "increase itself on one half of the images against the other: where that is low, the measured order is mostly chance, "
        "and no measure can follow it."
    )
    axis = Axis("measure", categories=tuple(_MEASURES[key] for key in next(iter(ranks.values()))))
    return Figure(
        "Agreement with the measured importance",
        "bar",
        axis,
        Axis("rank correlation"),
        reading,
        tuple(series),
    )


def _rank_table(ranks: dict[str, Ranks]) -> Table:
    columns = (
        Column("layer", help="The layer whose channels are ordered."),
        Column("measure", help="What is compared with the loss increase."),
        Column("rank correlation", help="Spearman's, with the loss increase when a channel is set to 0."),
        *Column.interval("the 95% bootstrap interval over channels"),
        Column("channels", help="Channels for which the measure is defined."),
    )
    rows = [
        (layer, _MEASURES[key], each.value, *(each.ci or (None, None)), each.n)
        for layer, measures in ranks.items()
        for key, each in measures.items()
    ]
    reading = (
        f"Not defined (–) where a measure is constant, or known for fewer than {LEAST_CHANNELS} channels."
    )
    return Table("Agreement in numbers", columns, tuple(rows), reading)


def _removal(layer: LayerImportance, explained: bool) -> Figure:
    curve, job, series = layer.curve, layer.job, []
    shares = [0.0, *(100 * count / len(job.removed) for count in curve.counts)]
    start = curve.intact / curve.n, stats.wilson(curve.intact, curve.n)
    for name in curve.right:
        points = [start, *(accuracy_at(curve, name, step) for step in range(len(curve.counts)))]
        series.append(
            Series(
                _ORDERS[name],
                tuple(shares),
                tuple(value for value, _ in points),
                tuple(low for _, (low, _) in points),
                tuple(high for _, (_, high) in points),
            )
        )
    stay = job.total - len(job.removed)
    reading = (
        f"Channels are set to 0, more and more of them together. The measured order was found on {len(layer.ordering)} of the "
        f"images, the accuracy is that of the other {curve.n}. An order is good if its line stays above that of {ORDERS} random "
        "orders (their mean); the measured one can fail, because the effects of single channels do not add up. Bands are 95% "
        "Wilson intervals; that of the random orders counts their spread, too."
        if explained
        else "To be read as the chart above."
    ) + (f" The other {stay} channels of the layer, not measured, stay." if stay else "")
    axis = Axis(f"removed of {len(job.removed)} channels (%)")
    title = f"{job.layer}: accuracy as channels are removed"
    return Figure(title, "line", axis, Axis("accuracy"), reading, tuple(series))


def _removal_table(found: Sequence[LayerImportance]) -> Table:
    columns = (
        Column("layer", help="The layer whose channels are removed."),
        Column("order", help="Which channels are removed first."),
        Column("removed", help="How many channels are set to 0."),
        Column("accuracy", help="On the images on which the orders were not found.", proportion=True),
        *Column.interval(proportion=True),
        Column("images", help="How many the accuracy is of."),
    )
    rows: list[tuple[Cell, ...]] = []
    for layer in found:
        curve = layer.curve
        rows.append(
            (
                layer.job.layer,
                "all channels stay",
                0,
                curve.intact / curve.n,
                *stats.wilson(curve.intact, curve.n),
                curve.n,
            )
        )
        for name in curve.right:
            value, ci = accuracy_at(curve, name, half_step(curve))
            rows.append((layer.job.layer, _ORDERS[name], curve.counts[half_step(curve)], value, *ci, curve.n))
    reading = "About half of the channels of each chart above are set to 0 together."
    return Table("Half of the channels removed", columns, tuple(rows), reading)


def _findings(found: Sequence[LayerImportance], ranks: dict[str, Ranks]) -> tuple[str, ...]:
    channels = sum(len(layer.job.channels) for layer in found)
    measurable = sum(map(measurable_channels, found))
    text = (
        f"{measurable} of {channels} channels in {len(found)} layers measurably raise the loss when they alone are set to 0 "
        f"(chance alone: about {channels / 40:.0f})"
    )
    tops = [(layer, top) for layer in found if (top := most_important(layer)) is not None]
    if tops:
        layer, top = max(tops, key=lambda one: mean_interval(one[0].increases[one[1]])[0])
        mean, ci = mean_interval(layer.increases[top])
        bounds = f" [{ci[0]:.2g}, {ci[1]:.2g}]" if ci else ""
        most = f"{mean:.2g} nats{bounds}".replace("-", "−")
        text += (
            f"; the largest mean is that of channel {layer.job.channels[top]} of {layer.job.layer}: {most}"
        )
    lines = [f"{text}."]
    means = {key: mean_over_layers(ranks, key) for key in (*found[0].measures, "split_half")}
    known = {key: value for key, value in means.items() if value is not None}
    half = known.pop("split_half", None)
    if known and half is not None:
        listed = ", ".join(f"{_MEASURES[key]} {value:.2f}" for key, value in known.items())
        lines.append(
            f"Cheap measures against the measured importance, mean rank correlation over layers: {listed}; the measured "
            f"importance itself on one half of the images against the other: {half:.2f}."
        )
    return tuple(lines)
