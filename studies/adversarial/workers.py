"""Batches of an attack run, in this process, on several or on a cluster, with the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probe.core.journal import Arrays, Journal
from probe.core.place import Place
from probe.core.progress import Advance
from probe.core.subject import Skipped
from probe.data.images import ImageSet, Seen
from probe.data.shards import Shard, Shards, key_of
from probe.data.spec import Batch, InputSpec
from studies.adversarial.microbatch import MicroBatcher

AttackBatch = Callable[[Batch, str, Advance], Arrays]
"""Attacks a batch with a key and returns its arrays."""

_SEEN = "seen"
"""The name of what reading a batch has shown, among its arrays."""


@dataclass(frozen=True)
class Attacker:
    """What attacks batches, in this process or in a worker: the attack, the images where it reads them, and its memory."""

    attack: AttackBatch
    images: ImageSet
    spec: InputSpec
    memory: MicroBatcher


def with_seen(arrays: Arrays, seen: Seen, memory: MicroBatcher) -> Arrays:
    """Return the arrays of a batch together with what its images and the memory were like."""
    text = json.dumps(
        {
            "skipped": {index: [item.name, item.reason] for index, item in seen.skipped.items()},
            "sizes": {index: list(size) for index, size in seen.sizes.items()},
            "limit": memory.limit,
            "messages": memory.messages,
        }
    )
    return {**arrays, _SEEN: np.frombuffer(text.encode(), np.uint8)}


def take_seen(arrays: Arrays, shards: Shards, memory: MicroBatcher) -> None:
    """Add what ``with_seen`` has kept to the images and the memory of this process; raises what ``Shards.add`` raises."""
    told: dict[str, Any] = json.loads(arrays[_SEEN].tobytes())
    skipped = {int(index): Skipped(*item) for index, item in told["skipped"].items()}
    sizes = {int(index): (int(size[0]), int(size[1])) for index, size in told["sizes"].items()}
    shards.add(Seen(skipped, sizes))
    memory.limit = min(memory.limit, told["limit"])
    memory.messages += [text for text in told["messages"] if text not in memory.messages]


def attacked_batches(
    make: Callable[[], Attacker],
    device: torch.device,
    shards: Shards,
    place: Place,
    journal: Journal,
    units: int,
    advance: Advance,
) -> Iterator[Arrays]:
    """Yield the arrays of every batch, in order; every image advances the work by ``units`` in all."""
    work = {key: images * units for key, images in shards.work.items()}
    with place.lend(make, device) as lent:
        yield from lent.map(
            _attack,
            shards,
            advance,
            work=work,
            journal=journal,
            to_arrays=_as_they_are,
            from_arrays=_as_they_are,
        )


def _as_they_are(arrays: Arrays) -> Arrays:
    return arrays


def _attack(attacker: Attacker, shard: Shard, advance: Advance) -> Arrays:
    batch, seen = shard.read(attacker.images, attacker.spec)
    arrays = {} if batch is None else attacker.attack(batch, key_of(batch.indices), advance)
    return with_seen(arrays, seen, attacker.memory)
