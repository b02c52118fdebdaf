"""An image set in parts that workers read, or that are sent to them: batch by batch, the same ones wherever they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from probe.data.images import ImageSet, Seen
from probe.data.spec import Batch, InputSpec


def parts_of(count: int, batch_size: int) -> list[range]:
    """Return the places of the images of every batch."""
    return [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def key_of(indices: Sequence[int]) -> str:
    """Return the key of the batch of these images, on which its random numbers depend."""
    return f"{indices[0]}-{indices[-1]}-{len(indices)}"


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
    """The batches of an image set by their keys; unless ``near``, each is read in this process when it is asked for."""

    images: ImageSet
    spec: InputSpec
    batch_size: int
    near: bool = True

    @cached_property
    def parts(self) -> dict[str, range]:
        """The places of every batch by its key."""
        return {key_of(part): part for part in parts_of(len(self.images), self.batch_size)}

    @property
    def lent(self) -> ImageSet:
        """The images as workers need them: without their items where the batches are sent."""
        return self.images if self.near else replace(self.images, items=(), _skipped={}, _sizes={})

    @property
    def work(self) -> dict[str, float]:
        """The number of images of every batch."""
        return {key: len(part) for key, part in self.parts.items()}

    def __getitem__(self, key: str) -> Shard:
        shard = Shard(self.parts[key])
        return shard if self.near else replace(shard, sent=shard.read(self.images, self.spec))

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)
