"""The C library's allocator: memory that a network frees is memory that its next pass allocates again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""The parameters' numbers in glibc's malloc.h."""

_KEEP = 2**31 - 1
_LARGEST = (2**30, 2**25)
"""Sizes from which on memory is mapped alone: the first that the C library accepts (before 2.35 no more than 32 MiB)."""

_AFTERWARDS = (2**25, 2**26)
"""Both thresholds as glibc itself sets them once 32 MiB were freed, which every network of some size does."""


@contextmanager
def kept_pages() -> Iterator[None]:
    """Let the process keep freed memory inside the block, and give it back to the system at the end.

    Otherwise every large activation is mapped and unmapped anew, and the system clears each of its pages: nearly half of
    a forward pass on a CPU. Numbers do not change. Does nothing where the C library is not glibc, and little in a thread
    where an allocation has failed before: glibc then takes its memory from elsewhere.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_TRIM_THRESHOLD, _KEEP)
    any(library.mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _AFTERWARDS[0])
        library.mallopt(_TRIM_THRESHOLD, _AFTERWARDS[1])
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library, or None where it has no such parameters (musl, macOS, Windows)."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError):
        return None
