"""Explicit random generators: one seed gives one result, and the global state is not changed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *keys: str | int) -> int:
    """Derive a 63-bit seed from ``seed`` and a path of keys.

    Independent parts of a study draw from independent streams, so that adding one
    part does not change what another draws.
    """
    text = "/".join([str(seed), *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *keys: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new torch generator seeded by ``derive(seed, *keys)``."""
    return torch.Generator(device=device).manual_seed(derive(seed, *keys))


@contextmanager
def scoped(seed: int, *keys: str | int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and random inside the block and restore them afterwards.

    Only for code without a generator argument (``torch.nn.init`` in a network's constructor, dropout, attacks of other
    libraries).
    """
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        value = derive(seed, *keys)
        torch.manual_seed(value)
        np.random.seed(value % 2**32)
        random.seed(value)
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
