"""Where workers on other machines get their images: read there if all see the same files, else sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import distributed
import numpy as np
import pytest
import torch
from helpers.filters_models import loaded
from PIL import Image

from probe.core.errors import CannotRunError
from probe.core.place import Place
from probe.core.progress import SILENT
from probe.data.images import ImageSet, LazyItems
from probe.data.load import load_images
from probe.data.shards import lent, reading
from probe.data.spec import Item, UnreadableError
from studies.filters.observe import observe


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as started:
        yield started.scheduler_address


@pytest.fixture
def far(cluster: str) -> Place:
    """A place whose workers are not known to be on this machine."""
    return Place(1, cluster, near=False, sees=False)


def photographs(folder: Path, count: int = 20) -> Path:
    """Write images of noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def confidences(images: ImageSet, place: Place) -> torch.Tensor:
    return observe(loaded(), images, ["conv2"], 4, SILENT, place).confidences


def test_files_that_all_workers_see_are_read_there(tmp_path: Path, far: Place) -> None:
    said: list[str] = []
    images = load_images(photographs(tmp_path))
    there = reading(far, images, said.append)
    assert (there.sees, said) == (True, [])
    assert len(lent(images, there).items) == 20
    assert len(lent(images, far).items) == 0
    assert torch.equal(confidences(images, there), confidences(images, Place()))


def test_images_in_memory_are_sent(far: Place) -> None:
    items = [Item(str(i), None, lambda: np.zeros((3, 8, 8), np.float32)) for i in range(3)]
    assert not reading(replace(far, sees=True), ImageSet("zeros", items, None, "folder"), print).sees


def test_images_that_some_worker_does_not_see_are_sent_to_all_and_that_is_said(
    tmp_path: Path, cluster: str, far: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    (tmp_path / "elsewhere").mkdir()
    with distributed.Client(cluster, set_as_default=False) as client:
        first, second = client.scheduler_info()["workers"]
        home = client.run(os.getcwd, workers=[first])[first]
        client.run(os.chdir, str(tmp_path / "elsewhere"), workers=[first])
        client.run(os.chdir, str(tmp_path), workers=[second])
        images = load_images("photos")
        relative = replace(images, items=LazyItems(20, lambda i: _relative(images.items[i])))
        there = reading(far, relative, said.append)
        assert not there.sees
        assert "1 of 2 workers" in said[0]
        assert first in said[0]
        assert torch.equal(confidences(relative, there), confidences(images, Place()))
        client.run(os.chdir, str(tmp_path / "elsewhere"), workers=[second])
        assert not reading(far, relative, said.append).sees
        assert len(said) == 1
        client.run(os.chdir, home)


def _relative(item: Item) -> Item:
    assert item.path is not None
    return replace(item, path=Path(os.path.relpath(item.path)))


def test_a_file_that_only_a_worker_lacks_is_named(tmp_path: Path, far: Place) -> None:
    images, home = load_images(photographs(tmp_path)), os.getpid()

    def item(index: int) -> Item:
        found = images.items[index]

        def read() -> Image.Image | np.ndarray:
            if os.getpid() != home:
                raise UnreadableError("cannot be opened: No such file or directory")
            return found.read()

        return replace(found, read=read) if index == 3 else found

    lacked = replace(images, items=LazyItems(20, item))
    there = reading(far, lacked, print)
    assert there.sees
    with pytest.raises(CannotRunError, match=r"worker .* cannot read 03\.png .*the same files"):
        confidences(lacked, there)


def test_a_copy_of_another_age_is_the_same_image(tmp_path: Path, far: Place) -> None:
    images = load_images(photographs(tmp_path))
    images._stamps.update({str(path): (1, 1) for path in tmp_path.iterdir()})
    assert len(confidences(images, reading(far, images, print))) == 20
