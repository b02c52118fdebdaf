"""Trust: which attribution map to believe, for what, by tests beside maps that know nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from probe.core.blocks import Block, Note
from probe.core.document import Section, percent
from probe.core.errors import NotApplicableError
from probe.core.progress import Advance
from probe.core.seeds import generator
from studies.filters.attribution import judged_report as report
from studies.filters.attribution.attribute import (
    FURTHER,
    METHODS,
    AttributionSubject,
    GradientShap,
    IntegratedGradients,
    Method,
    Occlusion,
    Rise,
    SmoothGrad,
    prepare,
)
from studies.filters.attribution.bench import Bench, Mosaics, groups, mosaic
from studies.filters.attribution.controls import Centre, Edges, RandomMap
from studies.filters.attribution.judge import LEAST, JudgedMaps, Verdicts, judge, work
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

_SMALL_MACS = 2e8
"""Up to so many multiply-accumulates per image, maps have their full options and there are twice as many images."""

_IMAGES, _MOSAICS = (16, 8), (4, 2)
"""For small networks, and for others."""


@VIEWS.register("trust", order=7, optional=True, passes=(3300, 0))
def trust(space: FiltersWorkspace) -> Section:
    """Judge the attribution methods by deletion, ROAD, infidelity and the pointing game, beside three controls."""
    shown = _chosen(space)
    if len(shown) < LEAST:
        raise NotApplicableError(
            f"The tests of maps need at least {LEAST} images; there are {len(shown)}: take more (-n)."
        )
    parts = _mosaic_parts(space)
    jobs = [(method, shown, parts) for method in _methods(space)]
    size = (space.model.input.size[1], space.model.input.size[2])
    costs = [work(method, len(shown), len(parts), size) for method, *_ in jobs]
    with space.progress.task("Trust", sum(costs)) as advance:
        judged = space.spread(_judged, jobs, advance, costs, reads_images=True)
    applied = [one for one in judged if not one.reason and not one.control]
    if not applied:
        raise NotApplicableError(next(one.reason for one in judged if one.reason))
    verdicts = Verdicts(tuple(judged), space.config.seed)
    seen = _seen(space, parts)
    space.forget()
    blocks: list[Block] = [
        report.table(verdicts),
        report.comparison(verdicts),
        *report.figures(verdicts),
    ]
    if not parts:
        blocks.insert(0, Note(f"No pointing game. {_no_mosaic(space)}", "warning"))
    blocks.append(Note(_details(applied, shown, seen)))
    return Section(
        "trust",
        "Which map to trust",
        f"{len(applied)} methods and 3 controls on {len(shown)} images"
        + (f" and on {4 * len(parts)} quarters of mosaics." if parts else "."),
        tuple(blocks),
        results=report.results(verdicts),
        findings=report.findings(verdicts),
    )


def _small(space: FiltersWorkspace) -> bool:
    return (space.model.macs or 0) <= _SMALL_MACS


def _methods(space: FiltersWorkspace) -> tuple[Method, ...]:
    """Return the methods with the options of this run, and the controls."""
    methods = (*METHODS, *FURTHER)
    if not _small(space):
        methods = tuple(method.economical() for method in methods)
    return tuple(_seeded(method, space.config.seed) for method in (*methods, RandomMap(), Edges(), Centre()))


def _seeded(method: Any, seed: int) -> Method:
    """Return a method that draws from ``seed``, where it draws at all."""
    drawn: Method = replace(method, seed=seed) if "seed" in {one.name for one in fields(method)} else method
    return drawn


def _chosen(space: FiltersWorkspace) -> tuple[int, ...]:
    """Return a seeded draw of images that can be read."""
    indices = space.observed.indices
    order = torch.randperm(len(indices), generator=generator(space.config.seed, "judged images"))
    wanted = sorted(indices[order[: _IMAGES[not _small(space)]]].tolist())
    return space.images.readable(wanted, space.model.input)


def _mosaic_parts(space: FiltersWorkspace) -> tuple[tuple[int, ...], ...]:
    """Return the images of each mosaic: of four classes, right, the most confident first."""
    seen = space.observed
    if min(space.model.input.size[1:]) < 2:
        return ()
    right = ((seen.labels >= 0) & (seen.labels == seen.predictions)).nonzero()[:, 0]
    found = groups(seen.labels[right].tolist(), seen.confidences[right].tolist(), _MOSAICS[not _small(space)])
    source = generator(space.config.seed, "mosaics")
    parts = []
    for group in found:
        order = torch.randperm(4, generator=source).tolist()
        indices = [int(seen.indices[right[group[place]]]) for place in order]
        if len(space.images.readable(indices, space.model.input)) == 4:
            parts.append(tuple(indices))
    return tuple(parts)


def _no_mosaic(space: FiltersWorkspace) -> str:
    """Say why there is no mosaic."""
    seen = space.observed
    if not bool((seen.labels >= 0).any()):
        return "It needs labelled images."
    right = seen.labels[(seen.labels >= 0) & (seen.labels == seen.predictions)]
    return (
        "It needs images of four classes that the network classifies right; there are "
        f"{len(set(right.tolist()))} such classes."
    )


def _judged(
    space: FiltersWorkspace,
    job: tuple[Method, tuple[int, ...], tuple[tuple[int, ...], ...]],
    advance: Advance,
) -> JudgedMaps:
    method, shown, parts = job
    bench = space.once("judged bench", lambda: _bench(space, shown))
    subject = space.once("judged subject", lambda: _subject(space, bench))
    mosaics = space.once("judged mosaics", lambda: _mosaics(space, parts))
    return judge(method, subject, bench, mosaics, advance)


def _bench(space: FiltersWorkspace, shown: tuple[int, ...]) -> Bench:
    seen = space.observed
    targets = torch.stack([seen.predictions[seen.position(index)] for index in shown])
    images = space.pixels(shown)
    return Bench(space.model.module, images, targets.to(images.device), space.config.seed)


def _subject(space: FiltersWorkspace, bench: Bench) -> AttributionSubject:
    return prepare(space.model.module, bench.images[:1])


def _mosaics(space: FiltersWorkspace, parts: tuple[tuple[int, ...], ...]) -> Mosaics | None:
    if not parts:
        return None
    seen = space.observed
    images = torch.stack([mosaic(space.pixels(indices)) for indices in parts])
    targets = torch.stack(
        [torch.stack([seen.labels[seen.position(index)] for index in indices]) for indices in parts]
    )
    images = images.contiguous(memory_format=space.model.memory_format)
    return Mosaics(images, targets.to(images.device))


def _seen(space: FiltersWorkspace, parts: tuple[tuple[int, ...], ...]) -> str:
    """Write what the mosaics are, and whether the network recognises their images there."""
    mosaics = space.once("judged mosaics", lambda: _mosaics(space, parts))
    if mosaics is None:
        return ""
    shares = space.model.logits(mosaics.images).float().softmax(1).gather(1, mosaics.targets)
    count = f"{len(parts)} mosaics have" if len(parts) > 1 else "mosaic has"
    return (
        f"The {count} the size of the network's input and images at half size, classified right with the highest confidence; "
        f"the four classes of a mosaic together have a probability of {percent(float(shares.sum(1).mean()))} there."
    )


def _details(applied: Sequence[JudgedMaps], shown: tuple[int, ...], mosaics: str) -> str:
    """Write what was explained, and with which options; ``mosaics`` says what they are."""
    sentences = [
        f"Explained is the predicted class of {len(shown)} images, a seeded draw. The baseline is each image's mean colour.",
        "Pixels are removed in squares of a 56th of the longer side (pixels of images up to 56), by the mean of the map's sum over "
        "colours; of gradient, SmoothGrad and guided backprop, whose sign does not say for or against, by that of |map|. Equal "
        "places follow in a seeded order.",
    ]
    if mosaics:
        sentences.append(mosaics)
    options = []
    for method in (one.method for one in applied):
        if isinstance(method, IntegratedGradients):
            options.append(f"integrated gradients {method.steps} steps")
        if isinstance(method, SmoothGrad | GradientShap):
            options.append(
                f"{method.title} {method.samples} samples with noise of {method.noise:g} of the range"
            )
        if isinstance(method, Rise):
            options.append(f"RISE {method.masks} masks of {method.cells}×{method.cells} cells")
        if isinstance(method, Occlusion):
            options.append(f"occlusion windows of 1/{method.windows} of the side")
    if options:
        sentences.append(f"Options: {', '.join(options)}. With more, a method may do better.")
    sentences.append(
        "Max-sensitivity is measured where a map costs one gradient. Whether maps depend on the weights at all is the test of the "
        "attribution view."
    )
    return " ".join(sentences)
