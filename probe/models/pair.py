"""Loading a model and the images to study it with, from the user's options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from probe.core.errors import CannotRunError, UsageError
from probe.core.progress import SILENT, Progress
from probe.data.arrays import make_arrays
from probe.data.images import ImageSet
from probe.data.load import load_images
from probe.models.load import load_model
from probe.models.loaded import LoadedModel, prepare
from probe.models.match import match_labels
from probe.models.measure import UNKNOWN_NORMALISATION, measure
from probe.models.source import NORMALISATION, SIZE

DEFAULT_MODEL = "efficientnet_lite0"
_N_NOISE = 8

_DATA_OF_DOMAIN = {
    "imagenet": "imagenet-samples",
    "digits": "digits",
    "fashion-mnist": "fashion-mnist",
    "cifar10": "cifar10",
}


def default_data(model: LoadedModel) -> str:
    """Return the name of the data that fits a model's task; photographs for an unknown task."""
    return _DATA_OF_DOMAIN.get(model.domain, "imagenet-samples")


def load_both(
    model: str | None,
    data: str | None,
    *,
    n: int | None = None,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = SILENT,
    labels_csv: str | os.PathLike[str] | None = None,
    class_map: str | os.PathLike[str] | None = None,
    strict: bool = True,
    needs_images: bool = True,
    **how: Any,
) -> tuple[LoadedModel, ImageSet]:
    """Load a model and images; whichever is None is chosen to fit the other.

    ``how`` goes to ``load_model``, ``labels_csv`` and ``class_map`` to ``load_images``. The number of classes of the
    images is passed to the model, so that random weights are drawn for the right number, and their size, which is the
    input size of a network that does not say its own. Labels are matched to the network's classes. If they are not the
    model's classes, they are dropped when the user did not choose the images, or when digits weights replace weights
    that are not available.
    Without ``needs_images``, a network that takes neither grey nor colour images gets noise where none are given.
    Without ``strict``, labels that do not fit the network stay as they are. Raises the loaders' errors.
    """
    images = None
    if data is not None:
        images = load_images(
            data,
            n=n,
            seed=seed,
            offline=offline,
            progress=progress,
            labels_csv=labels_csv,
            class_map=class_map,
        )
    elif labels_csv is not None or class_map is not None:
        raise UsageError("--labels-csv and --class-map need a folder of images: give it with --data.")
    loaded = load_model(
        model or DEFAULT_MODEL,
        num_classes=None if images is None else images.num_classes,
        image_size=None if images is None else images.common_size(),
        seed=seed,
        offline=offline,
        progress=progress,
        **how,
    )
    if (
        images is not None
        and _is_digits_fallback(loaded, how)
        and images.num_classes not in (None, loaded.num_classes)
    ):
        note = f"The labels of {images.name} are not used: these replacement weights were trained on the ten digits only."
        notes = (*loaded.provenance.notes, note)
        loaded = replace(loaded, provenance=replace(loaded.provenance, notes=notes))
        images = images.unlabelled()
    _say(loaded, progress)
    if images is None and loaded.input.size[0] not in (1, 3):
        images = _noise(loaded, needs_images)
    elif images is None:
        images = load_images(default_data(loaded), n=n, seed=seed, offline=offline, progress=progress)
        if images.num_classes != loaded.num_classes:
            images = images.unlabelled()
    images = match_labels(loaded, images, strict=strict)
    say_matching(images, progress)
    return loaded, images


def _noise(model: LoadedModel, needs_images: bool) -> ImageSet:
    """Return uniform noise, unlabelled, for what can be seen without images; raises CannotRunError for the rest."""
    channels = model.input.size[0]
    if needs_images:
        raise CannotRunError(
            f"{model.name} takes {channels} channels, and no data set here has as many: give images of {channels} channels "
            "with --data FILE.npz (N, C, H, W), look at what needs no images with probe filters --views weights,features, or "
            "at its layers with probe anatomy."
        )
    pixels = model.example(_N_NOISE).cpu().numpy()
    images = make_arrays(pixels, None, "noise")
    caution = (
        f"No images of {channels} channels were given: the channels to show were chosen on {_N_NOISE} images of uniform noise, and "
        "nothing is said about images."
    )
    return replace(images, cautions=(caution,))


def say_matching(images: ImageSet, progress: Progress) -> None:
    """Say how labels and classes were matched, and what must be known about it."""
    if images.matching:
        progress.say(f"{images.name}: {images.matching}.")
    for caution in images.cautions:
        progress.say(f"! {caution}")


def prepared_like(other: LoadedModel, first: LoadedModel) -> LoadedModel:
    """Return another network for the same images: what is not known of its preprocessing is as for the first one.

    Otherwise one network of a user's, given twice, would get other pixels the second time. A note says what was taken.
    Raises ShapeError when the other network does not take images of the first one's size.
    """
    if other.input.size[0] != first.input.size[0]:
        return other
    taken = []
    if SIZE in other.assumed and other.input != first.input:
        facts = measure(other.module, first.input.size, other.name)
        other = replace(other, input=first.input, num_classes=facts.num_classes, macs=facts.macs)
        taken.append("input size")
    if NORMALISATION in other.assumed and NORMALISATION not in first.assumed:
        normalise, old = first.module.normalise, other.module
        mean, std = (tuple(value.flatten().tolist()) for value in (normalise.mean, normalise.std))
        module = prepare(old.network, mean, std, other.device, other.memory_format)
        module.differentiable = old.differentiable
        other = replace(other, module=module)
        taken.append("normalisation")
    if not taken:
        return other
    notes = (
        note
        for note in other.provenance.notes
        if note != UNKNOWN_NORMALISATION or "normalisation" not in taken
    )
    said = f"Its {' and '.join(taken)} {'is' if len(taken) == 1 else 'are'} not known: it gets what {first.name} gets."
    return replace(other, provenance=replace(other.provenance, notes=(*notes, said)))


def notes_of_others(others: Sequence[LoadedModel]) -> tuple[str, ...]:
    """Return what a report must say of networks beside the one that it is about, each note with the network's name."""
    notes = (
        f"The other network, {other.name}: {note}" for other in others for note in other.provenance.notes
    )
    return tuple(dict.fromkeys(notes))


def _is_digits_fallback(model: LoadedModel, how: dict[str, Any]) -> bool:
    """Return whether the network has digits weights although the user did not ask for them."""
    return how.get("weights", "default") == "default" and model.domain == "digits"


def _say(model: LoadedModel, progress: Progress) -> None:
    source, weights = model.provenance.source, model.provenance.weights
    progress.say(f"Model: {source}, weights: {weights}, on {model.device}.")
    for note in model.provenance.notes:
        progress.say(f"! {note}")
