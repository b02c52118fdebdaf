"""Concepts: which directions of a layer point to a concept, and which classes grow along them (TCAV)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from probe.core import seeds, stats
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Result, Section
from probe.core.errors import CannotRunError, NotApplicableError
from studies.filters import concepts as directions
from studies.filters.made import TEXTURES, texture
from studies.filters.registries import VIEWS
from studies.filters.views.similarity import evenly
from studies.filters.workspace import FiltersWorkspace

_LAYERS, _CLASSES, _SETS = 4, 4, 20
_MADE = 30
"""How many images of each texture are made where no concepts are given."""

_MOST = 200
"""The images of a class, and those that counter-sets are drawn from, are at most this many."""

_LEVEL = 0.05
_PREDICTED = "predicted class"

_READING = (
    "The TCAV score is the part of a class's images whose logit grows when the layer's channels move towards the concept: 1 where "
    "it always grows, 0 where it always falls. Random directions, between two sets of other images, show what chance gives, which "
    "can be far from one half. Interval and p cover which other images the concept is told from, not which images show it: where a "
    "layer cannot tell it apart, its score is the chance of one draw. A concept that a layer can tell need not be what the network uses."
)


@VIEWS.register("concepts", order=12, optional=True, passes=(240, 0))
def concepts(space: FiltersWorkspace) -> Section:
    """Test whether classes depend on concepts: a folder of them (--concepts), or made textures (TCAV)."""
    sources = _sources(space)
    counts = {name: len(rows) for name, rows in sources.items()}
    # Folders are in the order of their classes: the first images would all be of a few.
    places = evenly(space.observed.indices.tolist(), _MOST)
    rng = np.random.default_rng(seeds.derive(space.config.seed, "concepts"))
    size = min(*counts.values(), len(places) // 2)
    if size < directions.LEAST:
        raise NotApplicableError(
            f"Concepts need {2 * directions.LEAST} images to be told from; there are {len(places)}: take more (-n)."
        )
    layers = evenly(space.layers, _LAYERS)
    classes = _classes(space)
    work = sum(counts.values()) + len(places) + sum(len(rows) for rows, _ in classes.values())
    fits = 10 * len(layers) * len(counts)
    with space.progress.task("Concepts", work + fits) as advance:
        found = {
            name: directions.averaged(
                space.model, iter(torch.split(rows, space.config.batch_size)), layers, advance
            )
            for name, rows in sources.items()
        }
        others = directions.averaged(space.model, _pixels(space, places), layers, advance)
        gradients = {
            name: directions.sensitivities(space.model, _labelled(space, *rows), layers, advance)
            for name, rows in classes.items()
        }
        pairs = directions.counter_sets(len(places), size, _SETS, rng)
        tested = directions.evaluate(found, others, gradients, pairs, lambda: advance(10))
    corrected = stats.holm([one.p for one in tested])
    return _section(space, tested, corrected, counts, size, len(places))


def _sources(space: FiltersWorkspace) -> dict[str, Tensor]:
    """Return the images (n, C, H, W) of each concept; at most 200."""
    spec = space.model.input
    if space.concepts is None:
        made = {}
        for kind in TEXTURES:
            rng = np.random.default_rng(seeds.derive(space.config.seed, "texture", kind))
            made[kind] = torch.from_numpy(np.stack([texture(kind, spec.size, rng) for _ in range(_MADE)]))
        return made
    images = space.concepts
    assert images.class_names is not None
    by_label: dict[int, list[int]] = {}
    for index in range(len(images)):
        by_label.setdefault(images.label(index) or 0, []).append(index)
    found = {}
    for label, name in enumerate(images.class_names):
        chosen = evenly(by_label[label], _MOST)
        try:
            readable = [batch.images for batch in images.batches(spec, space.config.batch_size, chosen)]
        except CannotRunError as error:  # none can be read, or the network takes no pictures
            raise NotApplicableError(str(error)) from error
        found[name] = torch.cat(readable)
        if len(found[name]) < directions.LEAST:
            raise NotApplicableError(f"Of the concept '{name}' only {len(found[name])} images can be read.")
    return found


def _classes(space: FiltersWorkspace) -> dict[str, tuple[list[int], list[int]]]:
    """Return name → (images, class of each): the predicted class of all, and the labelled classes with most images."""
    seen = space.observed
    indices, predictions, labels = (part.tolist() for part in (seen.indices, seen.predictions, seen.labels))
    found = {_PREDICTED: (evenly(indices, _MOST), evenly(predictions, _MOST))}
    counts = np.bincount([label for label in labels if 0 <= label < space.model.num_classes] or [0])
    for label in np.argsort(-counts, kind="stable")[:_CLASSES]:
        if counts[label] >= directions.LEAST:
            rows = evenly([index for index, own in zip(indices, labels, strict=True) if own == label], _MOST)
            found[space.class_name(int(label))] = rows, [int(label)] * len(rows)
    return found


def _pixels(space: FiltersWorkspace, indices: Sequence[int]) -> Iterator[Tensor]:
    for batch in space.images.batches(space.model.input, space.config.batch_size, indices):
        yield batch.images


def _labelled(
    space: FiltersWorkspace, indices: Sequence[int], classes: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    wanted = dict(zip(indices, classes, strict=True))
    for batch in space.images.batches(space.model.input, space.config.batch_size, indices):
        yield batch.images, torch.tensor([wanted[index] for index in batch.indices])


def _section(
    space: FiltersWorkspace,
    tested: Sequence[directions.Tested],
    corrected: Sequence[float],
    counts: Mapping[str, int],
    size: int,
    others: int,
) -> Section:
    made = "Made textures" if space.concepts is None else "Concepts"
    blocks: list[Block] = [_figure(tested), _table(tested, corrected)]
    if 2 * size * _SETS > others:
        blocks.append(
            Note(
                f"The {_SETS} sets of {size} images are drawn from {others} and share images, so that the p-values are somewhat too small."
            )
        )
    significant = [one for one, p in zip(tested, corrected, strict=True) if p < _LEVEL]
    return Section(
        "concepts",
        "Concepts (TCAV)",
        f"{made}: {', '.join(f'{name} ({count} images)' for name, count in counts.items())}, each told from {_SETS} sets of {size} "
        f"of the {others} images; {len(significant)} of {len(tested)} scores differ from those of random directions at 5% after "
        "Holm's correction.",
        tuple(blocks),
        results=tuple(
            Result(f"concepts.{one.layer}.{one.concept}.{one.cls}", one.mean, one.n, one.ci) for one in tested
        ),
        findings=_findings(significant),
    )


def _figure(tested: Sequence[directions.Tested]) -> Figure:
    own = [one for one in tested if one.cls == _PREDICTED]
    layers = tuple(dict.fromkeys(one.layer for one in own))
    series = []
    for concept in dict.fromkeys(one.concept for one in own):
        rows = [one for one in own if one.concept == concept]
        series.append(
            Series(
                concept,
                tuple(float(place) for place in range(len(layers))),
                tuple(one.mean for one in rows),
                tuple(one.ci[0] for one in rows),
                tuple(one.ci[1] for one in rows),
            )
        )
    first = [one for one in own if one.concept == own[0].concept]
    series.append(
        Series(
            "random directions",
            tuple(float(place) for place in range(len(layers))),
            tuple(one.control for one in first),
        )
    )
    return Figure(
        "TCAV score of the predicted class by depth",
        "line",
        Axis("layer", categories=layers),
        Axis("TCAV score"),
        _READING,
        tuple(series),
    )


def _table(tested: Sequence[directions.Tested], corrected: Sequence[float]) -> Table:
    columns = (
        Column("layer"),
        Column("concept"),
        Column("class"),
        Column(
            "TCAV",
            help="The part of the images whose logit grows towards the concept, mean over the counter-sets.",
        ),
        *Column.interval("the 95% t-interval over the counter-sets"),
        Column("random", help="The mean score of directions between two sets of other images."),
        Column(
            "p",
            help="Welch's two-sided test against random directions, after Holm's correction over all rows.",
        ),
        Column("images", help="How many images of the class were tested."),
        Column(
            "told apart",
            proportion=True,
            help="Held-out images of the concept and of others on the right side of the border; one half by chance.",
        ),
    )
    order = sorted(
        zip(tested, corrected, strict=True), key=lambda pair: (pair[1], -abs(pair[0].mean - pair[0].control))
    )
    rows: list[tuple[Cell, ...]] = [
        (one.layer, one.concept, one.cls, one.mean, *one.ci, one.control, p, one.images, one.separable)
        for one, p in order
    ]
    return Table("Scores, the least likely by chance first", columns, tuple(rows))


def _findings(significant: Sequence[directions.Tested]) -> tuple[str, ...]:
    if not significant:
        return ("No TCAV score differs from those of random directions after Holm's correction.",)
    best = max(significant, key=lambda one: abs(one.mean - one.control))
    whose = "the predicted class" if best.cls == _PREDICTED else best.cls
    return (
        f"Towards {best.concept} in {best.layer} the logit of {whose} grows for {best.mean:.0%} of {best.images} images "
        f"[{best.ci[0]:.0%}, {best.ci[1]:.0%}], towards random directions for {best.control:.0%}.",
    )
