"""An image set in parts that workers read, or that are sent to them: batch by batch, the same ones wherever they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from probe.core.errors import CannotRunError
from probe.core.place import HERE, Place
from probe.data.images import ImageSet, Seen
from probe.data.spec import Batch, InputSpec

_LOOKED_FOR = 16


def parts_of(count: int, batch_size: int) -> list[range]:
    """Return the places of the images of every batch."""
    return [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def key_of(indices: Sequence[int]) -> str:
    """Return the key of the batch of these images, on which its random numbers depend."""
    return f"{indices[0]}-{indices[-1]}-{len(indices)}"


def reading(place: Place, images: ImageSet, say: Callable[[str], None]) -> Place:
    """Return the place, which then knows whether its workers read these images themselves; it looks for 16 of them."""
    numbers = {round(step * (len(images) - 1) / (_LOOKED_FOR - 1)) for step in range(_LOOKED_FOR)}
    return place.reading([images.items[number].path for number in sorted(numbers)], say)


def lent(images: ImageSet, place: Place) -> ImageSet:
    """Return the images as workers need them: without items where batches are sent, without stamps on another machine."""
    if not place.sees:
        return replace(images, items=(), _skipped={}, _sizes={}, _stamps={})
    # A copy on another machine may be younger or older than the file here.
    return images if place.near else replace(images, _stamps={})


@dataclass(frozen=True)
class Shard:
    """The places of a batch, and the batch itself (None: nothing can be read) with what was seen, if it was sent."""

    part: range
    sent: tuple[Batch | None, Seen] | None = None

    def read(self, images: ImageSet, spec: InputSpec) -> tuple[Batch | None, Seen]:
        """Return the batch, None where none of its images can be read, and what reading it has shown."""
        if self.sent is not None:
            return self.sent
        return images.batch(spec, self.part), images.seen(self.part)


@dataclass(frozen=True)
class Shards(Mapping[str, Shard]):
    """The batches of an image set by their keys, each read when it is asked for unless workers of ``place`` read it."""

    images: ImageSet
    spec: InputSpec
    batch_size: int
    place: Place = HERE

    @cached_property
    def parts(self) -> dict[str, range]:
        """The places of every batch by its key."""
        return {key_of(part): part for part in parts_of(len(self.images), self.batch_size)}

    @property
    def lent(self) -> ImageSet:
        """The images as workers need them."""
        return lent(self.images, self.place)

    @property
    def work(self) -> dict[str, float]:
        """The number of images of every batch."""
        return {key: len(part) for key, part in self.parts.items()}

    def __getitem__(self, key: str) -> Shard:
        shard = Shard(self.parts[key])
        by_workers = self.place.sees and not self.place.here
        return shard if by_workers else replace(shard, sent=shard.read(self.images, self.spec))

    def add(self, seen: Seen) -> None:
        """Take over what a worker has seen; raises CannotRunError for a file that it lacks, and that is here."""
        if not self.place.near and self.place.sees:
            for index in self.images.readable(seen.skipped, self.spec):
                skipped = seen.skipped[index]
                raise CannotRunError(
                    f"A worker of the cluster cannot read {skipped.name} ({skipped.reason}), which can be read here: give all "
                    "workers the same files."
                )
        self.images.add(seen)

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)
