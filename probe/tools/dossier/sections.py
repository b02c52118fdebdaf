"""The channels that the attack moves most: their pictures beside what they are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from probe.core.document import (
    Axis,
    Block,
    Cell,
    Column,
    Figure,
    Gallery,
    Note,
    Picture,
    Report,
    Result,
    Section,
    Series,
    Strip,
    Table,
    finite,
    percent,
)
from probe.core.stats import holm
from probe.tools.dossier.measure import IMPORTANCE, MOVEMENT, ROBUST_IMPORTANCE, Attacked, Channels, Loss
from studies.ablation.evaluate import Comparison

SIDE = 112
_KINDS = (("", "most"), ("/least", "least"), ("/unit", "one unit"))
"""Endings of the anchors of the features view, and what they show."""


def most_moved(layer: Channels, most: int) -> tuple[int, ...]:
    """Return the channels that the attack moves most, the most moved first; equal ones by number."""
    order = np.argsort(-layer.measures[MOVEMENT], kind="stable")
    return tuple(layer.channels[place] for place in order[:most])


def channels_section(layer: Channels, seen: Attacked, filters: Report, pictured: int, where: str) -> Section:
    """Return the gallery of the most moved channels and the table of all."""
    name, shown = layer.chosen.name, most_moved(layer, pictured)
    pictures = {picture.anchor: picture for picture in _pictures(filters)}
    strips = tuple(_strip(layer, channel, pictures) for channel in shown)
    blocks: list[Block] = []
    if any(strip.pictures for strip in strips):
        blocks.append(
            Gallery(
                f"{name}: the {len(shown)} channels that the attack moves most",
                strips,
                "Made by optimisation: what drives the channel up, what drives it down, and what its middle unit "
                "wants. Beside it, how far the attack moves the channel and what silencing it costs, with the rank "
                f"among the {len(layer.channels)} measured.",
                size=SIDE,
            )
        )
    else:
        numbers = ",".join(map(str, sorted(shown)))
        blocks.append(
            Note(
                "There are no feature pictures here: they are made for the first layer that is measured, where that "
                f"can be done. To see others: probe filters --layers {layer.chosen.answers} --channels {numbers}"
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
        _summary(layer, seen),
        tuple(blocks),
        findings=_findings(layer),
    )


def _pictures(report: Report) -> Iterator[Picture]:
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Gallery):
                yield from (picture for strip in block.strips for picture in strip.pictures)


def _strip(layer: Channels, channel: int, pictures: dict[str, Picture]) -> Strip:
    found = []
    for ending, words in _KINDS:
        picture = pictures.get(f"{layer.chosen.answers}/ch{channel}{ending}")
        if picture is not None:
            found.append(Picture(picture.pixels, picture.alt, words, pixelated=picture.pixelated))
    place = layer.channels.index(channel)

    def told(measure: str, form: str = "+.2g") -> str:
        values = layer.measures[measure]
        rank = int((values > values[place]).sum()) + 1
        return f"{format(values[place], form)} (rank {rank})".replace("-", "−")

    note = (
        f"moved {told(MOVEMENT, '.1%')} of its length; silenced, the loss changes by {told(IMPORTANCE)} nats on "
        f"clean and {told(ROBUST_IMPORTANCE)} on attacked images"
    )
    return Strip(
        tuple(found), label=f"Channel {channel}", note=note, anchor=f"{layer.chosen.name}/ch{channel}"
    )


def _table(layer: Channels) -> Table:
    others = [name for name in layer.measures if name not in (IMPORTANCE, ROBUST_IMPORTANCE, MOVEMENT)]
    rows: list[tuple[Cell, ...]] = []
    for place in np.argsort(-layer.measures[MOVEMENT], kind="stable"):
        loss = layer.losses[place]
        rows.append(
            (
                layer.chosen.name,
                layer.channels[place],
                float(layer.measures[MOVEMENT][place]),
                finite(loss.clean.loss_change),
                finite(loss.attacked.loss_change),
                loss.clean.changed,
                loss.attacked.changed,
                *(finite(float(layer.measures[name][place])) for name in others),
            )
        )
    columns = (
        Column("Layer"),
        Column("Channel"),
        Column(
            "Moved",
            proportion=True,
            help="L2 change of its map under attack, as a part of the map's length; mean over images.",
        ),
        Column(
            "Loss, clean", unit="nats", help="Rise of the mean cross-entropy when the channel is silenced."
        ),
        Column(
            "Loss, attacked", unit="nats", help="The same on the images of the attack on the intact network."
        ),
        Column("Flips, clean", help="Images whose answer changes when the channel is silenced."),
        Column("Flips, attacked"),
        *(Column(name[:1].upper() + name[1:], help=_HELP[name]) for name in others),
    )
    return Table(
        f"{layer.chosen.name}: every measured channel", columns, tuple(rows), "The most moved first."
    )


_HELP = {
    "filter norm": "Euclidean length of the filter's weights.",
    "likeness to another": "Largest cosine to another filter of the layer; a near-duplicate is above 0.95.",
    "spatial frequency": "Mean frequency of the kernel weighted by power, in cycles a pixel.",
    "mean peak": "Largest activation in an image, mean over images.",
    "spread of peaks": "Its standard deviation over images.",
    "images it fires in": "Images in which the channel is positive anywhere.",
}


def _summary(layer: Channels, seen: Attacked) -> str:
    n, total = len(layer.channels), layer.chosen.total
    which = f"All {total}" if n == total else f"{n} of the {total}, at even distances,"
    return (
        f"{which} channels of {layer.chosen.name} were silenced one at a time, behind their norm and activation, on "
        f"{len(seen.labels)} images, clean and attacked at epsilon {seen.epsilon:.4g}. Movement is measured at "
        f"{layer.chosen.answers}."
    )


def _findings(layer: Channels) -> tuple[str, ...]:
    moved, lesion = layer.measures[MOVEMENT], layer.measures[IMPORTANCE]
    first, dear = int(np.argmax(moved)), int(np.argmax(lesion))
    return (
        f"Of {len(layer.channels)} channels of {layer.chosen.name}, the attack moves channel {layer.channels[first]} "
        f"most ({moved[first]:.1%} of its length); the loss rises most without channel {layer.channels[dear]} "
        f"(by {lesion[dear]:.2g} nats).",
    )


def sites_section(structures: dict[str, tuple[Loss, ...]], seen: Attacked, labelled: bool) -> Section:
    """Return accuracy without each site, clean and attacked, the most harmful first."""
    every = [(word, loss) for word, losses in structures.items() for loss in losses]
    if not every:
        reason = "The network has no block, shortcut, branch or layer that can be taken out alone."
        return Section("sites", "Sites: clean and robust", reason=reason)
    ps = holm([p for _, loss in every for p in (loss.clean.p, loss.attacked.p)])
    rows = [_row(word, loss, ps[2 * i], ps[2 * i + 1]) for i, (word, loss) in enumerate(every)]
    rows.sort(key=lambda row: (_number(row[2]) + _number(row[5]), str(row[0]), str(row[1])))
    measure = "accuracy" if labelled else "agreement"
    figure = Figure(
        "What each site is worth, clean and attacked",
        "scatter",
        Axis("rise of the loss on clean images (nats)"),
        Axis("rise on attacked images (nats)"),
        "One point a site. Far to the right: needed for clean images; high up: needed for attacked ones. Below 0 the "
        "network does better on the attack's images without the site: the attack was made for the network with it.",
        tuple(
            Series(
                word,
                tuple(loss.clean.loss_change for loss in losses),
                tuple(loss.attacked.loss_change for loss in losses),
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
            Column("Change", unit="points", help="Against the intact network, on the same images."),
            Column(
                "p, Holm",
                digits=2,
                help=f"Exact McNemar test, corrected for all {len(ps)} tests of this table.",
            ),
            Column(
                f"Attacked {measure}",
                proportion=True,
                help="On the images of the attack on the intact network.",
            ),
            Column("Change, attacked", unit="points"),
            Column("p, Holm, attacked", digits=2),
            Column("Loss, clean", unit="nats", help="Rise of the mean cross-entropy."),
            Column("Loss, attacked", unit="nats"),
        ),
        tuple(rows),
        "What hurts both most stands first.",
    )
    first = every[0][1]
    clean, hit = (_intact(one) / one.n for one in (first.clean, first.attacked))
    summary = (
        f"Intact: {percent(clean)} on {first.clean.n} clean images, {percent(hit)} on the attack's at epsilon "
        f"{seen.epsilon:.4g} (the one of the curve that leaves nearest to half of the right images standing). The "
        "attack's images were made against the intact network and are the same for all: a network without a site is "
        "not attacked anew, so this is no robust accuracy of its own."
    )
    return Section(
        "sites",
        "Sites: clean and robust",
        summary,
        (figure, table),
        results=_results(every),
        findings=_finding(rows, measure),
    )


def _intact(one: Comparison) -> int:
    """Return how many images the intact network has right."""
    return one.right + one.lost - one.won


def _row(word: str, loss: Loss, p: float, p_attacked: float) -> tuple[Cell, ...]:
    clean, hit = loss.clean, loss.attacked
    return (
        word,
        loss.site,
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


def _results(every: Sequence[tuple[str, Loss]]) -> tuple[Result, ...]:
    found = []
    for word, loss in every:
        for name, one in (("clean", loss.clean), ("attacked", loss.attacked)):
            found.append(
                Result(f"without_{word}:{loss.site}:{name}", one.accuracy, one.n, one.ci, "proportion", True)
            )
    return tuple(found)


def _finding(rows: Sequence[tuple[Cell, ...]], measure: str) -> tuple[str, ...]:
    worst = rows[0]
    clean, hit = _number(worst[3]), _number(worst[6])
    return (
        f"The site whose loss hurts most is {worst[0]} {worst[1]}: clean {measure} changes by {clean:+.1f} points, "
        f"{measure} on the attack's images by {hit:+.1f}.".replace("-", "−"),
    )
