"""Dissection: which channels fire where a concept is, by the masks of images (Network Dissection)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.core import seeds, stats
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Result, Section
from probe.core.errors import CannotRunError, NotApplicableError
from probe.models.loaded import LoadedModel
from studies.filters import dissect
from studies.filters.dissect import Detectors, Overlaps
from studies.filters.made import COLOURS, SHAPES, scene
from studies.filters.registries import VIEWS
from studies.filters.views.similarity import evenly, untrained_model
from studies.filters.workspace import FiltersWorkspace

_LAYERS, _LISTED, _RESAMPLES = 6, 24, 500
_MADE = 150
"""How many scenes are made where no masks are given."""

_READING = (
    f"A channel fires strongly at the {dissect.FIRING:.1%} of all positions where it is largest; it detects the concept whose masks these "
    f"positions overlap most, if intersection over union is above {dissect.DETECTOR}. Unique detectors are the concepts that have one. "
    "Shuffled masks, those of other images, show what shapes alone would give. A channel may detect "
    "something that no mask shows, and one that overlaps a concept need not be used for it."
)


@dataclass(frozen=True)
class _Scenes:
    """What is compared: the images of ``batches``, ``n`` in all, and masks (n, K, cells) of ``concepts``."""

    batches: Callable[[], Iterator[Tensor]]
    masks: Tensor
    concepts: tuple[str, ...]
    what: str

    @property
    def n(self) -> int:
        return len(self.masks)


@VIEWS.register("dissection", order=13, optional=True, passes=(1100, 0))
def dissection(space: FiltersWorkspace) -> Section:
    """Find the channels that fire where a concept is: masks of a folder (--masks), or made shapes (Network Dissection)."""
    scenes = _made(space) if space.masked is None else _from_files(space)
    layers = evenly(space.layers, _LAYERS)
    untrained, reason = untrained_model(space)
    models = {"this network": space.model} | ({} if untrained is None else {"untrained": untrained})
    with space.progress.task("Dissection", 2 * scenes.n * len(models)) as advance:
        found = {name: _overlaps(model, scenes, layers, space, advance) for name, model in models.items()}
    own, shuffled = found["this network"]
    counted = {
        name: {layer: Detectors.of(part.iou()) for layer, part in what.items()}
        for name, what in [
            ("this network", own),
            *((name, pair[0]) for name, pair in found.items() if name == "untrained"),
            ("shuffled masks", shuffled),
        ]
    }
    blocks: list[Block] = (
        [] if untrained is not None else [Note(f"No untrained network beside it. {reason}", "warning")]
    )
    blocks += [_figure(layers, counted), _table(layers, counted), _channels(own, scenes, space.config.seed)]
    mine = counted["this network"]
    return Section(
        "dissection",
        "Network dissection",
        f"{scenes.n} {scenes.what} with masks of {len(scenes.concepts)} concepts ({', '.join(scenes.concepts)}).",
        tuple(blocks),
        results=tuple(
            result
            for layer in layers
            for result in (
                Result.proportion(f"dissection.{layer}.detectors", mine[layer].count, len(mine[layer].iou)),
                Result(f"dissection.{layer}.unique", mine[layer].unique, len(scenes.concepts)),
            )
        ),
        findings=_findings(layers, counted, len(scenes.concepts)),
    )


def _made(space: FiltersWorkspace) -> _Scenes:
    """Return scenes of shapes that are made when they are asked for, each from its own random numbers."""
    size, grid, seed = space.model.input.size, dissect.grid_of(space.model.input.size), space.config.seed
    concepts = (*SHAPES, *(COLOURS if size[0] == 3 else ()))

    def drawn(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return scene(size, np.random.default_rng(seeds.derive(seed, "scene", number)))

    masks = torch.zeros(_MADE, len(concepts), grid[0] * grid[1], dtype=torch.bool)
    for number in range(_MADE):
        for name, mask in drawn(number)[1].items():
            masks[number, concepts.index(name)] = dissect.on_grid(mask, grid)

    def batches() -> Iterator[Tensor]:
        for start in range(0, _MADE, space.config.batch_size):
            rows = range(start, min(start + space.config.batch_size, _MADE))
            yield torch.from_numpy(np.stack([drawn(number)[0] for number in rows]))

    return _Scenes(batches, masks, concepts, "made scenes")


def _from_files(space: FiltersWorkspace) -> _Scenes:
    masked, spec = space.masked, space.model.input
    assert masked is not None
    try:
        indices = masked.images.readable(evenly(range(len(masked.images)), dissect.MOST), spec)
    except CannotRunError as error:  # pictures have one or three channels
        raise NotApplicableError(str(error)) from error
    if len(indices) < 2:
        raise NotApplicableError(f"Of the images with masks only {len(indices)} can be read.")

    def batches() -> Iterator[Tensor]:
        for batch in masked.images.batches(spec, space.config.batch_size, indices):
            yield batch.images

    return _Scenes(batches, masked.masks(spec, indices), tuple(masked.files), "images")


def _overlaps(
    model: LoadedModel,
    scenes: _Scenes,
    layers: Sequence[str],
    space: FiltersWorkspace,
    advance: Callable[[float], None],
) -> list[dict[str, Overlaps]]:
    """Return the overlaps with the masks, and with those of other images."""
    limits = dissect.thresholds(model, scenes.batches, layers, scenes.n, advance)
    others = scenes.masks.roll(scenes.n // 2, 0)
    grid = dissect.grid_of(space.model.input.size)
    return dissect.overlaps(model, scenes.batches, [scenes.masks, others], grid, limits, advance)


def _figure(layers: Sequence[str], counted: dict[str, dict[str, Detectors]]) -> Figure:
    series = []
    for name, found in counted.items():
        shares = [(found[layer].count, len(found[layer].iou)) for layer in layers]
        bounds = [stats.wilson(count, total) for count, total in shares]
        series.append(
            Series(
                name,
                tuple(float(place) for place in range(len(layers))),
                tuple(count / total for count, total in shares),
                tuple(low for low, _ in bounds),
                tuple(high for _, high in bounds),
            )
        )
    return Figure(
        "Channels that detect a concept, by depth",
        "line",
        Axis("layer", categories=tuple(layers)),
        Axis("part of the channels"),
        _READING,
        tuple(series),
    )


def _table(layers: Sequence[str], counted: dict[str, dict[str, Detectors]]) -> Table:
    others = [name for name in counted if name != "this network"]
    columns = (
        Column("layer"),
        Column("channels"),
        Column("detectors", help=f"Channels with an intersection over union above {dissect.DETECTOR}."),
        Column("unique", help="Concepts with at least one detector."),
        *(Column(f"detectors, {name}", help="The same count for this control.") for name in others),
        *(Column(f"unique, {name}", help="The same count for this control.") for name in others),
    )
    rows: list[tuple[Cell, ...]] = []
    for layer in layers:
        own = counted["this network"][layer]
        rows.append(
            (
                layer,
                len(own.iou),
                own.count,
                own.unique,
                *(counted[name][layer].count for name in others),
                *(counted[name][layer].unique for name in others),
            )
        )
    return Table("Detectors by layer", columns, tuple(rows))


def _channels(own: dict[str, Overlaps], scenes: _Scenes, seed: int) -> Table:
    """List the channels with the largest overlap, with bootstrap intervals over images."""
    found = {layer: Detectors.of(part.iou()) for layer, part in own.items()}
    every = [
        (float(value), layer, channel, int(best.concept[channel]))
        for layer, best in found.items()
        for channel, value in enumerate(best.iou)
    ]
    ranked = sorted(every, key=lambda row: -row[0])[:_LISTED]
    rows: list[tuple[Cell, ...]] = []
    for value, layer, channel, concept in ranked:
        part = own[layer]
        one = Overlaps(
            part.both[:, channel : channel + 1, concept : concept + 1],
            part.firing[:, channel : channel + 1],
            part.inside[:, concept : concept + 1],
        )

        def again(places: np.ndarray, one: Overlaps = one) -> float:
            return float(one.iou(places.astype(np.int64))[0, 0])

        low, high = stats.bootstrap(
            range(scenes.n), again, seeds.derive(seed, "dissection", layer, channel), resamples=_RESAMPLES
        )
        rows.append((layer, channel, scenes.concepts[concept], value, low, high))
    columns = (
        Column("layer"),
        Column("channel"),
        Column("concept"),
        Column("IoU", help="Intersection over union, over all images; the best of the concepts."),
        *Column.interval("the 95% bootstrap interval over images"),
    )
    return Table("Channels with the largest overlap", columns, tuple(rows))


def _findings(
    layers: Sequence[str], counted: dict[str, dict[str, Detectors]], concepts: int
) -> tuple[str, ...]:
    own = counted["this network"]
    best = max(layers, key=lambda layer: own[layer].unique)
    ties = [layer for layer in layers if own[layer].unique == own[best].unique]
    where = best if len(ties) == 1 else f"{best} (and {len(ties) - 1} more, tied)"
    text = (
        f"Most concepts have a detector in {where}: {own[best].unique} of {concepts}, {own[best].count} of {len(own[best].iou)} channels; "
        f"with masks of other images {counted['shuffled masks'][best].count}"
    )
    if "untrained" in counted:
        text += f", in an untrained network {counted['untrained'][best].count}"
    return (f"{text}.",)
