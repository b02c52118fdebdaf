"""Several optima of one channel: from noise, with the magnitude of natural images, unlike one another, and near an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.core.precision import accepts_bf16
from probe.core.progress import Advance
from probe.graph.edit.truncate import truncate
from studies.filters.observe import LayerObservation
from studies.filters.optimise import (
    Channel,
    FourierBasis,
    Nearness,
    Objective,
    Parametrisation,
    PictureRecipe,
    PictureSubject,
    Rendering,
    gram_similarity,
    mean_magnitude,
    render,
)
from studies.filters.optimise.maco import PHASE_RATE
from studies.filters.optimise.objectives import evaluate, stack
from studies.filters.optimise.subjects import LayerSubject, half_helps, layer_subject, traced_model
from studies.filters.optimise.terms import NEAR_RATE, squared_distance
from studies.filters.workspace import FiltersWorkspace

GREY_DOMAINS = frozenset({"digits", "fashion-mnist"})
"""Tasks whose images are grey, whatever the number of their channels."""

VARIANTS = 3
DIVERSITY = 1.0
STRENGTH = 0.5

PASSES = 3 + VARIANTS
"""Pictures that are optimised for a channel."""

_PHOTOGRAPHS = 64
"""Images at most, evenly over the set, whose magnitude is averaged."""


@dataclass(frozen=True)
class Optimum:
    """A picture (C, H, W) for a channel; ``value`` is its objective, ``enlarged`` that at the network's own input size."""

    kind: str
    picture: Tensor
    value: float
    enlarged: float


@dataclass(frozen=True)
class ChannelOptima:
    """The pictures of one channel.

    ``image`` is the part of the image with the strongest unit, ``found`` the optimised pictures, ``importance`` (H, W) that of
    the pixels of the MACO picture. ``best`` is the largest objective in ``windows`` parts of images, ``best_enlarged`` in these
    images whole. ``cosine`` is the mean cosine of the variants' Gram matrices, ``natural_cosine`` that of the windows. ``distance`` is
    how far the accentuated image is from where it began, in the earlier layer and in pixels. What needs an image is None without one.
    """

    channel: int
    found: tuple[Optimum, ...]
    importance: Tensor
    image: Optimum | None
    windows: int
    best: float | None
    best_enlarged: float | None
    cosine: float
    natural_cosine: float | None
    distance: tuple[float, float] | None

    def of(self, kind: str) -> list[Optimum]:
        """Return the pictures of a kind."""
        return [optimum for optimum in self.found if optimum.kind == kind]


@dataclass(frozen=True)
class LayerOptima:
    """The channels of a layer whose pictures are ``size`` (H, W); ``near`` is the earlier layer, "" the pixels.

    ``photographs`` is how many images gave the magnitude. ``refusal`` is why there are no pictures.
    """

    layer: str
    size: tuple[int, int]
    near: str
    photographs: int
    channels: tuple[ChannelOptima, ...]
    refusal: str = ""


def rendered(
    space: FiltersWorkspace,
    subject: PictureSubject,
    objectives: Sequence[Objective],
    size: tuple[int, int],
    advance: Advance,
    recipe: PictureRecipe,
) -> Rendering:
    """Optimise pictures as this network's images are, in bfloat16 where that is faster."""
    half = half_helps(subject.fast or subject.features, space.model.device) and accepts_bf16(
        subject.features, space.model.input.size
    )
    return render(
        subject,
        objectives,
        size,
        replace(recipe, half=half),
        channels=space.model.input.size[0],
        grey=space.model.domain in GREY_DOMAINS,
        seed=space.config.seed,
        advance=advance,
    )


def layer_optima(space: FiltersWorkspace, part: tuple[str, tuple[int, ...]], advance: Advance) -> LayerOptima:
    """Make all pictures of some channels of a layer; a layer that cannot be cut has the reason instead."""
    layer, channels = part
    traced = space.once("traced", lambda: traced_model(space.model, space.example))
    try:
        cut = layer_subject(space.model, traced, layer, space.example)
    except NotApplicableError as error:
        advance(PASSES * len(channels) * space.config.steps)
        return LayerOptima(layer, (0, 0), "", 0, (), str(error))
    return _Maker(space, layer, channels, traced, cut, advance).made()


