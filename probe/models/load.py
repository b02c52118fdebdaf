"""Loading a network by name, as a ``LoadedModel``."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from probe.core.errors import UsageError
from probe.core.option_string import parse_options
from probe.core.progress import SILENT, Progress
from probe.core.usercode import functions_in
from probe.data.spec import Interpolation
from probe.models.adapt import build_adapted, notes_on
from probe.models.first_pass import without_failing_gradient
from probe.models.labels import class_names
from probe.models.loaded import LoadedModel, prepare
from probe.models.measure import (
    UNKNOWN_NORMALISATION,
    check_affordable,
    choose_device,
    choose_memory_format,
    find_size,
    size_of_the_users_choice,
)
from probe.models.preprocessing import PreprocessingOptions
from probe.models.request import BuiltModel, LoadRequest
from probe.models.source import SOURCES, Access, Architecture, ModelRow, ModelSource, unknown_name
from probe.models.weights.choose import put_weights

__all__ = ["ModelRow", "catalogue"]


def catalogue(query: str = "") -> tuple[ModelRow, ...]:
    """Return the networks that match a query, in the order in which bare names are looked up.

    ``SOURCE:`` selects one source; the rest is part of the name, or a pattern with ``*`` and ``?``. Case is ignored.
    Nothing is downloaded, and no network is built.
    """
    prefix, colon, rest = query.strip().partition(":")
    source_name = prefix if colon and prefix in SOURCES else None
    text = (rest if source_name else query).strip().lower()
    sources = {name: SOURCES.get(name)() for name in SOURCES if source_name in (None, name)}
    ranked = sorted(sources.values(), key=lambda source: 99 if source.rank is None else source.rank)
    return tuple(row for source in ranked for row in source.rows() if _matches(row.name.lower(), text))


def _matches(name: str, text: str) -> bool:
    return fnmatchcase(name, text) if any(mark in text for mark in "*?[") else text in name


FILE = "file"
"""The source of networks in the user's own Python files and packages; it has no prefix."""


@dataclass(frozen=True)
class ModelName:
    """The parts of a model's name: ``source`` is None for a bare name; ``options`` go to the factory."""

    text: str
    source: str | None
    target: str
    options: dict[str, Any] = field(default_factory=dict)


def parse_name(text: str, sources: Collection[str]) -> ModelName:
    """Parse a model's name: ``NAME``, ``SOURCE:NAME``, ``net.py:FACTORY`` or ``package.module:FACTORY``.

    Each form may be followed by ``?key=value&key=value``. ``sources`` are the known prefixes. Raises UsageError for
    anything else.
    """
    head, mark, query = text.strip().partition("?")
    options = parse_options(query, text) if mark else {}
    prefix, colon, rest = head.partition(":")
    if colon and prefix in sources:
        if not rest:
            raise UsageError(f"'{text}' has a source but no network: write {prefix}:NAME.")
        return ModelName(text, prefix, rest, options)
    if colon:
        return ModelName(text, FILE, _factory_target(head, sources), options)
    if not head:
        raise UsageError("The model name is empty. `probe models` lists the available networks.")
    if head.endswith(".py"):
        raise UsageError(
            f"'{text}' is a file without a function: write {head}:FUNCTION.{functions_in(Path(head))}"
        )
    if "/" in head and os.path.isfile(os.path.expanduser(head)):
        raise _a_file(head)
    if "/" in head:
        raise UsageError(
            f"'{text}' is not a model name. For the Hugging Face hub, write hf-hub:{head}; for your own network, write "
            "path/to/net.py:FUNCTION; for a weights file, use --weights."
        )
    return ModelName(text, None, head, options)


def _factory_target(head: str, sources: Collection[str]) -> str:
    place, _, factory = head.rpartition(":")
    if not factory.isidentifier():
        raise UsageError(
            f"'{head}' does not end with the name of a function: write {place or 'net.py'}:FUNCTION."
        )
    dotted = all(part.isidentifier() for part in place.split("."))
    if not (place.endswith(".py") or dotted):
        raise UsageError(
            f"'{place}' in '{head}' is not a model source ({', '.join(sorted(sources))}), a Python file "
            "(path/to/net.py) or a module (package.module)."
        )
    return head


__all__ = ["catalogue", "load_model"]


