"""Activations: the strongest channels at each depth, laid over the image."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.core.blocks import Gallery, Picture, Strip
from probe.core.document import Section
from probe.core.state import captured, last_map
from probe.report.raster import overlay, thumbnail
from studies.filters.choose import standout
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

PER_LAYER = 3
SIDE = 144


@VIEWS.register("activations", order=2, passes=(20, 0))
def activations(space: FiltersWorkspace) -> Section:
    """Show the strongest channels at each depth, laid over the image."""
    images = space.pixels(space.shown)
    with space.progress.task("Activations", 1) as advance:
        with torch.inference_mode(), captured(space.model.network, space.layers) as outputs:
            space.model.module(images)
        maps = {layer: last_map(outputs[layer]).float().cpu() for layer in space.layers}
        strips = tuple(
            _strip(space, images[row].cpu(), index, {layer: value[row] for layer, value in maps.items()})
            for row, index in enumerate(space.shown)
        )
        advance(1)
    reading = (
        "Bright, coloured regions are where the channel is active; the rest is darkened. For every layer the "
        f"{PER_LAYER} channels are those whose peak in this image exceeds the channel's usual peak by most (in "
        f"standard deviations over the {space.observed.n} images, written σ). Early layers light up on edges and "
        "colours in many networks, late ones on whole parts. Bright everywhere: the channel is active all over this image."
    )
    gallery = Gallery("Strongest channels at each depth", strips, reading, size=SIDE)
    summary = f"{len(space.shown)} images through {len(space.layers)} layers: {', '.join(space.layers)}."
    return Section("activations", "Activations", summary, (gallery,))


def _strip(space: FiltersWorkspace, image: Tensor, index: int, maps: dict[str, Tensor]) -> Strip:
    name = space.images.item_name(index)
    pictures = [Picture(thumbnail(image, SIDE), f"The image {name}", "image", anchor=f"image{index}")]
    for layer, value in maps.items():
        pictures += [
            _picture(space, image, name, layer, value, channel) for channel in _strongest(space, layer, value)
        ]
    return Strip(tuple(pictures), label=name, note=prediction_text(space, index))


def _strongest(space: FiltersWorkspace, layer: str, value: Tensor) -> list[int]:
    score = standout(value.flatten(1).amax(1), space.observed.layers[layer])
    return [int(c) for c in score.sort(descending=True, stable=True).indices[:PER_LAYER]]


def _picture(
    space: FiltersWorkspace, image: Tensor, name: str, layer: str, value: Tensor, channel: int
) -> Picture:
    peak = float(value[channel].max())
    score = float(standout(value.flatten(1).amax(1), space.observed.layers[layer])[channel])
    return Picture(
        overlay(image, value[channel], SIDE),
        f"Channel {channel} of {layer} over {name}; peak {peak:.3g}",
        f"{layer} ch {channel} · {peak:.2g} ({score:+.1f}σ)",
    )


def prediction_text(space: FiltersWorkspace, index: int) -> str:
    """Write the prediction for an image, and its true class where that is known and different."""
    at = space.observed.position(index)
    predicted, label = int(space.observed.predictions[at]), int(space.observed.labels[at])
    text = f"predicted {space.class_name(predicted)} ({100 * float(space.observed.confidences[at]):.0f}%)"
    if label < 0:
        return text
    return text + (", correct" if label == predicted else f", true class {space.class_name(label)}")
