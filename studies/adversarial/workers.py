"""Batches of an attack run on several processes or on a dask cluster, with the numbers of a run in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from probe.core.errors import CannotRunError
from probe.core.jobs import Shared, run_jobs, shared
from probe.core.journal import Arrays, Journal
from probe.core.progress import Advance
from probe.core.usercode import user_modules
from probe.data.images import ImageSet
from probe.data.spec import Batch, InputSpec

AttackBatch = Callable[[Batch, str, Advance], Arrays]
"""Attacks a batch with a key and returns its arrays."""


@dataclass(frozen=True)
class Place:
    """Where batches are attacked: in this process, on ``jobs`` processes of this machine, or on a dask ``cluster``."""

    jobs: int = 1
    cluster: str | None = None

    @property
    def here(self) -> bool:
        """Whether that is this process."""
        return self.jobs == 1 and self.cluster is None


HERE = Place()


@dataclass(frozen=True)
class Shards(Mapping[str, Batch]):
    """The batches of an image set by their keys, each read when it is asked for."""

    images: ImageSet
    spec: InputSpec
    indices: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, images: ImageSet, spec: InputSpec, batch_size: int) -> Shards:
        """Return the batches that ``images.batches`` yields; images that cannot be read are left out beforehand."""
        readable = images.readable(range(len(images)), spec)
        if not readable:
            next(iter(images.batches(spec, batch_size)), None)  # raises with the reasons
            raise CannotRunError(f"No image of '{images.name}' can be read. Use other images.")
        parts = [readable[start : start + batch_size] for start in range(0, len(readable), batch_size)]
        return cls(images, spec, {key_of(part): part for part in parts})

    def __getitem__(self, key: str) -> Batch:
        """Read a batch."""
        indices = self.indices[key]
        return next(self.images.batches(self.spec, len(indices), indices))

    def __iter__(self) -> Iterator[str]:
        """Return the keys in order."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.indices)


def key_of(indices: Sequence[int]) -> str:
    """Return the key of the batch of these images, on which its random numbers depend."""
    return f"{indices[0]}-{indices[-1]}-{len(indices)}"


def on_workers(
    build: Callable[[], AttackBatch], shards: Shards, place: Place, journal: Journal, advance: Advance
) -> Iterator[Arrays]:
    """Return the arrays of every batch, in order.

    ``build`` is called once in each worker. ``advance`` is called with the images that are done.
    """
    images = sum(map(len, shards.indices.values())) / len(shards)
    with shared(build, by_value=user_modules(), by_file=place.cluster is None) as packed:
        found: dict[str, Arrays] = run_jobs(
            partial(_attack, packed),
            _Keyed(shards),
            workers=place.jobs,
            cluster=place.cluster,
            journal=journal,
            to_arrays=_as_they_are,
            from_arrays=_as_they_are,
            advance=lambda jobs: advance(jobs * images),
        )
    return iter(found.values())


@dataclass(frozen=True)
class _Keyed(Mapping[str, tuple[str, Batch]]):
    """The batches, each together with its key."""

    shards: Shards

    def __getitem__(self, key: str) -> tuple[str, Batch]:
        return key, self.shards[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shards)

    def __len__(self) -> int:
        return len(self.shards)


def _as_they_are(arrays: Arrays) -> Arrays:
    return arrays


_built: dict[str, AttackBatch] = {}
"""What the last ``build`` in this worker returned, by its token."""


def _attack(packed: Shared[Callable[[], AttackBatch]], job: tuple[str, Batch]) -> Arrays:
    if packed.token not in _built:
        _built.clear()
        _built[packed.token] = packed.get()()
    key, batch = job
    return _built[packed.token](batch, key, lambda _units: None)
