"""Memory that is freed stays with the process inside the block, and goes back after it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from probe.core.allocator import _glibc, kept_pages

MEASURE = """
import resource

import torch

from probe.core.allocator import kept_pages

def cleared_pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

@kept_pages()
def fails():
    torch.ones(2**25)
    print(resident() - before)
    raise KeyError

with kept_pages():
    cleared_pages(32)
    print(cleared_pages(8))
before = resident()
try:
    fails()
except KeyError:
    print(resident() - before)
"""
"""Prints the pages that 8 x 64 MiB were given, and the bytes that stayed with the process inside and after the block."""


@pytest.mark.skipif(_glibc() is None, reason="only glibc has these parameters")
def test_freed_memory_is_used_again_and_goes_back_after_an_exception_too() -> None:
    """Inside, the first pages serve all; afterwards, what was freed no longer counts for the process.

    In a process of its own: one allocation that failed moves its thread to memory that glibc hands out differently.
    """
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    pages, inside, after = map(int, done.stdout.split())
    assert pages < 16_384  # 64 MiB in pages of 4 KiB
    assert inside > 2**26 > after


def test_nothing_happens_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system the block is an ordinary one."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _glibc() is None
    with kept_pages():
        assert torch.ones(3).sum() == 3
