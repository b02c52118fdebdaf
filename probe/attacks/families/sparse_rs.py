"""Sparse-RS: random search with few pixels that needs only logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.judge import margin
from probe.attacks.losses import pick

_FIRST = 0.8
"""The part of the chosen pixels that the first queries exchange; it falls to one pixel."""


@ATTACKS.register("sparse-rs")
@dataclass(frozen=True)
class SparseRS(Attack):
    """Sparse-RS: random pixels and colours that are kept when they help (Croce et al. 2022).

    At most ``queries`` passes per image. Colours are corners of the colour cube. In L1 as many pixels are chosen as the
    radius pays for at half of the range for each value; the result is projected into the ball.
    """

    queries: int = 5000

    traits: ClassVar[Traits] = Traits(
        norms=("L0", "L1"),
        access="score-based",
        targeted=True,
        paper='Croce et al., "Sparse-RS: a versatile framework for query-efficient sparse black-box adversarial '
        'attacks", 2022',
    )

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        model, images, labels, targets = inputs.model, inputs.images, inputs.labels, inputs.targets
        n, channels, n_pixels = images.flatten(2).shape
        count = inputs.epsilon if inputs.norm.name == "L0" else 2 * inputs.epsilon / channels
        count = min(max(int(count), 1), n_pixels)

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=inputs.generator).to(images)

        chosen = draw(n, n_pixels).topk(count).indices
        colours = draw(n, channels, count).round()
        best = _painted(inputs, chosen, colours)
        lowest = margin(model.verdict(best), labels, targets)
        for query in range(1, self.queries):
            rows = (lowest > 0).nonzero()[:, 0]
            if len(rows) == 0:
                break
            exchanged = max(round(_FIRST * (1 - query / self.queries) * count), 1)
            moved, recoloured = chosen[rows].clone(), colours[rows].clone()
            slots = draw(len(rows), count).topk(exchanged).indices
            outside = draw(len(rows), n_pixels).scatter_(1, moved, -1.0)
            fresh = outside.topk(min(exchanged, n_pixels - count)).indices
            moved.scatter_(1, slots[:, : fresh.shape[1]], fresh)
            recoloured.scatter_(
                2, slots[:, None].expand(-1, channels, -1), draw(len(rows), channels, exchanged).round()
            )
            part = inputs.rows(rows)
            tried = _painted(part, moved, recoloured)
            margins = margin(model.verdict(tried), labels[rows], pick(targets, rows))
            better = margins < lowest[rows]
            kept = rows[better]
            best[kept], lowest[kept] = tried[better], margins[better]
            chosen[kept], colours[kept] = moved[better], recoloured[better]
        return best


def _painted(inputs: AttackInputs, chosen: Tensor, colours: Tensor) -> Tensor:
    """Return the images with the chosen pixels (N, k) in their colours (N, C, k), inside the ball."""
    places = chosen[:, None].expand(-1, colours.shape[1], -1)
    moved = inputs.images.flatten(2).scatter(2, places, colours).reshape(inputs.images.shape)
    return inputs.norm.project(inputs.images, moved, inputs.epsilon)
