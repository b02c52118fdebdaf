"""Matching the labels of images to a network's classes: which label is which output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from probe.core.errors import UsageError
from probe.data.images import ImageSet, printable
from probe.models.loaded import LoadedModel

_OWN_DATA = ("folder", "memory")
"""The domains of images whose class names are the user's own."""

_WNID = re.compile(r"n\d{8}")
_NAMED = 4
_CURE = (
    "Give --class-map FILE with a line FOLDER,CLASS for each folder; or make an empty folder for each class without "
    "images, so that the folders have the same order as the network's outputs."
)


_CURE_IN_MEMORY = "Give class numbers as labels, in the order of the network's outputs."
_FOLDER_WORDS = (
    (_CURE, _CURE_IN_MEMORY),
    ("that, give --class-map", "that, give class numbers in its order"),
    ("wrong, give --class-map", "wrong, give class numbers as labels"),
    ("class folder", "class"),
    ("by the folders' numbers", "by the classes' numbers"),
)
"""Words about folders, and what is said instead of them for images that are in none."""


@dataclass(frozen=True)
class Matching:
    """``numbers[i]`` is the network's class of the i-th class of the images; ``how`` says by what rule."""

    numbers: tuple[int, ...]
    how: str
    caution: str = ""


def match_labels(model: LoadedModel, images: ImageSet, *, strict: bool = True) -> ImageSet:
    """Return the images with the network's class numbers as labels.

    The images' ``class_map`` gives the network's class (its number or name) of each class folder. Without it, folders
    are matched by WordNet id where the network has ImageNet's classes, by name where the network's class names are
    known, by number where every folder is called by one, and otherwise by their order, if there are as many as the
    network has outputs. Raises UsageError, with the reason and the cure, where no rule applies; where ``strict`` is
    False, the images are then returned unchanged.
    """
    if not images.labelled or images.domain not in _OWN_DATA:
        return images
    matched = _matched(model, images, strict)
    present = {matched.label(index) for index in range(len(matched))}
    if len(present) > 1 or len(matched) < 2:
        return matched
    caution = "All images are of one class: an accuracy over one class says little, since a constant answer can reach 100%."
    return replace(matched, cautions=(*matched.cautions, caution))


def _matched(model: LoadedModel, images: ImageSet, strict: bool) -> ImageSet:
    if images.class_names is None:
        return _numbered(model, images) if strict else images
    folders = images.class_names
    if images.class_map is not None:
        matching = _by_map(model, folders, images.class_map)
    else:
        try:
            matching = _by_rule(model, images)
        except UsageError:
            if strict:
                raise
            return images
    names = list(model.class_names or (f"class {number}" for number in range(model.num_classes)))
    if model.class_names is None:
        for folder, number in zip(folders, matching.numbers, strict=True):
            names[number] = folder
    return images.relabelled(
        matching.numbers,
        class_names=tuple(names),
        num_classes=model.num_classes,
        matching=f"{matching.how}: {_order(folders, matching.numbers, model)}",
        cautions=(*images.cautions, *filter(None, [matching.caution, _absent(model, matching)])),
    )


def _by_rule(model: LoadedModel, images: ImageSet) -> Matching:
    if images.domain == "folder":
        return _by_names(model, images)
    try:
        matching = _by_names(model, images)
    except UsageError as error:
        raise UsageError(_without_folders(str(error))) from error
    return replace(matching, how=_without_folders(matching.how), caution=_without_folders(matching.caution))


def _without_folders(text: str) -> str:
    for words, instead in _FOLDER_WORDS:
        text = text.replace(words, instead)
    return text


def _by_names(model: LoadedModel, images: ImageSet) -> Matching:
    folders = images.class_names or ()
    return (
        _by_wnid(model, folders)
        or _by_name(model, folders)
        or _by_number(model, folders)
        or _by_order(model, images)
    )


def _numbered(model: LoadedModel, images: ImageSet) -> ImageSet:
    """Return images whose labels are class numbers, with the network's number of classes."""
    if images.num_classes is not None:
        return images
    largest = max(images.label(index) or 0 for index in range(len(images)))
    if largest >= model.num_classes:
        raise UsageError(
            f"There is a label {largest}, but {model.name} has {model.num_classes} classes, numbered from 0."
        )
    return replace(images, num_classes=model.num_classes)


def _by_map(model: LoadedModel, folders: Sequence[str], table: Mapping[str, int | str]) -> Matching:
    missing = [folder for folder in folders if folder not in table]
    if missing:
        raise UsageError(f"The class map has no class for {_list(missing)}.")
    numbers = tuple(_class_number(model, table[folder]) for folder in folders)
    return Matching(numbers, "labels by the class map")


def _class_number(model: LoadedModel, value: int | str) -> int:
    text = str(value)
    if model.class_names is not None and text in model.class_names:
        return model.class_names.index(text)
    if text.isdigit() and int(text) < model.num_classes:
        return int(text)
    names = (
        "" if model.class_names is None else f", or one of its class names such as '{model.class_names[0]}'"
    )
    raise UsageError(
        f"The class map gives '{printable(text)}', which is no class of {model.name}: give a number from 0 to "
        f"{model.num_classes - 1}{names}."
    )


