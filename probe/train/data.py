"""The two parts of the data for a training: one to train on, and a held-out one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from probe.core.errors import CannotRunError, UsageError
from probe.core.progress import Progress
from probe.data.images import ImageSet, InputSpec
from probe.data.load import load_images
from probe.data.sampling import choose
from probe.data.source import data_names
from probe.models.loaded import LoadedModel
from probe.models.match import match_labels

SHARE = 0.2
"""The default share of a folder's images that is held out."""

_TRAIN = "-train"
_EVERYTHING = 2**31
_GREY = ("digits", "fashion-mnist")
_MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class Parts:
    """Disjoint sets of labelled images to train on and to evaluate on; ``split`` describes how they were split."""

    name: str
    training: ImageSet
    held_out: ImageSet
    split: str

    @property
    def domain(self) -> str:
        """The task, from the data set; 'unknown' for a folder."""
        return "unknown" if self.training.domain == "folder" else self.training.domain

    @property
    def mirrors(self) -> bool:
        """Whether a mirrored image certainly has the same class: objects do, digits do not."""
        return self.domain in ("fashion-mnist", "cifar10")

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.training.num_classes or 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.training.class_names or tuple(map(str, range(self.num_classes)))


def both_parts(
    name: str,
    *,
    n: int | None,
    held_out: float | None,
    seed: int,
    offline: bool,
    progress: Progress,
    labels_csv: str | os.PathLike[str] | None = None,
    class_map: str | os.PathLike[str] | None = None,
) -> Parts:
    """Return the parts of a labelled data set or folder.

    Data sets with a training part (``digits``, ``fashion-mnist``, ``cifar10``) keep their own split; other data
    is split with ``seed``, stratified by class, and the share ``held_out`` (0 < share ≤ 0.5) is held out. ``n`` limits
    the training part to a stratified sample; the held-out part is never sampled. Raises UsageError for data without
    labels or with fewer than two images in each of two classes, and the errors of ``load_images``.
    """
    own = name.removesuffix(_TRAIN)
    if own in data_names() and own + _TRAIN in data_names():
        if held_out is not None:
            raise UsageError(f"{own} has its own held-out part: remove --held-out.")
        training, test_set = (
            load_images(part, n=size or _EVERYTHING, seed=seed, offline=offline, progress=progress)
            for part, size in ((own + _TRAIN, n), (own, None))
        )
        return Parts(own, training, test_set, "the fixed split of the data set")
    everything = load_images(
        name,
        n=_EVERYTHING,
        seed=seed,
        offline=offline,
        progress=progress,
        labels_csv=labels_csv,
        class_map=class_map,
    )
    parts = split(everything, held_out, seed)
    return parts if n is None else replace(parts, training=parts.training.sample(n, seed))


def match_parts(model: LoadedModel, parts: Parts) -> Parts:
    """Return the parts with the network's class numbers as labels, like the images that are studied."""
    return replace(
        parts, training=match_labels(model, parts.training), held_out=match_labels(model, parts.held_out)
    )


def split(images: ImageSet, held_out: float | None = None, seed: int = 0) -> Parts:
    """Split labelled images with ``seed``, stratified by class; ``held_out`` (0 < share ≤ 0.5) is the held-out share.

    Raises UsageError for images without labels or with fewer than two images in each of two classes.
    """
    if not images.labelled:
        raise UsageError(
            f"The images of {images.name} have no labels: give a folder with one subfolder for each class, or a labelled "
            "data set such as digits."
        )
    share = SHARE if held_out is None else held_out
    learn, measure = split_indices([images.label(i) or 0 for i in range(len(images))], share, seed)
    if len(measure) == 0:
        raise UsageError(
            f"{images.name} has too few images to hold some out: at least two classes need at least two images each."
        )
    how = f"{share:g} of each class held out, seed {seed}"
    return Parts(images.name, images.subset(learn), images.subset(measure), how)


def split_indices(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return (training, held-out) indices: disjoint, ascending, stratified, the same for the same seed.

    The image of a class with a single image is for training. The held-out part is empty if fewer than two classes
    have two images. Raises UsageError unless 0 < share ≤ 0.5.
    """
    if not 0 < share <= 0.5:
        raise UsageError(f"--held-out must be a share of the images above 0 and at most 0.5, not {share:g}.")
    known = np.asarray(labels, dtype=np.int64)
    counts = np.bincount(known, minlength=1)
    if (counts >= 2).sum() < 2:
        return list(range(len(known))), []
    several = np.flatnonzero(counts[known] >= 2)
    n_held_out = max(1, round(share * len(several)))
    measure = several[choose(len(several), n_held_out, seed, known[several])]
    return np.setdiff1d(np.arange(len(known)), measure).tolist(), measure.tolist()


def as_tensors(images: ImageSet, spec: InputSpec, label: str, progress: Progress) -> tuple[Tensor, Tensor]:
    """Return the readable images (N, C, H, W) in [0, 1] and their labels (N,), all in memory.

    For data that is known to be grey, one channel is repeated without copying. Raises UsageError if the
    images would need more than 4 GiB, and CannotRunError if fewer than two can be read.
    """
    grey = images.domain in _GREY
    read = replace(spec, size=(1, *spec.size[1:])) if grey else spec
    size = 4 * len(images) * read.size[0] * read.size[1] * read.size[2]
    if size > _MAX_BYTES:
        raise UsageError(
            f"{len(images):,} images of {spec.size[1]}×{spec.size[2]} pixels need {size / 2**30:.1f} GiB of memory, "
            f"more than {_MAX_BYTES >> 30}: use fewer with -n, or smaller ones with --img-size."
        )
    pixels, labels = [], []
    with progress.task(label, len(images)) as advance:
        for batch in images.batches(read, 256):
            pixels.append(batch.images)
            labels.append(batch.labels if batch.labels is not None else torch.empty(0, dtype=torch.int64))
            advance(len(batch.indices))
    tensor = torch.cat(pixels) if pixels else torch.empty(0, *read.size)
    if len(tensor) < 2:
        raise CannotRunError(
            f"Too few images of {images.name} can be read: {len(tensor)}, but at least 2 are needed."
        )
    return tensor.expand(-1, spec.size[0], -1, -1), torch.cat(labels)
