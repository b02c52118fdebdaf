"""The workspace: everything that the views of the filters study use, computed once and shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from probe.core.journal import NOTHING, Journal
from probe.core.place import HERE, Lent
from probe.core.progress import Advance, Progress
from probe.core.seeds import scoped
from probe.data.images import ImageSet
from probe.graph.trace.layers import LayerInfo
from probe.models.loaded import LoadedModel
from studies.filters.config import FiltersConfig
from studies.filters.dissect import MaskedImages
from studies.filters.observe import Observations

Part = TypeVar("Part")
R = TypeVar("R")

_RECENT = 64
"""How many images are kept once they were read: a channel's best patches often lie in the same images as another's."""


@dataclass(frozen=True)
class FiltersWorkspace:
    """A model, its images, and the layers, channels and images that this run studies.

    ``layers`` are names of modules of ``model.network`` with a 4-D output, in execution order (at least one).
    ``channels[layer]`` are the channel numbers shown for it. ``shown`` are indices into ``images`` of the pictures
    that the activation and attribution views use. ``observed`` are the results of one pass over all images; ``maps``
    describes every layer with a map. ``firing`` maps the convolutions of the weights view to the observed layer at
    which their filters fire. ``kept`` has the pixels of the shown images, so that no view needs their files.
    ``workers`` are those that ``spread`` uses, if any; ``journal`` keeps what it returns.
    ``against`` is another network whose layers are compared with this one's; ``concepts`` are images with one class a
    concept, ``masked`` images with a mask for each concept.
    """

    model: LoadedModel
    images: ImageSet
    config: FiltersConfig
    progress: Progress
    layers: tuple[str, ...]
    channels: dict[str, tuple[int, ...]]
    shown: tuple[int, ...]
    observed: Observations
    maps: tuple[LayerInfo, ...]
    firing: dict[str, str]
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    workers: Lent[FiltersWorkspace] | None = None
    journal: Journal = NOTHING
    against: LoadedModel | None = None
    concepts: ImageSet | None = None
    masked: MaskedImages | None = None
    _recent: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)
    _calls: Counter[str] = field(default_factory=Counter, init=False, repr=False)
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def best(self) -> dict[str, dict[int, float]]:
        """``best[layer][channel]``: the largest activation of that channel anywhere in the data set."""
        return {
            layer: {channel: float(self.observed.layers[layer].values[0, channel]) for channel in chosen}
            for layer, chosen in self.channels.items()
        }

    @cached_property
    def example(self) -> Tensor:
        """One image of seeded uniform noise, (1, C, H, W), to trace and check networks with."""
        return self.model.example(seed=self.config.seed)

    def spread(
        self,
        function: Callable[[FiltersWorkspace, Part, Advance], R],
        parts: Sequence[Part],
        advance: Advance,
        work: Sequence[float],
        *,
        reads_images: bool = False,
    ) -> list[R]:
        """Return ``function(workspace, part, advance)`` of every part, from this process or from workers.

        ``work`` are the units of each part. With ``reads_images``, workers that do not read the images themselves are not used.
        """
        name = function.__qualname__
        self._calls[name] += 1
        keys = [f"{function.__module__}.{name} {self._calls[name]} {number}" for number in range(len(parts))]
        items = {key: (str(number), part) for number, (key, part) in enumerate(zip(keys, parts, strict=True))}
        workers = self.workers
        if workers is None or (reads_images and not workers.place.sees):
            workers = Lent(lambda: self, HERE, None)
        units = dict(zip(keys, work, strict=True))
        return list(workers.map(partial(_seeded, function), items, advance, work=units, journal=self.journal))

    def once(self, name: str, make: Callable[[], R]) -> R:
        """Return what ``make`` returned when this was first asked for under this name, in this process."""
        if name not in self._made:
            self._made[name] = make()
        made: R = self._made[name]
        return made

    def forget(self) -> None:
        """Let go of what ``once`` keeps, such as copies of the network."""
        self._made.clear()

    def pixels(self, indices: tuple[int, ...]) -> Tensor:
        """Return the images at ``indices`` as (N, C, H, W) on the model's device."""
        stacked = torch.stack([self.image(index) for index in indices])
        return stacked.to(self.model.device, memory_format=self.model.memory_format)

    def image(self, index: int) -> Tensor:
        """Return one image (C, H, W); raises UnreadableError with the reason."""
        if index in self.kept:
            return self.kept[index]
        image = self._recent.pop(index, None)
        if image is None:
            image = self.images.get(index, self.model.input)
        self._recent[index] = image  # the last ones were asked for last
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return image

    def class_name(self, index: int) -> str:
        """Return the name of a class, or its number where there is no name."""
        names = self.model.class_names or self.images.class_names
        return names[index] if names and index < len(names) else f"class {index}"


def _seeded(
    function: Callable[[FiltersWorkspace, Part, Advance], R],
    space: FiltersWorkspace,
    numbered: tuple[str, Part],
    advance: Advance,
) -> R:
    """Call the function with the global generators as they are for this part wherever it is made."""
    number, part = numbered
    with scoped(space.config.seed, function.__qualname__, number):
        return function(space, part, advance)