def load_model(
    name: str,
    *,
    weights: str | os.PathLike[str] = "default",
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: int | tuple[int, int] | None = None,
    crop: float | str | None = None,
    interpolation: Interpolation | None = None,
    image_size: tuple[int, int] | None = None,
    output: str | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    device: str = "auto",
    offline: bool = False,
    allow_partial: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> LoadedModel:
    """Load a network by name, with weights, as a module on pixels in [0, 1].

    ``name``: ``resnet18`` (looked up in zoo, embedded, torchvision, timm), ``SOURCE:NAME``, ``hf-hub:ORG/NAME``,
    ``path/to/net.py:FUNCTION`` or ``package.module:FUNCTION``, each optionally with ``?key=value&…``.
    ``weights``: ``default`` (cached, else downloaded, else trained on digits if the network is small),
    ``none`` (random, drawn with ``seed``), ``digits``, the name of published weights, or a file. ``num_classes``: the
    number of classes of the data; networks with random weights are built for it (for others, use
    ``LoadedModel.check_classes``). ``img_size``: height and width in pixels. ``mean`` and ``std``: the normalisation,
    one value or one per channel. ``resize``, ``crop`` and ``interpolation``: how images of other sizes are brought to
    the input size (see ``PreprocessingOptions``). ``image_size``: height and width of the images, if they have one
    size: the input size of a network that does not say its own. ``output``: the key, field or position of the logits in what
    a user's network returns. ``labels``: class names, or a file with class names.
    ``offline`` forbids downloads.
    ``allow_partial`` loads only those tensors of a file that fit.

    Raises UsageError for invalid arguments, and CannotRunError when the weights are not available or the network
    cannot be run.
    """
    access = Access(offline, progress)
    chosen, device_text = choose_device(device)
    order = LoadRequest(
        weights=os.fspath(weights),
        num_classes=_positive("number of classes", num_classes),
        img_size=_size(img_size),
        seed=seed,
        allow_partial=allow_partial,
        device=chosen,
        access=access,
    )
    architecture = find_architecture(name, access, output)
    with size_of_the_users_choice(order.img_size):
        draft = put_weights(architecture, order)
        for note in notes_on(draft.network):
            draft = _with_note(draft, note)
        facts, framing = find_size(draft.network, draft.framing, architecture.source, image_size)
    options = PreprocessingOptions(mean, std, resize, crop, interpolation)
    draft = _with_options(replace(draft, framing=framing), options)
    framing = draft.framing
    layout = choose_memory_format(facts, chosen)
    names = draft.class_names
    if labels is not None:
        names = class_names(labels, facts.num_classes, architecture.name)
    model = LoadedModel(
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
        assumed=framing.assumed,
    )
    return without_failing_gradient(model)


def find_architecture(name: str, access: Access, output: str | None = None) -> Architecture:
    """Return the architecture of this name; raises UsageError, with similar names, if there is none.

    A user's network is adapted when it is built; ``output`` says which of its outputs are the logits.
    """
    parsed = parse_name(name, SOURCES.names())
    if parsed.source is not None:
        found = SOURCES.get(parsed.source)().find(parsed.target, parsed.options, access)
        if not found.user_code:
            return found
        return replace(found, build=partial(build_adapted, found.build, found.source, output))
    sources = _sources_by_rank()
    for source in sources:
        if source.knows(parsed.target):
            return source.find(parsed.target, parsed.options, access)
    raise _unknown(parsed, sources)


def _sources_by_rank() -> list[ModelSource]:
    """Return the sources in which a bare name is looked up, in order."""
    sources = [SOURCES.get(name)() for name in SOURCES]
    return sorted(
        (source for source in sources if source.rank is not None), key=lambda source: source.rank or 0
    )


def _a_file(name: str) -> UsageError:
    return UsageError(
        f"'{name}' is a file, and a network is named by the code that builds it: give that with --model path/to/net.py:FUNCTION, "
        f"and a file of weights with --weights {name}."
    )


def _unknown(parsed: ModelName, sources: list[ModelSource]) -> UsageError:
    if os.path.isfile(parsed.target):
        return _a_file(parsed.target)
    return unknown_name(parsed.target, "model", [name for source in sources for name in source.names()])


def _positive(label: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise UsageError(f"The {label} must be at least 1, not {value}.")
    return value


def _size(value: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = (value, value) if isinstance(value, int) else value
    if min(height, width) < 1:
        raise UsageError(f"The image size must be at least 1 pixel, not {value}.")
    check_affordable((3, height, width))
    return height, width


def _with_options(draft: BuiltModel, options: PreprocessingOptions) -> BuiltModel:
    """Return the draft with the user's preprocessing."""
    if draft.bound and options.normalises:
        draft = _with_note(
            draft, "--mean and --std were ignored: the weights were trained with their own normalisation."
        )
        options = replace(options, mean=None, std=None)
    if options.normalises:
        notes = tuple(note for note in draft.provenance.notes if note != UNKNOWN_NORMALISATION)
        draft = replace(draft, provenance=replace(draft.provenance, notes=notes))
    return replace(draft, framing=options.applied(draft.framing))


def _with_note(draft: BuiltModel, note: str) -> BuiltModel:
    return replace(draft, provenance=replace(draft.provenance, notes=(*draft.provenance.notes, note)))
