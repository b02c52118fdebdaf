"""Where the work of a study is done: in this process, on several of this machine, or on a cluster, with the same numbers."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import torch

from probe.core.ahead import prefetch
from probe.core.cluster import LOCAL, lacking, opened
from probe.core.errors import UsageError
from probe.core.jobs import from_packed, portable, stream_jobs, to_packed, unpacked
from probe.core.journal import NOTHING, Arrays, Journal
from probe.core.progress import Advance
from probe.core.usercode import user_modules

T = TypeVar("T")
Item = TypeVar("Item")
R = TypeVar("R")


@dataclass(frozen=True)
class Shared(Generic[T]):
    """Something large that every job needs: packed once, and unpacked by whoever calls ``get``.

    ``token`` differs from that of everything else that was ever shared. Made by ``shared``.
    """

    token: str
    _file: str | None
    _bytes: bytes | None

    def get(self) -> T:
        """Return the thing."""
        data = self._bytes if self._file is None else Path(self._file).read_bytes()
        thing: T = unpacked(data or b"")
        return thing


@contextmanager
def shared(thing: T, *, by_value: Sequence[ModuleType] = (), by_file: bool = True) -> Iterator[Shared[T]]:
    """Lend the thing to jobs inside the block: in a temporary file, or without ``by_file`` with each job.

    Raises CannotRunError when it holds something that cannot leave this process.
    """
    data = portable(thing, by_value)
    token = uuid.uuid4().hex
    if not by_file:
        yield Shared(token, None, data)
        return
    with tempfile.TemporaryDirectory(prefix="probe-jobs-") as folder:
        place = Path(folder) / "shared"
        place.write_bytes(data)
        yield Shared(token, str(place), None)


@dataclass(frozen=True)
class Place:
    """Work is done in this process, on ``jobs`` processes of this machine (0: one a core), or on a dask ``cluster``.

    ``near``: workers are on this machine; ``sees``: they read the study's images themselves.
    """

    jobs: int = 1
    cluster: str | None = None
    near: bool = True
    sees: bool = True

    @property
    def here(self) -> bool:
        """Whether that is this process."""
        return self.jobs == 1 and self.cluster is None

    @classmethod
    @contextmanager
    def opened(cls, jobs: int, cluster: str | None, say: Callable[[str], None]) -> Iterator[Place]:
        """Yield the place of a whole study: a cluster of this machine is started once, and its dashboard's address said."""
        jobs = jobs or os.cpu_count() or 1
        if cluster is None:
            yield cls(jobs)
            return
        with opened(cluster) as (scheduler, dashboard):
            if dashboard:
                say(f"The cluster's dashboard: {dashboard}")
            near = cluster.startswith(LOCAL)
            yield cls(jobs, scheduler, near, near)

    def reading(self, files: Sequence[Path | None], say: Callable[[str], None]) -> Place:
        """Return the place with ``sees``: whether all workers have these files of images (None: one that is in memory).

        That some of the workers of a cluster have them and others not is said.
        """
        if self.cluster is None or self.near:
            return self
        known = [file for file in files if file is not None]
        if len(known) < len(files):
            return replace(self, sees=False)
        without, workers = lacking(self.cluster, known)
        if without and len(without) < workers:
            worker, file = next(iter(without.items()))
            say(
                f"{len(without)} of {workers} workers, such as {worker}, do not see {file}: the images are sent to all."
            )
        return replace(self, sees=not without)

    @contextmanager
    def lend(self, make: Callable[[], T], device: torch.device) -> Iterator[Lent[T]]:
        """Let workers use what ``make`` returns, inside the block; it is called at most once in each of them.

        On GPUs each process has one of its own, so that there are no more processes than GPUs. Raises UsageError for workers
        on another kind of device, and CannotRunError where ``make`` holds something that cannot leave this process.
        """
        place = self
        if device.type == "cuda" and self.cluster is None:
            place = replace(self, jobs=max(1, min(self.jobs, torch.cuda.device_count())))
        if place.here:
            yield Lent(make, place, None)
            return
        if device.type not in ("cpu", "cuda"):
            raise UsageError(
                f"Several processes work on the CPU or on GPUs, not on {device}: add --device cpu."
            )
        with shared(make, by_value=user_modules(), by_file=self.near) as packed:
            yield Lent(make, place, packed)


HERE = Place()


@dataclass(frozen=True)
class Lent(Generic[T]):
    """A thing and the place where functions of it are called; made by ``Place.lend``."""

    make: Callable[[], T]
    place: Place
    packed: Shared[Callable[[], T]] | None

    @cached_property
    def _here(self) -> T:
        return self.make()

    def map(
        self,
        function: Callable[[T, Item, Advance], R],
        items: Mapping[str, Item],
        advance: Advance,
        *,
        work: Mapping[str, float] | None = None,
        journal: Journal = NOTHING,
        to_arrays: Callable[[R], Arrays] = to_packed,
        from_arrays: Callable[[Arrays], R] = from_packed,
    ) -> Iterator[R]:
        """Yield ``function(thing, item, advance)`` of every item, in order; the names of items are those in the journal.

        In this process ``advance`` is handed on, and the next item is looked up while one is worked on; for workers, and for
        what the journal has, ``advance`` is called with the item's ``work`` (1) when that is done.
        """
        if journal is NOTHING:
            to_arrays = _nothing  # packing them would take time
        if self.packed is None:
            with closing(prefetch(partial(_ready, items, journal), list(items), 1)) as ready:
                for name, (item, arrays) in ready:
                    if arrays is None:
                        result = function(self._here, item, advance)
                        journal.save(name, to_arrays(result))
                    else:
                        result = from_arrays(arrays)
                        advance(1.0 if work is None else work[name])
                    yield result
            return
        results: Iterator[R] = stream_jobs(
            partial(_call, self.packed, function),
            items,
            workers=self.place.jobs,
            cluster=self.place.cluster,
            journal=journal,
            to_arrays=to_arrays,
            from_arrays=from_arrays,
        )
        for name, result in zip(items, results, strict=True):
            advance(1.0 if work is None else work[name])
            yield result


_lent: dict[str, Any] = {}
"""What was lent to this worker last, by its token."""


def _call(packed: Shared[Callable[[], Any]], function: Callable[[Any, Any, Advance], R], item: Any) -> R:
    if packed.token not in _lent:
        _lent.clear()
        _lent[packed.token] = packed.get()()
    return function(_lent[packed.token], item, lambda _units: None)


def _nothing(_result: object) -> Arrays:
    return {}


def _ready(items: Mapping[str, Item], journal: Journal, name: str) -> tuple[Any, Arrays | None]:
    """Return the item, or what the journal has of it."""
    arrays = journal.load(name)
    return (items[name], None) if arrays is None else (None, arrays)
