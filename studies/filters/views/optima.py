"""Optima: several pictures for one channel side by side, made in different ways, each with its value."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
import torch
from torch import Tensor

from probe.core.blocks import Block, Cell, Column, Gallery, Note, Picture, Strip, Table
from probe.core.document import Result, Section, finite
from probe.core.errors import NotApplicableError
from probe.core.pixels import to_uint8
from studies.filters.optima import (
    DIVERSITY,
    PASSES,
    STRENGTH,
    VARIANTS,
    ChannelOptima,
    LayerOptima,
    Optimum,
    layer_optima,
)
from studies.filters.registries import VIEWS
from studies.filters.views.features import SIDE, random_note
from studies.filters.workspace import FiltersWorkspace

_LAYERS, _CHANNELS = 2, 2
"""Layers and channels at most where the user names none."""

_OPAQUE = 0.8
"""The share of a MACO picture's pixels below the least important one that is shown as it is (Fel et al. 2023)."""

_KINDS = {
    "image": "strongest patch",
    "fourier": "from noise",
    "maco": "MACO",
    "diverse": "diverse",
    "accentuated": "accentuated",
}

_LIMITS = (
    "What this cannot tell: a picture that excites a channel is not what the channel is used for, and need not be like anything that "
    "the network meets; these are the ends of a few searches, and others end elsewhere. MACO pictures share the mean Fourier magnitude "
    "of the images by construction (before the curve that keeps pixels between black and white): that their contrast, their coarse and "
    "fine detail and their mean colour look natural says nothing about the channel. Diverse pictures were made to differ, which says "
    "something only as long as their values stay high. An accentuated image was made to stay like the image."
)


@VIEWS.register("optima", order=5, optional=True, passes=(1900, 0))
def optima(space: FiltersWorkspace) -> Section:
    """Make several optima of a few channels: from noise, MACO, diverse ones, and an accentuated image."""
    if not space.model.module.differentiable:
        raise NotApplicableError(
            "No gradient flows through this network, so that no picture can be optimised for it."
        )
    parts = _chosen(space)
    work = [PASSES * len(channels) * space.config.steps for _, channels in parts]
    with space.progress.task("Optima", sum(work)) as advance:
        found = space.spread(layer_optima, parts, advance, work, reads_images=True)
    space.forget()
    made = [layer for layer in found if layer.channels]
    if not made:
        raise NotApplicableError(" ".join(f"{layer.layer}: {layer.refusal}" for layer in found))
    blocks: list[Block] = [*random_note(space), Note(_LIMITS)]
    blocks += [Note(f"{layer.layer}: no pictures. {layer.refusal}") for layer in found if layer.refusal]
    blocks += [_gallery(layer) for layer in made]
    blocks += [_values(space, made), _differences(made)]
    return Section(
        "optima",
        "Several optima",
        _summary(space, made),
        tuple(blocks),
        results=_results(made),
        findings=_findings(made),
    )


