"""Which images stay right under common corruptions, and the corruption errors of Hendrycks & Dietterich 2019."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.core.seeds import derive, generator
from probe.core.stats import bootstrap_mean
from probe.data.corrupted_copies import CorruptedCopies, kinds_or_folder
from probe.data.corruptions import BENCHMARK, CORRUPTIONS
from probe.data.corruptions._base import LARGE, Family
from probe.data.spec import UnreadableError
from probe.models.labels import IMAGENET_CLASSES
from studies.adversarial.workspace import AdversarialWorkspace

MOST = 256
"""Images corrupted, at most; a seeded sample when there are more."""

SEVERITIES = range(1, 6)
ALEXNET_CLEAN = 0.435
"""The error of AlexNet on images that are not corrupted (Hendrycks & Dietterich 2019, table 1)."""

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Corrupted:
    """What became of the images at ``places`` of the results.

    ``right`` (n, K, 5) tells whether an image is right under a kind at a severity, ``clean`` (n,) whether it is without
    corruption. ``published`` are whether AlexNet's errors apply: 1000 ImageNet classes, labels and 224 pixels.
    """

    places: tuple[int, ...]
    kinds: tuple[str, ...]
    right: NDArray[np.bool_]
    clean: NDArray[np.bool_]
    published: bool
    seed: int
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.places)

    def counts(self, kind: str) -> list[int]:
        """Return how many images are right at severities 1 to 5."""
        counts: list[int] = self.right[:, self.kinds.index(kind)].sum(0).tolist()
        return counts

    @property
    def worst(self) -> list[int]:
        """How many images are right under every kind at severities up to 1 to 5: what a choice of the worst one leaves."""
        counts: list[int] = np.logical_and.accumulate(self.right.all(1), axis=1).sum(0).tolist()
        return counts

    @property
    def benchmark(self) -> tuple[str, ...]:
        """The kinds over which errors are averaged: those of the benchmark, or all where there is none of them."""
        return tuple(kind for kind in self.kinds if kind in BENCHMARK) or self.kinds

    @property
    def complete(self) -> bool:
        """Whether all 15 kinds of the benchmark were measured."""
        return set(BENCHMARK) <= set(self.kinds)

    @cached_property
    def _wrong(self) -> NDArray[np.float64]:
        """The share of severities at which an image is wrong, (n, K)."""
        wrong: NDArray[np.float64] = 1 - self.right.mean(2)
        return wrong

    def error(self, kind: str) -> tuple[float, Interval]:
        """Return the error averaged over the five severities, with its interval."""
        return self._mean(self._wrong[:, self.kinds.index(kind)], kind)

    def corruption_error(self, kind: str) -> tuple[float, Interval] | None:
        """Return CE: that error divided by AlexNet's; None where AlexNet's errors do not apply."""
        alexnet = alexnet_error(kind)
        if not self.published or alexnet is None:
            return None
        return self._mean(self._wrong[:, self.kinds.index(kind)] / alexnet, kind)

    def mean_error(self) -> tuple[float, Interval]:
        """Return the error averaged over ``benchmark`` and over severities."""
        columns = [self.kinds.index(kind) for kind in self.benchmark]
        return self._mean(self._wrong[:, columns].mean(1), "mean")

    def mce(self) -> tuple[float, Interval] | None:
        """Return the mean of the 15 CE; None unless all were measured and AlexNet's errors apply."""
        if not (self.published and self.complete):
            return None
        return self._mean(np.mean([self._of(kind) / _alexnet(kind) for kind in BENCHMARK], 0), "mce")

    def relative_mce(self) -> tuple[float, Interval] | None:
        """Return the mean over the 15 of (E − E clean) / (AlexNet's E − its clean error); None like ``mce``."""
        if not (self.published and self.complete):
            return None
        clean = 1.0 - self.clean
        shares = [(self._of(kind) - clean) / (_alexnet(kind) - ALEXNET_CLEAN) for kind in BENCHMARK]
        return self._mean(np.mean(shares, 0), "relative")

    def _of(self, kind: str) -> NDArray[np.float64]:
        column: NDArray[np.float64] = self._wrong[:, self.kinds.index(kind)]
        return column

    def _mean(self, values: NDArray[np.float64], key: str) -> tuple[float, Interval]:
        """Return the mean over images and its bootstrap interval: all kinds have the same images, which are resampled.

        Without one where fewer than two images, or only equal ones, say nothing about their spread.
        """
        mean = float(values.mean())
        if len(values) < 2 or np.ptp(values) < 1e-12:
            return mean, None
        return mean, bootstrap_mean(values.tolist(), derive(self.seed, "corruption", "bootstrap", key))


