"""Class names given by the user."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from probe.core.errors import UsageError
from probe.core.textfile import parse_json, read_text


def class_names(
    labels: str | os.PathLike[str] | Sequence[str], num_classes: int, model: str
) -> tuple[str, ...]:
    """Return the class names, one for each of the model's classes, from names or from a file.

    Raises UsageError when the file cannot be read or the number of names is not ``num_classes``.
    """
    if isinstance(labels, str | os.PathLike):
        names, origin = read_labels(Path(labels).expanduser()), str(labels)
    else:
        names, origin = tuple(map(str, labels)), "labels"
    if len(names) != num_classes:
        raise UsageError(
            f"{origin} has {len(names)} class names, but the model {model} has {num_classes} classes."
        )
    return names


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names: one per line, or JSON: a list, or a dictionary from index to name.

    Empty lines at the end are ignored. Raises UsageError when the file is neither.
    """
    text = read_text(path, "labels file")
    if text.lstrip().startswith(("[", "{")) or path.suffix.lower() == ".json":
        return _from_json(text, path)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    empty = next((number for number, line in enumerate(lines, 1) if not line), None)
    if not lines or empty is not None:
        raise UsageError(f"The labels file {path} has no name on line {empty or 1}.")
    return tuple(lines)


def _from_json(text: str, path: Path) -> tuple[str, ...]:
    value = parse_json(text, path, "labels file")
    if isinstance(value, Mapping):
        value = _ordered(value, path)
    if not isinstance(value, list) or not value:
        raise UsageError(
            f"The labels file {path} must contain a list of names, or a dictionary from index to name."
        )
    return tuple(_name(item, path) for item in value)


def _ordered(value: Mapping[str, Any], path: Path) -> list[Any]:
    try:
        by_index = {int(key): name for key, name in value.items()}
    except ValueError as error:
        raise UsageError(f"The labels file {path} has keys that are not class numbers.") from error
    if sorted(by_index) != list(range(len(value))):
        raise UsageError(
            f"The labels file {path} must number its {len(value)} classes 0 to {len(value) - 1}."
        )
    return [by_index[index] for index in range(len(value))]


def _name(value: Any, path: Path) -> str:
    # torchvision-style files have [WordNet id, name] for each class.
    if isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, str):
        raise UsageError(f"The labels file {path} contains {value!r}, which is not a name.")
    return value


IMAGENET_CLASSES = 1000


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the 1,000 short class names of ILSVRC 2012, as torchvision's weights give them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


@cache
def timm_names(num_classes: int) -> tuple[str, ...] | None:
    """Return the class names of the ImageNet subset of this size, or None if there is no such subset.

    The 1,000 classes get the short names; larger subsets get the WordNet lemmas that timm lists.
    """
    if num_classes == IMAGENET_CLASSES:
        return imagenet_names()
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None
