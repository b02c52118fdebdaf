"""What the functions of the front door are given: models, images, names and numbers in all their forms."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from probe.api.bars import BARS
from probe.attacks.norms import get_norm, parse_epsilons
from probe.core.errors import UsageError
from probe.core.progress import SILENT, Progress
from probe.data.images import ImageSet
from probe.data.memory import images as make_images
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.models.match import match_labels
from probe.models.pair import DEFAULT_MODEL, default_data, load_both, prepared_like, say_matching
from probe.models.wrap import fitted, wrap, wrap_for
from probe.train.data import Parts, both_parts, match_parts, split

Model = str | LoadedModel | nn.Module | None
"""A name, a loaded or wrapped network, or a module; None is the embedded ImageNet network."""

Images = Any
"""What ``probe.images`` takes; None is the data that fits the network's task."""

Names = str | Sequence[str]


def pair(
    model: Model, images: Images, *, seed: int = 0, strict: bool = True, progress: Progress = BARS
) -> tuple[LoadedModel, ImageSet]:
    """Return a model and images that fit each other (see ``load_both``); raises the loaders' errors."""
    by_name = isinstance(images, str | os.PathLike)
    if (model is None or isinstance(model, str)) and (images is None or by_name):
        name = None if images is None else os.fspath(images)
        return load_both(model, name, seed=seed, strict=strict, progress=progress)
    data = None if images is None else make_images(images, seed=seed, progress=progress)
    count = None if data is None else data.num_classes
    loaded = load(model, progress, count, data)
    if data is None:
        data = make_images(default_data(loaded), seed=seed, progress=progress)
        if data.num_classes != loaded.num_classes:
            data = data.unlabelled()
    loaded = fitted(loaded, data)
    data = match_labels(loaded, data, strict=strict)
    say_matching(data, progress)
    return loaded, data


def load(
    model: Model, progress: Progress, num_classes: int | None = None, images: ImageSet | None = None
) -> LoadedModel:
    """Return a network that is loaded by name, or wrapped so that it fits the images."""
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, nn.Module):
        return wrap(model) if images is None else wrap_for(model, images)
    return load_model(
        model or DEFAULT_MODEL,
        num_classes=num_classes,
        image_size=None if images is None else images.common_size(),
        progress=progress,
    )


def like(other: Model, model: LoadedModel, data: ImageSet) -> LoadedModel:
    """Return another network for the same images; what is not known of its preprocessing is as for ``model``."""
    return prepared_like(fitted(load(other, SILENT, model.num_classes, data), data), model)


def parts_to_train(
    model: LoadedModel,
    data: ImageSet,
    images: Images,
    training: Images,
    held_out: float | None,
    seed: int,
) -> tuple[Parts | None, str]:
    """Return labelled images to train on and to measure on, or None and why there are none."""
    if training is None and not data.labelled:
        return None, f"Nothing was retrained: the images of {data.name} have no labels to learn."
    try:
        if training is not None:
            learn = match_labels(model, make_images(training, seed=seed))
            return Parts(learn.name, learn, data, "training= and the images studied"), ""
        if isinstance(images, str | os.PathLike):
            parts = both_parts(
                os.fspath(images), n=None, held_out=held_out, seed=seed, offline=False, progress=SILENT
            )
            return match_parts(model, parts), ""
        return split(data, held_out, seed), ""
    except UsageError as error:
        return None, f"Nothing was retrained: {error}"


def names(value: Names | None) -> tuple[str, ...] | None:
    """Return names given as a list, or as a text with commas; None stays None."""
    if value is None:
        return None
    given: object = value
    if not isinstance(given, Iterable):
        raise UsageError(
            f"Give names, as a text or a list of texts, not {value!r}: None means all, an empty list none."
        )
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else tuple(value)


def numbers(value: int | Sequence[int]) -> tuple[int, ...]:
    """Return one number or several as a tuple."""
    return (value,) if isinstance(value, int) else tuple(value)


def epsilons(value: float | str | Sequence[float], norm: str) -> tuple[float, ...]:
    """Return epsilons given as a number, several, or a text such as ``"8/255"``; raises UsageError for those that the norm has not."""
    kind = get_norm(norm)
    if isinstance(value, str):
        return parse_epsilons(value, kind)
    values = [value] if isinstance(value, int | float) else list(value)
    return parse_epsilons(",".join(repr(float(epsilon)) for epsilon in values), kind)


def image_form(value: str | None) -> Any:
    """Return the form in which images are saved; raises UsageError for another."""
    if value not in (None, "png", "npz"):
        raise UsageError(f"save_images is 'png' or 'npz', not '{value}'.")
    return value
