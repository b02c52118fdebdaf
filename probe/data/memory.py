"""Images in memory: tensors, arrays, a Dataset, a DataLoader."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from probe.core.errors import UsageError
from probe.core.progress import SILENT, Progress
from probe.core.seeds import scoped
from probe.data.images import ImageSet, LazyItems
from probe.data.load import MAX_IMAGES, load_images
from probe.data.preprocess import plain
from probe.data.sampling import choose
from probe.data.spec import Item, UnreadableError

_SLACK = 1e-4
"""How far float pixels may exceed [0, 1] due to rounding; they are clipped."""

Arrays = Tensor | NDArray[Any] | Sequence[Any]


def images(
    source: str | os.PathLike[str] | ImageSet | Tensor | NDArray[Any] | Dataset[Any] | DataLoader[Any] | Any,
    labels: Arrays | None = None,
    *,
    classes: Sequence[str] | int | None = None,
    n: int | None = None,
    seed: int = 0,
    name: str = "",
    offline: bool = False,
    progress: Progress = SILENT,
    labels_csv: str | os.PathLike[str] | None = None,
    class_map: str | os.PathLike[str] | Mapping[str, int | str] | None = None,
) -> ImageSet:
    """Return images to study a network with.

    ``source``: a name, a folder or a file, as for ``load_images``; or images in memory: a tensor or an array
    (N, C, H, W), (N, H, W, C) or (N, H, W), float in [0, 1] or uint8; a pair (images, labels); a Dataset whose items
    are images or (image, label); a DataLoader, whose first batches are used. The pixels must not be normalised: pass
    the normalisation of the network to ``wrap`` as ``mean`` and ``std``. ``labels`` (N,) are class
    numbers. ``classes``: the class names, or their number. ``n`` images are sampled with ``seed``, stratified if the
    labels are known; None: all images, but at most 1,000 of a Dataset or a DataLoader. ``labels_csv`` and ``class_map``
    are for folders, as for ``load_images``.

    Raises UsageError for values outside [0, 1], invalid labels, and sources without images.
    """
    if isinstance(source, str | os.PathLike):
        _no_labels(labels)
        image_set = load_images(
            source,
            n=n,
            seed=seed,
            offline=offline,
            progress=progress,
            labels_csv=labels_csv,
            class_map=class_map,
        )
        return image_set if classes is None else _with_classes(image_set, classes)
    if isinstance(source, ImageSet):
        _no_labels(labels)
        return source if n is None or n >= len(source) else source.sample(n, seed)
    if isinstance(source, tuple | list) and len(source) == 2 and labels is None:
        source, labels = source
    if isinstance(source, DataLoader):
        _no_labels(labels)
        image_set = _from_loader(source, MAX_IMAGES if n is None else n, seed, name)
    elif isinstance(source, Tensor | np.ndarray | list):
        image_set = _from_arrays(_array(source), labels, name or "images in memory")
        image_set = image_set if n is None else image_set.sample(n, seed)
    elif hasattr(source, "__getitem__") and isinstance(source, Sized):
        _no_labels(labels)
        image_set = _from_dataset(source, MAX_IMAGES if n is None else n, seed, name)
    else:
        raise UsageError(
            f"Could not read images from a {type(source).__name__}: give a tensor or an array (N, C, H, W), a Dataset with "
            "a length, a DataLoader, a folder, or the name of a data set."
        )
    return _with_classes(image_set, classes)


def _no_labels(labels: object) -> None:
    if labels is not None:
        raise UsageError("labels= is only for tensors and arrays; this source has its own labels.")


def _array(values: Any) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array


def _from_arrays(array: NDArray[Any], labels: Arrays | None, name: str) -> ImageSet:
    if len(array) == 0 or array.ndim not in (3, 4):
        raise UsageError(
            f"Images must be (N, C, H, W), (N, H, W, C) or (N, H, W); these have the shape {array.shape}."
        )
    known = None if labels is None else _class_numbers(labels, len(array))
    last = array.ndim == 4 and _channels_last(array.shape[1:])
    _check_range(array, "The images")

    def make(index: int) -> Item:
        label = None if known is None else int(known[index])
        return Item(f"image {index}", label, lambda: planes(array[index], last))

    channels = 1 if array.ndim == 3 else array.shape[3 if last else 1]
    height, width = (array.shape[1], array.shape[2]) if last or array.ndim == 3 else array.shape[2:]
    return ImageSet(
        name=name,
        items=LazyItems(len(array), make),
        class_names=None,
        domain="memory",
        source=f"{len(array):,} images in memory",
        framed=True,
        shape=(int(channels), int(height), int(width)),
    )


def _from_dataset(dataset: Any, n: int, seed: int, name: str) -> ImageSet:
    """Read images one by one from an object with a length whose items are images or (image, label)."""
    if len(dataset) == 0:
        raise UsageError("The Dataset is empty.")
    known = _labels_of(dataset)
    chosen = choose(len(dataset), n, seed, known).tolist()
    first = _part(dataset[chosen[0]], 0)
    _check_item(first)
    if known is None and isinstance(dataset[chosen[0]], tuple | list):
        known_here = [_label(_part(dataset[index], 1)) for index in chosen]
    else:
        known_here = [None if known is None else int(known[index]) for index in chosen]

    def make(position: int) -> Item:
        index = chosen[position]
        return Item(f"image {index}", known_here[position], lambda: _read(_part(dataset[index], 0)))

    names = getattr(dataset, "classes", None)
    kind = type(dataset).__name__
    shape = None if isinstance(first, Image.Image) else planes(_array(first)).shape
    return ImageSet(
        name=name or kind,
        items=LazyItems(len(chosen), make),
        class_names=tuple(map(str, names)) if isinstance(names, list | tuple) else None,
        domain="memory",
        source=f"{len(chosen):,} of {len(dataset):,} images of a {kind}",
        framed=not isinstance(first, Image.Image),
        total=len(dataset),
        shape=None if shape is None else (shape[0], shape[1], shape[2]),
    )


def _from_loader(loader: DataLoader[Any], n: int, seed: int, name: str) -> ImageSet:
    """Return the first ``n`` images of a DataLoader; its shuffling is seeded, and the global generators are restored."""
    batches: list[Tensor] = []
    labels: list[Tensor] = []
    with scoped(seed, "loader"):
        for batch in cast(Iterable[Any], loader):
            pair = isinstance(batch, tuple | list)
            batches.append(torch.as_tensor(batch[0] if pair else batch))
            if pair and len(batch) > 1:
                labels.append(torch.as_tensor(batch[1]))
            if sum(map(len, batches)) >= n:
                break
    if not batches:
        raise UsageError("The DataLoader is empty.")
    pixels = torch.cat(batches)[:n]
    image_set = _from_arrays(
        _array(pixels), torch.cat(labels)[:n] if labels else None, name or "a DataLoader"
    )
    dataset = loader.dataset
    total = None if isinstance(dataset, IterableDataset) else len(cast(Sized, dataset))
    return replace(image_set, total=total, source=f"the first {len(pixels):,} images of a DataLoader")


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


def _check_range(array: NDArray[Any], label: str) -> None:
    if array.dtype == np.uint8:
        return
    if array.dtype.kind not in "f":
        raise UsageError(f"{label} are {array.dtype}: give float pixels in [0, 1], or uint8.")
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite([low, high]).all() and low >= -_SLACK and high <= 1 + _SLACK):
        raise UsageError(
            f"{label} have values from {low:.4g} to {high:.4g}: give pixels in [0, 1] without normalisation, and pass the "
            "normalisation to probe.wrap as mean= and std=."
        )


def _class_numbers(labels: Arrays, count: int) -> NDArray[np.int64]:
    array = _array(labels)
    if array.shape != (count,):
        raise UsageError(
            f"There are {count} images, but the labels have the shape {array.shape}: give one class number per image."
        )
    numbers = array.astype(np.int64)
    if not np.array_equal(numbers, array) or (count and numbers.min() < 0):
        raise UsageError(
            "Labels must be class numbers 0, 1, 2 …; some of these are negative or not integers."
        )
    return numbers


def _labels_of(dataset: Any) -> list[int] | None:
    """Return the labels of all items if the Dataset stores them separately, else None."""
    tensors = getattr(dataset, "tensors", None)
    for labels in (getattr(dataset, "targets", None), tensors[1] if tensors and len(tensors) > 1 else None):
        if labels is not None and len(labels) == len(dataset):
            return [int(value) for value in labels]
    return None


def _part(item: Any, place: int) -> Any:
    if isinstance(item, tuple | list):
        return item[place] if place < len(item) else None
    return item if place == 0 else None


def _label(value: Any) -> int | None:
    return None if value is None else int(value)


def _check_item(pixels: Any) -> None:
    if isinstance(pixels, Image.Image):
        return
    if not isinstance(pixels, Tensor | np.ndarray) or pixels.ndim not in (2, 3):
        raise UsageError(
            f"The first item of the Dataset is a {type(pixels).__name__}: give (image, label) pairs whose image is a "
            "Pillow image, or a tensor or array (C, H, W)."
        )
    _check_range(_array(pixels), "The Dataset's images")


def _read(pixels: Any) -> Image.Image | NDArray[np.float32]:
    if isinstance(pixels, Image.Image):
        pixels.load()
        return plain(pixels)
    array = _array(pixels)
    try:
        _check_range(array, "its pixels")
    except UsageError as error:
        raise UnreadableError(str(error)) from error
    return planes(array)


def _with_classes(image_set: ImageSet, classes: Sequence[str] | int | None) -> ImageSet:
    if classes is None:
        return image_set
    names = None if isinstance(classes, int) else tuple(map(str, classes))
    count = classes if isinstance(classes, int) else len(classes)
    return replace(image_set, class_names=names, num_classes=count)


__all__ = ["images", "planes"]
