"""Images in arrays: their layout, their range, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import UsageError
from probe.data.images import ImageSet, LazyItems, printable
from probe.data.spec import Item

_SLACK = 1e-4
"""How far float pixels may exceed [0, 1] due to rounding; they are clipped."""

Arrays = Tensor | NDArray[Any] | Sequence[Any]


def as_array(values: Any) -> NDArray[Any]:
    """Return a tensor, an array or a list as an array."""
    array: NDArray[Any] = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array


def make_arrays(array: NDArray[Any], labels: Arrays | None, name: str) -> ImageSet:
    """Return images (N, C, H, W), (N, H, W, C) or (N, H, W), with a class number each where ``labels`` (N,) are given.

    Raises UsageError for other shapes, for pixels outside [0, 1] that are not uint8, and for labels that do not fit.
    """
    if len(array) == 0 or array.ndim not in (3, 4):
        raise UsageError(
            f"Images must be (N, C, H, W), (N, H, W, C) or (N, H, W); these have the shape {array.shape}."
        )
    known, names = (None, None) if labels is None else _classes(labels, len(array))
    last = array.ndim == 4 and _channels_last(array.shape[1:])
    check_range(array, "The images")

    def make(index: int) -> Item:
        label = None if known is None else int(known[index])
        return Item(f"image {index}", label, lambda: planes(array[index], last))

    channels = 1 if array.ndim == 3 else array.shape[3 if last else 1]
    height, width = (array.shape[1], array.shape[2]) if last or array.ndim == 3 else array.shape[2:]
    return ImageSet(
        name=name,
        items=LazyItems(len(array), make),
        class_names=names,
        domain="memory",
        source=f"{len(array):,} images in memory",
        framed=True,
        shape=(int(channels), int(height), int(width)),
    )


def planes(pixels: NDArray[Any], channels_last: bool | None = None) -> NDArray[np.float32]:
    """Return one image as (C, H, W) float32 in [0, 1]; uint8 is divided by 255.

    ``pixels`` is (H, W), (C, H, W) or (H, W, C); if ``channels_last`` is None, the order is guessed from the shape.
    """
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif _channels_last(pixels.shape) if channels_last is None else channels_last:
        pixels = np.moveaxis(pixels, 2, 0)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels, dtype=np.float32).clip(0, 1)


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether a shape is (H, W, C): the channel axis has length 1, 3 or 4, else it is the shortest axis."""
    if shape[0] in (1, 3, 4):
        return False
    return shape[2] in (1, 3, 4) or shape[2] < min(shape[:2])


def several_labels(n: int) -> str:
    """Return the sentence that refuses ``n`` labels for one image, with the way to study one of them."""
    return (
        f"There are {n} labels for each image (multi-label), and probe studies one class per image: give one of them, such as "
        "labels[:, 0], and the network's logit of it as its only output, which is then studied as two classes."
    )


def check_range(array: NDArray[Any], label: str) -> None:
    """Raise UsageError unless the pixels are uint8, or float in [0, 1]."""
    if array.dtype == np.uint8:
        return
    if array.dtype.kind not in "f":
        raise UsageError(
            f"{label} are {array.dtype}: give float pixels in [0, 1] (divided by the largest value that a pixel can have), or uint8."
        )
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise UsageError(
            f"{label} have values that are not finite (NaN or infinity): replace them, such as with numpy.nan_to_num."
        )
    if low < -_SLACK or high > 1 + _SLACK:
        raise UsageError(
            f"{label} have values from {low:.4g} to {high:.4g}: give pixels in [0, 1] without normalisation (those from 0 to 255 "
            "as uint8), and the normalisation as --mean and --std, or to probe.wrap as mean= and std=."
        )


def from_one_hot(rows: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return the class number of each row of a one-hot array (N, K), None for other arrays.

    At least two classes have to occur: rows that are all equal could as well be several labels of each image.
    """
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.dtype.kind not in "biuf":
        return None
    ones = rows == 1
    if not ((ones | (rows == 0)).all() and (ones.sum(1) == 1).all()):
        return None
    numbers = ones.argmax(1).astype(np.int64)
    return numbers if len(np.unique(numbers)) > 1 else None


def _classes(labels: Arrays, count: int) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return class numbers, and the names of the classes in byte order where the labels are names."""
    array = as_array(labels)
    if array.shape == (count, 1):
        array = array[:, 0]
    texts = [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in array.tolist()
    ]
    if array.shape != (count,) or not all(isinstance(text, str) for text in texts):
        return _class_numbers(array, count), None
    texts = [text.strip() for text in texts]
    if all(text.isdecimal() for text in texts):
        return _class_numbers(np.array(list(map(int, texts))), count), None
    if not all(texts):
        raise UsageError("Some labels are empty: give each image the name or the number of its class.")
    names, numbers = np.unique(np.array(texts), return_inverse=True)
    return numbers.astype(np.int64), tuple(map(printable, names.tolist()))


def _class_numbers(array: NDArray[Any], count: int) -> NDArray[np.int64]:
    if array.ndim == 2 and len(array) == count and array.shape[1] > 1:
        numbers = from_one_hot(array)
        if numbers is None:
            raise UsageError(several_labels(array.shape[1]))
        return numbers
    if array.shape != (count,):
        raise UsageError(
            f"There are {count} images, but the labels have the shape {array.shape}: give one class number per image."
        )
    if array.dtype.kind not in "biuf":
        raise UsageError("Labels must be class numbers 0, 1, 2 …, or the names of the classes.")
    with np.errstate(invalid="ignore"):
        numbers = array.astype(np.int64)
    if not np.array_equal(numbers, array) or (count and numbers.min() < 0):
        raise UsageError(
            "Labels must be class numbers 0, 1, 2 …; some of these are negative or not integers."
        )
    return numbers
