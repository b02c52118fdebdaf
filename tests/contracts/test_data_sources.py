"""What every registered data source must do, whichever it is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from probe.data.images import ImageSet, InputSpec
from probe.data.load import load_images
from probe.data.source import SOURCES
from tests.helpers.data_copies import cifar_copy

SHAPES = [(3, 32, 32), (1, 28, 28), (3, 48, 64)]
RNG = np.random.default_rng(7)


def _fashion(root: Path) -> None:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    for prefix in ("t10k", "train"):
        head = struct.pack(">IIII", 0x803, 20, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">II", 0x801, 20)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def _folder(root: Path) -> Path:
    for i in range(9):
        path = root / "photographs" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (30 + i, 50, 3), dtype=np.uint8)).save(path)
    return root / "photographs"


def _image(root: Path) -> Path:
    Image.fromarray(RNG.integers(0, 256, (60, 40), dtype=np.uint8)).save(root / "one.png")
    return root / "one.png"


def _arrays(root: Path) -> Path:
    labels = np.arange(14) % 3
    np.savez(root / "data.npz", images=RNG.random((14, 3, 30, 40)).astype(np.float32), labels=labels)
    return root / "data.npz"


def _python(root: Path) -> Path:
    (root / "my_data.py").write_text(
        "import torch\ndef make():\n    generator = torch.Generator().manual_seed(0)\n"
        "    return torch.rand(14, 3, 30, 40, generator=generator), torch.arange(14) % 3\n"
    )
    return root / "my_data.py:make"


PREPARE: dict[str, Callable[[Path], Path | None]] = {
    "fashion-mnist": _fashion,
    "fashion-mnist-train": _fashion,
    "folder": _folder,
    "image": _image,
    "arrays": _arrays,
    "python": _python,
}


@pytest.fixture(params=tuple(SOURCES))
def images(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    monkeypatch.setenv("PROBE_DATA_DIR", str(tmp_path))
    path = PREPARE.get(request.param, lambda _root: None)(tmp_path)
    cifar_copy(tmp_path, RNG, monkeypatch)
    return load_images(path or request.param, n=12, offline=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batches_are_pixels_of_the_shape_asked_for(images, shape):
    batches = list(images.batches(InputSpec(shape), 5))
    assert sum(len(batch.indices) for batch in batches) == len(images) <= 12
    for batch in batches:
        assert batch.images.shape == (len(batch.indices), *shape)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()
        assert 0 <= batch.images.min() < batch.images.max() <= 1
    assert images.skipped == ()


def test_labels_lie_below_the_number_of_classes(images):
    for batch in images.batches(InputSpec((1, 8, 8)), 5):
        assert (batch.labels is not None) == images.labelled
        if batch.labels is not None:
            assert batch.labels.dtype == torch.int64
            if images.num_classes is None:  # class numbers in arrays: the network says how many there are
                continue
            assert 0 <= batch.labels.min() <= batch.labels.max() < images.num_classes
            assert batch.labels.tolist() == [images.label(index) for index in batch.indices]
    if images.class_names is not None:
        assert len(images.class_names) == images.num_classes
    assert images.labelled == (images.num_classes is not None) or images.domain == "memory"


def test_one_image_is_what_the_batch_holds(images):
    spec = InputSpec((3, 24, 20), 0.9, "bicubic")
    batch = next(images.batches(spec, 3))
    for place, index in enumerate(batch.indices):
        assert torch.equal(batch.images[place], images.get(index, spec))


def test_names_are_distinct_and_reading_is_repeatable(images):
    names = [images.item_name(index) for index in range(len(images))]
    assert len(set(names)) == len(names)
    spec = InputSpec((3, 16, 16))
    first, second = (torch.cat([batch.images for batch in images.batches(spec, size)]) for size in (4, 7))
    assert torch.equal(first, second)


def test_the_report_can_say_what_it_is(images):
    info = images.info(3)
    assert info.name
    assert info.source
    assert images.domain in {"imagenet", "digits", "fashion-mnist", "cifar10", "folder", "memory"}
    assert info.total >= len(images)
    assert (info.n, info.labelled, info.skipped) == (3, images.labelled, ())
