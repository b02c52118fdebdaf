"""One pass over all images: predictions, and the images that excite every channel most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor, nn

from probe.core.errors import CannotRunError, check_answers
from probe.core.journal import NOTHING, Journal
from probe.core.place import HERE, Place
from probe.core.precision import exact_float32
from probe.core.progress import Advance, Progress
from probe.core.state import forward_hooks
from probe.data.images import ImageSet, Seen
from probe.data.shards import Shard, Shards
from probe.data.spec import Batch
from probe.models.loaded import LoadedModel

KEPT = 9
"""How many images are kept per channel, as in Zeiler & Fergus 2013."""

_BATCHES_TOGETHER, _JOBS, _VALUES = 8, 32, 8_000_000
"""A worker's job is at most this many batches, so that there are at least so many jobs, of at most so many values."""


@dataclass(frozen=True)
class LayerObservation:
    """The strongest activations of the C channels of one layer, over n images.

    ``values`` (9, C), descending: the largest activations, one per image at most (−inf where there are
    fewer images); ``images``, ``rows``, ``cols`` (9, C): where they are. ``mean`` and ``deviation`` (C,) are of each
    image's largest activation; ``fired`` (C,) counts the images in which the channel is positive anywhere.
    """

    values: Tensor
    images: Tensor
    rows: Tensor
    cols: Tensor
    mean: Tensor
    deviation: Tensor
    fired: Tensor


@dataclass(frozen=True)
class Observations:
    """The results of one pass: for every readable image its index, label (−1: none), prediction and confidence."""

    indices: Tensor
    labels: Tensor
    predictions: Tensor
    confidences: Tensor
    layers: dict[str, LayerObservation]

    @property
    def n(self) -> int:
        """The number of images that could be read."""
        return len(self.indices)

    @property
    def correct(self) -> int:
        """The number of labelled images that the network classifies correctly."""
        return int(((self.predictions == self.labels) & (self.labels >= 0)).sum())

    def position(self, index: int) -> int:
        """Return the position of the image ``index`` in the tensors."""
        return int((self.indices == index).nonzero()[0, 0])


