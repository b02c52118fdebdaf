"""One pass over all images: predictions, and the images that excite every channel most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.core.errors import CannotRunError, check_answers
from probe.core.progress import Progress
from probe.core.state import forward_hooks
from probe.data.images import ImageSet
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


class ChannelStatistics:
    """Accumulates a LayerObservation batch by batch; its memory depends on the channels only."""

    def __init__(self) -> None:
        self._top: Tensor | None = None
        self._where: Tensor | None = None
        self._count = 0

    def update(self, peaks: Peaks, indices: Sequence[int]) -> None:
        """Add the peaks of a batch of the images ``indices``."""
        peak, n, channels = peaks.values, *peaks.values.shape
        images = torch.tensor(indices)[:, None].expand(n, channels)
        where = torch.stack([images, peaks.rows, peaks.cols])
        if self._top is None or self._where is None:
            self._top, self._where = peak.new_empty(0, channels), where[:, :0]
            self._mean = torch.zeros(channels, dtype=torch.float64)
            self._squares = torch.zeros(channels, dtype=torch.float64)
            self._fired = torch.zeros(channels, dtype=torch.int64)
        self._accumulate(peak.double())
        values = torch.cat([self._top, peak])
        places = torch.cat([self._where, where], dim=1)
        # A stable sort keeps the earlier image first among equals, whatever the batch size.
        order = values.sort(dim=0, descending=True, stable=True).indices[:KEPT]
        self._top = values.gather(0, order)
        self._where = torch.stack([part.gather(0, order) for part in places])

    def _accumulate(self, peak: Tensor) -> None:
        """Welford's update for a batch (Chan, Golub & LeVeque 1983)."""
        n = len(peak)
        total = self._count + n
        delta = peak.mean(0) - self._mean
        self._squares += ((peak - peak.mean(0)) ** 2).sum(0) + delta**2 * self._count * n / total
        self._mean += delta * n / total
        self._fired += (peak > 0).sum(0)
        self._count = total

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


def observe(
    model: LoadedModel, images: ImageSet, layers: Sequence[str], batch_size: int, progress: Progress
) -> Observations:
    """Run every image through the model once and keep the strongest activations of each channel of ``layers``.

    Memory grows with the number of images only by a few numbers each. Raises CannotRunError when the network's
    outputs are not finite.
    """
    statistics = {layer: ChannelStatistics() for layer in layers}
    peaks: dict[str, Peaks] = {}

    def hook(layer: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _args: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4:
                # Reduced at once: an in-place operation after the layer may overwrite the map.
                peaks[layer] = Peaks.of(output)

        return keep

    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    hooks = {layer: hook(layer) for layer in layers}
    with (
        progress.task("Running the images", len(images)) as advance,
        torch.inference_mode(),
        forward_hooks(model.network, hooks),
    ):
        for batch in images.batches(model.input, batch_size):
            pixels = batch.images.to(model.device, memory_format=model.memory_format)
            rows.append(_answers(model.module(pixels).float().cpu(), batch.labels, batch.indices))
            for layer, layer_peaks in peaks.items():
                statistics[layer].update(layer_peaks, batch.indices)
            peaks.clear()
            advance(len(batch.indices))
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


def _answers(
    logits: Tensor, labels: Tensor | None, indices: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_answers(len(logits), len(indices))
    confidences, predictions = logits.softmax(dim=1).max(dim=1)
    known = torch.full_like(predictions, -1) if labels is None else labels
    return torch.tensor(indices), known, predictions, confidences