@dataclass(frozen=True)
class _Maker:
    """What the pictures of a layer are made with."""

    space: FiltersWorkspace
    layer: str
    channels: tuple[int, ...]
    traced: nn.Module
    cut: LayerSubject
    advance: Advance

    def made(self) -> LayerOptima:
        """Make the pictures of every channel, those of a kind in one batch."""
        objectives = [Channel(channel) for channel in self.channels]
        magnitude, photographs = self._magnitude()
        free = self._rendered(objectives, PictureRecipe(self.space.config.steps))
        maco = self._rendered(
            objectives, PictureRecipe(self.space.config.steps, rate=PHASE_RATE, magnitude=magnitude)
        )
        diverse = self._rendered(
            objectives, PictureRecipe(self.space.config.steps, variants=VARIANTS, diversity=DIVERSITY)
        )
        if maco.importance is None:
            raise AssertionError("pictures of a fixed magnitude have an importance")
        windows = [self._windows(channel) for channel in self.channels]
        near, earlier = self._earlier()
        accentuated, distances = self._accentuated(windows, earlier)
        made = []
        for row, channel in enumerate(self.channels):
            variants = diverse.pictures[row * VARIANTS : (row + 1) * VARIANTS]
            pictures = [("fourier", free.pictures[row]), ("maco", maco.pictures[row])]
            pictures += [("diverse", picture) for picture in variants]
            if row in accentuated:
                pictures.append(("accentuated", accentuated[row]))
            found = self._optima(channel, pictures)
            image, best, whole = self._natural(channel, windows[row])
            made.append(
                ChannelOptima(
                    channel,
                    found,
                    maco.importance[row],
                    image,
                    len(windows[row]),
                    best,
                    whole,
                    self._cosine(variants) or 0.0,
                    self._cosine(torch.stack([part for part, _ in windows[row]])) if windows[row] else None,
                    distances.get(row),
                )
            )
        return LayerOptima(self.layer, self.cut.size, near, photographs, tuple(made))

    def _rendered(self, objectives: Sequence[Objective], recipe: PictureRecipe) -> Rendering:
        return rendered(self.space, self.cut.subject, objectives, self.cut.size, self.advance, recipe)

    def _magnitude(self) -> tuple[Tensor, int]:
        """Return the mean magnitude of some of the study's images at their own scale, and how many these were."""
        indices = self.space.observed.indices.tolist()
        step = max(1, -(-len(indices) // _PHOTOGRAPHS))
        readable = self.space.images.readable(indices[::step], self.space.model.input)
        parametrisation = Parametrisation(
            FourierBasis(*self.cut.size),
            self.space.model.input.size[0],
            self.space.model.domain in GREY_DOMAINS,
        )
        if not readable:
            raise NotApplicableError("None of the images can be read any more: there is no magnitude to fix.")
        images = (self.space.image(index) for index in readable)
        return mean_magnitude(parametrisation, images), len(readable)

    def _windows(self, channel: int) -> list[tuple[Tensor, int]]:
        """Return parts of images about the channel's strongest units, one an image, strongest first, with the images' indices."""
        units = strongest(self.space.observed.layers[self.layer], channel)
        readable = set(self.space.images.readable([image for image, _, _ in units], self.space.model.input))
        return [
            (window(self.space.image(image), self.cut, row, col), image)
            for image, row, col in units
            if image in readable
        ]

    def _earlier(self) -> tuple[str, nn.Module | None]:
        """Return a layer half-way to this one with the network up to it, or the pixels."""
        name = earlier_layer(self.space, self.layer)
        if name is None:
            return "", None
        try:
            return name, truncate(self.traced, f"network.{name}", self.space.example)
        except NotApplicableError:
            return "", None

    def _accentuated(
        self, windows: Sequence[list[tuple[Tensor, int]]], earlier: nn.Module | None
    ) -> tuple[dict[int, Tensor], dict[int, tuple[float, float]]]:
        """Return the accentuated image of each row that has one, and how far it went, in the earlier layer and in pixels."""
        rows = [row for row, parts in enumerate(windows) if parts]
        self.advance(self.space.config.steps * (len(windows) - len(rows)))
        if not rows:
            return {}, {}
        start = torch.stack([windows[row][0][0] for row in rows]).float().cpu()
        recipe = PictureRecipe(
            self.space.config.steps, rate=NEAR_RATE, near=Nearness(start, STRENGTH, earlier)
        )
        found = self._rendered([Channel(self.channels[row]) for row in rows], recipe).pictures
        pixels = squared_distance(found, start).sqrt().tolist()
        layer = pixels
        if earlier is not None:
            layer = squared_distance(self._seen(earlier, found), self._seen(earlier, start)).sqrt().tolist()
        return dict(zip(rows, found, strict=True)), dict(
            zip(rows, zip(layer, pixels, strict=True), strict=True)
        )

    def _optima(self, channel: int, pictures: Sequence[tuple[str, Tensor]]) -> tuple[Optimum, ...]:
        stacked = torch.stack([picture for _, picture in pictures])
        values, enlarged = self._values(channel, stacked), self._values(channel, self._enlarged(stacked))
        return tuple(
            Optimum(kind, picture, value, large)
            for (kind, picture), value, large in zip(pictures, values, enlarged, strict=True)
        )

    def _natural(
        self, channel: int, windows: Sequence[tuple[Tensor, int]]
    ) -> tuple[Optimum | None, float | None, float | None]:
        """Return the part about the strongest unit, and the largest objective in all parts and in the whole images."""
        if not windows:
            return None, None, None
        (image,) = self._optima(channel, [("image", windows[0][0].float().cpu())])
        parts = self._values(channel, torch.stack([part for part, _ in windows]))
        whole = self._values(channel, torch.stack([self.space.image(index) for _, index in windows]))
        return image, max(parts), max(whole)

    def _enlarged(self, pictures: Tensor) -> Tensor:
        _, height, width = self.space.model.input.size
        if tuple(pictures.shape[2:]) == (height, width):
            return pictures
        return F.interpolate(pictures, (height, width), mode="bilinear", align_corners=False)

    def _values(self, channel: int, pictures: Tensor) -> list[float]:
        output = self._seen(self.cut.subject.features, pictures)
        weights = stack([Channel(channel)], output.shape[1:])
        values: list[float] = evaluate(output, weights).tolist()
        return values

    def _cosine(self, pictures: Tensor) -> float | None:
        """Return the mean cosine of every two pictures' Gram matrices; None for one picture alone."""
        if len(pictures) < 2:
            return None
        return float(gram_similarity(self._seen(self.cut.subject.features, pictures), len(pictures)).mean())

    def _seen(self, module: nn.Module, pictures: Tensor) -> Tensor:
        """Return what a part of the network says of pictures, float32 on the CPU."""
        model = self.space.model
        with torch.inference_mode():
            parts = [
                module(part.to(model.device, memory_format=model.memory_format)).float().cpu()
                for part in torch.split(pictures, self.space.config.batch_size)
            ]
        return torch.cat(parts)


def earlier_layer(space: FiltersWorkspace, layer: str) -> str | None:
    """Return the studied layer half-way to ``layer``, any layer that changes something where none is studied, None for the first."""
    if layer != space.layers[0]:
        return space.layers[space.layers.index(layer) // 2]
    names = [info.name for info in space.maps]
    before = [
        name
        for name in names[: names.index(layer)]
        if not isinstance(space.model.network.get_submodule(name), nn.Identity)
    ]
    return before[len(before) // 2] if before else None


def strongest(observed: LayerObservation, channel: int) -> list[tuple[int, int, int]]:
    """Return image, row and column of the channel's largest unit in each of the images with the largest, at most nine."""
    columns = (observed.images, observed.rows, observed.cols)
    units = zip(*(part[:, channel].tolist() for part in columns), strict=True)
    return [(int(image), int(row), int(col)) for image, row, col in units if image >= 0]


def window(image: Tensor, cut: LayerSubject, row: int, col: int) -> Tensor:
    """Return the part of an image (C, H, W), of the size of the layer's pictures, in whose middle a unit is, if it fits."""
    edges = []
    for place, side, part in zip((row, col), image.shape[1:], cut.size, strict=True):
        begin = int((place + 0.5) * cut.stride) - part // 2
        begin = min(max(begin, 0), side - part)
        edges += [begin, begin + part]
    top, bottom, left, right = edges
    return image[:, top:bottom, left:right]
