"""Images in memory: tensors, arrays, a Dataset, a DataLoader."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from probe.core.progress import SILENT, Progress
from probe.data.arrays import Arrays, planes
from probe.data.images import ImageSet
from probe.data.load import ALL, MAX_IMAGES, load_images
from probe.data.objects import from_object, no_labels


def images(
    source: str | os.PathLike[str] | ImageSet | Tensor | NDArray[Any] | Dataset[Any] | DataLoader[Any] | Any,
    labels: Arrays | None = None,
    *,
    classes: Sequence[str] | int | None = None,
    n: int | Literal["all"] | None = None,
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
    labels are known; None: all images, but at most 1,000 of a file, a folder, a Dataset or a DataLoader; "all": every
    one. ``labels_csv`` and ``class_map`` are for folders, as for ``load_images``.

    Raises UsageError for values outside [0, 1], invalid labels, and sources without images.
    """
    if n == "all":
        n = ALL
    if isinstance(source, str | os.PathLike):
        no_labels(labels)
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
        no_labels(labels)
        return source if n is None or n >= len(source) else source.sample(n, seed)
    image_set = from_object(source, labels, MAX_IMAGES if n is None else n, seed, name, n is not None)
    return _with_classes(image_set, classes)


def _with_classes(image_set: ImageSet, classes: Sequence[str] | int | None) -> ImageSet:
    if classes is None:
        return image_set
    names = None if isinstance(classes, int) else tuple(map(str, classes))
    count = classes if isinstance(classes, int) else len(classes)
    return replace(image_set, class_names=names, num_classes=count)


__all__ = ["images", "planes"]