@cache
def _wnids() -> dict[str, int]:
    from timm.data.imagenet_info import ImageNetInfo

    names: list[str] = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    return {wnid: number for number, wnid in enumerate(names)}


def _by_wnid(model: LoadedModel, folders: Sequence[str]) -> Matching | None:
    if not all(_WNID.fullmatch(folder) for folder in folders):
        return None
    table = _wnids()
    if model.num_classes != len(table):
        return None
    missing = [folder for folder in folders if folder not in table]
    if missing:
        raise UsageError(
            f"{_list(missing)}: not among the 1,000 WordNet ids (wnids) of ImageNet that {model.name} distinguishes. {_CURE}"
        )
    caution = ""
    if model.domain != "imagenet":
        caution = f"The {model.num_classes:,} outputs of {model.name} are assumed to be ImageNet's classes in their usual order."
    return Matching(tuple(table[folder] for folder in folders), "labels by WordNet id", caution)


def _by_name(model: LoadedModel, folders: Sequence[str]) -> Matching | None:
    if model.class_names is None:
        return None
    table: dict[str, int | None] = {}
    for number, name in enumerate(model.class_names):
        table[_plain(name)] = None if _plain(name) in table else number
    numbers = [table.get(_plain(folder)) for folder in folders]
    known = [number for number in numbers if number is not None]
    if len(known) == len(folders) == len(set(known)):
        return Matching(tuple(known), "labels by class name")
    if not known:
        return None
    unknown = [folder for folder, number in zip(folders, numbers, strict=True) if number is None]
    if len(folders) == model.num_classes and all(
        number in (None, place) for place, number in enumerate(numbers)
    ):
        return None  # the names that are known stand in the network's order
    raise UsageError(
        f"{len(known)} of the {len(folders)} class folders are classes of {model.name} by name, but not {_list(unknown)}. "
        f"{_CURE}"
    )


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", name.strip().casefold()))


def _by_number(model: LoadedModel, folders: Sequence[str]) -> Matching | None:
    if not all(re.fullmatch(r"\d{1,6}", folder) for folder in folders):
        return None
    numbers = [int(folder) for folder in folders]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"Two class folders have the same number ({_list(folders)}). {_CURE}")
    caution, how, shift = "", "labels by the folders' numbers", 0
    if max(numbers) == model.num_classes and min(numbers) >= 1:
        shift, how = 1, "labels by the folders' numbers, counted from 1"
        caution = (
            f"The class folders are numbered from 1 to {model.num_classes}: folder 1 is taken as class 0."
        )
    elif max(numbers) >= model.num_classes:
        if len(folders) == model.num_classes:
            return None
        raise UsageError(
            f"There is a class folder {max(numbers)}, but {model.name} has {model.num_classes} classes, numbered from 0. "
            f"{_CURE}"
        )
    if len(folders) == model.num_classes and numbers != sorted(numbers):
        caution = (
            "The class folders are numbered without leading zeros: here folder 10 is class 10, but torchvision's "
            "ImageFolder sorts the names as text (0, 1, 10, 11, 2, …). If the network was trained with that, give --class-map."
        )
    elif len(folders) < model.num_classes and shift == 0 and 0 not in numbers:
        caution = f"The class folders are called by numbers without 0: folder {numbers[0]} is taken as class {numbers[0]}."
    return Matching(tuple(number - shift for number in numbers), how, caution)


def _by_order(model: LoadedModel, images: ImageSet) -> Matching:
    folders = images.class_names or ()
    if len(folders) != model.num_classes:
        raise UsageError(
            f"The model {model.name} ({model.provenance.weights}) has {model.num_classes} classes but the data "
            f"{images.name} has {len(folders)}: {_list(folders)}. {' '.join((*images.cautions, _CURE))}"
        )
    if model.class_names is None:
        return Matching(tuple(range(len(folders))), "labels by the order of the class names")
    different = [
        f"'{folder}' is taken as '{name}'"
        for folder, name in zip(folders, model.class_names, strict=True)
        if _plain(folder) != _plain(name)
    ]
    caution = (
        f"The class folders do not have the names of the network's classes and were matched by order: "
        f"{'; '.join(different[:_NAMED])}{' …' if len(different) > _NAMED else ''}. If that is wrong, give --class-map."
    )
    return Matching(tuple(range(len(folders))), "labels by the order of the class names", caution)


def _absent(model: LoadedModel, matching: Matching) -> str:
    absent = model.num_classes - len(set(matching.numbers))
    if not absent:
        return ""
    return f"{absent:,} of the network's {model.num_classes:,} classes have no images here; it can still predict them."


def _order(folders: Sequence[str], numbers: Sequence[int], model: LoadedModel) -> str:
    pairs = sorted(zip(numbers, folders, strict=True))
    shown = [
        f"{number} = {folder}"
        + (
            f" ({model.class_names[number]})"
            if model.class_names and _plain(model.class_names[number]) != _plain(folder)
            else ""
        )
        for number, folder in pairs[:10]
    ]
    return ", ".join(shown) + (f" and {len(pairs) - 10:,} more" if len(pairs) > 10 else "")


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
