"""Square attack: random search with squares that needs only logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.judge import margin
from probe.attacks.losses import pick
from probe.attacks.norms import L2, per_image

_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TILES = 5


@ATTACKS.register("square")
@dataclass(frozen=True)
class Square(Attack):
    """Square attack: random squares that are kept when they help (Andriushchenko et al. 2020).

    At most ``queries`` passes per image; ``p`` is the first square's fraction of the image, halved after 10, 50,
    200, 500, 1000, 2000, 4000, 6000 and 8000 queries (``rescale``: these are scaled from 10,000 to ``queries``).
    Images are not changed further once they are broken.
    """

    queries: int = 5000
    p: float = 0.8
    rescale: bool = False

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"),
        access="score-based",
        targeted=True,
        paper='Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random '
        'search", 2020',
    )

    @property
    def rules_out_smaller(self) -> bool:
        """True from a hundred queries on."""
        return self.queries >= 100

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        model, images, labels, targets = inputs.model, inputs.images, inputs.labels, inputs.targets
        norm, epsilon, generator = inputs.norm, inputs.epsilon, inputs.generator
        l2 = isinstance(norm, L2)
        first = _first_l2 if l2 else _first_linf
        propose = _propose_l2 if l2 else _propose_linf
        best = first(images, epsilon, generator)
        lowest = margin(model.verdict(best), labels, targets)
        for query in range(1, self.queries):
            where = (lowest > 0).nonzero()[:, 0]
            if len(where) == 0:
                break
            side = self._side(query - 1, images, least=3 if l2 else 1)
            tried = propose(images[where], best[where], epsilon, side, generator)
            margins = margin(model.verdict(tried), labels[where], pick(targets, where))
            better = margins < lowest[where]
            best[where[better]], lowest[where[better]] = tried[better], margins[better]
        return best

    def _side(self, query: int, images: Tensor, least: int) -> int:
        """Return the side of the squares for this query, at least ``least`` and at most the image."""
        height, width = images.shape[2:]
        at = int(query / self.queries * 10_000) if self.rescale else query
        part = self.p / 2 ** sum(at > bound for bound in _HALVED_AFTER)
        side = max(round(math.sqrt(part * height * width)), least)
        if least > 1 and side % 2 == 0:
            side += 1
        return min(side, height, width)


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(2, shape, generator=generator) * 2 - 1).to(like)


def _corners(images: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the top left corner of one square per image, (N,) each."""
    n, _, height, width = images.shape
    top = torch.randint(height - side + 1, (n,), generator=generator)
    return top, torch.randint(width - side + 1, (n,), generator=generator)


def _first_linf(images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return images with vertical stripes of ±epsilon."""
    n, channels, _, width = images.shape
    return (images + epsilon * _signs((n, channels, 1, width), images, generator)).clamp(0, 1)


def _propose_linf(
    images: Tensor, best: Tensor, epsilon: float, side: int, generator: torch.Generator
) -> Tensor:
    """Set one square to ±epsilon, one sign per channel."""
    n, channels = images.shape[:2]
    colour = (images + epsilon * _signs((n, channels, 1, 1), images, generator)).clamp(0, 1)
    return torch.where(_square(images, side, *_corners(images, side, generator)), colour, best)


def _bumps(side: int, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return the L2 attack's update (n, 1, side, side) of length 1: a bump and its negative, in random orientation."""
    bump = torch.zeros(side, side)
    half = side // 2
    bump[:half] = _pyramid(half, side)
    bump[half:] = -_pyramid(side - half, side)
    bump /= torch.linalg.vector_norm(bump)
    transposed = torch.rand(n, generator=generator) > 0.5
    return torch.where(transposed.view(-1, 1, 1), bump.T, bump)[:, None].to(like)


def _pyramid(height: int, width: int) -> Tensor:
    """Return nested rectangles around the centre, of which the k-th adds 1 / k², with length 1."""
    plane = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for k in range(max(height // 2, width // 2) + 1):
        size = 2 * k + 1
        plane[max(top, 0) : min(top + size, height), max(left, 0) : min(left + size, width)] += (
            1.0 / (k + 1) ** 2
        )
        top, left = top - 1, left - 1
    length: Tensor = torch.linalg.vector_norm(plane)
    return plane / length


def _scaled(images: Tensor, delta: Tensor, epsilon: float) -> Tensor:
    length = per_image(torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-12), images)
    return (images + epsilon * delta / length).clamp(0, 1)


def _first_l2(images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Tile the image with bumps of random signs."""
    n, channels, height, width = images.shape
    side = max(min(height, width) // _TILES, 1)
    if side < 2:
        return L2().start(images, epsilon, generator)
    delta = torch.zeros_like(images)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            bumps = _bumps(side, n, images, generator) * _signs((n, channels, 1, 1), images, generator)
            delta[:, :, top : top + side, left : left + side] += bumps
    return _scaled(images, delta, epsilon)


def _propose_l2(
    images: Tensor, best: Tensor, epsilon: float, side: int, generator: torch.Generator
) -> Tensor:
    """Clear one window, and add a bump with its length and the unused length in another window."""
    n, channels = images.shape[:2]
    delta = best - images
    top, left = _corners(images, side, generator)
    filled = _square(images, side, top, left)
    emptied = _square(images, side, *_corners(images, side, generator))
    length = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    # The available length: that of the windows, and what clipping to [0, 1] left of epsilon.
    windows = per_image(((delta * (filled | emptied)).square().flatten(1).sum(1)), images)
    unused = per_image((epsilon**2 - length**2).clamp_min(0), images) / channels
    rows = top.view(-1, 1, 1, 1) + torch.arange(side).view(1, 1, -1, 1)
    columns = left.view(-1, 1, 1, 1) + torch.arange(side).view(1, 1, 1, -1)
    image, colour = torch.arange(n).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
    place = (image, colour, rows, columns)
    old = delta[place]
    old = old / old.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    new = _bumps(side, n, images, generator) * _signs((n, channels, 1, 1), images, generator) + old
    new = new / new.square().sum((2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    new = new * (unused + windows).sqrt()
    delta = torch.where(emptied, torch.zeros_like(delta), delta)
    delta[place] = new
    return _scaled(images, delta, epsilon)


def _square(images: Tensor, side: int, top: Tensor, left: Tensor) -> Tensor:
    """Return the square (N, 1, H, W) whose corner is at ``top``, ``left`` (N,)."""
    rows = torch.arange(images.shape[2]).view(1, 1, -1, 1)
    columns = torch.arange(images.shape[3]).view(1, 1, 1, -1)
    top, left = top.view(-1, 1, 1, 1), left.view(-1, 1, 1, 1)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return inside.to(images.device)
