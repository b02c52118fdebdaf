"""What the network answers without channels of one layer, on labelled images, and the cheap measures of the same channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from probe.core import seeds
from probe.core.errors import check_answers
from probe.core.precision import exact_float32
from probe.core.progress import Advance
from probe.graph.trace.trace import no_side_effects
from studies.filters.importance.measures import (
    Array,
    Truth,
    Whole,
    class_selectivity,
    halves,
    least_first,
    removal_counts,
    taylor,
)
from studies.filters.importance.norms import filter_norms
from studies.filters.importance.replay import Replay
from studies.filters.workspace import FiltersWorkspace

ORDERS = 5
"""How many random orders of removal are made."""

_BACKWARD = 3
"""A pass forward and backward costs about as much as this many forward."""

_KEPT_BYTES = 1 << 27
"""Bound on what is kept for the images of one pass."""


@dataclass(frozen=True)
class LayerJob:
    """The work on one layer: its ``channels`` measured one at a time, those removed together, and the images (n,).

    ``removed`` begins with ``channels``; the layer has ``total``. ``labels`` (n,) are the images' classes.
    """

    layer: str
    channels: tuple[int, ...]
    removed: tuple[int, ...]
    total: int
    images: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many channels are removed together at each step."""
        return removal_counts(len(self.removed))

    @property
    def passes(self) -> float:
        """How many passes from the layer on are made, per image; those on half of the images count as half."""
        k = len(self.channels)
        half = len(self.removed) - k + (2 + ORDERS) * len(self.counts)
        return 2 * k + 1 + _BACKWARD + half / 2


@dataclass(frozen=True)
class AnswersTo:
    """The answers to n images of networks (…, n): cross-entropies in nats, and whether each is right."""

    losses: Array
    right: Truth


@dataclass(frozen=True)
class RemovalCurve:
    """How many of n images are right without the first channels of an order.

    ``right`` (orders, steps) belongs to ``counts`` (steps,), ascending; ``intact`` images are right with all channels.
    """

    counts: tuple[int, ...]
    right: dict[str, Whole]
    intact: int
    n: int


@dataclass(frozen=True)
class LayerImportance:
    """What K channels of a layer do to the answers to n images.

    ``zero`` and ``mean`` (K, n) are the answers with one channel set to 0, or to its mean over images and positions;
    ``intact`` (n,) those with all. ``measures`` (K,): NaN where one is not defined. ``ordering`` are the places of the
    images on which the orders of removal were found; the curve is of the others.
    """

    job: LayerJob
    labels: Whole
    intact: AnswersTo
    zero: AnswersTo
    mean: AnswersTo
    measures: dict[str, Array]
    ordering: Whole
    curve: RemovalCurve

    @property
    def increases(self) -> Array:
        """By how much each image's loss grows when each channel is set to 0, (K, n)."""
        return self.zero.losses - self.intact.losses


def measure(space: FiltersWorkspace, job: LayerJob, advance: Advance) -> LayerImportance:
    """Take the channels of one layer away, one at a time and together; ``advance`` gets the passes made."""
    model = space.model
    with torch.no_grad():
        replay = Replay(model.network, job.layer, model.module.normalise(model.example(2)))
    with no_side_effects(replay.network), exact_float32():
        return _LayerRun(space, job, replay, advance).measured()


@dataclass(frozen=True)
class _Started:
    """A batch on which the replay was started: the images' places (N,), their classes (N,), and the answers to them."""

    places: list[int]
    labels: Tensor
    intact: AnswersTo


@dataclass(frozen=True)
class _Activity:
    """Of the maps of N images: the channels' means as they are, absolute and rectified, and the Taylor terms, (N, C)."""

    level: Array
    size: Array
    rectified: Array
    taylor: Array


