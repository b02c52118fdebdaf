"""One pass over all images: predictions, and the images that excite every channel most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from probe.core.errors import CannotRunError, check_answers
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


def _strongest(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    # A stable sort keeps the earlier image first among equals, whatever the batch size.
    order = values.sort(dim=0, descending=True, stable=True).indices[:KEPT]
    return values.gather(0, order), torch.stack([part.gather(0, order) for part in where])


class ChannelStatistics:
    """Accumulates a LayerObservation batch by batch; its memory depends on the channels only."""

    def __init__(self) -> None:
        self._top: Tensor | None = None
        self._where: Tensor | None = None
        self._count = 0

    def update(self, batch: ChannelSummary) -> None:
        """Add a batch by Welford's update (Chan, Golub & LeVeque 1983)."""
        if self._top is None or self._where is None:
            self._top, self._where = batch.values[:0], batch.where[:, :0]
            self._mean, self._squares = torch.zeros_like(batch.mean), torch.zeros_like(batch.squares)
            self._fired = torch.zeros_like(batch.fired)
        total = self._count + batch.count
        delta = batch.mean - self._mean
        self._squares += batch.squares + delta**2 * self._count * batch.count / total
        self._mean += delta * batch.count / total
        self._fired += batch.fired
        self._count = total
        values = torch.cat([self._top, batch.values])
        self._top, self._where = _strongest(values, torch.cat([self._where, batch.where], dim=1))

    def result(self) -> LayerObservation:
        """Return the statistics; raises ValueError when there was no batch."""
        if self._top is None or self._where is None:
            raise ValueError("no activations were seen")
        values, where = self._top, self._where
        if len(values) < KEPT:
            missing = KEPT - len(values)
            values = torch.cat([values, values.new_full((missing, values.shape[1]), -torch.inf)])
            where = torch.cat([where, where.new_full((3, missing, where.shape[2]), -1)], dim=1)
        deviation = (self._squares / max(self._count - 1, 1)).sqrt()
        return LayerObservation(
            values, where[0], where[1], where[2], self._mean.float(), deviation.float(), self._fired
        )


@dataclass(frozen=True)
class BatchObservation:
    """What one batch shows: indices, labels, predictions and confidences, and the channels of every layer."""

    answers: tuple[Tensor, Tensor, Tensor, Tensor]
    layers: dict[str, ChannelSummary]


@dataclass(frozen=True)
class Observer:
    """A network whose layers are observed, and the images where workers read them themselves."""

    model: LoadedModel
    layers: tuple[str, ...]
    images: ImageSet

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
) -> Observations:
    """Run every image through the model once and keep the strongest activations of each channel of ``layers``.

    Memory grows with the number of images only by a few numbers each. Raises CannotRunError when the network's
    outputs are not finite.
    """
    statistics = {layer: ChannelStatistics() for layer in layers}
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with progress.task("Running the images", len(images)) as advance:
        for seen in _observed(model, images, tuple(layers), batch_size, place, advance):
            rows.append(seen.answers)
            for layer, summary in seen.layers.items():
                statistics[layer].update(summary)
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
        {layer: statistic.result() for layer, statistic in statistics.items()},
    )


def _observed(
    model: LoadedModel,
    images: ImageSet,
    layers: tuple[str, ...],
    batch_size: int,
    place: Place,
    advance: Advance,
) -> Iterator[BatchObservation]:
    """Yield what every batch shows, in order."""
    if place.here:
        observer = Observer(model, layers, images)
        for batch in images.batches(model.input, batch_size):
            yield observer.look(batch)
            advance(len(batch.indices))
        return
    shards, readable = Shards(images, model.input, batch_size, place.near), False
    with place.lend(partial(Observer, model, layers, shards.lent), model.device) as lent:
        for found, seen in lent.map(_look, shards, advance, work=shards.work):
            images.add(seen)
            if found is not None:
                readable = True
                yield found
    if not readable:
        raise images.nothing_readable(range(len(images)))


def _look(observer: Observer, shard: Shard, _advance: Advance) -> tuple[BatchObservation | None, Seen]:
    batch, seen = shard.read(observer.images, observer.model.input)
    return None if batch is None else observer.look(batch), seen


def _answers(
    logits: Tensor, labels: Tensor | None, indices: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_answers(len(logits), len(indices))
    confidences, predictions = logits.softmax(dim=1).max(dim=1)
    known = torch.full_like(predictions, -1) if labels is None else labels
    return torch.tensor(indices), known, predictions, confidences
