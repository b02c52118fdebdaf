"""Places of work: what is lent goes to each worker once, results come in order, and a cluster that does not fit is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import distributed
import pytest
import torch

from probe.core.errors import CannotRunError, UsageError
from probe.core.place import HERE, Place
from probe.core.progress import Advance

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as started:
        yield started.scheduler_address


def make(folder: Path) -> dict[str, int]:
    """Leave a mark in the folder, and return what is lent."""
    (folder / f"{os.getpid()}-{len(list(folder.iterdir()))}").touch()
    return {"base": 100}


def add(lent: dict[str, int], item: int, advance: Advance) -> tuple[int, int]:
    advance(1)
    return lent["base"] + item, os.getpid()


def mapped(place: Place, folder: Path, advance: Callable[[float], None]) -> list[tuple[int, int]]:
    work = {str(number): 2.0 for number in range(9)}
    with place.lend(partial(make, folder), CPU) as lent:
        first = list(lent.map(add, {str(number): number for number in range(9)}, advance, work=work))
        again = list(lent.map(add, {str(number): number for number in range(9)}, advance, work=work))
    assert [value for value, _ in again] == [value for value, _ in first]
    return first


def test_what_is_lent_is_made_once_in_each_place(tmp_path: Path, scheduler: str) -> None:
    for number, place in enumerate((HERE, Place(2), Place(1, scheduler, near=False))):
        folder = tmp_path / str(number)
        folder.mkdir()
        done: list[float] = []
        found = mapped(place, folder, done.append)
        assert [value for value, _ in found] == [100 + item for item in range(9)]
        marks, others = len(list(folder.iterdir())), {pid for _, pid in found} - {os.getpid()}
        assert sum(done) == (18 if place.here else 36)
        assert marks == 1 if place.here else marks <= 2
        assert bool(others) is not place.here


def test_a_cluster_of_this_machine_says_where_its_dashboard_is() -> None:
    said: list[str] = []
    with Place.opened(1, "local:1", said.append) as place:
        assert place.near
        assert not place.here
        with place.lend(partial(dict, base=1), CPU) as lent:
            assert [value for value, _ in lent.map(add, {"a": 1}, lambda _: None)] == [2]
    assert "http://" in said[0]


def test_a_scheduler_file_names_the_cluster(tmp_path: Path, scheduler: str) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": scheduler}))
    with Place.opened(1, str(file), lambda _: None) as place:
        assert not place.near
        assert place.cluster == scheduler
    (tmp_path / "other.json").write_text("{}")
    for name, said in (("none.json", "cannot be read"), ("other.json", "has no address")):
        with (
            pytest.raises(CannotRunError, match=said),
            Place.opened(1, str(tmp_path / name), lambda _: None),
        ):
            pass


def test_workers_of_another_version_are_refused(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.core.cluster.version", lambda _: "0.0.0")
    with (
        pytest.raises(CannotRunError, match=r"torch .*this process 0\.0\.0.*same versions"),
        Place.opened(1, scheduler, lambda _: None),
    ):
        pass


def test_workers_need_the_cpu() -> None:
    with pytest.raises(UsageError, match="--device cpu"), Place(2).lend(dict, torch.device("meta")):
        pass


def test_one_job_a_core_where_nothing_is_said() -> None:
    with Place.opened(0, None, lambda _: None) as place:
        assert place.jobs == os.cpu_count()
