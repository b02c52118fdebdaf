"""Work done ahead of its use in one thread, so that reading images overlaps computing on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(work: Callable[[int], T], keys: Sequence[int], depth: int) -> Generator[tuple[int, T]]:
    """Yield ``(key, work(key))`` in order, computing at most ``depth`` results ahead in one other thread.

    An exception of ``work`` is raised at its key. However the iteration ends (exhausted, closed, abandoned,
    an exception on either side), the thread has ended when the iterator has.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="probe-read")
    pending: deque[tuple[int, Future[T]]] = deque()
    try:
        for key in keys:
            pending.append((key, executor.submit(work, key)))
            if len(pending) > depth:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
