"""Jobs here, on processes and on a dask cluster: same results, whoever dies."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from joblib.externals import loky

from probe.core import cluster as clusters
from probe.core.errors import CannotRunError, UsageError
from probe.core.jobs import portable, run_jobs, unpacked
from probe.core.journal import Arrays, FileJournal

# Worker processes import torch; two of them share the machine with whatever else runs on it.
pytestmark = pytest.mark.timeout(240)

HERE = sys.modules[__name__]


@pytest.fixture(scope="module", autouse=True)
def no_processes_left() -> Iterator[None]:
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a dask cluster of two processes that gives a task up at its first death."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as made,
    ):
        yield made.scheduler_address


def to_arrays(result: Any) -> Arrays:
    return {"value": np.asarray(result)}


def from_arrays(arrays: Arrays) -> Any:
    return arrays["value"].item()


def run(function: Any, tasks: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    return run_jobs(
        function, tasks, to_arrays=to_arrays, from_arrays=from_arrays, **{"by_value": (HERE,), **options}
    )


def noted(folder: Path, function: Any) -> Any:
    """The function, which leaves a file of its own for every run of it."""

    def noting(job: Any) -> Any:
        (folder / f"{job}-{time.monotonic_ns()}-{os.getpid()}").touch()
        return function(job)

    return noting


def runs(folder: Path, job: object) -> int:
    return len(list(folder.glob(f"{job}-*")))


def long_sum(seed: int) -> float:
    """A sum in float32 whose rounding depends on how it is split among threads."""
    values = torch.randn(300_000, generator=torch.Generator().manual_seed(seed))
    return float(values.sum() + (values.view(300, 1000) @ values.view(1000, 300)).sum())


SEEDS = {f"seed {seed}": seed for seed in (5, 3, 9, 1)}


def test_places_give_the_same_results_in_the_same_order(cluster: str) -> None:
    here = run(long_sum, SEEDS)
    assert list(here) == list(SEEDS)
    for there in (run(long_sum, SEEDS, workers=2), run(long_sum, SEEDS, cluster=cluster)):
        assert list(there) == list(SEEDS)
        assert there == here


def test_the_order_is_that_of_the_jobs_not_of_finishing() -> None:
    def late(job: float) -> float:
        time.sleep(job)
        return job

    tasks = {"slow": 0.5, "quick": 0.0, "middle": 0.1}
    assert list(run(late, tasks, workers=2).items()) == list(tasks.items())
    assert run(late, {}, workers=2) == {}


def test_a_job_that_keeps_memory_keeps_its_worker() -> None:
    """Where loky replaced such a worker, its warning, here an error, ended the thread that hands out jobs."""

    def keeping(_: int) -> int:
        # Longer than loky waits between two looks at the memory, and more than it takes for a leak.
        time.sleep(1.1)
        sys.__dict__.setdefault("_kept", []).append(np.ones(40_000_000))
        return os.getpid()

    workers = run(keeping, {str(job): job for job in range(5)}, workers=2)
    assert len(set(workers.values())) <= 2
    loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)


def test_one_thread_and_the_old_number_afterwards() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert run(lambda _: torch.get_num_threads(), {"a": 0}) == {"a": 1}
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            run(lambda x: 1 / x, {"a": 0})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert run(lambda _: torch.get_num_threads(), {"a": 0}, workers=2) == {"a": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_only_what_is_missing_runs(tmp_path: Path, workers: int) -> None:
    journal = FileJournal(tmp_path / "journal", {}, resume=True)
    done: list[float] = []
    double = noted(tmp_path, lambda job: 2 * job)
    run(double, {"a": 1, "b": 2}, journal=journal, advance=done.append, workers=workers)
    assert done == [1, 1]
    again = run(double, {"c": 3, "b": 2, "a": 1}, journal=journal, advance=done.append, workers=workers)
    assert list(again.items()) == [("c", 6), ("b", 4), ("a", 2)]
    assert sum(done) == 5
    assert [runs(tmp_path, job) for job in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_as_it_is_and_what_was_done_is_kept(tmp_path: Path, workers: int) -> None:
    class OwnError(Exception):
        def __init__(self, number: int, words: str) -> None:
            super().__init__(f"{words} {number}")
            self.number = number

        def __reduce__(self) -> Any:
            return OwnError, (self.number, "job")

    def fail(job: int) -> int:
        if job == 2:
            time.sleep(0.5)
            raise OwnError(job, "job")
        return job

    journal = FileJournal(tmp_path / "journal", {}, resume=True)
    tasks = {"a": 1, "b": 2}
    with pytest.raises(OwnError, match="job 2") as caught:
        run(noted(tmp_path, fail), tasks, workers=workers, journal=journal)
    assert type(caught.value) is OwnError
    assert caught.value.number == 2
    assert runs(tmp_path, 2) == 1
    assert journal.load("a") is not None
    assert journal.load("b") is None


def test_an_error_that_cannot_be_sent() -> None:
    class Unpicklable(Exception):
        def __init__(self, left: int, right: int) -> None:
            super().__init__("two")

    def fail(_job: int) -> int:
        raise Unpicklable(1, 2)

    with pytest.raises(CannotRunError, match="Unpicklable: two"):
        run(fail, {"a": 1}, workers=2)


def test_a_worker_that_dies_once_loses_only_its_job(tmp_path: Path) -> None:
    flag = tmp_path / "flag"

    def fragile(job: int) -> int:
        if job == 2 and not flag.exists():
            flag.touch()
            os._exit(1)
        return 10 * job

    tasks = {str(job): job for job in range(6)}
    assert run(noted(tmp_path, fragile), tasks, workers=2) == {str(job): 10 * job for job in range(6)}
    assert runs(tmp_path, 2) == 2
    # The one beside it on the other process may be lost too.
    assert all(1 <= runs(tmp_path, job) <= 2 for job in range(6))


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_job_that_always_kills_is_named(tmp_path: Path, attempts: int) -> None:
    def deadly(job: int) -> int:
        if job == 1:
            while len(list((tmp_path / "journal").rglob("*.npz"))) < 3:
                time.sleep(0.05)
            os._exit(1)
        return job

    journal = FileJournal(tmp_path / "journal", {}, resume=True)
    tasks = {f"job {job}": job for job in range(4)}
    with pytest.raises(CannotRunError, match=f"that ran job 1 died {attempts} times"):
        run(noted(tmp_path, deadly), tasks, workers=2, attempts=attempts, journal=journal)
    assert runs(tmp_path, 1) == attempts
    assert all(journal.load(f"job {job}") is not None for job in (0, 2, 3))


def test_processes_that_are_gone_before_a_job_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Executor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise BrokenExecutor

    pools = [Gone(), ThreadPoolExecutor(1)]

    @contextmanager
    def lent(workers: int) -> Iterator[clusters.Workers]:
        with pools.pop(0) as pool:
            yield clusters.Workers(pool, lambda: workers)

    monkeypatch.setattr("probe.core.jobs._processes", lent)
    assert run(abs, {"a": -1, "b": -2}, workers=2, attempts=1) == {"a": 1, "b": 2}
    assert pools == []


def test_ctrl_c_ends_the_workers_and_keeps_what_is_done(tmp_path: Path) -> None:
    parent = os.getpid()

    def interrupting(job: int) -> int:
        if job == 1:
            while not list((tmp_path / "journal").rglob("*.npz")):
                time.sleep(0.05)
            (tmp_path / "pid").write_text(str(os.getpid()))
            os.kill(parent, signal.SIGINT)
            time.sleep(600)
        return job

    journal = FileJournal(tmp_path / "journal", {}, resume=True)
    # A process that a shell has started in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(interrupting, {"a": 0, "b": 1}, workers=2, journal=journal)
    finally:
        signal.signal(signal.SIGINT, before)
    assert journal.load("a") is not None
    process = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker still runs")


def test_a_cluster_whose_worker_dies(tmp_path: Path, cluster: str) -> None:
    flag = tmp_path / "flag"

    def fragile(job: int) -> int:
        if job == 1 and not flag.exists():
            flag.touch()
            os._exit(1)
        if job == 7:
            os._exit(1)
        if job == 8:
            raise KeyError("eight")
        return job

    assert run(fragile, {str(job): job for job in range(4)}, cluster=cluster) == {
        str(job): job for job in range(4)
    }
    with pytest.raises(CannotRunError, match="that ran bad died 2 times"):
        run(noted(tmp_path, fragile), {"bad": 7}, cluster=cluster, attempts=2)
    assert runs(tmp_path, 7) == 2
    with pytest.raises(KeyError, match="eight"):
        run(fragile, {"a": 0, "b": 8}, cluster=cluster)


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clusters._CONNECT_SECONDS <= 10
    monkeypatch.setattr(clusters, "_CONNECT_SECONDS", 1)
    begun = threading.active_count()
    with pytest.raises(CannotRunError, match=r"Could not connect to a dask scheduler at tcp://127.0.0.1:9"):
        run(abs, {"a": 1}, cluster="tcp://127.0.0.1:9")
    with pytest.raises(CannotRunError, match="Could not connect to a dask scheduler at nonsense://x"):
        run(abs, {"a": 1}, cluster="nonsense://x")
    assert threading.active_count() <= begun + 3


def test_no_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'cnn-probe\[cluster\]'"):
        run(abs, {"a": 1}, cluster="tcp://127.0.0.1:9")


def test_leaving_is_passed_on_too() -> None:
    with pytest.raises(SystemExit, match="7"):
        run(lambda _: sys.exit(7), {"a": 1}, workers=2)


def test_numbers_without_meaning() -> None:
    with pytest.raises(ValueError, match="0 workers"):
        run(abs, {}, workers=0)
    with pytest.raises(ValueError, match="0 attempts"):
        run(abs, {}, attempts=0)


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        with pytest.raises(CannotRunError, match="cannot be sent to another process"):
            portable(file)
        with pytest.raises(CannotRunError, match=r"The job b cannot be run: .* cannot be sent"):
            run(str, {"a": 1, "b": file, "c": 3}, workers=2)
        with pytest.raises(CannotRunError, match="cannot be sent"):
            run(lambda _: file, {"a": 1}, workers=2)


@pytest.fixture
def from_file(tmp_path: Path) -> Iterator[ModuleType]:
    """A module loaded from a path, as a user's networks are."""
    path = tmp_path / "nets.py"
    path.write_text(
        "class Net:\n    def __init__(self, n): self.n = n\n"
        "def helper(x): return Net(x + 1)\n"
        "def train(x): return helper(x)\n"
    )
    spec = importlib.util.spec_from_file_location("probe_user_nets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["probe_user_nets"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["probe_user_nets"]


def test_modules_that_workers_cannot_import(from_file: ModuleType) -> None:
    with pytest.raises(CannotRunError, match=r"cannot load its job: .*probe_user_nets"):
        run(from_file.train, {"a": 1}, workers=2)
    found = run_jobs(
        from_file.train,
        {"a": 1},
        workers=2,
        to_arrays=lambda net: {"n": np.asarray(net.n)},
        from_arrays=lambda arrays: from_file.Net(int(arrays["n"])),
        by_value=(from_file, HERE),
    )
    assert type(found["a"]) is from_file.Net
    assert found["a"].n == 2
    assert not cloudpickle.list_registry_pickle_by_value()


def test_packing(from_file: ModuleType) -> None:
    offset = 3
    assert unpacked(portable(lambda x: x + offset))(4) == 7
    by_name, by_value = portable(from_file.train), portable(from_file.train, (from_file, from_file))
    assert len(by_value) > len(by_name)
    assert not cloudpickle.list_registry_pickle_by_value()
    del sys.modules["probe_user_nets"]
    try:
        with pytest.raises(ModuleNotFoundError):
            pickle.loads(by_name)
        assert pickle.loads(by_value)(1).n == 2
    finally:
        sys.modules["probe_user_nets"] = from_file


def test_what_the_caller_registered_stays(from_file: ModuleType) -> None:
    cloudpickle.register_pickle_by_value(from_file)
    try:
        portable(from_file.train, (from_file,))
        assert cloudpickle.list_registry_pickle_by_value() == {"probe_user_nets"}
    finally:
        cloudpickle.unregister_pickle_by_value(from_file)
