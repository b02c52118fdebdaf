"""The filters study on several processes and on clusters: the numbers and pictures of one process."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import distributed
import numpy as np
import pytest
import torch
from helpers.filters_models import SmallNet, loaded, pictures
from PIL import Image
from torch import Tensor

from probe.cli import main as cli
from probe.cli.configs import journal_for
from probe.core.blocks import Gallery
from probe.core.document import Report
from probe.core.errors import CannotRunError, UsageError
from probe.core.place import Place
from probe.core.progress import SILENT
from probe.core.state import fingerprint
from probe.data.load import load_images
from probe.models.loaded import LoadedModel
from studies.filters import FiltersConfig, run
from studies.filters.observe import observe

CONFIG = FiltersConfig(steps=4, batch_size=4, images=2)
LABELS = [i % 3 for i in range(14)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The scheduler of a cluster that is not known to be on this machine: images are sent to it."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as started:
        yield started.scheduler_address


def network() -> LoadedModel:
    """A network whose weights count as trained, so that they can be randomised."""
    model = loaded()
    return dataclasses.replace(model, provenance=dataclasses.replace(model.provenance, weights="trained"))


def outcome(report: Report) -> str:
    """Everything in a report that is measured, and its pictures, as text; how long a method took is left out."""
    rows: list[object] = [(r.name, r.value, r.ci, r.n) for r in report.all_results if "second" not in r.name]
    rows += [*report.samples, *report.headline, *report.data.skipped]
    for section in report.sections:
        galleries = [block for block in section.blocks if isinstance(block, Gallery)]
        tiles = [picture for gallery in galleries for strip in gallery.strips for picture in strip.pictures]
        rows += [(section.id, section.reason, t.alt, t.pixels.tobytes().hex()) for t in tiles]
    return "\n".join(map(repr, rows))


def test_processes_and_clusters_give_what_one_process_gives(cluster: str) -> None:
    model, images = network(), pictures(14, labels=LABELS)
    before = fingerprint(model.module)
    here = outcome(run(model, images, CONFIG))
    assert {"'features'", "'patches'", "'attribution'"} <= {
        row.split(",")[0].lstrip("(") for row in here.split("\n")
    }
    for place in ({"jobs": 2}, {"cluster": cluster}):
        assert outcome(run(model, images, dataclasses.replace(CONFIG, **place))) == here  # type: ignore[arg-type]
    assert fingerprint(model.module) == before


def folder_of(place: Path, count: int = 14) -> Path:
    """Write images of noise as files, of which the third is no picture."""
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(place / f"{number:02}.png")
    (place / "02.png").write_bytes(b"no picture")
    return place


def test_images_that_cannot_be_read_are_left_out_alike(tmp_path: Path, cluster: str) -> None:
    folder, model = folder_of(tmp_path), network()
    config = dataclasses.replace(CONFIG, views=("activations", "patches"))
    reports = [
        run(model, load_images(folder), dataclasses.replace(config, **place))  # type: ignore[arg-type]
        for place in ({"jobs": 1}, {"jobs": 2}, {"cluster": cluster})
    ]
    assert [report.data.n for report in reports] == [13] * 3
    assert [item.name for item in reports[1].data.skipped] == ["02.png"]
    assert outcome(reports[0]) == outcome(reports[1]) == outcome(reports[2])
    images = load_images(folder)
    for path in folder.glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(CannotRunError, match="can be read"):
        run(model, images, dataclasses.replace(config, jobs=2))


def test_a_run_goes_on_with_another_number_of_workers(own_cache: Path) -> None:
    model, images = network(), pictures(14, labels=LABELS)
    two = dataclasses.replace(CONFIG, jobs=2)
    first = journal_for(two, model, images, False, SILENT)
    straight = outcome(run(model, images, two, journal=first))
    assert first.saved > 10
    again = journal_for(CONFIG, model, images, True, SILENT)
    assert outcome(run(model, images, CONFIG, journal=again)) == straight
    assert (again.loaded, again.saved) == (first.saved, 0)
    for file in sorted(again.folder.glob("*.npz"))[:3]:
        file.unlink()
    for config in (CONFIG, two):
        part = journal_for(config, model, images, True, SILENT)
        assert outcome(run(model, images, config, journal=part)) == straight
        assert part.saved == (3 if config is CONFIG else 0)


def test_an_interrupted_command_goes_on(
    own_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "filters",
        "-m",
        "zoo:lenet",
        "--weights",
        "none",
        "-d",
        "digits",
        "-n",
        "20",
        "--views",
        "activations,patches",
        "--steps",
        "2",
        "-q",
    ]
    assert cli.run([*words, "--out", "straight"]) == 0

    def stopping(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("studies.filters.views.patches._layer", stopping)
        assert cli.run([*words[:-1], "--out", "cut"]) == 130
    assert "1 finished parts are kept: add --resume" in capsys.readouterr().err
    assert cli.run([*words, "--out", "resumed", "--resume"]) == 0
    found = [
        json.loads(Path(name, "results.json").read_text())["results"] for name in ("straight", "resumed")
    ]
    assert found[0] == found[1]
    assert not list((own_cache / "probe" / "runs").glob("*"))


class Dying(SmallNet):
    """Ends its process the first time that it answers in another one than it was made in."""

    def __init__(self, note: Path) -> None:
        super().__init__()
        self.note, self.home = note, os.getpid()

    def forward(self, x: Tensor) -> Tensor:
        if os.getpid() != self.home and not self.note.exists():
            self.note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def test_the_batch_of_a_worker_that_dies_is_run_again(tmp_path: Path) -> None:
    note, images = tmp_path / "died", pictures(14)
    model = loaded(Dying(note))
    here = observe(model, images, ["conv2"], 4, SILENT)
    assert not note.exists()
    there = observe(model, images, ["conv2"], 4, SILENT, Place(2))
    assert note.exists()
    for one, other in zip(
        vars(here.layers["conv2"]).values(), vars(there.layers["conv2"]).values(), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(here.confidences, there.confidences)


def test_many_batches_in_a_job_show_what_one_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.filters.observe._JOBS", 2)
    model, images = loaded(), pictures(31)
    here = observe(model, images, ["conv2", "pool"], 3, SILENT)
    there = observe(model, images, ["conv2", "pool"], 3, SILENT, Place(2))
    for layer, seen in here.layers.items():
        for one, other in zip(vars(seen).values(), vars(there.layers[layer]).values(), strict=True):
            assert torch.equal(one, other)
    assert torch.equal(here.indices, torch.arange(31))
    monkeypatch.setattr("studies.filters.observe._JOBS", 32)
    alone = observe(model, images, ["conv2"], 3, SILENT).layers["conv2"]
    torch.testing.assert_close(alone.mean, here.layers["conv2"].mean)


def test_processes_work_on_the_cpu_only() -> None:
    model = dataclasses.replace(loaded(), device=torch.device("meta"))
    with pytest.raises(UsageError, match="--device cpu"):
        observe(model, pictures(4), ["conv2"], 4, SILENT, Place(2))
