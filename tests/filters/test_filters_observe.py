"""One pass over the images against a plain computation over all of them at once."""

from __future__ import annotations

from functools import reduce

import pytest
import torch
from helpers.filters_models import SmallNet, loaded, pictures
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.core.errors import CannotRunError
from probe.core.progress import SILENT
from probe.core.seeds import generator
from probe.core.state import fingerprint
from studies.filters.observe import KEPT, ChannelSummary, Peaks, observe


def reference(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Peaks sorted per channel, with image, row and column, by loops."""
    n, channels, height, width = maps.shape
    table = [
        sorted(
            ((-float(maps[i, c].max()), i, *divmod(int(maps[i, c].argmax()), width)) for i in range(n)),
        )[:KEPT]
        for c in range(channels)
    ]
    del height
    parts = [torch.tensor([[row[k] for row in column] for column in table]).T for k in range(4)]
    return -parts[0], parts[1], parts[2], parts[3]


@given(st.integers(1, 25), st.integers(1, 4), st.integers(1, 7), st.integers(0, 10**6))
def test_streaming_keeps_what_sorting_everything_keeps(n: int, channels: int, batch: int, seed: int) -> None:
    # Few distinct values, so that there are ties within and between images.
    maps = torch.randint(-3, 4, (n, channels, 3, 4), generator=generator(seed)).float()
    starts = range(0, n, batch)
    parts = [(maps[start : start + batch], range(start, min(start + batch, n))) for start in starts]
    summaries = [ChannelSummary.of(Peaks.of(part), places) for part, places in parts]
    seen = reduce(ChannelSummary.joined, summaries).result()
    values, images, rows, cols = reference(maps)
    kept = min(n, KEPT)
    assert torch.equal(seen.values[:kept], values)
    assert torch.equal(seen.images[:kept], images)
    assert torch.equal(seen.rows[:kept], rows)
    assert torch.equal(seen.cols[:kept], cols)
    assert (seen.values[kept:] == -torch.inf).all()
    peaks = maps.double().flatten(2).amax(2)
    torch.testing.assert_close(seen.mean, peaks.mean(0).float())
    if n > 1:
        torch.testing.assert_close(seen.deviation, peaks.std(0).float(), atol=1e-6, rtol=1e-5)
    assert torch.equal(seen.fired, (peaks > 0).sum(0))


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_observed_values_are_the_networks_own(batch_size: int) -> None:
    model, images = loaded(), pictures(11, labels=[i % 3 for i in range(11)])
    before = fingerprint(model.module)
    seen = observe(model, images, ["norm1", "pool"], batch_size, SILENT)
    assert fingerprint(model.module) == before
    pixels = torch.stack([images.get(i, model.input) for i in range(11)])
    net = model.network
    assert isinstance(net, SmallNet)
    with torch.no_grad():
        norm = net.norm1(net.conv1(model.module.normalise(pixels)))  # before the in-place ReLU
        logits = model.module(pixels)
    torch.testing.assert_close(seen.layers["norm1"].values[0], norm.amax((0, 2, 3)))
    torch.testing.assert_close(seen.layers["pool"].values[0], norm.relu().amax((0, 2, 3)))
    assert torch.equal(seen.predictions, logits.argmax(1))
    torch.testing.assert_close(seen.confidences, logits.softmax(1).amax(1))
    assert seen.correct == int((logits.argmax(1) == torch.tensor([i % 3 for i in range(11)])).sum())
    assert seen.n == 11


def test_unlabelled_images_have_no_accuracy() -> None:
    seen = observe(loaded(), pictures(3), ["conv1"], 2, SILENT)
    assert (seen.labels == -1).all()
    assert seen.correct == 0


class Broken(nn.Module):
    """Answers with NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(x).mean((2, 3)) * float("nan")


def test_nan_logits_are_named() -> None:
    with pytest.raises(CannotRunError, match=r"NaN or infinite logits on 3 of 3 images.*--mean"):
        observe(loaded(Broken(), classes=2), pictures(3), ["conv1"], 2, SILENT)
