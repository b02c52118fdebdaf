"""Work runs ahead in one thread, bounded, in order, and the thread never outlives its iterator."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from probe.core.ahead import prefetch


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("probe-read")]


def test_results_come_in_order_from_one_other_thread():
    workers = set()

    def work(key: int) -> int:
        workers.add(threading.get_ident())
        return key * key

    assert list(prefetch(work, [3, 1, 2, 1], 2)) == [(3, 9), (1, 1), (2, 4), (1, 1)]
    assert len(workers) == 1
    assert threading.get_ident() not in workers
    assert reading_threads() == []


def test_no_keys_no_results():
    assert list(prefetch(lambda key: key, [], 4)) == []


def test_it_runs_ahead_but_not_far():
    started: list[int] = []

    def work(key: int) -> int:
        started.append(key)
        return key

    results = prefetch(work, range(100), 5)
    assert next(results) == (0, 0)
    deadline = time.monotonic() + 10
    while len(started) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert started == [0, 1, 2, 3, 4, 5]
    results.close()


def test_reading_overlaps_the_use_of_earlier_results():
    second_started = threading.Event()

    def work(key: int) -> int:
        if key == 1:
            second_started.set()
        return key

    results = prefetch(work, [0, 1], 2)
    next(results)
    assert second_started.wait(10), "the second was not begun while the first was in use"
    results.close()


def test_an_error_of_the_work_is_raised_at_its_place():
    results = prefetch(lambda key: 1 // (key - 2), range(9), 3)
    assert [next(results)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert reading_threads() == []


@pytest.mark.parametrize("how", ["close", "forget", "throw", "never started"])
def test_no_thread_is_left_behind(how):
    done: list[int] = []

    def work(key: int) -> None:
        time.sleep(0.005 if key else 0)
        done.append(key)

    results = prefetch(work, range(1000), 400)
    if how != "never started":
        next(results)
        assert reading_threads()
    if how == "close":
        results.close()
    elif how == "throw":
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    del results
    gc.collect()
    assert reading_threads() == []
    assert len(done) < 100, "what was not begun yet was done all the same"
