"""``ImageSet``: images in [0, 1], read when needed, with labels if they are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from probe.core.ahead import prefetch
from probe.core.errors import CannotRunError, UsageError
from probe.core.subject import DataInfo, Skipped
from probe.data.preprocess import check_channels, fit, size_of
from probe.data.sampling import choose, digest
from probe.data.spec import Batch, InputSpec, Interpolation, Item, UnreadableError


class LazyItems(Sequence[Item]):
    """``count`` items; ``make(i)`` builds the i-th item each time it is accessed, without caching."""

    def __init__(self, count: int, make: Callable[[int], Item]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        positions = range(self._count)
        if isinstance(index, slice):
            return subset(self, positions[index])
        try:
            position = positions[index]
        except IndexError:
            raise IndexError(f"there is no image {index} among {self._count}") from None
        return self._make(position)


def subset(items: Sequence[Item], indices: Sequence[int]) -> LazyItems:
    """Return the items at ``indices``, in that order."""
    return LazyItems(len(indices), lambda i: items[indices[i]])


def array_items(
    pixels: NDArray[np.generic], labels: NDArray[np.int64], names: Callable[[int], str]
) -> LazyItems:
    """Return items for images in memory, with one label each.

    ``pixels`` is uint8 (N, H, W) or (N, H, W, 3), or float32 (N, H, W) grey in [0, 1]; the array is not
    copied. ``names(i)`` is the name of the i-th image.
    """

    def make(i: int) -> Item:
        return Item(
            names(i), int(labels[i]), lambda: Image.fromarray(pixels[i]), published=(i, int(labels[i]))
        )

    return LazyItems(len(pixels), make)


def printable(name: str) -> str:
    """Return a file name for a report or a terminal: non-printable characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


__all__ = ["Batch", "ImageSet", "InputSpec", "Interpolation", "Item", "UnreadableError"]

_READ = NDArray[np.float32] | UnreadableError
_REASONS_NAMED = 3


@dataclass(frozen=True)
class Seen:
    """What reading images has shown: which ones cannot be read, and (height, width) of the others, by index."""

    skipped: Mapping[int, Skipped]
    sizes: Mapping[int, tuple[int, int]]


