"""How much memory there is, to refuse what cannot fit before it is allocated."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNKNOWN = 64 << 30
_SIGNS = ("allocate memory", "out of memory", "not enough memory")


def total_memory() -> int:
    """Return the bytes of memory that this process may use at most: the machine's, or the limit of its container."""
    total = _UNKNOWN
    with suppress(AttributeError, OSError, ValueError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _LIMITS:
        with suppress(OSError, ValueError):
            total = min(total, int(Path(limit).read_text(encoding="ascii")))
    return total


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that there is no memory left, on the CPU or on a device."""
    text = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)
