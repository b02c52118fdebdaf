"""A name → ``LoadedModel``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from probe.core.errors import UsageError
from probe.core.progress import SILENT, Progress
from probe.models.catalogue import catalogue
from probe.models.device import choose_device
from probe.models.draft import Draft, Order
from probe.models.labels import class_names
from probe.models.loaded import LoadedModel, prepare
from probe.models.measure import UNKNOWN_NORMALISATION, choose_memory_format, measure
from probe.models.names import ModelName, parse_name
from probe.models.source import SOURCES, Access, Architecture, Source
from probe.models.suggest import unknown_name
from probe.models.weights import put_weights

__all__ = ["catalogue", "load_model"]


def load_model(
    name: str,
    *,
    weights: str | os.PathLike[str] = "default",
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    device: str = "auto",
    offline: bool = False,
    allow_partial: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> LoadedModel:
    """Load a network by name, with weights, as a module on pixels in [0, 1].

    ``name``: ``resnet18`` (looked up in zoo, embedded, torchvision, timm), ``SOURCE:NAME``, ``hf-hub:ORG/NAME``,
    ``path/to/net.py:FUNCTION`` or ``package.module:FUNCTION``, each with ``?key=value&…`` if need be.
    ``weights``: ``default`` (cached, else downloaded, else trained on digits if the network is small),
    ``none`` (random, by ``seed``), ``digits``, the name of published weights, or a file. ``num_classes``: what
    the data has; networks with random weights are built for it (``LoadedModel.check_classes`` compares it
    with the others). ``img_size``: height and width in pixels. ``mean`` and ``std``: the normalisation, one value
    or one per channel. ``labels``: class names, or a file of them. ``offline`` forbids the network.
    ``allow_partial`` loads those tensors of a file that fit.

    Raises UsageError for words that cannot be understood or do not fit, CannotRunError when the weights cannot be
    had or the network cannot be run.
    """
    access = Access(offline, progress)
    chosen, device_text = choose_device(device)
    order = Order(
        weights=os.fspath(weights),
        num_classes=_positive("number of classes", num_classes),
        img_size=_size(img_size),
        seed=seed,
        allow_partial=allow_partial,
        device=chosen,
        access=access,
    )
    architecture = find_architecture(name, access)
    draft = put_weights(architecture, order)
    draft = _normalised(draft, mean, std)
    framing = draft.framing
    facts = measure(draft.network, framing.input.size, architecture.source)
    layout = choose_memory_format(facts, chosen)
    names = draft.class_names
    if labels is not None:
        names = class_names(labels, facts.num_classes, architecture.name)
    return LoadedModel(
        name=architecture.name,
        module=prepare(draft.network, framing.mean, framing.std, chosen, layout),
        input=framing.input,
        num_classes=facts.num_classes,
        class_names=names if names is not None and len(names) == facts.num_classes else None,
        domain=draft.domain,
        device=chosen,
        memory_format=layout,
        provenance=draft.provenance,
        factory=draft.draw,
        macs=facts.macs,
        device_text=device_text,
    )


def find_architecture(name: str, access: Access) -> Architecture:
    """Return the architecture that a name means; raises UsageError, with close names, when there is none."""
    parsed = parse_name(name, SOURCES.names())
    if parsed.source is not None:
        return SOURCES.get(parsed.source)().find(parsed.target, parsed.options, access)
    sources = _ranked()
    for source in sources:
        if source.knows(parsed.target):
            return source.find(parsed.target, parsed.options, access)
    raise _unknown(parsed, sources)


def _ranked() -> list[Source]:
    """Return the sources that a bare name is looked up in, in order."""
    sources = [SOURCES.get(name)() for name in SOURCES]
    return sorted(
        (source for source in sources if source.rank is not None), key=lambda source: source.rank or 0
    )


def _unknown(parsed: ModelName, sources: list[Source]) -> UsageError:
    return unknown_name(parsed.target, "model", [name for source in sources for name in source.names()])


def _positive(what: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise UsageError(f"The {what} must be at least 1, not {value}.")
    return value


def _size(value: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = (value, value) if isinstance(value, int) else value
    if min(height, width) < 1:
        raise UsageError(f"The image size must be at least 1 pixel, not {value}.")
    return height, width


def _normalised(
    draft: Draft, mean: float | Sequence[float] | None, std: float | Sequence[float] | None
) -> Draft:
    """Return the draft with the user's normalisation, each value once or once per channel."""
    if mean is None and std is None:
        return draft
    if draft.bound:
        return _noted(draft, "--mean and --std were not used: the weights were trained with their own.")
    framing, channels = draft.framing, draft.framing.input.size[0]
    own_mean = framing.mean if mean is None else _per_channel("mean", mean, channels)
    own_std = framing.std if std is None else _per_channel("std", std, channels)
    if not min(own_std) > 0:
        raise UsageError(f"Each --std must be above 0; got {', '.join(map(str, own_std))}.")
    notes = tuple(note for note in draft.provenance.notes if note != UNKNOWN_NORMALISATION)
    provenance = replace(draft.provenance, notes=notes)
    return replace(draft, framing=replace(framing, mean=own_mean, std=own_std), provenance=provenance)


def _per_channel(what: str, value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    values = (float(value),) if isinstance(value, int | float) else tuple(map(float, value))
    if len(values) not in (1, channels):
        raise UsageError(f"--{what} has {len(values)} values, but the network takes {channels} channels.")
    return values * channels if len(values) == 1 else values


def _noted(draft: Draft, note: str) -> Draft:
    return replace(draft, provenance=replace(draft.provenance, notes=(*draft.provenance.notes, note)))
