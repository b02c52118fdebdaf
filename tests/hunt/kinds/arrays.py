"""Images as arrays, in memory and in files: what the network gets is what was given, and labels are the ones that were given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import probe
from hunt.kinds.common import REFUSED, TAKEN, wrong
from probe.core.errors import ProbeError
from probe.data.load import load_images

NAME = "arrays"
N = 5
LABELS: dict[str, Any] = {
    "none": None,
    "int64": np.array([0, 2, 1, 1, 0]),
    "uint8": np.array([0, 2, 1, 1, 0], np.uint8),
    "whole floats": np.array([0.0, 2.0, 1.0, 1.0, 0.0]),
    "column": np.array([[0], [2], [1], [1], [0]]),
    "one-hot": np.eye(3)[[0, 2, 1, 1, 0]],
    "multi-hot": np.array([[1, 1, 0]] * N),
    "negative": np.array([0, -1, 1, 1, 0]),
    "fractions": np.array([0.5, 2.0, 1.0, 1.0, 0.0]),
    "too few": np.array([0, 1]),
    "names": np.array(["cat", "dog", "cat", "cat", "dog"]),
}
PLAIN = {"int64", "uint8", "whole floats", "column", "one-hot"}
NAMED = [0, 1, 0, 0, 1]
FORMS = ("memory", "tensor", "list", "npz", "npy", "pt tuple", "pt dict", "dataset")


@dataclass(frozen=True)
class Pixels:
    """Pixels: their shape, layout, type and largest value, their labels, and what they come in."""

    channels: int
    side: tuple[int, int]
    last: bool
    flat: bool
    dtype: str
    top: float
    labels: str
    form: str

    def make(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the array that is given, and (N, C, H, W) in [0, 1] as it should be read."""
        random = np.random.default_rng(3)
        shape = (N, self.channels, *self.side)
        if self.dtype == "uint8":
            array = random.integers(0, 256, shape).astype(np.uint8)
            array[0, 0, 0, 0] = 255
            expected = array.astype(np.float32) / 255
        else:
            array = (random.random(shape) * self.top).astype(self.dtype)
            expected = array.astype(np.float32)
        if self.flat and self.channels == 1:
            return array[:, 0], expected
        return (array.transpose(0, 2, 3, 1) if self.last else array), expected


def strategy() -> st.SearchStrategy[Pixels]:
    """Return the strategy of arrays."""
    return st.builds(
        Pixels,
        channels=st.sampled_from([1, 2, 3, 4, 6]),
        side=st.sampled_from([(8, 8), (9, 12), (30, 20)]),
        last=st.booleans(),
        flat=st.booleans(),
        dtype=st.sampled_from(["uint8", "float32", "float64", "float16", "int64", "complex64"]),
        top=st.sampled_from([1.0, 255.0, 1e-3, float("nan")]),
        labels=st.sampled_from(sorted(LABELS)),
        form=st.sampled_from(FORMS),
    )


def attempt(pixels: Any, folder: Path) -> str:
    """Read pixels in one form, and compare every image and label."""
    array, expected = pixels.make()
    labels = LABELS[pixels.labels]
    try:
        images = _read(pixels.form, array, labels, folder)
        read = [images.items[index].read() for index in range(len(images))]
    except ProbeError:
        return REFUSED
    if pixels.dtype == "complex64" or (pixels.dtype.startswith("float") and not np.isfinite(pixels.top)):
        return wrong("complex or not finite pixels are taken", pixels)
    for index, image in enumerate(read):
        given = np.asarray(image, np.float32)
        if given.ndim == 3 and given.shape[0] != pixels.channels:
            given = given.transpose(2, 0, 1)
        same = given.shape == expected[index].shape and np.allclose(given, expected[index], atol=2e-3)
        if not same:
            return wrong("the pixels", pixels)
        label = images.label(index)
        if pixels.form != "npy" and pixels.labels in PLAIN and label != [0, 2, 1, 1, 0][index]:
            return wrong("the labels", (pixels, label))
    given = pixels.form not in ("npy", "dataset") and not (
        pixels.form.startswith("pt") and pixels.labels == "names"
    )
    if given and pixels.labels == "names" and [images.label(index) for index in range(N)] != NAMED:
        return wrong("the classes of names", pixels)
    if labels is not None and given and pixels.labels not in PLAIN | {"names"}:
        return wrong("labels that are no class numbers are taken", pixels)
    return TAKEN


def _read(form: str, array: np.ndarray[Any, Any], labels: Any, folder: Path) -> Any:
    tensors = (
        torch.from_numpy(array.copy()),
        None if labels is None or labels.dtype.kind in "US" else torch.from_numpy(labels),
    )
    if form == "memory":
        return probe.images(array, labels)
    if form == "tensor":
        return probe.images(tensors[0], labels)
    if form == "list":
        return probe.images(array.tolist(), None if labels is None else labels.tolist())
    path = folder / f"x.{form.split()[0]}"
    if form == "npz":
        np.savez(path, x=array, **({} if labels is None else {"y": labels}))
    elif form == "npy":
        np.save(path, array)
    elif form == "pt tuple":
        torch.save(tensors if tensors[1] is not None else tensors[:1], path)
    elif form == "pt dict":
        torch.save({"images": tensors[0], **({} if tensors[1] is None else {"labels": tensors[1]})}, path)
    else:
        pairs = [
            (tensors[0][i], 0 if labels is None else labels[i])
            for i in range(min(N, len(labels) if labels is not None else N))
        ]
        return probe.images(torch.utils.data.Subset(pairs, range(len(pairs))))
    return load_images(path)
