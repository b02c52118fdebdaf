"""The setup of a training from the user's options: network, input, recipe, and output file."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from torch import nn

from probe.core import seeds
from probe.core.errors import CannotRunError, UsageError
from probe.core.precision import bf16_pays
from probe.models.first_pass import ShapeError
from probe.models.measure import NetworkFacts, framing_of, measure
from probe.models.source import Architecture, Build, Preprocessing
from probe.models.weights.digits import SIZE, recipe_for
from probe.models.weights.reinitialise import random_builder
from probe.train.adversarial import Adversary
from probe.train.data import Parts
from probe.train.loop.augment import AUGMENTATIONS
from probe.train.loop.fit import Recipe
from probe.train.trained_file import recipe_file

_SUFFIX = ".safetensors"
_FULL_EPOCHS = 5000
_FEWEST_EPOCHS = 3
_LEAST_STD, _LARGEST = 1e-4, 20
_ADVERSARIAL_RATE = 5 / 3


@dataclass(frozen=True)
class RecipeOptions:
    """The user's options for the recipe; None is the default, which depends on the network and the data."""

    epochs: int | None = None
    batch_size: int | None = None
    optimiser: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    label_smoothing: float | None = None
    augment: tuple[str, ...] | None = None
    noise: float | None = None

    def options(self) -> dict[str, Any]:
        """Return the options that were set."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Setup:
    """A network with random weights and its preprocessing; ``built`` is the (H, W) that it was built for."""

    network: nn.Module
    framing: Preprocessing
    facts: NetworkFacts
    built: tuple[int, int] | None


def set_up(
    architecture: Architecture,
    parts: Parts,
    size: tuple[int, int] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    seed: int,
) -> Setup:
    """Return the network with random weights (from ``seed``) for the data's classes, and its preprocessing.

    The image size is ``size``, else the network's own, but at most 64×64 for data sets of small images if the
    network accepts that. Pixels are normalised with mean 0.5 and std 0.5 unless others are given. Raises UsageError
    when the network cannot have this number of classes, and ShapeError when it does not accept the size.
    """
    build = random_builder(architecture)
    smaller = size is None and parts.training.framed
    failure: ShapeError | None = None
    for reduce in (True, False) if smaller else (False,):
        with seeds.scoped(seed, "training weights"):
            network = build(Build(parts.num_classes, size))
        own = (architecture.framing or framing_of(network)[0]).resized(size).input
        channels, height, width = own.size
        shape = (channels, min(SIZE, height), min(SIZE, width)) if reduce else own.size
        try:
            facts = measure(network, shape, architecture.source)
        except ShapeError as error:
            failure = error
            continue
        _check_classes(architecture, facts, parts)
        spec = own.resized(shape[1:])
        framing = Preprocessing(
            replace(spec, crop=1.0) if parts.training.framed else spec,
            _channelwise("mean", mean, channels),
            _channelwise("std", std, channels),
        )
        return Setup(network, framing, facts, size)
    raise failure or ShapeError(
        f"{architecture.source} does not accept any size that the images can be resized to."
    )


def choose_recipe(
    setup: Setup,
    n: int,
    words: RecipeOptions,
    adversary: Adversary | None,
    device: torch.device,
    mirrors: bool = False,
) -> Recipe:
    """Return the recipe for ``n`` images: the user's options, and defaults that depend on the network and the data.

    The default is the recipe for digits weights. Adversarial training uses smaller batches, which give more steps in
    the same time, a higher learning rate and no label smoothing, because it underfits where normal training overfits.
    (resnet20 on digits at Linf 0.2: 52% robust instead of 38%, 98% clean instead of 92%.) With more than 5,000 images,
    fewer epochs are needed, but at least 3. Images are shifted, and flipped if ``mirrors`` says that mirroring keeps the
    class. Raises UsageError for invalid values.
    """
    base = recipe_for(setup.network, setup.facts)
    if adversary is not None:
        base = replace(base, batch_size=32, lr=base.lr * _ADVERSARIAL_RATE, label_smoothing=0.0, augment=())
    elif mirrors:
        base = replace(base, augment=(*base.augment, "flip"))
    fewer = max(_FEWEST_EPOCHS, math.ceil(base.epochs * min(1.0, _FULL_EPOCHS / n)))
    base = replace(
        base, epochs=min(base.epochs, fewer), bf16=bf16_pays(setup.network, device, setup.framing.input.size)
    )
    _check_words(words)
    if words.noise and adversary is not None:
        raise UsageError(
            "Noise and adversarial training exclude each other: remove --noise or --adversarial."
        )
    options = words.options()
    if words.augment == ("none",):
        options["augment"] = ()
    try:
        return replace(base, **options)
    except ValueError as error:
        raise UsageError(f"Invalid training options: {error}.") from error


def choose_place(
    out: Path | None,
    architecture: Architecture,
    parts: Parts,
    adversarial: bool,
    force: bool,
    seed: int | None = None,
) -> Path:
    """Return the file to write, with the ``seed`` in its name where one is given, after checking that it can be written.

    Raises UsageError if its extension is not ``.safetensors``, or if it exists and ``force`` is False, and
    CannotRunError if its folder is not writable.
    """
    if out is None:
        options = architecture.source.partition("?")[2]
        words = [architecture.name, options, parts.name, "adversarial" if adversarial else ""]
        out = Path("-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", word)[:60] for word in words if word) + _SUFFIX)
    path = out.expanduser()
    if path.suffix.lower() != _SUFFIX:
        raise UsageError(f"Weights are saved as {_SUFFIX}: write --out {path.with_suffix(_SUFFIX)}.")
    if seed is not None:
        path = path.with_stem(f"{path.stem}.seed{seed}")
    existing = next((file for file in (path, recipe_file(path)) if file.exists()), None)
    if path.is_dir() or (existing is not None and not force):
        raise UsageError(f"{existing} already exists: choose another --out, or overwrite it with --force.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise CannotRunError(f"{path} cannot be written: {folder} is not a writable folder.")
    return path


def _check_classes(architecture: Architecture, facts: NetworkFacts, parts: Parts) -> None:
    if facts.num_classes != parts.num_classes:
        raise UsageError(
            f"{architecture.source} has {facts.num_classes} classes, but {parts.name} has {parts.num_classes}: add a "
            "parameter num_classes to its function, or use other data."
        )


def _check_words(words: RecipeOptions) -> None:
    kinds = get_type_hints(Recipe)
    for name in ("optimiser", "schedule"):
        value, known = getattr(words, name), get_args(kinds[name])
        if value is not None and value not in known:
            raise UsageError(f"There is no {name} '{value}'. Available: {', '.join(known)}.")
    if words.augment is not None and words.augment != ("none",):
        unknown = [name for name in words.augment if name not in AUGMENTATIONS]
        if unknown:
            raise UsageError(
                f"There is no augmentation '{unknown[0]}'. Available: {', '.join(AUGMENTATIONS)}, or none."
            )
    for name, value in words.options().items():
        if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
            raise UsageError(
                f"--{name.replace('_', '-')} must be a finite number of at least 0, not {value:g}."
            )
    if words.label_smoothing is not None and words.label_smoothing >= 1:
        raise UsageError(f"--label-smoothing must be below 1, not {words.label_smoothing:g}.")


def _channelwise(option: str, values: tuple[float, ...] | None, channels: int) -> tuple[float, ...]:
    per_channel = values or (0.5,)
    if len(per_channel) not in (1, channels):
        raise UsageError(
            f"--{option} has {len(per_channel)} values, but the network has {channels} input channels."
        )
    least = _LEAST_STD if option == "std" else -_LARGEST
    if not all(least <= value <= _LARGEST for value in per_channel):
        raise UsageError(f"--{option} is for pixels in [0, 1] and must be {least:g} to {_LARGEST:g}.")
    return per_channel * channels if len(per_channel) == 1 else per_channel
