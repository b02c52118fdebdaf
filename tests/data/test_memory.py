"""Memory holds names and a few images, whatever the size of the folder."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path

import numpy as np
from PIL import Image

from probe.data.images import InputSpec
from probe.data.load import load_images

SIDE = 48
IMAGE_BYTES = 3 * SIDE * SIDE * 4


def folder_of(path: Path, count: int) -> Path:
    path.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path / "00000.png")
    for i in range(1, count):
        os.link(path / "00000.png", path / f"{i:05}.png")
    return path


def peak(folder: Path, count: int) -> int:
    """Return the most bytes that Python and NumPy held while the whole folder was read in batches."""
    gc.collect()
    tracemalloc.start()
    try:
        images = load_images(folder, n=count)
        seen = sum(len(batch.indices) for batch in images.batches(InputSpec((3, SIDE, SIDE), 1.0), 16))
        assert seen == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_reading_ten_times_as_many_images_holds_only_more_names(tmp_path):
    folders = {count: folder_of(tmp_path / str(count), count) for count in (200, 2000)}
    peak(folders[200], 200)
    # pathlib interns names; growing the process' one table of them takes megabytes, in one of many runs.
    small, large = (min(peak(folders[count], count) for _ in range(2)) for count in (200, 2000))
    # A name and its place take some hundred bytes (temporary paths are long); an image takes 27,648.
    assert large - small < 1800 * 1000
    assert small < 16 * 6 * IMAGE_BYTES
