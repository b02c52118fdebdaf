"""Independent jobs, one after the other, on several processes, or on a dask cluster, with the same results."""

from __future__ import annotations

import sys
import tempfile
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from probe.core.errors import CannotRunError, UsageError
from probe.core.journal import NOTHING, Arrays, Journal
from probe.core.progress import Advance

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_SECONDS = 8


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
    """Return key → ``function(job)`` for every job, in the order of ``jobs``.

    Results are kept in the journal under their key as soon as they are there; a result that it holds already
    is loaded instead of computed. ``workers=1`` runs in this process, more workers are processes of this
    machine, ``cluster="tcp://host:port"`` is a dask scheduler (``workers`` is then ignored). Every job runs
    with one torch thread, so that the results do not depend on where. ``advance`` is called with 1 a job.
    Functions and classes of the modules ``by_value`` are sent as they are, for modules that a worker cannot
    import by name.

    A job whose worker dies is run up to ``attempts`` times, and then CannotRunError names it. What
    ``function`` raises is raised, unchanged save for a note with the worker's traceback. Raises CannotRunError
    also when a job cannot be sent or the cluster cannot be reached, UsageError when dask is not installed,
    and ValueError for fewer than one worker or attempt.
    """
    if workers < 1 or attempts < 1:
        raise ValueError(f"cannot run jobs with {workers} workers and {attempts} attempts")
    done = {key: from_arrays(kept) for key in jobs if (kept := journal.load(key)) is not None}
    if advance is not None and done:
        advance(len(done))
    left = {key: job for key, job in jobs.items() if key not in done}
    with _by_value(by_value), closing(_results(function, left, workers, cluster, attempts)) as results:
        for key, result in results:
            journal.save(key, to_arrays(result))
            done[key] = result
            if advance is not None:
                advance(1)
    return {key: done[key] for key in jobs}


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


def _results(
    function: Callable[[T], R], jobs: Mapping[str, T], workers: int, cluster: str | None, attempts: int
) -> Generator[tuple[str, R], None, None]:
    """Yield (key, result) as jobs finish."""
    if not jobs:
        return
    if cluster is None and workers == 1:
        for key, job in jobs.items():
            with _one_thread():
                result = function(job)
            yield key, result
        return
    packed = portable(function)
    where = (
        _on_processes(packed, jobs, workers, attempts)
        if cluster is None
        else _on_cluster(packed, jobs, cluster, attempts)
    )
    with closing(where) as answers:
        for key, answer in answers:
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


def _answer(function: bytes, job: bytes, mark: str | None = None) -> bytes:
    """Run a job in a worker and return (True, result) or (False, error), packed.

    The file ``mark`` exists while the job runs.
    """
    if mark is not None:
        Path(mark).touch()
    try:
        with _one_thread():
            call, argument = _loaded(function, job)
            answer = portable((True, call(argument)))
    except (Exception, SystemExit) as error:
        answer = _packed_error(error)
    if mark is not None:
        Path(mark).unlink(missing_ok=True)
    return answer


def _loaded(function: bytes, job: bytes) -> tuple[Any, Any]:
    try:
        return unpacked(function), unpacked(job)
    except Exception as error:
        raise CannotRunError(f"A worker cannot load what it is to run: {error}") from error


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


def _refuse(error: Exception) -> None:
    raise error


def _packed_job(function: bytes, key: str, job: object) -> tuple[bytes, bytes]:
    """Return function and job to send; a job that cannot be packed becomes one that says so."""
    try:
        return function, portable(job)
    except CannotRunError as error:
        return portable(_refuse), portable(CannotRunError(f"The job {key} cannot be run: {error}"))


