"""Work that is done ahead of those who need it, in another thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def prefetch(work: Callable[[K], T], keys: Sequence[K], depth: int) -> Generator[tuple[K, T]]:
    """Yield ``(key, work(key))`` in order, computing at most ``depth`` results ahead in another thread.

    An exception in ``work`` is raised at its key. However the iteration ends (exhausted, closed, abandoned,
    an exception on either side), the thread ends before the iterator does.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="probe-read")
    pending: deque[tuple[K, Future[T]]] = deque()
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
