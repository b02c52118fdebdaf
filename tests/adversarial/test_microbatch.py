"""Work in as many parts as memory needs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from probe.core.errors import CannotRunError
from probe.core.memory import is_out_of_memory
from studies.adversarial.microbatch import MicroBatcher

SAID = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate"
    ),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory"),
    torch.OutOfMemoryError("CUDA error"),
    MemoryError(),
]


def worker(
    room: int, error: BaseException | None = None
) -> tuple[Callable[[Tensor], list[Tensor]], list[int]]:
    """Work that squares and doubles its rows, and has room for so many of them; and the sizes it was given."""
    sizes: list[int] = []

    def work(rows: Tensor) -> list[Tensor]:
        sizes.append(len(rows))
        if len(rows) > room:
            raise error or SAID[0]
        return [rows**2, torch.stack([rows, 2 * rows], 1)]

    return work, sizes


@given(n=st.integers(1, 40), limit=st.integers(1, 50), room=st.integers(1, 50))
def test_results_are_in_order_and_complete_whatever_the_room(n: int, limit: int, room: int) -> None:
    rows = torch.arange(n)
    memory = MicroBatcher(limit)
    work, sizes = worker(room)
    with (
        pytest.MonkeyPatch.context() as patched
    ):  # collecting after each shortage is slow in a process of many tests
        patched.setattr("studies.adversarial.microbatch.gc.collect", lambda: 0)
        squares, pairs = memory.map(rows, work)
    assert squares.tolist() == [i * i for i in range(n)]
    assert pairs.tolist() == [[i, 2 * i] for i in range(n)]
    assert max(sizes) <= limit
    assert sum(size for size in sizes if size <= room) == n, "nothing twice"
    assert memory.limit <= limit
    assert len(memory.messages) == sum(size > room for size in sizes)
    assert memory.limit == limit or memory.limit <= max(room, limit // 2)


@pytest.mark.parametrize("error", SAID, ids=lambda error: str(error)[:20] or type(error).__name__)
def test_halves_and_tells_and_never_raises_the_limit_again(error: BaseException) -> None:
    memory = MicroBatcher(16)
    work, sizes = worker(5, error)
    memory.map(torch.arange(20), work)
    assert sizes == [16, 8, 4, 4, 4, 4, 4]
    assert memory.limit == 4
    assert [re.findall(r"\d+", message) for message in memory.messages] == [["16", "8"], ["8", "4"]]
    again, sizes = worker(100)
    memory.map(torch.arange(6), again)
    assert sizes == [4, 2]
    assert len(memory.messages) == 2


def test_running_out_late_repeats_only_that_part() -> None:
    memory, sizes = MicroBatcher(4), []

    def work(rows: Tensor) -> list[Tensor]:
        sizes.append(rows.tolist())
        if len(rows) > 2 and 6 in rows.tolist():
            raise MemoryError
        return [rows]

    assert memory.map(torch.arange(9), work)[0].tolist() == list(range(9))
    assert sizes == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [6, 7], [8]]


def test_a_small_last_part_that_runs_out_is_halved_from_its_own_size() -> None:
    memory = MicroBatcher(64)
    work, sizes = worker(2)
    memory.map(torch.arange(5), work)
    assert sizes == [5, 2, 2, 1]
    assert memory.limit == 2


def test_no_room_for_a_single_image_cannot_run() -> None:
    memory = MicroBatcher(3)
    work, sizes = worker(0)
    with pytest.raises(CannotRunError, match="memory for a single image") as caught:
        memory.map(torch.arange(3), work)
    assert sizes == [3, 1]
    assert caught.value.__cause__ is SAID[0]


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("a")])
def test_other_errors_pass_through(error: Exception) -> None:
    memory = MicroBatcher(3)
    work, sizes = worker(0, error)
    with pytest.raises(type(error)) as caught:
        memory.map(torch.arange(3), work)
    assert caught.value is error
    assert sizes == [3]
    assert (memory.limit, memory.messages) == (3, [])


def test_what_says_that_memory_ran_out() -> None:
    assert all(is_out_of_memory(error) for error in SAID)
    assert not is_out_of_memory(RuntimeError("out of range"))
    assert not is_out_of_memory(ValueError("out of memory"))
