"""Occlusion: what the logit loses when a window of the image is covered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from captum import attr as captum
from torch import Tensor

from studies.filters.attribute_subject import Baseline, Subject, baseline_of


@dataclass(frozen=True)
class _Repeated:
    """The different images of a batch, with all the logits asked of each: what is covered once serves all.

    ``firsts`` are the rows of the different images, ``targets`` (images, logits) what is asked of them, and
    ``places`` where each row of the batch stands among images × logits.
    """

    firsts: tuple[int, ...]
    targets: Tensor
    places: tuple[int, ...]

    @classmethod
    def of(cls, images: Tensor, targets: Tensor) -> _Repeated:
        """Find the rows of a batch that hold the same image."""
        groups: list[list[int]] = []
        for row, image in enumerate(images):
            same = (group for group in groups if torch.equal(images[group[0]], image))
            group = next(same, None)
            if group is None:
                groups.append([row])
            else:
                group.append(row)
        width = max(map(len, groups))
        rows = [group + [group[0]] * (width - len(group)) for group in groups]
        where = {row: i * width + j for i, group in enumerate(groups) for j, row in enumerate(group)}
        places = tuple(where[row] for row in range(len(images)))
        return cls(tuple(group[0] for group in groups), targets[torch.tensor(rows)], places)


@dataclass(frozen=True)
class Occlusion:
    """Occlusion (Zeiler, Fergus 2013): how far the logit falls when a window is covered.

    The window's side is ``1 / windows`` of the image's, and it moves by ``step`` of its own side.
    """

    windows: int = 7
    step: float = 0.5
    baseline: Baseline = "mean"
    batch: int = 8

    key: ClassVar[str] = "occlusion"
    title: ClassVar[str] = "Occlusion"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = False

    def attribute(self, subject: Subject, images: Tensor, targets: Tensor) -> Tensor:
        """Return f(image) − f(covered), averaged over the windows that cover the pixel, (N, 1, H, W)."""
        once = _Repeated.of(images, targets)
        (height, down), (width, right) = self.window(images.shape[2]), self.window(images.shape[3])

        def logits(batch: Tensor) -> Tensor:
            answers: Tensor = subject.module(batch)
            return answers.gather(1, once.targets.repeat(len(batch) // len(once.firsts), 1))

        with torch.inference_mode(False), torch.no_grad():
            inputs = images.detach()[list(once.firsts)]
            maps: Tensor = captum.Occlusion(logits).attribute(
                inputs,
                sliding_window_shapes=(images.shape[1], height, width),
                strides=(images.shape[1], down, right),
                baselines=baseline_of(inputs, self.baseline),
                perturbations_per_eval=max(1, self.batch // len(inputs)),
            )
        # captum averages in float32 and repeats the map for every channel.
        return maps.detach()[list(once.places), :1].to(images.dtype)

    def window(self, side: int) -> tuple[int, int]:
        """Return the window's side and its stride in pixels, for an image side in pixels."""
        window = max(1, round(side / self.windows))
        return window, max(1, min(window, round(window * self.step)))

    def economical(self) -> Occlusion:
        """Return windows of a fifth of the image's side, or larger ones, that do not overlap."""
        return replace(self, windows=min(self.windows, 5), step=1.0)

    def passes(self, size: tuple[int, int]) -> float:
        """Return the number of window positions and one pass for the whole image."""
        positions = 1
        for side in size:
            window, stride = self.window(side)
            positions *= -(-(side - window) // stride) + 1
        return positions + 1.0