@dataclass(frozen=True)
class Peaks:
    """The largest activation of every channel in every image of a batch, (N, C), and where it is."""

    values: Tensor
    rows: Tensor
    cols: Tensor

    @classmethod
    def of(cls, maps: Tensor) -> Peaks:
        """Find the peaks of maps (N, C, H, W); the first in reading order among equals."""
        values, places = maps.detach().float().flatten(2).cpu().max(dim=2)
        width = maps.shape[3]
        return cls(values, places // width, places % width)


@dataclass(frozen=True)
class ChannelSummary:
    """What one batch of n images says of the C channels of a layer: its size does not depend on n.

    ``values`` (≤ 9, C) descending, and ``where`` (3, ≤ 9, C) in which image, row and column; ``mean`` (C,) and the sum
    of the ``squares`` (C,) about it, float64; ``fired`` (C,).
    """

    count: int
    values: Tensor
    where: Tensor
    mean: Tensor
    squares: Tensor
    fired: Tensor

    @classmethod
    def of(cls, peaks: Peaks, indices: Sequence[int]) -> ChannelSummary:
        """Summarise the peaks of a batch of the images ``indices``."""
        exact, images = peaks.values.double(), torch.tensor(indices)[:, None].expand_as(peaks.rows)
        mean = exact.mean(0)
        values, where = _strongest(peaks.values, torch.stack([images, peaks.rows, peaks.cols]))
        squares, fired = ((exact - mean) ** 2).sum(0), (peaks.values > 0).sum(0)
        return cls(len(indices), values, where, mean, squares, fired)

    def joined(self, other: ChannelSummary) -> ChannelSummary:
        """Return what this batch and a later one say together, by Welford's update (Chan, Golub & LeVeque 1983)."""
        total, delta = self.count + other.count, other.mean - self.mean
        values, where = _strongest(
            torch.cat([self.values, other.values]), torch.cat([self.where, other.where], dim=1)
        )
        return ChannelSummary(
            total,
            values,
            where,
            self.mean + delta * other.count / total,
            self.squares + other.squares + delta**2 * self.count * other.count / total,
            self.fired + other.fired,
        )

    def result(self) -> LayerObservation:
        """Return the statistics of all images."""
        values, where = self.values, self.where.long()
        if len(values) < KEPT:
            missing = KEPT - len(values)
            values = torch.cat([values, values.new_full((missing, values.shape[1]), -torch.inf)])
            where = torch.cat([where, where.new_full((3, missing, where.shape[2]), -1)], dim=1)
        deviation = (self.squares / max(self.count - 1, 1)).sqrt()
        return LayerObservation(
            values, where[0], where[1], where[2], self.mean.float(), deviation.float(), self.fired
        )


def _strongest(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    # A stable sort keeps the earlier image first among equals, whatever the batch size.
    order = values.sort(dim=0, descending=True, stable=True).indices[:KEPT]
    return values.gather(0, order), torch.stack([part.gather(0, order) for part in where])


@dataclass(frozen=True)
class BatchObservation:
    """What one batch, or several, show: indices, labels, predictions and confidences, and the channels of every layer."""

    answers: tuple[Tensor, Tensor, Tensor, Tensor]
    layers: dict[str, ChannelSummary]

    def joined(self, other: BatchObservation) -> BatchObservation:
        """Return what this batch and a later one show together."""
        pairs = zip(self.answers, other.answers, strict=True)
        indices, labels, predictions, confidences = (torch.cat(pair) for pair in pairs)
        layers = {layer: summary.joined(other.layers[layer]) for layer, summary in self.layers.items()}
        return BatchObservation((indices, labels, predictions, confidences), layers)


@dataclass(frozen=True)
class Observer:
    """A network whose layers are observed, and the images where workers read them themselves."""

    model: LoadedModel
    layers: tuple[str, ...]
    images: ImageSet
    batch_size: int

    def split(self, batch: Batch, part: range) -> Iterator[Batch]:
        """Yield the batches of ``batch_size`` places that a larger one of the places ``part`` is made of."""
        for start in range(part.start, part.stop, self.batch_size):
            rows = [
                row for row, index in enumerate(batch.indices) if start <= index < start + self.batch_size
            ]
            if rows:
                labels = None if batch.labels is None else batch.labels[rows]
                yield Batch(batch.images[rows], labels, tuple(batch.indices[row] for row in rows))

    def look(self, batch: Batch) -> BatchObservation:
        """Run a batch through the network."""
        peaks: dict[str, Peaks] = {}

        def hook(layer: str) -> Callable[..., None]:
            def keep(_module: nn.Module, _args: object, output: object) -> None:
                if isinstance(output, Tensor) and output.dim() == 4:
                    # Reduced at once: an in-place operation after the layer may overwrite the map.
                    peaks[layer] = Peaks.of(output)

            return keep

        model = self.model
        pixels = batch.images.to(model.device, memory_format=model.memory_format)
        hooks = {name: hook(name) for name in self.layers}
        with torch.inference_mode(), exact_float32(), forward_hooks(model.network, hooks):
            answers = _answers(model.module(pixels).float().cpu(), batch.labels, batch.indices)
        found = {layer: ChannelSummary.of(peak, batch.indices) for layer, peak in peaks.items()}
        return BatchObservation(answers, found)


def observe(
    model: LoadedModel,
    images: ImageSet,
    layers: Sequence[str],
    batch_size: int,
    progress: Progress,
    place: Place = HERE,
    journal: Journal = NOTHING,
) -> Observations:
    """Run every image through the model once and keep the strongest activations of each channel of ``layers``.

    Memory grows with the number of images only by a few numbers each. Raises CannotRunError when the network's
    outputs are not finite.
    """
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    found: dict[str, ChannelSummary] = {}
    with progress.task("Running the images", len(images)) as advance:
        for seen in _observed(model, images, tuple(layers), batch_size, place, journal, advance):
            rows.append(seen.answers)
            for layer, summary in seen.layers.items():
                found[layer] = found[layer].joined(summary) if layer in found else summary
    indices, labels, predictions, confidences = (torch.cat(parts) for parts in zip(*rows, strict=True))
    if not confidences.isfinite().all():
        raise CannotRunError(
            f"{model.name} returns NaN or infinite logits on {int((~confidences.isfinite()).sum())} of "
            f"{len(confidences)} images; check the weights and the normalisation (--mean, --std)."
        )
    return Observations(
        indices,
        labels,
        predictions,
        confidences,
        {layer: found[layer].result() for layer in layers},
    )


def _observed(
    model: LoadedModel,
    images: ImageSet,
    layers: tuple[str, ...],
    batch_size: int,
    place: Place,
    journal: Journal,
    advance: Advance,
) -> Iterator[BatchObservation]:
    """Yield what every part of the images shows, in order; the parts are the same ones wherever they are looked at."""
    together = _together(len(images), batch_size, math.prod(model.input.size))
    shards, readable = Shards(images, model.input, together, place), False
    with place.lend(partial(Observer, model, layers, shards.lent, batch_size), model.device) as lent:
        for found, seen in lent.map(_look, shards, advance, work=shards.work, journal=journal):
            shards.add(seen)
            if found is not None:
                readable = True
                yield found
    if not readable:
        raise images.nothing_readable(range(len(images)))


def _together(count: int, batch_size: int, values: int) -> int:
    """Return how many images a worker looks at in one job: whole batches, the more the more images there are."""
    batches = max(1, min(_BATCHES_TOGETHER, count // (batch_size * _JOBS), _VALUES // (batch_size * values)))
    return batches * batch_size


def _counted(observer: Observer, batch: Batch, advance: Advance) -> BatchObservation:
    found = observer.look(batch)
    advance(len(batch.indices))
    return found


def _look(observer: Observer, shard: Shard, advance: Advance) -> tuple[BatchObservation | None, Seen]:
    batch, seen = shard.read(observer.images, observer.model.input)
    if batch is None:
        return None, seen
    parts = (_counted(observer, part, advance) for part in observer.split(batch, shard.part))
    return reduce(BatchObservation.joined, parts), seen


def _answers(
    logits: Tensor, labels: Tensor | None, indices: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_answers(len(logits), len(indices))
    confidences, predictions = logits.softmax(dim=1).max(dim=1)
    known = torch.full_like(predictions, -1) if labels is None else labels
    return torch.tensor(indices), known, predictions, confidences
