"""The filters study: what did the network learn?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from probe.core.document import Report, Result, Section, percent
from probe.core.errors import CannotRunError, UsageError
from probe.core.journal import NOTHING, Journal, Lenient
from probe.core.place import HERE, Place
from probe.core.progress import SILENT, Progress
from probe.core.subject import DataInfo
from probe.data.images import ImageSet
from probe.data.shards import lent, reading
from probe.graph.edit.spelled import spelled
from probe.graph.trace.layers import LayerInfo, convolutions, feature_layers
from probe.models.chain import data_info
from probe.models.loaded import LoadedModel
from probe.models.pair import notes_of_others
from probe.report.assemble import assemble
from studies.base import bands, choose_views, run_views
from studies.checks import guessing, study_checks
from studies.filters.cards import with_cards
from studies.filters.choose import answering_layer, choose_channels, choose_images, choose_layers
from studies.filters.concepts import load_concepts
from studies.filters.config import FiltersConfig
from studies.filters.dissect import load_masks
from studies.filters.observe import Observations, observe
from studies.filters.registries import VIEWS
from studies.filters.text import methods, references, samples
from studies.filters.workspace import FiltersWorkspace

DEFAULTS = FiltersConfig()


def run(
    model: LoadedModel,
    images: ImageSet,
    config: FiltersConfig = DEFAULTS,
    *,
    progress: Progress = SILENT,
    command: str = "",
    journal: Journal = NOTHING,
    against: LoadedModel | None = None,
) -> Report:
    """Study the filters of a network and what excites them; return the report.

    Parameters: a loaded model, images, and the options. ``journal`` keeps finished parts, so that an interrupted run can go
    on; ``against`` is another network for the view ``similarity``, which it adds to the usual ones, as folders of concepts and
    of masks add theirs. A view that does not apply becomes a section with the reason.
    Raises UsageError for unknown views, layers, channels or images; CannotRunError when no image can be read or the
    network returns NaN.
    """
    started = time.perf_counter()
    asked = {"similarity": against, "concepts": config.concepts, "dissection": config.masks}
    views = choose_views(
        VIEWS, _named(config.views, [name for name, what in asked.items() if what is not None])
    )
    concepts = None if config.concepts is None else load_concepts(config.concepts)
    masked = None if config.masks is None else load_masks(config.masks)
    if images.labelled and images.num_classes is not None:
        model.check_classes(images.class_names or images.num_classes, images.name)
    # Names of layers, and which ones there are, must not hang on how the network's code spells them.
    model = _spelled(model)
    with Place.opened(config.jobs, config.cluster, progress.say) as opened:
        place = reading(opened, images, progress.say)
        space = prepare(model, images, config, progress, place, Lenient(journal, progress.say))
        other = None if against is None else _spelled(against)
        space = replace(space, against=other, concepts=concepts, masked=masked)
        if any(VIEWS.entries[name].optional for name, _ in views):
            progress.say(_foretold(space, [name for name, _ in views]))
        with place.lend(partial(_lent, space, place), model.device) as workers:
            if not place.here:
                space = replace(space, workers=workers)
            sections = with_cards(
                run_views(views, space, config.seed, progress, "Computing the views"), space.channels
            )
    results = _accuracy(space.observed)
    cautions = [
        caution for result in results for caution in guessing(model, space.observed.correct, result.n or 0)
    ]
    warnings = (
        *model.provenance.notes,
        *images.cautions,
        *cautions,
        *bands(model.input.size[0]),
        *notes_of_others([] if against is None else [against]),
    )
    info = data_info(model, images, space.observed.n)
    return assemble(
        study="filters",
        title=f"What {model.name} learned",
        model=model.info(),
        data=info,
        config=config,
        choices=_choices(space),
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=time.perf_counter() - started,
        headline=_headline(space, results, sections, info),
        sections=sections,
        results=results,
        checks=study_checks(model, images, info, config.seed),
        warnings=warnings,
        samples=tuple(samples(space.observed, images)),
        methods=methods(space, info, [name for name, _ in views]),
        references=references([name for name, _ in views]),
        key=("activations", "patches", "features", "weights"),
    )


def _spelled(model: LoadedModel) -> LoadedModel:
    return replace(model, module=spelled(model.module, model.example()))


def _named(views: tuple[str, ...] | None, asked: Sequence[str]) -> tuple[str, ...] | None:
    """Return the views that are made: those in ``views``, or the usual ones and those that an option asks for."""
    if not asked or views == ("all",):
        return views
    if views is None:
        return (*(name for name, entry in VIEWS.entries.items() if not entry.optional), *asked)
    missing = [name for name in asked if name not in views]
    if missing:
        raise UsageError(
            f"What an option gives is shown in the view '{missing[0]}': add it to --views, or take all."
        )
    return views


_TIMED = 8
"""Images of the pass from which the time of a run is foretold."""


def _foretold(space: FiltersWorkspace, names: Sequence[str]) -> str:
    """Say about how long the views take, from the time of one pass here."""
    count = min(_TIMED, space.config.batch_size)
    images = space.model.example(count)
    with torch.inference_mode():
        space.model.module(images)  # the first pass prepares memory
        started = time.perf_counter()
        space.model.module(images)
        seconds = (time.perf_counter() - started) / count
    costs = [VIEWS.entries[name].passes for name in names]
    minutes = seconds * sum(always + each * space.observed.n for always, each in costs) / 60
    about = f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute"
    return f"{len(names)} views take {'less than a minute' if minutes < 1 else about} here, by the time of one pass."


def _lent(space: FiltersWorkspace, place: Place) -> FiltersWorkspace:
    """Return the workspace as a worker has it."""
    return replace(
        space,
        images=lent(space.images, place),
        progress=SILENT,
        journal=NOTHING,
        against=None,
        concepts=None,
        masked=None,
    )


def prepare(
    model: LoadedModel,
    images: ImageSet,
    config: FiltersConfig,
    progress: Progress,
    place: Place = HERE,
    journal: Journal = NOTHING,
) -> FiltersWorkspace:
    """Choose layers, run all images once, then choose channels and the images to show."""
    example = model.example()
    maps = feature_layers(model.network, example)
    layers = choose_layers(maps, config.layers)
    firing = _firing(model, maps, example, layers)
    looked_at = tuple(dict.fromkeys([*layers, *firing.values()]))
    observed = observe(model, images, looked_at, config.batch_size, progress, place, journal)
    channels = {layer: choose_channels(observed.layers[layer], config.channels, layer) for layer in layers}
    shown = choose_images(observed, config.images, config.seed)
    kept = {index: images.get(index, model.input) for index in images.readable(shown, model.input)}
    if not kept:
        raise CannotRunError(
            f"The images of {images.name} to be shown can no longer be read: were they deleted or moved?"
        )
    return FiltersWorkspace(
        model,
        images,
        config,
        progress,
        layers,
        channels,
        tuple(kept),
        observed,
        maps,
        firing,
        kept,
        journal=journal,
    )


def _firing(
    model: LoadedModel, maps: Sequence[LayerInfo], example: Tensor, layers: Sequence[str]
) -> dict[str, str]:
    """Return the layers at which the first convolution, and the first one inside each layer, fire."""
    every = [convolution.name for convolution in convolutions(model.network, example)]
    inside = [next((c for c in every if c == layer or c.startswith(f"{layer}.")), None) for layer in layers]
    names = [name for name in [*every[:1], *inside] if name is not None]
    return {name: answering_layer(model.network, maps, name) for name in dict.fromkeys(names)}


def _accuracy(observed: Observations) -> tuple[Result, ...]:
    labelled = int((observed.labels >= 0).sum())
    if labelled == 0:
        return ()
    return (
        Result.proportion("accuracy", observed.correct, labelled, higher_is_better=True, per_image="right"),
    )


def _choices(space: FiltersWorkspace) -> dict[str, object]:
    """Return what the study chose where the user left it open."""
    return {
        "layers": list(space.layers),
        "channels": {layer: list(chosen) for layer, chosen in space.channels.items()},
        "images": list(space.shown),
    }


def _headline(
    space: FiltersWorkspace, results: Sequence[Result], sections: Sequence[Section], data: DataInfo
) -> tuple[str, ...]:
    lines: list[str] = []
    for result in results:
        if result.n and isinstance(result.value, float):
            lines.append(
                f"{space.model.name} classifies {space.observed.correct} of {result.n} images of {data.name} "
                f"correctly: {percent(result.value, result.ci)} (95% interval)."
            )
    if not results:
        mean = float(space.observed.confidences.mean())
        lines.append(
            f"{space.model.name} ran on {space.observed.n} unlabelled images of {data.name}; its mean confidence "
            f"is {percent(mean)}. Without labels the accuracy is unknown."
        )
    lines += [finding for section in sections for finding in section.findings]
    refused = [section.title for section in sections if section.reason and not section.failed]
    if refused:
        lines.append(f"Not applicable here (each section gives the reason): {', '.join(refused)}.")
    return tuple(lines)
