"""How many channels and images the study of importance takes: by counted work, so that it is the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from probe.core import seeds
from probe.core.errors import NotApplicableError
from probe.data.sampling import choose
from studies.filters.importance.measure import LayerJob
from studies.filters.importance.measures import Whole, spread_channels
from studies.filters.importance.replay import Replay
from studies.filters.workspace import FiltersWorkspace

LEAST_IMAGES = 4
"""Two in each half."""

MOST_CHANNELS = (32, 16, 8)
"""How many channels of a layer are measured at most, fewer where that leaves too few images."""

_ENOUGH, _FEWEST = 100, 20
"""Channels are not given up for more images than the first; there are never fewer for the work's sake than the second."""

_BUDGET = 1.2e12
"""Multiply-accumulates of the passes: about what the embedded network needs for its 20 photographs."""

_FURTHER = 0.1
"""All channels of a layer are removed, not only the measured ones, where ordering them costs at most this part of the budget."""

_OVERHEAD = 1e6
"""What one image costs in a pass besides, in the same unit."""


def jobs(space: FiltersWorkspace, layers: Sequence[str]) -> list[LayerJob]:
    """Return the work on every layer; raises NotApplicableError where there is none."""
    known, labels = usable(space)
    with torch.no_grad():
        example = space.model.module.normalise(space.model.example(2))
    costs = [_OVERHEAD + Replay(space.model.network, layer, example).macs for layer in layers]
    whole = [
        LayerJob(layer, (), (), len(space.observed.layers[layer].mean), tuple(known), tuple(labels))
        for layer in layers
    ]
    wanted = space.config.channels or ()
    found, n = whole, 0
    for most in MOST_CHANNELS:
        found = [_with(job, spread_channels(job.total, max(most, len(wanted)), wanted)) for job in whole]
        n = int(_BUDGET / sum(cost * job.passes for cost, job in zip(costs, found, strict=True)))
        if n >= min(len(known), _ENOUGH):
            break
    seed = seeds.derive(space.config.seed, "importance", "images")
    chosen = choose(len(known), max(n, _FEWEST), seed, labels)
    images, classes = tuple(known[chosen].tolist()), tuple(labels[chosen].tolist())
    return [
        replace(_complete(job, cost * len(images)), images=images, labels=classes)
        for job, cost in zip(found, costs, strict=True)
    ]


def _with(job: LayerJob, channels: tuple[int, ...]) -> LayerJob:
    return replace(job, channels=channels, removed=channels)


def _complete(job: LayerJob, cost: float) -> LayerJob:
    """Return the job with all channels removed in turn where that is not too expensive; ``cost`` is that of one pass."""
    rest = [channel for channel in range(job.total) if channel not in set(job.channels)]
    if cost * len(rest) / 2 > _FURTHER * _BUDGET:
        return job
    return replace(job, removed=(*job.channels, *rest))


def usable(space: FiltersWorkspace) -> tuple[Whole, Whole]:
    """Return the indices and classes of the images whose loss is defined; raises NotApplicableError."""
    labels = space.observed.labels.numpy()
    if (labels < 0).all():
        raise NotApplicableError("Importance needs labelled images: it is measured by the loss.")
    known = (labels >= 0) & (labels < space.model.num_classes)
    if len(np.unique(labels[known])) < 2 or known.sum() < LEAST_IMAGES:
        raise NotApplicableError(
            f"Importance needs at least {LEAST_IMAGES} labelled images, of at least two of the network's classes: take more "
            "images (-n)."
        )
    return space.observed.indices.numpy()[known], labels[known]