def _chosen(space: FiltersWorkspace) -> list[tuple[str, tuple[int, ...]]]:
    """Return the layers and channels: those named, or two channels of the layer in the middle and of the last."""
    layers = space.layers
    if space.config.layers is None and len(layers) > _LAYERS:
        layers = (layers[len(layers) // 2], layers[-1])
    most = _CHANNELS if space.config.channels is None else None
    return [(layer, space.channels[layer][:most]) for layer in layers]


def _summary(space: FiltersWorkspace, made: Sequence[LayerOptima]) -> str:
    listed = "; ".join(
        f"{layer.layer}: channels {', '.join(str(each.channel) for each in layer.channels)}" for layer in made
    )
    return (
        f"{listed}. {space.config.steps} steps each. From noise: Fourier coefficients (Olah et al. 2017), as in the feature "
        f"visualisation. MACO: only the phase, with the mean magnitude of {made[0].photographs} images (Fel et al. 2023). "
        f"Diverse: {VARIANTS} at a time, pulled apart by the cosine of their Gram matrices with weight {DIVERSITY:g}. Accentuated: from "
        f"the strongest patch, held near it with strength {STRENGTH:g} (Hamblin et al. 2024)."
    )


def _gallery(layer: LayerOptima) -> Gallery:
    height, width = layer.size
    near = f"in {layer.near}" if layer.near else "in its pixels"
    reading = (
        f"{width}×{height} px; the number is the channel's mean over its map before the activation. From left to right: the part of "
        "an image about the channel's strongest unit; a picture from noise; MACO; the same, grey where pixels mattered little "
        f"to the optimisation; {VARIANTS} that differ in style; the first image accentuated, while it stayed near {near}. What all of "
        "them share is more likely to be what the channel answers; what only one has may come from the way it was made. Wipe "
        "from the first to the last to see what the channel wants more of."
    )
    strips = tuple(_strip(layer.layer, each) for each in layer.channels)
    return Gallery(f"{layer.layer}: optima", strips, reading, size=SIDE)


def _strip(layer: str, each: ChannelOptima) -> Strip:
    pictures: list[Picture] = []
    for optimum in ([] if each.image is None else [each.image]) + list(each.found):
        pictures.append(_picture(layer, each, optimum, to_uint8(optimum.picture)))
        if optimum.kind == "maco":
            shown = to_uint8(weighed(optimum.picture, each.importance))
            pictures.append(
                Picture(
                    shown,
                    f"MACO picture for channel {each.channel} of {layer}, grey where unimportant",
                    "MACO, important parts",
                )
            )
    return Strip(
        tuple(pictures),
        label=f"channel {each.channel}",
        anchor=f"{layer}/ch{each.channel}",
        compare=None if each.image is None else (0, len(pictures) - 1),
    )


def _picture(layer: str, each: ChannelOptima, optimum: Optimum, pixels: np.ndarray) -> Picture:
    kind = _KINDS[optimum.kind]
    what = (
        f"Part of an image about the strongest unit of channel {each.channel} of {layer}"
        if optimum.kind == "image"
        else f"Picture ({kind}) optimised for channel {each.channel} of {layer}"
    )
    return Picture(pixels, f"{what}; value {optimum.value:.3g}", f"{kind} · {optimum.value:.3g}")


def weighed(picture: Tensor, importance: Tensor) -> Tensor:
    """Return a picture (C, H, W) that fades to grey where its ``importance`` (H, W) is low; the most important fifth is as it is."""
    most = torch.quantile(importance.flatten(), _OPAQUE).clamp_min(torch.finfo(importance.dtype).tiny)
    opacity = (importance / most).clamp(0, 1)
    return picture * opacity + 0.5 * (1 - opacity)


def _values(space: FiltersWorkspace, made: Sequence[LayerOptima]) -> Table:
    _, height, width = space.model.input.size
    columns = (
        Column("layer", help="The layer's name in the network."),
        Column("channel", help="The channel's number, from 0."),
        Column("picture", help="How it was made; strongest patch: part of an image, not made."),
        Column("side", "px", "Shorter side of the picture as it was made."),
        Column(
            "value",
            help="Mean of the channel over its map, before the activation, in float32 and without movements, at this size.",
        ),
        Column(
            "best image",
            help="Largest value of parts of images of the same size, one about the channel's largest unit in each of at most "
            "nine images.",
        ),
        Column(
            f"value at {width}×{height}",
            help="Value of the picture enlarged (bilinear) to the network's own input size.",
        ),
        Column(f"best image at {width}×{height}", help="Largest value of these images, whole."),
    )
    rows: list[tuple[Cell, ...]] = []
    for layer in made:
        for each in layer.channels:
            best, whole = finite(each.best), finite(each.best_enlarged)
            for optimum in ([] if each.image is None else [each.image]) + list(each.found):
                rows.append(
                    (
                        layer.layer,
                        each.channel,
                        _KINDS[optimum.kind],
                        min(layer.size),
                        finite(optimum.value),
                        best,
                        finite(optimum.enlarged),
                        whole,
                    )
                )
    reading = (
        "Pictures were optimised at the smaller size. Enlarged, their patterns are coarser than those that the channel was "
        "optimised for, so that values fall; images are not enlarged but seen whole. The best image need not be the strongest patch, "
        "which has the largest single unit and not the largest mean."
    )
    return Table("Values of the optima", columns, tuple(rows), reading)


def _differences(made: Sequence[LayerOptima]) -> Table:
    columns = (
        Column("layer", help="The layer's name in the network."),
        Column("channel", help="The channel's number, from 0."),
        Column(
            "cosine, diverse",
            help=f"Mean cosine of the Gram matrices of the layer for every two of the {VARIANTS} diverse pictures: 1 is the same style.",
        ),
        Column(
            "cosine, images", help="The same for every two of the parts of images about the strongest units."
        ),
        Column("patches", help="How many parts of images there are."),
        Column("before", help="Value of the strongest patch, before accentuation."),
        Column("after", help="Value of the accentuated image."),
        Column("held in", help="The earlier layer in which the accentuated image stays near the image."),
        Column(
            "distance there",
            help="Distance of its activations from those before, over their length.",
            proportion=True,
        ),
        Column(
            "distance in pixels",
            help="Distance of its pixels from those before, over their length.",
            proportion=True,
        ),
    )
    rows: list[tuple[Cell, ...]] = []
    for layer in made:
        for each in layer.channels:
            before = None if each.image is None else finite(each.image.value)
            after = next((finite(one.value) for one in each.of("accentuated")), None)
            there, pixels = each.distance or (None, None)
            cosines = finite(each.cosine), finite(each.natural_cosine)
            rows.append(
                (
                    layer.layer,
                    each.channel,
                    *cosines,
                    each.windows,
                    before,
                    after,
                    layer.near or "pixels",
                    there,
                    pixels,
                )
            )
    reading = (
        "A cosine of the diverse pictures below that of images: they differ more in style than photographs with the same strong "
        "response do. A large rise at a small distance: a little of what the channel answers, added to the image, is enough."
    )
    return Table("How much the pictures differ", columns, tuple(rows), reading)


def _reach(each: ChannelOptima, kind: str) -> bool:
    """Tell whether all pictures of a kind excite the channel as much as the best image does."""
    return each.best is not None and all(optimum.value >= each.best for optimum in each.of(kind))


def _results(made: Sequence[LayerOptima]) -> tuple[Result, ...]:
    channels = [each for layer in made for each in layer.channels]
    known = [each for each in channels if each.best is not None]
    reached = tuple(
        Result.proportion(
            f"optima.{kind}.reach_best_image", sum(_reach(each, kind) for each in known), len(known)
        )
        for kind in ("fourier", "maco", "diverse", "accentuated")
    )
    cosines = [value for each in channels if (value := finite(each.cosine)) is not None]
    distances = [each.distance[0] for each in channels if each.distance is not None]
    return (
        *reached,
        Result("optima.diverse.median_cosine", median(cosines) if cosines else None, len(cosines)),
        Result(
            "optima.accentuated.median_distance", median(distances) if distances else None, len(distances)
        ),
    )


def _findings(made: Sequence[LayerOptima]) -> tuple[str, ...]:
    known = [each for layer in made for each in layer.channels if each.best is not None]
    if not known:
        return ()
    counts = {kind: sum(_reach(each, kind) for each in known) for kind in ("fourier", "maco", "diverse")}
    cosine = median(each.cosine for each in known)
    return (
        f"Of {len(known)} channels, pictures from noise reach the best image's value in {counts['fourier']}, MACO pictures, with the "
        f"magnitude of natural images, in {counts['maco']}, and all of {VARIANTS} diverse pictures in {counts['diverse']} (median "
        f"cosine of their Gram matrices {cosine:.2f}).",
    )