@dataclass
class ImageSet:
    """A lazily read set of images.

    ``items`` builds each Item on demand, so that pixels do not stay in memory. ``domain`` is the task
    ('imagenet', 'digits', 'fashion-mnist', 'cifar10', or 'folder'); ``framed`` is True if the subject already
    fills the frame, so that nothing is cropped. ``num_classes`` is the number of classes (by default
    that of ``class_names``; None: unknown). ``skipped_before`` lists what was skipped before reading; reading adds
    to ``skipped``. ``total`` is the number of images from which this set was sampled (None: not sampled). ``shape`` is
    (C, H, W) if all images are arrays of one shape, and None for pictures. ``class_map`` is the user's own (class
    folder → class of the network). ``matching`` says how the labels were matched to the network's classes,
    ``cautions`` what a reader must know about them.
    """

    name: str
    items: Sequence[Item]
    class_names: tuple[str, ...] | None
    domain: str
    source: str = ""
    licence: str = ""
    framed: bool = False
    skipped_before: tuple[Skipped, ...] = ()
    total: int | None = None
    num_classes: int | None = None
    shape: tuple[int, int, int] | None = None
    class_map: Mapping[str, int | str] | None = None
    matching: str = ""
    cautions: tuple[str, ...] = ()
    _skipped: dict[int, Skipped] = field(default_factory=dict, repr=False)
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict, repr=False)
    _stamps: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Set the number of classes from their names, unless it is given."""
        if self.num_classes is None and self.class_names is not None:
            self.num_classes = len(self.class_names)

    def __len__(self) -> int:
        """Return the number of images, including those that turn out to be unreadable."""
        return len(self.items)

    @property
    def labelled(self) -> bool:
        """Whether every image has a label."""
        return len(self.items) > 0 and self.items[0].label is not None

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The entries skipped when the set was created, then the images that could not be read so far."""
        return self.skipped_before + tuple(self._skipped[index] for index in sorted(self._skipped))

    def label(self, index: int) -> int | None:
        """Return the label of an image, None if it has none."""
        return self.items[index].label

    def item_name(self, index: int) -> str:
        """Return the name of an image for reports."""
        return self.items[index].name

    def info(self, n_used: int, *, fingerprint: bool = True) -> DataInfo:
        """Return the description of this set for a report that used ``n_used`` of its images.

        Without ``fingerprint``, the images are not read again for their sha256 (see ``digest``).
        """
        return DataInfo(
            self.name,
            n_used,
            len(self) if self.total is None else self.total,
            self.labelled,
            self.source,
            self.licence,
            self.skipped,
            digest(self.items) if fingerprint else None,
            self.matching,
        )

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """Return the images at ``indices``, in that order."""
        chosen = [range(len(self))[index] for index in indices]
        known = {new: self._skipped[old] for new, old in enumerate(chosen) if old in self._skipped}
        total = len(self) if self.total is None else self.total
        sizes = {new: self._sizes[old] for new, old in enumerate(chosen) if old in self._sizes}
        items = subset(self.items, chosen)
        return replace(self, items=items, total=total, _skipped=known, _sizes=sizes)

    def unlabelled(self) -> ImageSet:
        """Return the same images without labels and classes."""

        def make(index: int) -> Item:
            return replace(self.items[index], label=None)

        items = LazyItems(len(self), make)
        return replace(
            self,
            items=items,
            class_names=None,
            num_classes=None,
            matching="",
            cautions=(),
            _skipped=dict(self._skipped),
            _sizes=dict(self._sizes),
        )

    def relabelled(self, numbers: Sequence[int], **change: Any) -> ImageSet:
        """Return the same images with the label ``numbers[label]``; ``change`` replaces further fields."""

        def make(index: int) -> Item:
            item = self.items[index]
            return item if item.label is None else replace(item, label=int(numbers[item.label]))

        items = LazyItems(len(self), make)
        return replace(self, items=items, _skipped=dict(self._skipped), _sizes=dict(self._sizes), **change)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """How many of the images read so far had which (height, width)."""
        return Counter(self._sizes.values())

    def common_size(self, looked_at: int = 16) -> tuple[int, int] | None:
        """Return the (height, width) of the images, read from at most ``looked_at``; None if they differ."""
        if self.shape is not None:
            return self.shape[1:]
        sizes = set()
        for index in range(0, len(self), max(1, len(self) // looked_at)):
            with suppress(UnreadableError):
                sizes.add(size_of(self.items[index].read()))
            if len(sizes) > 1:
                return None
        return next(iter(sizes), None)

    def sample(self, n: int, seed: int = 0) -> ImageSet:
        """Return a sample of ``n`` images without replacement, in their original order; at most all of them.

        The sample depends only on the seed and is stratified if the set is labelled: every class has its
        share to within one image. ``n`` below 1 raises UsageError.
        """
        if n < 1:
            raise UsageError(f"The number of images must be at least 1; got {n}.")
        return self.subset(choose(len(self), n, seed, self._labels(range(len(self)))).tolist())

    def get(self, index: int, spec: InputSpec) -> Tensor:
        """Return one image as (C, H, W) float32 in [0, 1]; raises UnreadableError with the reason."""
        self._check_channels(spec)
        index = range(len(self))[index]
        read = self._read(index, spec)
        if isinstance(read, UnreadableError):
            self._note(index, read)
            raise read
        return torch.from_numpy(read)

    def batches(
        self, spec: InputSpec, batch_size: int, indices: Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """Yield the images (all, or those at ``indices``) in order, ``batch_size`` at a time.

        Unreadable images are added to ``skipped`` and missing in their batch, so that the other batches do not depend on
        them; one without any image is left out. A thread reads at most about two batches ahead.
        Raises CannotRunError when none of the images can be read, or when the model has neither 1 nor 3 input
        channels; UsageError when ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise UsageError(f"The batch size must be at least 1; got {batch_size}.")
        self._check_channels(spec)
        everything = range(len(self))
        positions = everything if indices is None else [everything[index] for index in indices]
        return self._stream(spec, batch_size, positions)

    def _check_channels(self, spec: InputSpec) -> None:
        """Check the number of channels: pictures are grey or colour; arrays may have any number."""
        if self.shape is None:
            check_channels(spec)

    def _stream(self, spec: InputSpec, batch_size: int, positions: Sequence[int]) -> Iterator[Batch]:
        readable = False
        with closing(prefetch(lambda i: self._read(i, spec), positions, 2 * batch_size)) as results:
            for part in iter(lambda: list(islice(results, batch_size)), []):
                indices: list[int] = []
                pixels: list[NDArray[np.float32]] = []
                for index, read in part:
                    if isinstance(read, UnreadableError):
                        self._note(index, read)
                    else:
                        indices.append(index)
                        pixels.append(read)
                if indices:
                    readable = True
                    yield self._batch(indices, pixels)
        if positions and not readable:
            raise self.nothing_readable(positions)

    def _batch(self, indices: list[int], pixels: list[NDArray[np.float32]]) -> Batch:
        # Stacked by numpy, because torch's threads would compete with the reading thread for the CPU.
        labels = self._labels(indices)
        return Batch(
            images=torch.from_numpy(np.stack(pixels)),
            labels=None if labels is None else torch.tensor(labels, dtype=torch.int64),
            indices=tuple(indices),
        )

    def _labels(self, indices: Sequence[int]) -> list[int] | None:
        labels = [label for label in map(self.label, indices) if label is not None]
        return labels if self.labelled and len(labels) == len(indices) else None

    def _read(self, index: int, spec: InputSpec) -> _READ:
        # An image that was unreadable once stays skipped, so that every pass uses the same images.
        if index in self._skipped:
            return UnreadableError(self._skipped[index].reason)
        try:
            item = self.items[index]
            image = item.read()
            self._refuse_changed(item)
            self._sizes[index] = size_of(image)
            return fit(image, spec, self.framed)
        except UnreadableError as error:
            return error

    def _refuse_changed(self, item: Item) -> None:
        """Raise UnreadableError for a file that is not the one that was read before: its results would be mixed."""
        if item.path is None:
            return
        try:
            status = item.path.stat()
        except OSError as error:
            raise UnreadableError(f"cannot be opened: {error.strerror}") from None
        now = status.st_mtime_ns, status.st_size
        if self._stamps.setdefault(str(item.path), now) != now:
            raise UnreadableError("changed during the run")

    def batch(self, spec: InputSpec, indices: Sequence[int]) -> Batch | None:
        """Return the images at ``indices`` as one batch, None where none of them can be read."""
        try:
            return next(self.batches(spec, len(indices), indices))
        except CannotRunError:
            if all(index in self._skipped for index in indices):
                return None
            raise

    def seen(self, indices: Iterable[int]) -> Seen:
        """Return what reading these images has shown, for a copy of this set in another process."""
        known = list(indices)
        return Seen(
            {index: self._skipped[index] for index in known if index in self._skipped},
            {index: self._sizes[index] for index in known if index in self._sizes},
        )

    def add(self, seen: Seen) -> None:
        """Take over what a copy of this set has seen."""
        self._skipped.update(seen.skipped)
        self._sizes.update(seen.sizes)

    def readable(self, indices: Iterable[int], spec: InputSpec) -> tuple[int, ...]:
        """Return those of ``indices`` whose images can still be read; the others are added to ``skipped``."""
        found = []
        for index in indices:
            with suppress(UnreadableError):
                self.get(index, spec)
                found.append(index)
        return tuple(found)

    def _note(self, index: int, error: UnreadableError) -> None:
        self._skipped.setdefault(index, Skipped(self.item_name(index), str(error)))

    def nothing_readable(self, positions: Sequence[int]) -> CannotRunError:
        """Return the error that says why none of these images can be read."""
        known = [self._skipped[index] for index in dict.fromkeys(positions)]
        listed = "; ".join(f"{item.name}: {item.reason}" for item in known[:_REASONS_NAMED])
        more = f"; and {len(known) - _REASONS_NAMED} more" if len(known) > _REASONS_NAMED else ""
        return CannotRunError(f"No image of '{self.name}' can be read ({listed}{more}). Use other images.")