def _on_processes(
    function: bytes, jobs: Mapping[str, object], workers: int, attempts: int
) -> Generator[tuple[str, bytes], None, None]:
    """Yield (key, answer) as the processes finish; start again with what a dying one left undone."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left, lost = dict(jobs), _Losses(attempts)
    while left:
        batch = lost.next_batch(left)
        with tempfile.TemporaryDirectory(prefix="probe-jobs-") as folder:
            marks = {key: Path(folder, str(i)) for i, key in enumerate(batch)}
            try:
                with closing(_round(function, {key: left[key] for key in batch}, marks, workers)) as answers:
                    for key, answer in answers:
                        del left[key]
                        yield key, answer
            except TerminatedWorkerError:
                undone = [key for key in batch if key in left]
                # All processes end with the first that dies; without a mark it died between jobs.
                lost.count([key for key in undone if marks[key].exists()] or undone)


def _round(
    function: bytes, jobs: Mapping[str, object], marks: Mapping[str, Path], workers: int
) -> Generator[tuple[str, bytes], None, None]:
    from joblib import Parallel, delayed

    # Packed when a process is free: jobs may share large data, of which each gets a copy. Batches of one,
    # because a process that dies takes its batch with it.
    calls = (
        delayed(_keyed)(key, *_packed_job(function, key, job), str(marks[key])) for key, job in jobs.items()
    )
    parallel = Parallel(
        n_jobs=workers,
        backend="loky",
        batch_size=1,
        pre_dispatch="n_jobs",
        return_as="generator_unordered",
        max_nbytes=None,
    )
    answers = parallel(calls)
    try:
        for answer in answers:  # noqa: UP028  # "yield from" would close it outside the filter below
            yield answer
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\d+ tasks (have been|which were)", UserWarning)
            answers.close()


def _keyed(key: str, function: bytes, job: bytes, mark: str) -> tuple[str, bytes]:
    return key, _answer(function, job, mark)


class _Losses:
    """Count how often the worker of a job died, and decide what to run next."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.lost: dict[str, int] = {}

    def next_batch(self, left: Mapping[str, object]) -> list[str]:
        """Return the keys to run together: a job at its last attempt runs alone, so that only it is blamed."""
        last = [key for key in left if 0 < self.lost.get(key, 0) == self.attempts - 1]
        return [key for key in left if key not in last] or last[:1]

    def count(self, keys: Sequence[str], times: int = 1) -> None:
        """Note that workers died while they ran these jobs; raises CannotRunError at the last attempt."""
        for key in keys:
            self.lost[key] = self.lost.get(key, 0) + times
        worn = [key for key in keys if self.lost[key] >= self.attempts]
        if worn:
            raise CannotRunError(
                f"The process that ran {' or '.join(worn)} died {self.lost[worn[0]]} times, perhaps for want of "
                "memory: use fewer workers or smaller batches."
            )


def _on_cluster(
    function: bytes, jobs: Mapping[str, object], address: str, attempts: int
) -> Generator[tuple[str, bytes], None, None]:
    """Yield (key, answer) as the cluster's workers finish; what they still run is given up at the end."""
    client = _client(address)
    try:
        yield from _through(client, function, jobs, attempts)
    finally:
        client.close()


def _client(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("A cluster needs dask: pip install 'cnn-probe[cluster]'.") from error
    try:
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CannotRunError(f"No dask scheduler answers at {address}: {error}") from error


def _through(
    client: Client, function: bytes, jobs: Mapping[str, object], attempts: int
) -> Generator[tuple[str, bytes], None, None]:
    from distributed import CancelledError, KilledWorker, as_completed

    waiting, running, lost = deque(jobs), dict[Any, str](), _Losses(attempts)
    finished = as_completed(loop=client.loop)
    while waiting or running:
        room = _threads(client) - len(running)
        # No more than the threads: a job that waits at a worker that dies would count as lost.
        for key in [waiting.popleft() for _ in range(min(room, len(waiting)))]:
            future = _submitted(client, *_packed_job(function, key, jobs[key]))
            running[future] = key
            finished.add(future)
        future = next(finished)
        key = running.pop(future)
        try:
            answer = future.result()
        except KilledWorker as error:
            # The scheduler itself has tried that often.
            lost.count([key], error.allowed_failures + 1)
        except CancelledError:
            lost.count([key])
        except Exception as error:
            raise CannotRunError(f"The cluster cannot run {key}: {error}") from error
        else:
            yield key, answer
            continue
        waiting.append(key)


def _threads(client: Client) -> int:
    """Return how many jobs the cluster runs at once, 1 while it has no worker yet."""
    try:
        return max(1, int(sum(client.nthreads().values())))
    except OSError as error:
        raise CannotRunError(f"The connection to the cluster is lost: {error}") from error


def _submitted(client: Client, function: bytes, job: bytes) -> Any:
    with warnings.catch_warnings():
        # The data of a training is large; it goes to one worker only.
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        return client.submit(_answer, function, job, pure=False)