@dataclass(frozen=True)
class _LayerRun:
    space: FiltersWorkspace
    job: LayerJob
    replay: Replay
    advance: Advance

    def measured(self) -> LayerImportance:
        """Make the rounds: channels set to 0, to their means, and removed together."""
        chosen, k = self.job.channels, len(self.job.channels)
        batches: list[_Started] = []
        zero: list[AnswersTo] = []
        activities: list[_Activity] = []
        for batch in self._batches(range(len(self.job.images))):
            batches.append(batch)
            activities.append(self._activity(batch.labels))
            zero.append(self._each(chosen, torch.zeros(k), batch))
            self.advance(len(batch.places) * (k + 1 + _BACKWARD))
        seen = _Activity(
            *(
                np.concatenate(parts)
                for parts in zip(*(vars(each).values() for each in activities), strict=True)
            )
        )
        places = [place for batch in batches for place in batch.places]
        means = torch.from_numpy(seen.level[:, list(chosen)].mean(0))
        mean: list[AnswersTo] = []
        for batch in self._batches(places):
            mean.append(self._each(chosen, means, batch))
            self.advance(len(batch.places) * k)
        classes = np.array(self.job.labels, dtype=np.int64)[places]
        norms = filter_norms(self.space, self.job.layer)
        measures = {
            "weight_norm": np.full(self.job.total, np.nan) if norms is None else norms,
            "activation": seen.size.mean(0),
            "taylor": seen.taylor.mean(0),
            "selectivity": class_selectivity(seen.rectified, classes),
        }
        intact, without = _joined([batch.intact for batch in batches]), _joined(zero)
        first, second = halves(classes, seeds.derive(self.space.config.seed, "importance", "halves"))
        increases = self._further((without.losses - intact.losses)[:, first], [places[one] for one in first])
        removed = list(self.job.removed)
        orders = self._orders(
            _means(increases), measures["weight_norm"][removed], seen.taylor[first].mean(0)[removed]
        )
        curve = self._removed(orders, [places[one] for one in second])
        measures = {name: values[list(chosen)] for name, values in measures.items()}
        return LayerImportance(self.job, classes, intact, without, _joined(mean), measures, first, curve)

    def _batches(self, chosen: Sequence[int]) -> Iterator[_Started]:
        """Start the replay on every batch of the images at these places."""
        model, images = self.space.model, [self.job.images[place] for place in chosen]
        size = max(1, min(self.space.config.batch_size, _KEPT_BYTES // max(1, self.replay.kept_bytes)))
        at = {image: place for place, image in enumerate(self.job.images)}
        for batch in self.space.images.batches(model.input, size, images):
            places = [at[index] for index in batch.indices]
            pixels = batch.images.to(model.device, memory_format=model.memory_format)
            check_answers(len(self.replay.start(model.module.normalise(pixels))), len(places))
            labels = torch.tensor([self.job.labels[place] for place in places], device=model.device)
            yield _Started(places, labels, self._answers(self.replay.value.clone(), labels))
        self.replay.release()

    def _answers(self, value: Tensor, labels: Tensor) -> AnswersTo:
        logits = self.replay.finish(value)
        losses = F.cross_entropy(logits.double(), labels, reduction="none")
        right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
        return AnswersTo(losses.cpu().numpy(), right.cpu().numpy())

    def _without(self, channels: Sequence[int], fill: Tensor, batch: _Started) -> AnswersTo:
        """Return the answers with channels set to ``fill``, one value each."""
        own = self.replay.value
        fills = fill.to(own)[:, None, None]
        # Channels that have these values everywhere change nothing, exactly.
        if bool((own[:, list(channels)] == fills).all()):
            return batch.intact
        value = own.clone()
        value[:, list(channels)] = fills
        return self._answers(value, batch.labels)

    def _each(self, channels: Sequence[int], fill: Tensor, batch: _Started) -> AnswersTo:
        """Return the answers (K, N) with one of the channels at a time set to its value in ``fill`` (K,)."""
        found = [
            self._without([channel], fill[place : place + 1], batch) for place, channel in enumerate(channels)
        ]
        return AnswersTo(np.stack([each.losses for each in found]), np.stack([each.right for each in found]))

    def _further(self, increases: Array, chosen: Sequence[int]) -> Array:
        """Return the loss increases (removed, n) of all channels that are removed together; those of ``channels`` are known."""
        rest = self.job.removed[len(self.job.channels) :]
        if not rest:
            return increases
        parts = []
        for batch in self._batches(chosen):
            parts.append(self._each(rest, torch.zeros(len(rest)), batch).losses - batch.intact.losses)
            self.advance(len(batch.places) * len(rest))
        return np.concatenate([increases, np.concatenate(parts, axis=1)])

    def _activity(self, labels: Tensor) -> _Activity:
        maps = self.replay.value
        level, size, rectified = (
            part.mean((2, 3), dtype=torch.float64).cpu().numpy()
            for part in (maps, maps.abs(), maps.clamp_min(0))
        )
        gradients = self._gradients(labels)
        terms = None if gradients is None else taylor(maps, gradients).cpu().numpy()
        return _Activity(level, size, rectified, np.full(level.shape, np.nan) if terms is None else terms)

    def _gradients(self, labels: Tensor) -> Tensor | None:
        """Return the gradient of every image's loss by the layer's output (N, C, H, W), None where there is none."""
        if not self.space.model.module.differentiable:
            return None
        with torch.enable_grad():
            value = self.replay.value.clone().requires_grad_()
            # The clone can be changed in place, which a leaf cannot.
            logits = self.replay.finish(value.clone())
            if not logits.requires_grad:
                return None
            loss = F.cross_entropy(logits, labels, reduction="sum")
            return torch.autograd.grad(loss, value)[0]

    def _orders(self, increases: Array, norms: Array, slopes: Array) -> dict[str, list[Whole]]:
        """Return the orders of removal; the measures (removed,) are of the ordering half."""
        random = [
            torch.randperm(
                len(increases),
                generator=seeds.generator(self.space.config.seed, "importance", self.job.layer, number),
            ).numpy()
            for number in range(ORDERS)
        ]
        cheap = ("weight_norm", norms) if np.isfinite(norms).any() else ("taylor", slopes)
        return {
            "measured": [least_first(increases)],
            cheap[0]: [least_first(cheap[1])],
            "random": random,
        }

    def _removed(self, orders: dict[str, list[Whole]], chosen: Sequence[int]) -> RemovalCurve:
        """Return how many of the images at the places ``chosen`` are right without the first channels of every order."""
        counts, channels = self.job.counts, np.array(self.job.removed)
        right = {name: np.zeros((len(each), len(counts)), dtype=np.int64) for name, each in orders.items()}
        intact = 0
        for batch in self._batches(chosen):
            intact += int(batch.intact.right.sum())
            known: dict[frozenset[int], int] = {}
            for name, each in orders.items():
                for number, order in enumerate(each):
                    for step, count in enumerate(counts):
                        gone = frozenset(channels[order[:count]].tolist())
                        if gone not in known:
                            answers = self._without(sorted(gone), torch.zeros(count), batch)
                            known[gone] = int(answers.right.sum())
                        right[name][number, step] += known[gone]
            self.advance(len(batch.places) * (2 + ORDERS) * len(counts))
        return RemovalCurve(counts, right, intact, len(chosen))


def _joined(parts: Sequence[AnswersTo]) -> AnswersTo:
    return AnswersTo(
        np.concatenate([part.losses for part in parts], axis=-1),
        np.concatenate([part.right for part in parts], axis=-1),
    )


def _means(values: Array) -> Array:
    """Return the means of the finite values of every row, NaN for a row without any."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
