"""Independent jobs, one after the other, on several processes, or on a dask cluster, with the same results."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import ExitStack, closing, contextmanager
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch

from probe.core.allocator import kept_pages
from probe.core.cluster import Workers, cluster_workers
from probe.core.errors import CannotRunError
from probe.core.gpus import claim, claims
from probe.core.journal import NOTHING, Arrays, Journal
from probe.core.progress import Advance

T = TypeVar("T")
R = TypeVar("R")

_WATCH_SECONDS = 0.5
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run_jobs(
    function: Callable[[T], R],
    jobs: Mapping[str, T],
    *,
    workers: int = 1,
    cluster: str | None = None,
    journal: Journal = NOTHING,
    to_arrays: Callable[[R], Arrays],
    from_arrays: Callable[[Arrays], R],
    advance: Advance | None = None,
    attempts: int = 3,
    by_value: Sequence[ModuleType] = (),
) -> dict[str, R]:
    """Return key → ``function(job)`` for every job, in the order of ``jobs``; see ``stream_jobs``."""
    results = stream_jobs(
        function,
        jobs,
        workers=workers,
        cluster=cluster,
        journal=journal,
        to_arrays=to_arrays,
        from_arrays=from_arrays,
        advance=advance,
        attempts=attempts,
        by_value=by_value,
    )
    return dict(zip(jobs, results, strict=True))


def stream_jobs(
    function: Callable[[T], R],
    jobs: Mapping[str, T],
    *,
    workers: int = 1,
    cluster: str | None = None,
    journal: Journal = NOTHING,
    to_arrays: Callable[[R], Arrays],
    from_arrays: Callable[[Arrays], R],
    advance: Advance | None = None,
    attempts: int = 3,
    by_value: Sequence[ModuleType] = (),
) -> Iterator[R]:
    """Yield ``function(job)`` for every job, in the order of ``jobs``, as soon as it and those before it are there.

    Results are kept in the journal under their key as soon as they are there; a result that it holds already
    is loaded instead of computed. ``workers=1`` runs in this process, more workers are processes of this
    machine, ``cluster="tcp://host:port"`` is a dask scheduler, also by a scheduler file (``workers`` is then ignored), and
    ``local:4`` one with four workers on this machine. Every job runs
    with one torch thread, so that the results do not depend on where. ``advance`` is called with 1 a job.
    Functions and classes of the modules ``by_value`` are sent as they are, for modules that a worker cannot
    import by name.

    A job whose worker dies is run up to ``attempts`` times, alone after the first, and then CannotRunError names it;
    those that ran beside it may be run again with it. What
    ``function`` raises is raised, unchanged save for a note with the worker's traceback. Raises CannotRunError
    also when a job cannot be sent or the cluster cannot be reached, UsageError when dask is not installed,
    and ValueError for fewer than one worker or attempt.
    """
    if workers < 1 or attempts < 1:
        raise ValueError(f"cannot run jobs with {workers} workers and {attempts} attempts")
    done = {key: from_arrays(arrays) for key in jobs if (arrays := journal.load(key)) is not None}
    if advance is not None and done:
        advance(len(done))
    pending = [key for key in jobs if key not in done]
    with (
        _by_value(by_value),
        closing(_results(function, jobs, pending, workers, cluster, attempts)) as results,
    ):
        for key in jobs:
            while key not in done:
                found, result = next(results)
                journal.save(found, to_arrays(result))
                done[found] = result
                if advance is not None:
                    advance(1)
            yield done.pop(key)
        next(results, None)  # that there are no more lets the workers stay for the next jobs


def portable(thing: object, by_value: Sequence[ModuleType] = ()) -> bytes:
    """Return the object as bytes that another process can unpack, closures and local classes included.

    What the modules ``by_value`` define is stored with it, so that they need not be importable there.
    Raises CannotRunError when the object holds something that cannot leave its process, such as an open file.
    """
    import cloudpickle

    try:
        with _by_value(by_value):
            return bytes(cloudpickle.dumps(thing))
    except Exception as error:
        kind = type(thing).__qualname__
        raise CannotRunError(f"A {kind} cannot be sent to another process: {error}") from error


def unpacked(data: bytes) -> Any:
    """Return the object that ``portable`` made bytes of."""
    import cloudpickle

    return cloudpickle.loads(data)


def to_packed(result: object) -> Arrays:
    """Return a result of any kind as an array of bytes, for a journal."""
    return {"packed": np.frombuffer(portable(result), np.uint8)}


def from_packed(arrays: Arrays) -> Any:
    """Return the result that ``to_packed`` made an array of."""
    return unpacked(arrays["packed"].tobytes())


def _results(
    function: Callable[[T], R],
    jobs: Mapping[str, T],
    pending: Sequence[str],
    workers: int,
    cluster: str | None,
    attempts: int,
) -> Generator[tuple[str, R], None, None]:
    """Yield (key, result) as the ``pending`` jobs finish."""
    if not pending:
        return
    if cluster is None and workers == 1:
        for key in pending:
            with _one_thread():
                result = function(jobs[key])
            yield key, result
        return
    packed, queue = portable(function), _Queue(jobs, pending, attempts)
    while queue.waiting:
        with _processes(workers) if cluster is None else cluster_workers(cluster) as pool:
            for key, answer in _round(pool, pool.once(packed), queue):
                good, value = unpacked(answer)
                if not good:
                    raise value
                yield key, value


@contextmanager
def _by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    import cloudpickle

    known = cloudpickle.list_registry_pickle_by_value()
    with ExitStack() as stack:
        for module in dict.fromkeys(modules):
            # Modules that are not registered as imported are pickled by value anyway.
            if module.__name__ in sys.modules and module.__name__ not in known:
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def _answer(function: bytes, job: bytes) -> bytes:
    """Run a job in a worker and return (True, result) or (False, error), packed."""
    try:
        with _one_thread(), kept_pages():
            call, argument = _loaded(function, job)
            return portable((True, call(argument)))
    except (Exception, SystemExit) as error:
        return _packed_error(error)


def _loaded(function: bytes, job: bytes) -> tuple[Any, Any]:
    try:
        return unpacked(function), unpacked(job)
    except Exception as error:
        raise CannotRunError(f"A worker cannot load its job: {error}") from error


def _packed_error(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    error.add_note(f"In the worker:\n{text}")
    try:
        packed = portable((False, error))
        unpacked(packed)
    except Exception:
        # Errors of others need not survive pickling.
        return portable((False, CannotRunError(f"A worker failed.\n{text}")))
    return packed


class _Queue:
    """The jobs that wait, and how often the worker of each has died."""

    def __init__(self, jobs: Mapping[str, object], pending: Sequence[str], attempts: int) -> None:
        self.jobs = jobs
        self.attempts = attempts
        self.waiting = deque(pending)
        self.lost = Counter[str]()

    def may_start(self, running: Collection[str]) -> bool:
        """Return whether the next job may run beside others: one whose worker has died runs alone, and is blamed alone."""
        return bool(self.waiting) and not (
            running and any(self.lost[key] for key in (self.waiting[0], *running))
        )

    def put_back(self, deaths: Mapping[str, int]) -> None:
        """Let jobs whose workers died that often wait again; raises CannotRunError at their last attempt."""
        self.lost.update(deaths)
        worn = [key for key in deaths if self.lost[key] >= self.attempts]
        if worn:
            raise CannotRunError(
                f"The process that ran {' or '.join(worn)} died {self.lost[worn[0]]} times, perhaps for want of "
                "memory: use fewer workers or smaller batches."
            )
        self.waiting.extend(deaths)


def _round(pool: Workers, function: Any, queue: _Queue) -> Iterator[tuple[str, bytes]]:
    """Yield (key, answer) as jobs finish; ends when none is left, or when the executor is broken."""
    running: dict[Future[bytes], str] = {}
    broken = False
    while running or (queue.waiting and not broken):
        # No more than there is room for: jobs may share large data, of which each that is sent gets a copy, and one
        # that waits at a worker that dies would count as lost.
        while not broken and len(running) < pool.room() and queue.may_start(running.values()):
            key = queue.waiting.popleft()
            try:
                running[_submit(pool.executor, function, key, queue.jobs[key])] = key
            except BrokenExecutor:
                queue.waiting.appendleft(key)
                broken = True
        done = wait(running, return_when=FIRST_COMPLETED).done
        if broken or any(isinstance(_error(future), BrokenExecutor) for future in done):
            # All processes end with the first that dies.
            broken, done = True, wait(running).done
        deaths = {}
        for future in done:
            key, error = running.pop(future), _error(future)
            if error is None:
                yield key, future.result()
            else:
                deaths[key] = _deaths(key, error)
        queue.put_back(deaths)


def _error(future: Future[bytes]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _deaths(key: str, error: BaseException) -> int:
    """Return how many workers died of a job; raises CannotRunError when it failed in another way."""
    # Of dask's KilledWorker: the scheduler itself has tried that often.
    failures = getattr(error, "allowed_failures", None)
    if failures is not None:
        return int(failures) + 1
    if isinstance(error, BrokenExecutor | CancelledError | asyncio.CancelledError):
        return 1
    raise CannotRunError(f"No worker can run {key}: {error}") from error


def _submit(executor: Executor, function: Any, key: str, job: object) -> Future[bytes]:
    try:
        packed = portable(job)
    except CannotRunError as error:
        raise CannotRunError(f"The job {key} cannot be run: {error}") from error
    with warnings.catch_warnings():
        # The data of a training is large; it goes to one worker only.
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        return executor.submit(_answer, function, packed)


def _start_trackers() -> None:
    """Start the processes that remove what killed workers leave behind; that they had to do so is no news for the user."""
    from joblib.externals.loky.backend import resource_tracker as of_loky

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        for tracker in (of_loky, resource_tracker):
            tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _settle(gpus: Sequence[str], folder: str) -> None:
    """Give this worker a GPU of its own, and let it live as long as the process that started it: then nobody wants its results."""
    from joblib.externals.loky import process_executor

    claim(gpus, folder)
    # loky takes a job that keeps 300 MB more than the first one for a leak, and replaces the worker with a warning.
    process_executor._USE_PSUTIL = False

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()


@contextmanager
def _processes(workers: int) -> Iterator[Workers]:
    """Lend processes that stay for the next jobs, unless something is raised: then they are ended."""
    from joblib.externals.loky import get_reusable_executor

    _start_trackers()
    executor = get_reusable_executor(
        workers, timeout=300, env=_ONE_THREAD, initializer=_settle, initargs=claims()
    )
    try:
        yield Workers(executor, lambda: workers)
    except BaseException:
        executor.shutdown(wait=True, kill_workers=True)
        raise
