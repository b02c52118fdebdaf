"""Attacks on several processes and on a cluster: the numbers of one process, whoever dies on the way."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.adversarial_networks import trained
from helpers.adversarial_runs import NONE, image_set, model_of
from PIL import Image
from torch import Tensor, nn

from probe.cli.configs import journal_for
from probe.core.document import Report
from probe.core.errors import CannotRunError, UsageError
from probe.core.place import Place
from probe.core.progress import SILENT
from probe.core.state import fingerprint
from probe.data.load import load_images
from studies.adversarial import AdversarialConfig
from studies.adversarial.study import examine, run

CONFIG = AdversarialConfig(
    epsilons=(0.05, 0.1),
    attacks=("pgd?steps=10", "square?queries=50"),
    views=("curve",),
    checks=NONE,
    batch_size=8,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def outcome(report: Report) -> str:
    """Everything in a report that is measured, times excepted, as text, in which NaN is NaN."""
    results = [(result.name, result.value, result.ci, result.n) for result in report.all_results]
    return "\n".join(map(repr, [*results, *report.samples, *report.headline]))


def test_two_processes_and_a_cluster_give_the_numbers_of_one() -> None:
    model, images = model_of(), image_set(28)
    before = fingerprint(model.module)
    here = outcome(run(model, images, CONFIG))
    assert len(here.splitlines()) > 28
    for place in ({"jobs": 2}, {"cluster": "local:2"}):
        assert outcome(run(model, images, dataclasses.replace(CONFIG, **place))) == here  # type: ignore[arg-type]
    assert fingerprint(model.module) == before


def test_images_that_cannot_be_read_are_left_out_alike(tmp_path: Path) -> None:
    digits = image_set(40)
    for number in range(40):
        image = (digits.get(number, model_of().input)[0].numpy() * 255).round().astype(np.uint8)
        place = tmp_path / str(digits.label(number)) / f"{number:02}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(place)
    broken = sorted(tmp_path.glob("*/*.png"))[3]
    broken.write_bytes(b"no picture")
    model = dataclasses.replace(model_of(), class_names=None)
    reports = [run(model, load_images(tmp_path), dataclasses.replace(CONFIG, jobs=jobs)) for jobs in (1, 2)]
    assert outcome(reports[0]) == outcome(reports[1])
    assert reports[0].data.n == reports[1].data.n == 39
    images = load_images(tmp_path)
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(CannotRunError, match="No image"):
        run(model, images, dataclasses.replace(CONFIG, jobs=2))


class Dying(nn.Module):
    """Ends its process the first time that it answers in another one than it was made in."""

    def __init__(self, network: nn.Module, note: Path) -> None:
        super().__init__()
        self.network, self.note, self.home = network, note, os.getpid()

    def forward(self, x: Tensor) -> Tensor:
        if os.getpid() != self.home and not self.note.exists():
            self.note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        answers: Tensor = self.network(x)
        return answers


def test_the_shard_of_a_worker_that_dies_is_attacked_again(tmp_path: Path) -> None:
    note, images = tmp_path / "died", image_set(20)
    model = model_of(Dying(trained(), note))
    here = outcome(run(model, images, CONFIG))
    assert not note.exists()
    assert outcome(run(model, images, dataclasses.replace(CONFIG, jobs=2))) == here
    assert note.exists()


def test_a_run_goes_on_with_another_number_of_workers(own_cache: Path) -> None:
    model, images, two = model_of(), image_set(20), dataclasses.replace(CONFIG, jobs=2)
    journal = journal_for(two, model, images, False, SILENT)
    first = run(model, images, two, journal=journal)
    assert journal.saved == 3
    kept = journal_for(CONFIG, model, images, True, SILENT)
    assert outcome(run(model, images, CONFIG, journal=kept)) == outcome(first)
    assert (kept.loaded, kept.saved) == (3, 0)
    for file in sorted(kept.folder.glob("*.npz"))[:1]:
        file.unlink()
    part = journal_for(two, model, images, True, SILENT)
    assert outcome(run(model, images, two, journal=part)) == outcome(first)
    assert (part.loaded, part.saved) == (2, 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_journal_that_cannot_be_written_ends_no_run(jobs: int) -> None:
    class Full:
        def load(self, key: str) -> None:
            return None

        def save(self, key: str, arrays: Any) -> None:
            raise OSError(28, "No space left on device")

    config = dataclasses.replace(CONFIG, jobs=jobs)
    report = run(model_of(), image_set(16), config, journal=Full())
    assert outcome(report) == outcome(run(model_of(), image_set(16), CONFIG))


@pytest.mark.parametrize(
    ("cluster", "kind", "said"),
    [
        ("local:none", UsageError, "local:4"),
        ("local:0", UsageError, "local:4"),
        ("tcp://127.0.0.1:9", CannotRunError, "scheduler"),
    ],
)
def test_a_cluster_that_is_not_there(
    cluster: str, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.core.cluster._CONNECT_SECONDS", 1)
    with pytest.raises(kind, match=said):
        run(model_of(), image_set(8), dataclasses.replace(CONFIG, cluster=cluster))


def test_what_cannot_leave_its_process_is_named(tmp_path: Path) -> None:
    model = model_of()
    with (tmp_path / "open").open("w") as file:
        model.module.file = file  # type: ignore[assignment]
        with pytest.raises(CannotRunError, match="sent to another process"):
            run(model, image_set(8), dataclasses.replace(CONFIG, jobs=2))


def test_processes_attack_on_the_cpu_only() -> None:
    attack_run = examine(model_of(), image_set(8), CONFIG)[1].run
    elsewhere = dataclasses.replace(
        attack_run,
        model=dataclasses.replace(model_of(), device=torch.device("meta")),
        place=Place(2),
    )
    with pytest.raises(UsageError, match="--device cpu"):
        elsewhere.run()
