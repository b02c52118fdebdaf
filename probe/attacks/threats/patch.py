"""A square that is laid over a part of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.losses import LOSSES
from probe.attacks.threats import THREATS
from probe.attacks.threats._base import Threat, ThreatOutcome, ThreatSubject, blank
from probe.attacks.threats._halves import halves
from probe.core.errors import NotApplicableError

_LARGER = 0.2
"""While it is optimised, the patch is up to this part larger or smaller than when it is measured."""


@THREATS.register("patch", order=4)
@dataclass(frozen=True)
class Patch(Threat):
    """One square patch over a part of any image, at the worst of several places (Brown et al. 2017).

    It is optimised by ``steps`` steps of Adam (``lr``) on one half of the images, at random places and sizes (expectation
    over transformation), and measured on the other half at each of ``places`` × ``places`` places. ``largest``: the area of
    the largest patch, as a part of the image; smaller ones have a half and a quarter of it.
    """

    steps: int = 200
    lr: float = 0.05
    places: int = 5
    largest: float = 0.1

    title: ClassVar[str] = "A patch"
    axis: ClassVar[str] = "area of the patch, as a part of the image"
    paper: ClassVar[str] = 'Brown et al., "Adversarial Patch", 2017'

    def attack(self, subject: ThreatSubject) -> ThreatOutcome:
        """Optimise one patch for each area, and lay each over the other half of the images."""
        height, width = subject.images.shape[2:]
        sides = {area: round(math.sqrt(area * height * width)) for area in self._areas}
        if min(sides.values()) < 1 or max(sides.values()) >= min(height, width):
            raise NotApplicableError(f"Patches of these areas do not fit into images of {width}×{height} px.")
        fitted, tested = halves(subject)
        fit, test = subject.rows(fitted), subject.rows(tested)
        outcome = blank(subject, tested, self._areas)
        wrong = outcome.smallest == 0
        columns = []
        for area, side in sides.items():
            patch = self._optimised(fit, side)
            for place, hit, changed in self._worst(test, patch):
                outcome.record(place, hit, changed, area)
            noise = torch.rand(patch.shape, generator=subject.draws("patch noise", side)).to(patch)
            control = wrong.clone()
            for place, hit, _ in self._worst(test, noise):
                control[place[hit]] = True
            columns.append(control)
        outcome.control = torch.stack(columns, 1)
        return outcome

    @property
    def _areas(self) -> tuple[float, ...]:
        return self.largest / 4, self.largest / 2, self.largest

    def _optimised(self, fit: ThreatSubject, side: int) -> Tensor:
        """Return the patch (C, side, side) that misleads the network most on average over places and sizes."""
        draws = fit.draws("patch", side)
        loss = LOSSES["ce"]
        height, width = fit.images.shape[2:]
        patch = torch.rand(fit.images.shape[1], side, side, generator=draws).to(fit.images)
        patch.requires_grad_()
        optimiser = torch.optim.Adam([patch], lr=self.lr)
        for _ in range(self.steps):
            part = torch.randperm(len(fit.images), generator=draws)[: fit.batch_size].to(patch.device)
            factor = 1 + _LARGER * (2 * float(torch.rand((), generator=draws)) - 1)
            size = max(1, min(round(factor * side), height, width))
            scaled = torch.nn.functional.interpolate(
                patch[None], size=(size, size), mode="bilinear", align_corners=False
            )[0]
            tops = torch.randint(height - size + 1, (len(part),), generator=draws).tolist()
            lefts = torch.randint(width - size + 1, (len(part),), generator=draws).tolist()
            images = torch.stack(
                [
                    _laid(image, scaled, top, left)
                    for image, top, left in zip(fit.images[part], tops, lefts, strict=True)
                ]
            )
            goal = None if fit.targets is None else fit.targets[part]
            losses = loss(fit.model(images), fit.labels[part], goal)
            if not losses.requires_grad:
                break
            (gradient,) = torch.autograd.grad(-losses.mean(), [patch], materialize_grads=True)
            patch.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            optimiser.step()
            with torch.no_grad():
                patch.clamp_(0, 1)
            fit.advance(1)
        return patch.detach()

    def _worst(self, test: ThreatSubject, patch: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Lay the patch at every place of the grid, each time on the images that it has not misled yet."""
        height, width = test.images.shape[2:]
        side = patch.shape[1]
        left_over = torch.arange(len(test.images), device=test.images.device)
        found = []
        tops, lefts = (
            torch.linspace(0, length - side, self.places).round().int().tolist() for length in (height, width)
        )
        for top, left in product(tops, lefts):
            if len(left_over) == 0:
                break
            changed = _laid(test.images[left_over], patch, top, left)
            hit = test.broken(changed, left_over)
            found.append((left_over, hit, changed))
            left_over = left_over[~hit]
        return found

    @property
    def work(self) -> int:
        """All steps."""
        return self.steps * len(self._areas)

    def describe(self, budget: float) -> str:
        """Write the area."""
        return f"a patch over {100 * budget:.3g}% of the image"

    @property
    def how(self) -> str:
        """How it was optimised, and its control."""
        return (
            f"One patch for each area, optimised by {self.steps} steps at random places and sizes on one half of the images, and "
            f"measured on the other half at the worst of {self.places} × {self.places} places. The control is a patch of random noise "
            "at the worst of the same places."
        )


def _laid(images: Tensor, patch: Tensor, top: int, left: int) -> Tensor:
    """Return images (…, C, H, W) with the patch (C, side, side) over a part of each."""
    height, width = images.shape[-2:]
    side = patch.shape[-1]
    around = (left, width - left - side, top, height - top - side)
    padded = torch.nn.functional.pad(patch, around)
    mask = torch.nn.functional.pad(torch.ones_like(patch), around)
    return images * (1 - mask) + padded
