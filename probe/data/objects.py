"""Images in objects: arrays, pairs, a Dataset, a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from probe.core.errors import UsageError
from probe.core.seeds import scoped
from probe.data.arrays import Arrays, as_array, check_range, from_one_hot, make_arrays, planes, several_labels
from probe.data.images import ImageSet, LazyItems
from probe.data.preprocess import plain
from probe.data.sampling import choose
from probe.data.spec import Item, UnreadableError


def from_object(
    source: Any, labels: Arrays | None, n: int, seed: int, name: str, sample_arrays: bool = True
) -> ImageSet:
    """Return at most ``n`` images of an object: an array, a pair (images, labels), a Dataset or a DataLoader.

    Arrays are only sampled with ``sample_arrays``. Raises UsageError for other objects, and for values that do not fit.
    """
    if isinstance(source, ImageSet):
        return source if n >= len(source) else source.sample(n, seed)
    if isinstance(source, tuple | list) and len(source) == 2 and labels is None:
        source, labels = source
    if isinstance(source, DataLoader):
        no_labels(labels)
        image_set = _from_loader(source, n, seed, name)
    elif isinstance(source, Tensor | np.ndarray) or (isinstance(source, list) and not _has_items(source)):
        image_set = make_arrays(as_array(source), labels, name or "images in memory")
        image_set = image_set.sample(n, seed) if sample_arrays else image_set
    elif hasattr(source, "__getitem__") and isinstance(source, Sized):
        no_labels(labels)
        image_set = _from_dataset(source, n, seed, name)
    else:
        raise UsageError(
            f"Could not read images from a {type(source).__name__}: give a tensor or an array (N, C, H, W), a Dataset with "
            "a length, a DataLoader, a folder, or the name of a data set."
        )
    return image_set


def _has_items(values: list[Any]) -> bool:
    """Return whether a list has the items of a Dataset, such as (image, label), and not images alone."""
    return bool(values) and isinstance(values[0], tuple | Mapping | Image.Image)


def no_labels(labels: object) -> None:
    """Raise UsageError where labels are given beside a source that has its own."""
    if labels is not None:
        raise UsageError("labels= is only for tensors and arrays; this source has its own labels.")


def _from_dataset(dataset: Any, n: int, seed: int, name: str) -> ImageSet:
    """Read images one by one from an object with a length whose items are images or (image, label)."""
    if len(dataset) == 0:
        raise UsageError("The Dataset is empty.")
    known = _labels_of(dataset)
    chosen = choose(len(dataset), n, seed, known).tolist()
    first = _part(dataset[chosen[0]], 0)
    _check_item(first)
    if known is None and isinstance(dataset[chosen[0]], tuple | list):
        known_here = _all_labels([_part(dataset[index], 1) for index in chosen])
    else:
        known_here = [None if known is None else int(known[index]) for index in chosen]

    def make(position: int) -> Item:
        index = chosen[position]
        return Item(f"image {index}", known_here[position], lambda: _read(_part(dataset[index], 0)))

    names = getattr(dataset, "classes", None)
    kind = type(dataset).__name__
    shape = None if isinstance(first, Image.Image) else planes(as_array(first)).shape
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
    image_set = make_arrays(
        as_array(pixels), torch.cat(labels)[:n] if labels else None, name or "a DataLoader"
    )
    dataset = loader.dataset
    total = None if isinstance(dataset, IterableDataset) else len(cast(Sized, dataset))
    return replace(image_set, total=total, source=f"the first {len(pixels):,} images of a DataLoader")


def _labels_of(dataset: Any) -> list[int] | None:
    """Return the labels of all items if the Dataset stores them separately, else None."""
    tensors = getattr(dataset, "tensors", None)
    for labels in (getattr(dataset, "targets", None), tensors[1] if tensors and len(tensors) > 1 else None):
        if labels is not None and len(labels) == len(dataset):
            return [label or 0 for label in _all_labels(list(labels))]
    return None


def _part(item: Any, place: int) -> Any:
    if isinstance(item, tuple | list):
        return item[place] if place < len(item) else None
    return item if place == 0 else None


def _all_labels(values: list[Any]) -> list[int | None]:
    """Return the class number of each value, also where all are one-hot vectors."""
    rows = [np.asarray(0) if value is None else as_array(value).squeeze() for value in values]
    shapes = {row.shape for row in rows}
    if len(shapes) == 1 and rows[0].ndim == 1:
        numbers = from_one_hot(np.stack(rows))
        if numbers is not None:
            return [int(number) for number in numbers]
    return [_label(value) for value in values]


def _label(value: Any) -> int | None:
    if value is None:
        return None
    numbers = as_array(value)
    if numbers.size != 1:
        raise UsageError(several_labels(numbers.size))
    number = numbers.reshape(-1)[0]
    if numbers.dtype.kind not in "biuf" or int(number) != number or number < 0:
        raise UsageError(f"Labels must be class numbers 0, 1, 2 …; one of these is {str(number)[:40]!r}.")
    return int(number)


def _check_item(pixels: Any) -> None:
    if isinstance(pixels, Image.Image):
        return
    if not isinstance(pixels, Tensor | np.ndarray) or pixels.ndim not in (2, 3):
        raise UsageError(
            f"The first item of the Dataset is a {type(pixels).__name__}: give (image, label) pairs whose image is a "
            "Pillow image, or a tensor or array (C, H, W)."
        )
    check_range(as_array(pixels), "The Dataset's images")


def _read(pixels: Any) -> Image.Image | NDArray[np.float32]:
    if isinstance(pixels, Image.Image):
        pixels.load()
        return plain(pixels)
    array = as_array(pixels)
    try:
        check_range(array, "its pixels")
    except UsageError as error:
        raise UnreadableError(str(error)) from error
    return planes(array)
