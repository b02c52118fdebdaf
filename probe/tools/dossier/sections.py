"""Report sections of the dossier: the channels that the attack changes most, and the effect of removing each site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probe.core.blocks import Axis, Block, Cell, Column, Figure, Gallery, Note, Series, Strip, Table
from probe.core.document import Report, Result, Section, finite, percent
from probe.core.stats import holm
from probe.tools.dossier.measure import (
    ACTIVATION_CHANGE,
    ATTACKED_LOSS_INCREASE,
    CLEAN_LOSS_INCREASE,
    AttackedImages,
    Channels,
    Lesion,
)
from studies.ablation.evaluate import Comparison
from studies.filters.cards import SIDE as CARD_SIDE
from studies.filters.cards import card


def most_changed(layer: Channels, most: int) -> tuple[int, ...]:
    """Return the channels that the attack changes most, in descending order; ties in order of index."""
    order = np.argsort(-layer.measures[ACTIVATION_CHANGE], kind="stable")
    return tuple(layer.channels[place] for place in order[:most])


def channels_section(
    layer: Channels, attacked: AttackedImages, filters: Report, pictured: int, where: str
) -> Section:
    """Return the section with the gallery of the channels changed most, and the table of all measured channels."""
    name, shown = layer.chosen.name, most_changed(layer, pictured)
    strips = tuple(_strip(layer, channel, filters) for channel in shown)
    blocks: list[Block] = []
    if any(strip.pictures for strip in strips):
        blocks.append(
            Gallery(
                f"{name}: the {len(shown)} channels that the attack changes most",
                strips,
                "The image optimised to maximise the channel, its tuning to the orientation of gratings where that was measured, and "
                "its strongest patches. Next to them, how much the attack changes the channel and how silencing it changes the loss, with "
                f"the rank among the {len(layer.channels)} measured channels.",
                size=CARD_SIDE,
            )
        )
    else:
        numbers = ",".join(map(str, sorted(shown)))
        blocks.append(
            Note(
                "There are no feature pictures for this layer: they are made only for the first measured layer, if "
                f"possible. To make them: probe filters --layers {layer.chosen.answers} --channels {numbers}"
            )
        )
    blocks.append(_table(layer))
    blocks.append(
        Note(
            "All pictures of these channels, with values and strongest patches:",
            links=(("the filters report", where),),
        )
    )
    return Section(
        f"channels-{name}",
        f"Channels of {name}",
        _summary(layer, attacked),
        tuple(blocks),
        findings=_findings(layer),
    )


def _strip(layer: Channels, channel: int, filters: Report) -> Strip:
    place = layer.channels.index(channel)

    def value_text(measure: str, form: str = "+.2g") -> str:
        values = layer.measures[measure]
        rank = int((values > values[place]).sum()) + 1
        return f"{format(values[place], form)} (rank {rank})".replace("-", "−")

    note = (
        f"changed by {value_text(ACTIVATION_CHANGE, '.1%')} of its norm; silencing it changes the loss by "
        f"{value_text(CLEAN_LOSS_INCREASE)} nats on clean and {value_text(ATTACKED_LOSS_INCREASE)} on attacked images"
    )
    return Strip(
        card(filters.sections, layer.chosen.answers, channel),
        label=f"Channel {channel}",
        note=note,
        anchor=f"{layer.chosen.name}/ch{channel}",
    )


def _table(layer: Channels) -> Table:
    others = [
        name
        for name in layer.measures
        if name not in (CLEAN_LOSS_INCREASE, ATTACKED_LOSS_INCREASE, ACTIVATION_CHANGE)
    ]
    rows: list[tuple[Cell, ...]] = []
    for place in np.argsort(-layer.measures[ACTIVATION_CHANGE], kind="stable"):
        lesion = layer.lesions[place]
        rows.append(
            (
                layer.chosen.name,
                layer.channels[place],
                float(layer.measures[ACTIVATION_CHANGE][place]),
                finite(lesion.clean.loss_change),
                finite(lesion.attacked.loss_change),
                lesion.clean.changed,
                lesion.attacked.changed,
                *(finite(float(layer.measures[name][place])) for name in others),
            )
        )
    columns = (
        Column("Layer"),
        Column("Channel"),
        Column(
            "Change",
            proportion=True,
            help="L2 change of the channel's map under attack, relative to the map's norm; mean over images.",
        ),
        Column(
            "Loss, clean",
            unit="nats",
            help="Increase of the mean cross-entropy when the channel is silenced.",
        ),
        Column(
            "Loss, attacked", unit="nats", help="The same for the images of the attack on the intact network."
        ),
        Column("Flips, clean", help="Images whose prediction changes when the channel is silenced."),
        Column("Flips, attacked"),
        *(Column(name[:1].upper() + name[1:], help=_HELP[name]) for name in others),
    )
    return Table(
        f"{layer.chosen.name}: every measured channel",
        columns,
        tuple(rows),
        "Sorted by the change under attack.",
    )


_HELP = {
    "filter norm": "L2 norm of the filter's weights.",
    "maximum cosine similarity": "Largest cosine to another filter of the layer; near-duplicates are above 0.95.",
    "spatial frequency": "Mean frequency of the kernel, weighted by power, in cycles per pixel.",
    "mean maximum activation": "Largest activation in an image, mean over images.",
    "SD of maximum activation": "Standard deviation of the largest activation over images.",
    "activating images": "Images in which the channel is positive at any position.",
}


def _summary(layer: Channels, attacked: AttackedImages) -> str:
    n, total = len(layer.channels), layer.chosen.total
    which = f"All {total}" if n == total else f"{n} of the {total} (evenly spaced)"
    return (
        f"{which} channels of {layer.chosen.name} were silenced one at a time, after their norm and activation, on "
        f"{len(attacked.labels)} images, clean and attacked at epsilon {attacked.epsilon:.4g}. Their change under attack is measured at "
        f"{layer.chosen.answers}."
    )


def _findings(layer: Channels) -> tuple[str, ...]:
    change, increase = layer.measures[ACTIVATION_CHANGE], layer.measures[CLEAN_LOSS_INCREASE]
    first = (
        f"the largest change under attack, {np.max(change):.1%} of its norm, is that of {_top(layer, change)}"
    )
    second = f"the largest increase of the clean loss, {np.max(increase):.2g} nats, is without {_top(layer, increase)}"
    if not np.max(increase) > 0:
        second = "silencing none of them increases the clean loss"
    return (
        f"Of {len(layer.channels)} channels of {layer.chosen.name}, {first}; {second}. These are single measurements on the "
        "same images; differences between channels were not tested.",
    )


def _top(layer: Channels, values: np.ndarray) -> str:
    """Return the channel with the largest value, or the number of channels that share it."""
    top = [layer.channels[place] for place in np.flatnonzero(values == np.max(values))]
    return f"channel {top[0]}" if len(top) == 1 else f"{len(top)} channels, such as {top[0]}"


def sites_section(
    structures: dict[str, tuple[Lesion, ...]], attacked: AttackedImages, labelled: bool
) -> Section:
    """Return the section on the accuracy without each site, clean and attacked, the largest effect first."""
    every = [(word, lesion) for word, losses in structures.items() for lesion in losses]
    if not every:
        reason = "The network has no block, shortcut, branch or layer that can be removed individually."
        return Section("sites", "Sites: clean and attacked images", reason=reason)
    ps = holm([p for _, lesion in every for p in (lesion.clean.p, lesion.attacked.p)])
    rows = [_row(word, lesion, ps[2 * i], ps[2 * i + 1]) for i, (word, lesion) in enumerate(every)]
    rows.sort(key=lambda row: (_number(row[2]) + _number(row[5]), str(row[0]), str(row[1])))
    measure = "accuracy" if labelled else "agreement"
    figure = Figure(
        "Effect of removing each site, clean and attacked",
        "scatter",
        Axis("increase of the loss on clean images (nats)"),
        Axis("increase on attacked images (nats)"),
        "One point per site, without intervals. Further right: the loss on clean images rises more without the site; further "
        "up: that on attacked images. Below 0, the loss on the attacked images is smaller without the site; they were made "
        "for the network with it, which may be why.",
        tuple(
            Series(
                word,
                tuple(lesion.clean.loss_change for lesion in losses),
                tuple(lesion.attacked.loss_change for lesion in losses),
            )
            for word, losses in structures.items()
        ),
    )
    table = Table(
        "Without each site",
        (
            Column("Structure"),
            Column("Site"),
            Column(f"Clean {measure}", proportion=True),
            Column("Change", unit="points", help="Compared with the intact network, on the same images."),
            Column(
                "p, Holm",
                digits=2,
                help=f"Exact McNemar test, corrected for all {len(ps)} tests of this table.",
            ),
            Column(
                f"Attacked {measure}",
                proportion=True,
                help="For the images of the attack on the intact network.",
            ),
            Column("Change, attacked", unit="points"),
            Column("p, Holm, attacked", digits=2),
            Column("Loss, clean", unit="nats", help="Increase of the mean cross-entropy."),
            Column("Loss, attacked", unit="nats"),
        ),
        tuple(rows),
        "Sorted by the sum of both accuracies, the lowest first. The order of the sites was not tested: each p compares a "
        "site with the intact network, not with other sites.",
    )
    first = every[0][1]
    clean, hit = (_intact(comparison) / comparison.n for comparison in (first.clean, first.attacked))
    summary = (
        f"Intact: {percent(clean)} on {first.clean.n} clean images, {percent(hit)} on the attacked images at epsilon "
        f"{attacked.epsilon:.4g} (the ε of the curve at which the part of the correct images that are still correct is "
        "closest to half). The attacked images "
        "were made for the intact network and are the same for all sites: a network without a site is not attacked "
        "again, so this is not its own robust accuracy."
    )
    return Section(
        "sites",
        "Sites: clean and attacked images",
        summary,
        (figure, table),
        results=_results(every),
        findings=_finding(rows, measure),
    )


def _intact(comparison: Comparison) -> int:
    """Return how many images the intact network classifies correctly."""
    return comparison.n_correct + comparison.lost - comparison.won


def _row(word: str, lesion: Lesion, p: float, p_attacked: float) -> tuple[Cell, ...]:
    clean, hit = lesion.clean, lesion.attacked
    return (
        word,
        lesion.site,
        clean.accuracy,
        100 * clean.difference,
        p,
        hit.accuracy,
        100 * hit.difference,
        p_attacked,
        finite(clean.loss_change),
        finite(hit.loss_change),
    )


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0


def _results(every: Sequence[tuple[str, Lesion]]) -> tuple[Result, ...]:
    results = []
    for word, lesion in every:
        for name, comparison in (("clean", lesion.clean), ("attacked", lesion.attacked)):
            results.append(
                Result(
                    f"without_{word}:{lesion.site}:{name}",
                    comparison.accuracy,
                    comparison.n,
                    comparison.ci,
                    "proportion",
                    True,
                )
            )
    return tuple(results)


def _finding(rows: Sequence[tuple[Cell, ...]], measure: str) -> tuple[str, ...]:
    lowest = rows[0]
    total = _number(lowest[2]) + _number(lowest[5])
    ties = sum(abs(_number(row[2]) + _number(row[5]) - total) < 1e-9 for row in rows) - 1
    clean, hit = _number(lowest[3]), _number(lowest[6])
    others = f", as without {ties} other{'' if ties == 1 else 's'} of them" if ties else ""
    return (
        f"Of {len(rows)} sites, the sum of clean and attacked {measure} is lowest without {lowest[0]} {lowest[1]}{others}: clean "
        f"{measure} changes by {clean:+.1f} points (p = {_number(lowest[4]):.2g} after Holm), {measure} on the attacked images "
        f"by {hit:+.1f} (p = {_number(lowest[7]):.2g}).".replace("+-", "-").replace("-", "−")
        + " Differences between sites were not tested.",
    )