def title_of(kind: str) -> str:
    """Return the name of a kind for readers."""
    return CORRUPTIONS.get(kind).title if kind in CORRUPTIONS else kind.replace("_", " ")


def family_of(kind: str) -> Family:
    """Return the family of a kind; a folder may have kinds of its own."""
    return CORRUPTIONS.get(kind).family if kind in CORRUPTIONS else "extra"


def alexnet_error(kind: str) -> float | None:
    """Return AlexNet's published error for a kind, None where there is none."""
    return CORRUPTIONS.get(kind).alexnet if kind in BENCHMARK else None


def _alexnet(kind: str) -> float:
    error = alexnet_error(kind)
    if error is None:
        raise ValueError(f"{kind} is not in the benchmark")
    return error


def measure(space: AdversarialWorkspace) -> Corrupted:
    """Corrupt a sample of the images, or read their corrupted copies, and ask the network.

    Raises NotApplicableError where no image can be read or has copies.
    """
    source = kinds_or_folder(space.config.corruptions)
    order = torch.randperm(space.results.n, generator=generator(space.config.seed, "corruption")).tolist()
    places = space.readable(sorted(order[:MOST]))
    if not places:
        raise NotApplicableError("None of the images can be read any more.")
    if isinstance(source, CorruptedCopies):
        kinds, left_out = source.kinds, _without_copies(space, source, places)
        places = tuple(place for place in places if place not in left_out)
        if not places:
            raise NotApplicableError(
                f"None of the images has its corrupted copies in {source.root}: {next(iter(left_out.values()))}."
            )
        notes = tuple(f"{space.item_name(place)}: {reason}" for place, reason in left_out.items())
    else:
        grey = space.model.input.size[0] == 1
        kinds = tuple(kind for kind in source if not (grey and kind == "saturate"))
        notes = tuple(
            f"{kind}: images of one channel have no saturation" for kind in source if kind not in kinds
        )
    if not kinds:
        raise NotApplicableError(f"No corruption was left ({'; '.join(notes)}).")
    right = np.zeros((len(places), len(kinds), len(SEVERITIES)), bool)
    with space.progress.task("Corrupting", right.size) as advance:
        for rows, kind, severity, images in _parts(space, source, kinds, places):
            answers = space.attacked.verdict(images).argmax(1)
            labels = space.labels([places[row] for row in rows])
            right[list(rows), kinds.index(kind), severity - 1] = (answers == labels).cpu().numpy()
            advance(len(rows))
    clean = np.asarray(space.results.clean_correct[list(places)])
    return Corrupted(places, kinds, right, clean, _is_published(space), space.config.seed, notes)


def _parts(
    space: AdversarialWorkspace,
    source: tuple[str, ...] | CorruptedCopies,
    kinds: tuple[str, ...],
    places: tuple[int, ...],
) -> Iterator[tuple[range, str, int, Tensor]]:
    """Yield batches: the rows, the kind, the severity and the corrupted images."""
    for start in range(0, len(places), space.config.batch_size):
        rows = range(start, min(start + space.config.batch_size, len(places)))
        part = [places[row] for row in rows]
        images = space.pixels(part)
        indices = [int(space.results.clean.index[place]) for place in part]
        for kind in kinds:
            for severity in SEVERITIES:
                if isinstance(source, CorruptedCopies):
                    copies = [_copy(space, source, place, kind, severity) for place in part]
                    yield rows, kind, severity, torch.stack(copies).to(images.device)
                else:
                    draws = [
                        generator(space.config.seed, "corruption", kind, severity, index) for index in indices
                    ]
                    yield rows, kind, severity, CORRUPTIONS.get(kind)().apply(images, severity, draws)


def _copy(
    space: AdversarialWorkspace, source: CorruptedCopies, place: int, kind: str, severity: int
) -> Tensor:
    item = space.images.items[int(space.results.clean.index[place])]
    return source.copy_of(item, kind, severity, space.model.input, space.images.framed)


def _without_copies(
    space: AdversarialWorkspace, source: CorruptedCopies, places: tuple[int, ...]
) -> dict[int, str]:
    """Return the images that lack a copy that can be read, and why."""
    found: dict[int, str] = {}
    for place in places:
        try:
            for kind in source.kinds:
                for severity in SEVERITIES:
                    _copy(space, source, place, kind, severity)
        except UnreadableError as error:
            found[place] = str(error)
    return found


def _is_published(space: AdversarialWorkspace) -> bool:
    """Tell whether AlexNet's errors apply: the ImageNet classes, labelled images, 224 pixels."""
    model = space.model
    classes = model.domain == "imagenet" and model.num_classes == IMAGENET_CLASSES
    return classes and space.images.labelled and model.input.size[1:] == (LARGE, LARGE)
