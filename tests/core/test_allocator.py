"""Memory that is freed stays with the process inside the block, and goes back after it."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from probe.core.allocator import _glibc, kept_pages

PAGES = 16_384
"""Pages of 4 KiB in 64 MiB."""


def cleared_pages(times: int = 8) -> int:
    """Return how many pages the system had to hand out for 64 MiB, allocated that many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Return the bytes that the process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(_glibc() is None, reason="only glibc has these parameters")
def test_freed_memory_is_used_again() -> None:
    """Outside, each allocation gets new pages (fewer where they are huge ones); inside, the first ones serve all."""
    with kept_pages():
        cleared_pages(32)
        assert cleared_pages() < PAGES


@pytest.mark.skipif(_glibc() is None, reason="only glibc has these parameters")
def test_memory_goes_back_at_the_end_after_an_exception_too() -> None:
    """What was freed inside no longer counts for the process."""
    before = resident()

    @kept_pages()
    def fails() -> None:
        torch.ones(2**25)
        assert resident() - before > 2**26
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert resident() - before < 2**26


def test_nothing_happens_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system the block is an ordinary one."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _glibc() is None
    with kept_pages():
        assert torch.ones(3).sum() == 3
